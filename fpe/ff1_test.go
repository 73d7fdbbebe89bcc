package fpe

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

func newFF1(t testing.TB, key []byte, radix int) *FF1 {
	t.Helper()
	f, err := NewFF1(key, radix)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func randomBytes(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// randomNumerals prefers the edges: many zeros, many radix-1.
func randomNumerals(rng *rand.Rand, n, radix int) []uint16 {
	x := make([]uint16, n)
	style := rng.IntN(6)
	for i := range x {
		switch {
		case style == 0 || style == 2 && rng.IntN(2) == 0:
			x[i] = 0
		case style == 1 || style == 2:
			x[i] = uint16(radix - 1)
		default:
			x[i] = uint16(rng.IntN(radix))
		}
	}
	return x
}

// The nine samples NIST published for FF1.
func TestNISTSamples(t *testing.T) {
	raw, err := os.ReadFile("testdata/nist_sp800-38g_ff1.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Samples []struct {
			Sample           int
			KeyHex, TweakHex string
			Radix            int
			Alphabet         string
			PtStr, CtStr     string
			Pt, Ct           []uint16
		}
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Samples) != 9 {
		t.Fatalf("%d samples, not 9", len(file.Samples))
	}
	for _, s := range file.Samples {
		key, err1 := hex.DecodeString(s.KeyHex)
		tweak, err2 := hex.DecodeString(s.TweakHex)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		f := newFF1(t, key, s.Radix)
		if got, err := f.Encrypt(nil, s.Pt, tweak); err != nil || !slices.Equal(got, s.Ct) {
			t.Errorf("sample %d: %v, %v, want %v", s.Sample, got, err, s.Ct)
		}
		if got, err := f.Decrypt(nil, s.Ct, tweak); err != nil || !slices.Equal(got, s.Pt) {
			t.Errorf("sample %d back: %v, %v, want %v", s.Sample, got, err, s.Pt)
		}
		alphabet, err := NewAlphabet(s.Alphabet)
		if err != nil {
			t.Fatal(err)
		}
		text, err := NewText(f, alphabet)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := text.Encrypt(s.PtStr, tweak); err != nil || got != s.CtStr {
			t.Errorf("sample %d: %q, %v, want %q", s.Sample, got, err, s.CtStr)
		}
		if got, err := text.Decrypt(s.CtStr, tweak); err != nil || got != s.PtStr {
			t.Errorf("sample %d back: %q, %v, want %q", s.Sample, got, err, s.PtStr)
		}
	}
}

// radices has primes, powers of two and their neighbours, and what is in use.
var radices = []int{
	2, 3, 4, 5, 7, 8, 10, 11, 15, 16, 17, 26, 32, 36, 45, 52, 62, 64, 85, 95, 100, 127, 128, 129, 255, 256, 257,
	1000, 1023, 1024, 4096, 10007, 32767, 32768, 32769, 46341, 65521, 65535, 65536,
}

var tweakLengths = []int{0, 1, 7, 8, 9, 10, 11, 12, 15, 16, 17, 20, 31, 32, 33, 48, 100}

// Every radix with every length up to where halves have three words, and some
// beyond, against the standard's own steps.
func TestAgainstReference(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, radix := range radices {
		key := randomBytes(rng, 16+8*rng.IntN(3))
		f := newFF1(t, key, radix)
		longest := f.MinLength() + int(2*200/math.Log2(float64(radix)))
		lengths := []int{200, 255, 256, 257}
		for n := f.MinLength(); n <= longest; n++ {
			lengths = append(lengths, n, n)
		}
		for _, n := range lengths {
			x := randomNumerals(rng, n, radix)
			tweak := randomBytes(rng, tweakLengths[rng.IntN(len(tweakLengths))])
			compareWithReference(t, f, key, x, tweak)
		}
	}
}

func compareWithReference(t *testing.T, f *FF1, key []byte, x []uint16, tweak []byte) {
	t.Helper()
	before, tweakBefore := slices.Clone(x), bytes.Clone(tweak)
	want := reference(key, f.Radix(), x, tweak, false)
	got, err := f.Encrypt(nil, x, tweak)
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("radix %d, length %d, tweak %d: %v, %v, want %v", f.Radix(), len(x), len(tweak), got, err, want)
	}
	back, err := f.Decrypt(nil, got, tweak)
	if err != nil || !slices.Equal(back, x) {
		t.Fatalf("radix %d, length %d, tweak %d: decrypts to %v, %v, want %v", f.Radix(), len(x), len(tweak), back, err, x)
	}
	wantBack := reference(key, f.Radix(), x, tweak, true)
	if back, err = f.Decrypt(nil, x, tweak); err != nil || !slices.Equal(back, wantBack) {
		t.Fatalf("radix %d, length %d, tweak %d: decrypts to %v, %v, want %v", f.Radix(), len(x), len(tweak), back, err, wantBack)
	}
	if !slices.Equal(x, before) || !bytes.Equal(tweak, tweakBefore) {
		t.Fatal("input changed")
	}
}

