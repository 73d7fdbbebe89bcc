package fpe

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestAlphabetRefusals(t *testing.T) {
	var tooMany strings.Builder
	for r := rune(0x10000); tooMany.Len() < 4*(MaxRadix+1); r++ {
		tooMany.WriteRune(r)
	}
	for name, symbols := range map[string]string{
		"empty": "", "one": "a", "twice": "abca", "twice beyond ASCII": "äöä", "invalid UTF-8": "ab\xff",
		"half a rune": "ab\xc3", "too many": tooMany.String(),
	} {
		if _, err := NewAlphabet(symbols); !errors.Is(err, ErrAlphabet) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewAlphabet(tooMany.String()[4:]); err != nil {
		t.Errorf("%d symbols: %v", MaxRadix, err)
	}
	if _, err := NewText(newFF1(t, make([]byte, 16), 16), Digits); !errors.Is(err, ErrRadix) {
		t.Error(err)
	}
}

// Nothing that resembles a symbol is taken for one, and the error tells where it
// is but not what.
func TestNothingIsFolded(t *testing.T) {
	digits, err := NewText(newFF1(t, make([]byte, 16), 10), Digits)
	if err != nil {
		t.Fatal(err)
	}
	lower, err := NewText(newFF1(t, make([]byte, 16), 36), LowerAlphanumeric)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		text     *Text
		in       string
		position int
	}{
		{digits, "-1234567", 0},
		{digits, "+1234567", 0},
		{digits, " 1234567", 0},
		{digits, "1234567 ", 7},
		{digits, "1234567\n", 7},
		{digits, "1234 567", 4},
		{digits, "123,4567", 3},
		{digits, "1234567.0", 7},
		{digits, "0x123456", 1},
		{digits, "1234567\x00", 7},
		{digits, "123456٧", 6},                 // ARABIC-INDIC DIGIT SEVEN
		{digits, "123456７", 6},                 // FULLWIDTH DIGIT SEVEN
		{digits, "123456²", 6},                 // SUPERSCRIPT TWO
		{digits, "\U0001d7ce1234567", 0},       // MATHEMATICAL BOLD DIGIT ZERO
		{digits, "1234567\u0301", 7},           // COMBINING ACUTE ACCENT
		{digits, "\ufeff1234567", 0},           // BYTE ORDER MARK
		{digits, "12345\xff67", 5},             // broken byte
		{digits, "12345\xf0\x9d\x9f67", 5},     // rune cut short
		{digits, "12345\xc0\xb067", 5},         // overlong 0
		{digits, "12345\xed\xa0\x8067", 5},     // surrogate
		{digits, "12345\xf4\x90\x80\x8067", 5}, // beyond Unicode
		{lower, "abcdefgH", 7},
		{lower, "abcde\u212afg", 5}, // KELVIN SIGN folds to k
		{lower, "abcde\u0131fg", 5}, // dotless i
		{lower, "abcde\u0455fg", 5}, // CYRILLIC DZE looks like s
	} {
		for _, crypt := range []func(string, []byte) (string, error){c.text.Encrypt, c.text.Decrypt} {
			out, err := crypt(c.in, nil)
			var where *SymbolError
			if !errors.As(err, &where) || where.Position != c.position || out != "" {
				t.Errorf("%q: %q, %v, want position %d", c.in, out, err, c.position)
			} else if bad := []rune(c.in)[c.position]; strings.ContainsRune("٧７²hH", bad) && strings.ContainsRune(err.Error(), bad) {
				t.Errorf("%q: the error shows the symbol: %v", c.in, err)
			}
		}
	}
}

func TestAlphabetsOfManyBytes(t *testing.T) {
	for _, symbols := range []string{
		"αβγδεζηθικλμνξοπρστυφχψω", "aäoöuüß", "0١2३", "🙂🙃😀😁😂🤣😃😄", "\x00\x01\x7f\u0080\u07ff\u0800\uffff\U00010000\U0010ffff", "ab\ufffd",
	} {
		a, err := NewAlphabet(symbols)
		if err != nil {
			t.Fatal(err)
		}
		text, err := NewText(newFF1(t, make([]byte, 24), a.Radix()), a)
		if err != nil {
			t.Fatal(err)
		}
		in := strings.Repeat(symbols, 200/a.Radix()+1)
		out, err := text.Encrypt(in, []byte("tweak"))
		if err != nil || out == in || utf8.RuneCountInString(out) != utf8.RuneCountInString(in) || strings.Trim(out, symbols) != "" {
			t.Errorf("%q: %q, %v", in, out, err)
		}
		if back, err := text.Decrypt(out, []byte("tweak")); err != nil || back != in {
			t.Errorf("%q: decrypts to %q, %v", in, back, err)
		}
		if strings.ContainsRune(symbols, utf8.RuneError) {
			if _, err := text.Encrypt(in+"\xff", nil); !errors.Is(err, ErrSymbol) {
				t.Errorf("a broken byte passes for U+FFFD: %v", err)
			}
		}
	}
}

func TestAppendLeavesDestination(t *testing.T) {
	dst := []uint16{1, 2}
	if got, err := Digits.AppendNumerals(dst, "12x"); !errors.Is(err, ErrSymbol) || !slices.Equal(got, dst) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := Digits.AppendNumerals(dst, "34"); err != nil || !slices.Equal(got, []uint16{1, 2, 3, 4}) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := Digits.AppendNumerals(nil, strings.Repeat("1", MaxLength+1)); !errors.Is(err, ErrTooLong) || got != nil {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := Digits.AppendText([]byte("x"), []uint16{3, 10}); !errors.Is(err, ErrSymbol) || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := Digits.AppendText([]byte("x"), []uint16{3, 9}); err != nil || string(got) != "x39" {
		t.Errorf("%q, %v", got, err)
	}
}
