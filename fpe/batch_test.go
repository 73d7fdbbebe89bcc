package fpe

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// Batches of every size up to several kernels' worth, of one length and mixed,
// against one by one.
func TestBatchIsOneByOne(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	for _, radix := range []int{2, 10, 26, 62, 256, 65535, 65536} {
		key := randomBytes(rng, 16+8*rng.IntN(3))
		f := newFF1(t, key, radix)
		for size := range 70 {
			for _, spread := range []int{1, 3, 40} {
				values, tweaks, plain, want := make([][]uint16, size), make([][]byte, size), make([][]uint16, size), make([][]uint16, size)
				base := f.MinLength() + rng.IntN(20)
				for i := range values {
					values[i] = randomNumerals(rng, base+rng.IntN(spread), radix)
					tweaks[i] = randomBytes(rng, rng.IntN(40))
					plain[i] = slices.Clone(values[i])
					var err error
					if want[i], err = f.Encrypt(nil, values[i], tweaks[i]); err != nil {
						t.Fatal(err)
					}
				}
				if err := f.EncryptBatch(values, tweaks); err != nil {
					t.Fatal(err)
				}
				for i := range values {
					if !slices.Equal(values[i], want[i]) {
						t.Fatalf("radix %d, value %d of %d: %v, want %v", radix, i, size, values[i], want[i])
					}
				}
				if err := f.DecryptBatch(values, tweaks); err != nil {
					t.Fatal(err)
				}
				for i := range values {
					if !slices.Equal(values[i], plain[i]) {
						t.Fatalf("radix %d, value %d of %d: decrypts to %v, want %v", radix, i, size, values[i], plain[i])
					}
				}
			}
		}
	}
}

func TestBatchRefusals(t *testing.T) {
	f := newFF1(t, make([]byte, 16), 10)
	for _, crypt := range []func([][]uint16, [][]byte) error{f.EncryptBatch, f.DecryptBatch} {
		if err := crypt(make([][]uint16, 2), make([][]byte, 1)); !errors.Is(err, ErrBatch) {
			t.Error(err)
		}
		if err := crypt(nil, nil); err != nil {
			t.Error(err)
		}
		for _, bad := range [][]uint16{nil, {1, 2, 3}, {1, 2, 3, 4, 5, 10}, make([]uint16, MaxLength+1)} {
			values := make([][]uint16, 40)
			for i := range values {
				values[i] = []uint16{1, 2, 3, 4, 5, 6}
			}
			values[33] = bad
			err := crypt(values, make([][]byte, 40))
			var which *BatchError
			_, alone := f.Encrypt(nil, bad, nil)
			if !errors.As(err, &which) || which.Index != 33 || which.Err.Error() != alone.Error() {
				t.Errorf("%v, want value 33 and %v", err, alone)
			}
			if !slices.Equal(values[0], []uint16{1, 2, 3, 4, 5, 6}) {
				t.Error("a value changed although the batch was refused")
			}
		}
	}
}

func TestTextBatch(t *testing.T) {
	text, err := NewText(newFF1(t, make([]byte, 16), 62), Alphanumeric)
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	var tweaks [][]byte
	for i := range 50 {
		values = append(values, strings.Repeat("Ab9", 2+i%5))
		tweaks = append(tweaks, []byte{byte(i)})
	}
	got, err := text.EncryptBatch(values, tweaks)
	if err != nil {
		t.Fatal(err)
	}
	for i := range values {
		if want, err := text.Encrypt(values[i], tweaks[i]); err != nil || got[i] != want {
			t.Errorf("%d: %q, want %q, %v", i, got[i], want, err)
		}
	}
	back, err := text.DecryptBatch(got, tweaks)
	if err != nil || !slices.Equal(back, values) {
		t.Errorf("%v, %v", back, err)
	}
	var which *BatchError
	var where *SymbolError
	values[7] = "abcde-"
	if got, err := text.EncryptBatch(values, tweaks); !errors.As(err, &which) || which.Index != 7 || !errors.As(err, &where) || where.Position != 5 || got != nil {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := text.EncryptBatch(values, nil); !errors.Is(err, ErrBatch) {
		t.Error(err)
	}
}

func TestNoAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector empties pools at random")
	}
	for _, n := range []int{9, 16, 30, 38, 100, 200, MaxLength} {
		f := newFF1(t, make([]byte, 32), 10)
		x, tweak := make([]uint16, n), make([]byte, 40)
		values, tweaks := make([][]uint16, 40), make([][]byte, 40)
		for i := range values {
			values[i], tweaks[i] = make([]uint16, n), tweak
		}
		if allocs := testing.AllocsPerRun(100, func() {
			if _, err := f.Encrypt(x[:0], x, tweak); err != nil {
				t.Error(err)
			}
			if _, err := f.Decrypt(x[:0], x, tweak); err != nil {
				t.Error(err)
			}
			if err := f.EncryptBatch(values, tweaks); err != nil {
				t.Error(err)
			}
		}); allocs > 0 {
			t.Errorf("length %d: %v allocations", n, allocs)
		}
	}
}
