package lethe

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

var foldingNames = []string{"email/1", "phone/1", "name/1", "digits/1"}

// requireFastIsSame holds the fast path to what the normaliser says.
func requireFastIsSame(t *testing.T, in string) {
	t.Helper()
	for _, name := range foldingNames {
		var buf [8]byte
		if out, ok := normaliseFast(append(buf[:0], "x"...), name, []byte(in)); ok {
			require.Equal(t, "x"+normalisers[name](in), string(out), "%s of %q", name, in)
		} else if isASCII([]byte(in)) {
			t.Errorf("%s of %q: ASCII takes the slow path", name, in)
		}
	}
}

func TestFastNormalisersOfEveryRune(t *testing.T) {
	t.Parallel()
	for r := range rune(utf8.MaxRune + 1) {
		if r < 0x3000 || r%7 == 0 {
			requireFastIsSame(t, string(r))
			requireFastIsSame(t, " A"+string(r)+"b ")
		}
	}
}

// Neighbours in any order, of the code points where the fast paths decide.
func TestFastNormalisersOfRandomText(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	alphabets := []func() rune{
		func() rune { return rnd.Int32N(0x80) },
		func() rune { return rnd.Int32N(0x300) },
		func() rune { return rnd.Int32N(0x590) },
		func() rune { return 0x1100 + rnd.Int32N(0x100) },
		func() rune { return rnd.Int32N(utf8.MaxRune) },
		func() rune { return []rune(" \t\u00a0\u0085+0-①ｱ゛\u0301\u0345\u0328ΣİßǅÅé")[rnd.IntN(19)] },
	}
	for range 200_000 {
		var s strings.Builder
		for range rnd.IntN(8) {
			s.WriteRune(alphabets[rnd.IntN(len(alphabets))]())
		}
		in := s.String()
		if rnd.IntN(10) == 0 && in != "" {
			in = in[1:] // not UTF-8, perhaps
		}
		requireFastIsSame(t, in)
	}
}

func FuzzFastNormalisers(f *testing.F) {
	for _, in := range []string{"", "Ada@Example.com", "+49 (0)30 1", "0049", "Ada  Lövelace", "İ\u0307", "\xff\xc3", "ﬁ\u0301", "각", "¨\u0301"} {
		f.Add(in)
	}
	f.Fuzz(requireFastIsSame)
}

func TestSimpleNamesAreMostOfTheirScripts(t *testing.T) {
	t.Parallel()
	forms := simpleNames()
	for _, r := range "AzÄßŁőΆΩσйЁґ" {
		require.NotEmpty(t, forms[r], "%q", r)
	}
	require.Empty(t, forms[0x301], "a mark")
	require.Greater(t, len(forms)-len(slices.DeleteFunc(slices.Clone(forms[:]), func(s string) bool { return s != "" })), 1000)
}

// With a buffer that is large enough, and nothing to compose, there is nothing to allocate.
func TestFastNormalisersDoNotAllocate(t *testing.T) {
	for name, in := range map[string]string{"email/1": "Ada@Example.com", "phone/1": "0049 30 1234", "digits/1": "1-2-3", "name/1": "Ada Lövelace", "exact/1": "as it is"} {
		x := indexPlan{normName: name, norm: normalisers[name]}
		plain, got := []byte(in), 0
		require.Zero(t, testing.AllocsPerRun(100, func() {
			var buf [normalRoom]byte
			got = len(x.normalised(buf[:], plain))
		}), name)
		require.Equal(t, len(normalisers[name](in)), got)
	}
}
