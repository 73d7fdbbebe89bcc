package envelope

import (
	"crypto/rand"
	"slices"
)

// randomness is what one record takes of crypto/rand, its data keys and nonces,
// in one call, since a call costs as much as the bytes. It is drawn when the
// record is sealed and used up or dropped with it, so processes or machines that
// are copies of one another do not go on from the same bytes.
type randomness struct {
	buf  []byte
	used int
}

// draw drops what is left and draws n bytes.
func (r *randomness) draw(n int) {
	r.drop()
	r.buf, r.used = slices.Grow(r.buf[:0], n)[:n], 0
	rand.Read(r.buf) // never fails: crypto/rand ends the program instead
}

// read moves the next bytes to b.
func (r *randomness) read(b []byte) {
	from := r.buf[r.used:]
	n := copy(b, from)
	clear(from[:n])
	r.used += n
	if n < len(b) { // it was drawn for less
		rand.Read(b[n:])
	}
}

// drop wipes what is left.
func (r *randomness) drop() {
	clear(r.buf[r.used:])
	r.used = len(r.buf)
}
