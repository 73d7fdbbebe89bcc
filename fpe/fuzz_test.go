package fpe

import (
	"errors"
	"slices"
	"testing"
	"unicode/utf8"
)

// FuzzReference compares single and batch encryption and decryption with the
// standard's own steps on whatever key, radix, numerals and tweak. The numerals
// are two bytes each, taken modulo the radix.
func FuzzReference(f *testing.F) {
	f.Add([]byte("0123456789abcdef"), uint16(10), []byte("0102030405060708"), []byte("tweak"))
	f.Add([]byte("0123456789abcdef01234567"), uint16(2), make([]byte, 2*64), []byte{})
	f.Add([]byte("0123456789abcdef0123456789abcdef"), uint16(0), []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, make([]byte, 16))
	f.Add([]byte("0123456789abcdef0123456789abcdef"), uint16(65535), []byte{0xff, 0xfe, 0xff, 0xfe, 0xff, 0xfe, 0xff, 0xfe}, make([]byte, 33))
	f.Add([]byte("0123456789abcdef"), uint16(36), []byte("abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz"), make([]byte, 11))
	f.Add([]byte("0123456789abcdef"), uint16(256), make([]byte, 2*62), make([]byte, 1))
	f.Fuzz(func(t *testing.T, key []byte, radix16 uint16, raw, tweak []byte) {
		radix := int(radix16)
		if radix == 0 {
			radix = MaxRadix
		}
		ff1, err := NewFF1(key, radix)
		if err != nil {
			if !errors.Is(err, ErrKeySize) && !errors.Is(err, ErrRadix) {
				t.Fatal(err)
			}
			return
		}
		x := make([]uint16, min(len(raw)/2, MaxLength+1))
		for i := range x {
			x[i] = uint16((int(raw[2*i])<<8 | int(raw[2*i+1])) % radix)
		}
		enc, err := ff1.Encrypt(nil, x, tweak)
		if err != nil {
			if len(x) >= ff1.MinLength() && len(x) <= MaxLength && len(tweak) <= MaxTweakLength {
				t.Fatal(err)
			}
			return
		}
		dec, err := ff1.Decrypt(nil, x, tweak)
		if err != nil {
			t.Fatal(err)
		}
		if want := reference(key, radix, x, tweak, false); !slices.Equal(enc, want) {
			t.Fatalf("encrypts to %v, want %v", enc, want)
		}
		if want := reference(key, radix, x, tweak, true); !slices.Equal(dec, want) {
			t.Fatalf("decrypts to %v, want %v", dec, want)
		}
		if back, err := ff1.Decrypt(nil, enc, tweak); err != nil || !slices.Equal(back, x) {
			t.Fatalf("%v, %v does not decrypt to %v", back, err, x)
		}
		for _, size := range []int{1, 3, 8, 16, 19} {
			values, tweaks := make([][]uint16, size), make([][]byte, size)
			for i := range values {
				values[i], tweaks[i] = slices.Clone(x), tweak
			}
			if err := ff1.EncryptBatch(values, tweaks); err != nil {
				t.Fatal(err)
			}
			for i := range values {
				if !slices.Equal(values[i], enc) {
					t.Fatalf("value %d of %d encrypts to %v, want %v", i, size, values[i], enc)
				}
			}
			if err := ff1.DecryptBatch(values, tweaks); err != nil {
				t.Fatal(err)
			}
			for i := range values {
				if !slices.Equal(values[i], x) {
					t.Fatalf("value %d of %d decrypts to %v, want %v", i, size, values[i], x)
				}
			}
		}
	})
}

// FuzzText: whatever the alphabet and the text, a text of symbols survives the
// way there and back and keeps its length, and all else is refused.
func FuzzText(f *testing.F) {
	f.Add("0123456789", "4111111111111111", []byte("tweak"))
	f.Add("0123456789", "-123456789", []byte{})
	f.Add("αβγδεζηθ", "αβγδαβγδεζηθ", []byte("t"))
	f.Add("ab\ufffd", "ab\xff\ufffdabababababab", []byte("t"))
	f.Add("🙂🙃", "🙂🙃🙂🙃🙂🙃🙂🙃🙂🙃🙂🙃🙂🙃🙂🙃🙂🙃🙂🙃", []byte("t"))
	f.Fuzz(func(t *testing.T, symbols, s string, tweak []byte) {
		alphabet, err := NewAlphabet(symbols)
		if err != nil {
			return
		}
		text, err := NewText(newFF1(t, []byte("0123456789abcdef"), alphabet.Radix()), alphabet)
		if err != nil {
			t.Fatal(err)
		}
		enc, err := text.Encrypt(s, tweak)
		if err != nil {
			if where, ok := errors.AsType[*SymbolError](err); ok {
				if r := []rune(s)[where.Position]; slices.Contains([]rune(symbols), r) && utf8.ValidString(s) {
					t.Fatalf("symbol %d was refused", where.Position)
				}
			}
			return
		}
		for _, r := range s {
			if !slices.Contains([]rune(symbols), r) {
				t.Fatalf("%q was accepted", r)
			}
		}
		if !utf8.ValidString(s) || utf8.RuneCountInString(enc) != utf8.RuneCountInString(s) {
			t.Fatalf("%q encrypts to %q", s, enc)
		}
		if back, err := text.Decrypt(enc, tweak); err != nil || back != s {
			t.Fatalf("%q decrypts to %q, %v, not %q", enc, back, err, s)
		}
	})
}
