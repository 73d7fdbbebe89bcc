package fpe

type kernel struct{}

func newKernel([]byte) kernel { return kernel{} }

type batchModuli struct{}

func newBatchModuli(*plan) batchModuli { return batchModuli{} }

func (c *core) rounds64(p *plan, tweak []byte, a, b uint64, dir direction) (uint64, uint64) {
	return c.rounds64Go(p, tweak, a, b, dir)
}

func (c *core) cryptBatch(values [][]uint16, tweaks [][]byte, dir direction) {
	c.cryptEach(values, tweaks, dir)
}
