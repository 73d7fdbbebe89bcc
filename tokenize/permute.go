package tokenize

import (
	"crypto/sha256"
	"errors"
	"math/big"
	"math/bits"
	"slices"
	"sync"

	"github.com/lethe-go/lethe/fpe"
)

// permuter permutes the numerals of a Format under one key.
//
// Where a format has one radix that is FF1 itself. Where each position has a
// radix of its own, the numerals are the digits of one number below their
// product N, which FF1 in radix 2 permutes in the least number of bits that hold
// N; results that are not below N are encrypted again until one is (cycle
// walking: Black and Rogaway, Ciphers with Arbitrary Finite Domains, CT-RSA
// 2002, section 4): fewer than two calls on average. Walking also leaves out what
// a Restricted format does not admit.
type permuter struct {
	ff     *fpe.FF1
	format Format
	admits func(p *Parts) bool // nil: all
}

func newPermuter(secret []byte, f Format) (*permuter, error) {
	radix := f.Radix()
	if radix == 0 {
		radix = 2
	}
	ff, err := fpe.NewFF1(secret, radix)
	if err != nil {
		return nil, err
	}
	p := &permuter{ff: ff, format: f}
	if r, ok := f.(Restricted); ok {
		p.admits = r.Admits
	}
	return p, nil
}

// maxWalk ends a walk that a correct Format never makes: where one numeral in
// twenty is admitted, one in 10^22 is longer.
const maxWalk = 2000

var errWalk = errors.New("tokenize: the format admits too few tokens")

// work is the scratch memory of a call, chunk by chunk.
type work struct {
	owners []Owner
	which  []int // per item: in owners; -1: none
	sets   []KeySet
	parts  []Parts
	keys   []*Key // per item of the chunk; nil: failed already
	tweaks [][]byte
	tweak  []byte // of all items of the chunk
	text   []byte
	ends   []int
	at     []int // items of the chunk still under way
	values [][]uint16
	chosen [][]byte

	used, text0, tweak0 int // how much of parts, text and tweak holds something
}

var workPool = sync.Pool{New: func() any { return &work{} }}

func newWork() *work {
	w, _ := workPool.Get().(*work)
	return w
}

func (w *work) release() {
	w.mark()
	for i := range w.parts[:w.used] {
		w.parts[i].wipe()
	}
	clear(w.text[:min(w.text0, cap(w.text))]) // a Format may have replaced it
	clear(w.tweak[:w.tweak0])
	clear(w.keys[:min(w.used, cap(w.keys))]) // an earlier chunk may have been longer
	w.used, w.text0, w.tweak0 = 0, 0, 0
	w.text, w.tweak = w.text[:0], w.tweak[:0]
	clear(w.owners)
	clear(w.sets)
	if cap(w.parts) <= maxKept {
		workPool.Put(w)
	}
}

// maxKept is the most items whose memory is kept for the next call.
const maxKept = 2048

// mark notes what is in text and tweak before they are used again.
func (w *work) mark() { w.text0, w.tweak0 = max(w.text0, len(w.text)), max(w.tweak0, len(w.tweak)) }

// chunk is how many items go through the cipher together: what they need fits
// into a core's cache.
const chunk = 256

// begin makes room for n items.
func (w *work) begin(n int) {
	w.mark()
	w.used = max(w.used, n)
	if len(w.parts) < n {
		w.parts = append(w.parts, make([]Parts, n-len(w.parts))...)
	}
	w.keys = slices.Grow(w.keys[:0], n)[:n]
	clear(w.keys)
	w.ends, w.text, w.tweak = slices.Grow(w.ends[:0], n)[:n], w.text[:0], w.tweak[:0]
	w.tweaks = slices.Grow(w.tweaks[:0], n)[:n]
}

// buildTweaks makes the tweak of every item: what is kept and the associated
// data, or the hash of both where they are long.
func (w *work) buildTweaks(items []Item) {
	start := 0
	for i := range items {
		w.tweak = appendTweak(w.tweak, w.parts[i].Kept, items[i].AssociatedData)
		w.ends[i] = len(w.tweak)
	}
	for i := range items {
		w.tweaks[i] = w.tweak[start:w.ends[i]:w.ends[i]]
		start = w.ends[i]
	}
}

const longTweak = 192

func appendTweak(dst, kept, associatedData []byte) []byte {
	if len(kept)+len(associatedData) <= longTweak {
		dst = append(dst, 0, byte(len(kept)))
		return append(append(dst, kept...), associatedData...)
	}
	all := append(appendLP(nil, kept), associatedData...)
	sum := sha256.Sum256(all)
	clear(all)
	return append(append(dst, 1), sum[:]...)
}

