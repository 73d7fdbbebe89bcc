package lethe

import "unsafe"

// hidden is a run of bytes that is never written to. An unsafe.Pointer, since
// whatever prints values by reflection, unexported fields included, shows its
// address and stops: a *byte, a slice or a string would be followed.
type hidden struct {
	p unsafe.Pointer
	n int
}

// hideBytes keeps b, which nobody may write to from then on.
func hideBytes(b []byte) hidden { return hidden{unsafe.Pointer(unsafe.SliceData(b)), len(b)} } //nolint:gosec // see hidden

// hideString keeps s without copying it.
func hideString(s string) hidden { return hidden{unsafe.Pointer(unsafe.StringData(s)), len(s)} } //nolint:gosec // see hidden

// bytes returns the bytes, to be read only: they may be those of a string.
func (h hidden) bytes() []byte {
	if h.n == 0 {
		return []byte{}
	}
	return unsafe.Slice((*byte)(h.p), h.n)[:h.n:h.n] //nolint:gosec // see hidden
}