// Every tweak length up to four blocks, on each of the three arithmetics.
func TestTweakLengths(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	key := randomBytes(rng, 32)
	f := newFF1(t, key, 10)
	for _, n := range []int{6, 9, 16, 18, 19, 20, 30, 37, 38, 39, 40, 70, 72, 73, 100} {
		for length := range 65 {
			compareWithReference(t, f, key, randomNumerals(rng, n, 10), randomBytes(rng, length))
		}
	}
	compareWithReference(t, f, key, randomNumerals(rng, 16, 10), randomBytes(rng, MaxTweakLength))
}

func TestLongestInputs(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, radix := range []int{2, 10, 255, 65535, 65536} {
		key := randomBytes(rng, 32)
		f := newFF1(t, key, radix)
		for _, n := range []int{MaxLength - 1, MaxLength} {
			compareWithReference(t, f, key, randomNumerals(rng, n, radix), randomBytes(rng, 8))
			all := slices.Repeat([]uint16{uint16(radix - 1)}, n)
			compareWithReference(t, f, key, all, nil)
		}
	}
}

func TestMinimumDomain(t *testing.T) {
	for radix := 2; radix <= MaxRadix; radix += 1 + radix/50 {
		f := newFF1(t, make([]byte, 16), radix)
		n, domain := 0, 1.0
		for domain < MinDomain || n < 2 {
			n, domain = n+1, domain*float64(radix)
		}
		if f.MinLength() != n {
			t.Errorf("radix %d: shortest %d, want %d", radix, f.MinLength(), n)
		}
		if _, err := f.Encrypt(nil, make([]uint16, n), nil); err != nil {
			t.Errorf("radix %d, length %d: %v", radix, n, err)
		}
		if _, err := f.Encrypt(nil, make([]uint16, n-1), nil); !errors.Is(err, ErrTooShort) {
			t.Errorf("radix %d, length %d: %v", radix, n-1, err)
		}
	}
}

func TestLegacyDecrypter(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for _, radix := range radices {
		key := randomBytes(rng, 16)
		d, err := NewLegacySmallDomainDecrypter(key, radix)
		if err != nil {
			t.Fatal(err)
		}
		for n := 2; n < 25; n++ {
			x := randomNumerals(rng, n, radix)
			got, err := d.Decrypt(nil, reference(key, radix, x, []byte("tweak"), false), []byte("tweak"))
			if math.Pow(float64(radix), float64(n)) < 100 {
				if !errors.Is(err, ErrTooShort) {
					t.Errorf("radix %d, length %d: %v", radix, n, err)
				}
			} else if err != nil || !slices.Equal(got, x) {
				t.Errorf("radix %d, length %d: %v, %v, want %v", radix, n, got, err, x)
			}
		}
	}
	d, err := NewLegacySmallDomainDecrypter(make([]byte, 16), 10)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.DecryptText(Alphanumeric, "1234", nil); !errors.Is(err, ErrRadix) {
		t.Error(err)
	}
	if _, err := NewLegacySmallDomainDecrypter(nil, 10); !errors.Is(err, ErrKeySize) {
		t.Error(err)
	}
}