// run permutes the parts of the items at w.at, which share a key, in place.
func (p *permuter) run(w *work, decrypt bool) error {
	if p.format.Radix() == 0 {
		for _, i := range w.at {
			if err := p.mixed(w, i, decrypt); err != nil {
				return err
			}
		}
		return nil
	}
	for range maxWalk {
		w.values, w.chosen = w.values[:0], w.chosen[:0]
		for _, i := range w.at {
			w.values = append(w.values, w.parts[i].Numerals)
			w.chosen = append(w.chosen, w.tweaks[i])
		}
		if err := p.batch(w.values, w.chosen, decrypt); err != nil {
			return err
		}
		if p.admits == nil {
			return nil
		}
		left := w.at[:0]
		for _, i := range w.at {
			if !p.admits(&w.parts[i]) {
				left = append(left, i)
			}
		}
		if w.at = left; len(left) == 0 {
			return nil
		}
	}
	return errWalk
}

func (p *permuter) batch(values [][]uint16, tweaks [][]byte, decrypt bool) error {
	if len(values) == 1 {
		return p.one(values[0], tweaks[0], decrypt)
	}
	if decrypt {
		return p.ff.DecryptBatch(values, tweaks)
	}
	return p.ff.EncryptBatch(values, tweaks)
}

func (p *permuter) one(value []uint16, tweak []byte, decrypt bool) error {
	var err error
	if decrypt {
		_, err = p.ff.Decrypt(value[:0], value, tweak)
	} else {
		_, err = p.ff.Encrypt(value[:0], value, tweak)
	}
	return err
}

// mixed permutes the number that the numerals of item i stand for.
func (p *permuter) mixed(w *work, i int, decrypt bool) error {
	parts := &w.parts[i]
	size, small := product(parts.Radices)
	if !small {
		return p.mixedBig(parts, w.tweaks[i], decrypt)
	}
	var room [64]uint16
	value := room[:bits.Len64(size-1)]
	defer clear(value)
	n := rank(parts.Numerals, parts.Radices)
	for range maxWalk {
		for j := range value {
			value[j] = uint16(n >> (len(value) - 1 - j) & 1)
		}
		if err := p.one(value, w.tweaks[i], decrypt); err != nil {
			return err
		}
		n = 0
		for _, b := range value {
			n = n<<1 | uint64(b)
		}
		if n >= size {
			continue
		}
		unrank(parts.Numerals, parts.Radices, n)
		if p.admits == nil || p.admits(parts) {
			return nil
		}
	}
	return errWalk
}

// bitLength bounds the bits of a number whose digits have the radices.
func bitLength(radices []uint32) int {
	n := 0
	for _, r := range radices {
		n += bits.Len32(r - 1)
	}
	return n
}

// product multiplies the radices, if the result is below 2^62.
func product(radices []uint32) (uint64, bool) {
	size := uint64(1)
	for _, r := range radices {
		hi, lo := bits.Mul64(size, uint64(r))
		if hi != 0 || lo >= 1<<62 {
			return 0, false
		}
		size = lo
	}
	return size, true
}

func rank(numerals []uint16, radices []uint32) uint64 {
	n := uint64(0)
	for i, r := range radices {
		n = n*uint64(r) + uint64(numerals[i])
	}
	return n
}

func unrank(numerals []uint16, radices []uint32, n uint64) {
	for i := len(radices) - 1; i >= 0; i-- {
		r := uint64(radices[i])
		numerals[i] = uint16(n % r)
		n /= r
	}
}

// mixedBig is mixed for numbers of any size.
func (p *permuter) mixedBig(parts *Parts, tweak []byte, decrypt bool) error {
	size, n, r := big.NewInt(1), new(big.Int), new(big.Int)
	for i, radix := range parts.Radices {
		r.SetUint64(uint64(radix))
		size.Mul(size, r)
		n.Mul(n, r).Add(n, new(big.Int).SetUint64(uint64(parts.Numerals[i])))
	}
	value := make([]uint16, new(big.Int).Sub(size, big.NewInt(1)).BitLen())
	if len(value) > fpe.MaxLength {
		return fpe.ErrTooLong
	}
	for range maxWalk {
		for j := range value {
			value[j] = uint16(n.Bit(len(value) - 1 - j))
		}
		if err := p.one(value, tweak, decrypt); err != nil {
			return err
		}
		n.SetUint64(0)
		for j, b := range value {
			n.SetBit(n, len(value)-1-j, uint(b))
		}
		if n.Cmp(size) >= 0 {
			continue
		}
		rest, digit := new(big.Int).Set(n), new(big.Int)
		for i := len(parts.Radices) - 1; i >= 0; i-- {
			rest.DivMod(rest, r.SetUint64(uint64(parts.Radices[i])), digit)
			parts.Numerals[i] = uint16(digit.Uint64())
		}
		if p.admits == nil || p.admits(parts) {
			return nil
		}
	}
	return errWalk
}
