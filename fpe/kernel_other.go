//go:build !amd64 || purego

package fpe

type (
	kernel struct{}
	plan64 struct{}
)

func newKernel([]byte) kernel { return kernel{} }

func newPlan64(*plan) (none plan64) { return none }

func (c *core) valid([]uint16) bool { return false }

func (c *core) rounds64(p *plan, tweak []byte, a, b uint64, dir direction) (uint64, uint64) {
	return c.rounds64Go(p, tweak, a, b, dir)
}

func (c *core) cryptBatch(values [][]uint16, tweaks [][]byte, dir direction) {
	c.cryptEach(values, tweaks, dir)
}