func TestRefusals(t *testing.T) {
	for _, size := range []int{0, 1, 8, 15, 17, 20, 31, 33, 40, 64} {
		if _, err := NewFF1(make([]byte, size), 10); !errors.Is(err, ErrKeySize) {
			t.Errorf("key of %d bytes: %v", size, err)
		}
	}
	for _, radix := range []int{math.MinInt, -10, -1, 0, 1, MaxRadix + 1, math.MaxInt} {
		if _, err := NewFF1(make([]byte, 16), radix); !errors.Is(err, ErrRadix) {
			t.Errorf("radix %d: %v", radix, err)
		}
	}
	f := newFF1(t, make([]byte, 16), 10)
	for _, c := range []struct {
		src, tweak int
		want       error
	}{
		{0, 0, ErrTooShort}, {1, 0, ErrTooShort}, {5, 0, ErrTooShort},
		{MaxLength + 1, 0, ErrTooLong}, {6, MaxTweakLength + 1, ErrTweakTooLong},
	} {
		dst := []uint16{7}
		for _, crypt := range []func(dst, src []uint16, tweak []byte) ([]uint16, error){f.Encrypt, f.Decrypt} {
			if got, err := crypt(dst, make([]uint16, c.src), make([]byte, c.tweak)); !errors.Is(err, c.want) || !slices.Equal(got, dst) {
				t.Errorf("%d numerals, %d bytes of tweak: %v, %v", c.src, c.tweak, got, err)
			}
		}
	}
	for at := range 9 {
		for _, bad := range []uint16{10, 11, 255, 256, 65535} {
			src := make([]uint16, 9)
			src[at] = bad
			_, err := f.Encrypt(nil, src, nil)
			var where *SymbolError
			if !errors.As(err, &where) || where.Position != at || !errors.Is(err, ErrSymbol) {
				t.Errorf("numeral %d at %d: %v", bad, at, err)
			}
		}
	}
}

