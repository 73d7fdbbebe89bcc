package fpe

import (
	"crypto/sha256"
	"crypto/sha3"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"testing"
)

// accumulatedDigest is what 100,000 cases drawn from a stream hash to. Every path
// through this package, in assembly and in Go, gives it; it never changes.
const accumulatedDigest = "886a643ded808703689a3c9eb2c71a38878a2e411f4f37ead3bf1254f8e4aed8"

// stream draws cases from SHAKE128, so that any implementation can draw the same.
type stream struct{ h *sha3.SHAKE }

func (s stream) bytes(n int) []byte {
	b := make([]byte, n)
	_, _ = s.h.Read(b) // never fails
	return b
}

// below draws eight bytes, big-endian, modulo n.
func (s stream) below(n int) int { return int(binary.BigEndian.Uint64(s.bytes(8)) % uint64(n)) }

// The stream is SHAKE128 of "lethe fpe ff1 accumulated". 1,000 times: a key of
// 16+8k bytes, k below 3, then a radix, one time in two a usual one (10, 16, 26,
// 36, 62, 64, 256, 65536), else 2 plus a number below 65535. 100 times each: a
// length of at least the shortest, one time in four up to 199 more, else up to 23
// more; a number of tweak bytes below 25; the tweak; the numerals, four bytes each,
// big-endian, modulo the radix. All other numbers are eight bytes. The digest is
// SHA-256 over every case's encryption, then decryption, of the numerals, each
// numeral in two bytes, big-endian.
func TestAccumulated(t *testing.T) {
	accumulate(t, func(*FF1) {})
}

// accumulate draws the cases; prepare may choose a path.
func accumulate(t *testing.T, prepare func(*FF1)) {
	t.Helper()
	if raceEnabled {
		t.Skip("100,000 cases one after another are slow with the race detector and have no races; run without it")
	}
	s := stream{sha3.NewSHAKE128()}
	_, _ = s.h.Write([]byte("lethe fpe ff1 accumulated"))
	digest := sha256.New()
	sum := func(x []uint16) {
		b := make([]byte, 0, 2*MaxLength)
		for _, n := range x {
			b = binary.BigEndian.AppendUint16(b, n)
		}
		digest.Write(b)
	}
	usual := []int{10, 16, 26, 36, 62, 64, 256, 65536}
	for range 1000 {
		key := s.bytes(16 + 8*s.below(3))
		var radix int
		if s.below(2) == 0 {
			radix = usual[s.below(len(usual))]
		} else {
			radix = 2 + s.below(65535)
		}
		f := newFF1(t, key, radix)
		prepare(f)
		var encrypted, decrypted, wantEncrypted, wantDecrypted [100][]uint16
		var tweaks [100][]byte
		for i := range tweaks {
			n := f.MinLength()
			if s.below(4) == 0 {
				n += s.below(200)
			} else {
				n += s.below(24)
			}
			tweaks[i] = s.bytes(s.below(25))
			x := make([]uint16, n)
			drawn := s.bytes(4 * n)
			for j := range x {
				x[j] = uint16(binary.BigEndian.Uint32(drawn[4*j:]) % uint32(radix))
			}
			encrypted[i], decrypted[i] = slices.Clone(x), slices.Clone(x)
			enc, err := f.Encrypt(nil, x, tweaks[i])
			if err != nil {
				t.Fatal(err)
			}
			dec, err := f.Decrypt(nil, x, tweaks[i])
			if err != nil {
				t.Fatal(err)
			}
			if back, err := f.Decrypt(nil, enc, tweaks[i]); err != nil || !slices.Equal(back, x) {
				t.Fatalf("radix %d: %v decrypts to %v, %v", radix, enc, back, err)
			}
			sum(enc)
			sum(dec)
			wantEncrypted[i], wantDecrypted[i] = enc, dec
		}
		if err := f.EncryptBatch(encrypted[:], tweaks[:]); err != nil {
			t.Fatal(err)
		}
		if err := f.DecryptBatch(decrypted[:], tweaks[:]); err != nil {
			t.Fatal(err)
		}
		for i := range tweaks {
			if !slices.Equal(encrypted[i], wantEncrypted[i]) || !slices.Equal(decrypted[i], wantDecrypted[i]) {
				t.Fatalf("radix %d, length %d: the batch differs", radix, len(encrypted[i]))
			}
		}
	}
	if got := hex.EncodeToString(digest.Sum(nil)); got != accumulatedDigest {
		t.Errorf("digest %s, want %s", got, accumulatedDigest)
	}
}