func TestDestination(t *testing.T) {
	f := newFF1(t, make([]byte, 32), 10)
	src := []uint16{1, 2, 3, 4, 5, 6, 7, 8, 9}
	want, err := f.Encrypt(nil, src, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := f.Encrypt([]uint16{100, 200}, src, nil); err != nil || !slices.Equal(got, append([]uint16{100, 200}, want...)) {
		t.Errorf("appended: %v, %v", got, err)
	}
	for shift := range 20 { // every overlap, before, onto and after the source
		buf := make([]uint16, 40)
		in := buf[10:19:19]
		copy(in, src)
		got, err := f.Encrypt(buf[:shift], in, nil)
		if err != nil || !slices.Equal(got[shift:], want) {
			t.Errorf("overlap at %d: %v, %v", shift, got[shift:], err)
		}
	}
	in := slices.Clone(src)
	if got, err := f.Encrypt(in[:0], in, nil); err != nil || &got[0] != &in[0] || !slices.Equal(in, want) {
		t.Errorf("in place: %v, %v", in, err)
	}
}

// A permutation, whole: all of a domain, each value hit once.
func TestPermutation(t *testing.T) {
	f := newFF1(t, []byte("0123456789abcdef"), 10)
	seen := make([]bool, MinDomain)
	var x [6]uint16
	for i := range MinDomain {
		for j, rest := 5, i; j >= 0; j, rest = j-1, rest/10 {
			x[j] = uint16(rest % 10)
		}
		if _, err := f.Encrypt(x[:0], x[:], nil); err != nil {
			t.Fatal(err)
		}
		at := 0
		for _, d := range x {
			at = 10*at + int(d)
		}
		if seen[at] {
			t.Fatalf("%d twice", at)
		}
		seen[at] = true
	}
}

func TestEveryInputMatters(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	key := randomBytes(rng, 32)
	src := randomNumerals(rng, 16, 10)
	tweak := randomBytes(rng, 20)
	want, err := newFF1(t, key, 10).Encrypt(nil, src, tweak)
	if err != nil {
		t.Fatal(err)
	}
	differs := func(what string, key []byte, radix int, src []uint16, tweak []byte) {
		got, err := newFF1(t, key, radix).Encrypt(nil, src, tweak)
		if err != nil || slices.Equal(got, want) {
			t.Errorf("another %s: %v, %v", what, got, err)
		}
	}
	for i := range key {
		other := bytes.Clone(key)
		other[i] ^= 1
		differs(fmt.Sprint("key byte ", i), other, 10, src, tweak)
	}
	for i := range tweak {
		other := bytes.Clone(tweak)
		other[i] ^= 1
		differs(fmt.Sprint("tweak byte ", i), key, 10, src, other)
	}
	for i := range src {
		other := slices.Clone(src)
		other[i] = (other[i] + 1) % 10
		differs(fmt.Sprint("numeral ", i), key, 10, other, tweak)
	}
	differs("radix", key, 11, src, tweak)
	differs("tweak, with a zero more", key, 10, src, append(bytes.Clone(tweak), 0))
	differs("key size", key[:16], 10, src, tweak)
}

// Eight goroutines on one value, lengths met for the first time by all at once.
func TestConcurrentUse(t *testing.T) {
	for _, radix := range []int{2, 10, 62, 65536} {
		key := []byte("0123456789abcdef0123456789abcdef")
		alone, shared := newFF1(t, key, radix), newFF1(t, key, radix)
		type task struct {
			src, want []uint16
			tweak     []byte
		}
		rng := rand.New(rand.NewPCG(11, uint64(radix)))
		tasks := make([]task, 400)
		for i := range tasks {
			c := task{src: randomNumerals(rng, alone.MinLength()+rng.IntN(90), radix), tweak: randomBytes(rng, rng.IntN(20))}
			var err error
			if c.want, err = alone.Encrypt(nil, c.src, c.tweak); err != nil {
				t.Fatal(err)
			}
			tasks[i] = c
		}
		var wg sync.WaitGroup
		for worker := range 8 {
			wg.Go(func() {
				var values [][]uint16
				var tweaks [][]byte
				for i := range tasks {
					c := &tasks[(i+worker*7)%len(tasks)]
					got, err := shared.Encrypt(nil, c.src, c.tweak)
					if err != nil || !slices.Equal(got, c.want) {
						t.Errorf("radix %d: %v, %v, want %v", radix, got, err, c.want)
						return
					}
					values, tweaks = append(values, got), append(tweaks, c.tweak)
				}
				if err := shared.DecryptBatch(values, tweaks); err != nil {
					t.Error(err)
				}
				for i := range tasks {
					if c := &tasks[(i+worker*7)%len(tasks)]; !slices.Equal(values[i], c.src) {
						t.Errorf("radix %d: batch gave %v, want %v", radix, values[i], c.src)
						return
					}
				}
			})
		}
		wg.Wait()
	}
}

// Whoever prints the value sees no key.
func TestPrintingShowsNoKey(t *testing.T) {
	key := []byte("ABCDEFGHIJKLMNOP")
	f := newFF1(t, key, 10)
	text, err := NewText(f, Digits)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{f, *f, text, *text} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q"} {
			out := fmt.Sprintf(verb, v)
			for _, secret := range []string{string(key), hex.EncodeToString(key), strings.ToUpper(hex.EncodeToString(key)), "65, 66", "65 66", "0x41, 0x42"} {
				if strings.Contains(out, secret) {
					t.Errorf("%s of %T shows the key", verb, v)
				}
			}
		}
	}
}
