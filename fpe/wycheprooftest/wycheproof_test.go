package wycheprooftest

import (
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/c2sp/wycheproof"

	"github.com/lethe-go/lethe/fpe"
)

type vectors struct {
	NumberOfTests int `json:"numberOfTests"`
	TestGroups    []struct {
		Type     string
		Radix    int
		Alphabet string
		Tests    []vector
	}
}

type vector struct {
	TcID       int `json:"tcId"`
	Flags      []string
	Key, Tweak string
	Msg, Ct    json.RawMessage
	Result     string
}

// What the pinned version of the vectors has. Fewer would mean that some were
// not found.
const (
	wantFiles   = 22
	wantCases   = 57246
	wantInvalid = 8006
	wantSmall   = 138 // valid before Revision 1, refused since
)

func TestWycheproof(t *testing.T) {
	names, err := fs.Glob(wycheproof.TestVectors, "aes_ff1_*_test.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases, invalid, small int
	for _, name := range names {
		raw, err := fs.ReadFile(wycheproof.TestVectors, name)
		if err != nil {
			t.Fatal(err)
		}
		var file vectors
		if err := json.Unmarshal(raw, &file); err != nil {
			t.Fatal(err)
		}
		inFile := 0
		for _, g := range file.TestGroups {
			for _, v := range g.Tests {
				inFile++
				var outcome string
				switch g.Type {
				case "FpeStrTest":
					outcome = runText(t, g.Alphabet, &v)
				case "FpeListTest":
					outcome = runNumerals(t, g.Radix, &v)
				default:
					t.Fatalf("%s: unknown type %s", name, g.Type)
				}
				switch {
				case v.Result == "invalid" && outcome == "refused":
					invalid++
				case v.Result == "valid" && outcome == "passed" && !slices.Contains(v.Flags, "SmallMessageSize"):
				case v.Result == "valid" && outcome == "small" && slices.Contains(v.Flags, "SmallMessageSize"):
					small++
				default:
					t.Errorf("%s, case %d (%s, %v): %s", name, v.TcID, v.Result, v.Flags, outcome)
				}
			}
		}
		if inFile != file.NumberOfTests {
			t.Errorf("%s: ran %d of %d", name, inFile, file.NumberOfTests)
		}
		cases += inFile
	}
	t.Logf("%d files, %d cases: %d invalid ones refused, %d below the minimum domain refused by FF1 and decrypted by the legacy decrypter", len(names), cases, invalid, small)
	if len(names) != wantFiles || cases != wantCases || invalid != wantInvalid || small != wantSmall {
		t.Errorf("want %d files, %d cases, %d invalid, %d small", wantFiles, wantCases, wantInvalid, wantSmall)
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func unmarshal[T any](t *testing.T, raw json.RawMessage) (x T) {
	t.Helper()
	if err := json.Unmarshal(raw, &x); err != nil {
		t.Fatal(err)
	}
	return x
}

// runText returns passed (both directions gave what they must), small (refused,
// and the legacy decrypter decrypted), refused or wrong.
func runText(t *testing.T, symbols string, v *vector) string {
	alphabet, err := fpe.NewAlphabet(symbols)
	if err != nil {
		t.Fatal(err)
	}
	key, tweak, msg, ct := unhex(t, v.Key), unhex(t, v.Tweak), unmarshal[string](t, v.Msg), unmarshal[string](t, v.Ct)
	f, err := fpe.NewFF1(key, alphabet.Radix())
	if err != nil {
		return "refused"
	}
	text, err := fpe.NewText(f, alphabet)
	if err != nil {
		t.Fatal(err)
	}
	got, err := text.Encrypt(msg, tweak)
	if err != nil {
		legacy, lerr := fpe.NewLegacySmallDomainDecrypter(key, alphabet.Radix())
		if lerr != nil {
			t.Fatal(lerr)
		}
		if back, lerr := legacy.DecryptText(alphabet, ct, tweak); lerr == nil && back == msg {
			return "small"
		}
		return "refused"
	}
	if batch, err := text.EncryptBatch([]string{msg, msg}, [][]byte{tweak, tweak}); err != nil || batch[0] != ct || batch[1] != ct {
		return "wrong in a batch"
	}
	if back, err := text.Decrypt(ct, tweak); err != nil || back != msg || got != ct {
		return "wrong"
	}
	return "passed"
}

func runNumerals(t *testing.T, radix int, v *vector) string {
	key, tweak := unhex(t, v.Key), unhex(t, v.Tweak)
	msg, fits := numerals(unmarshal[[]int64](t, v.Msg))
	ct, _ := numerals(unmarshal[[]int64](t, v.Ct))
	if !fits {
		return "refused" // the type cannot hold it
	}
	f, err := fpe.NewFF1(key, radix)
	if err != nil {
		return "refused"
	}
	got, err := f.Encrypt(nil, msg, tweak)
	if err != nil {
		legacy, lerr := fpe.NewLegacySmallDomainDecrypter(key, radix)
		if lerr != nil {
			t.Fatal(lerr)
		}
		if back, lerr := legacy.Decrypt(nil, ct, tweak); lerr == nil && slices.Equal(back, msg) {
			return "small"
		}
		return "refused"
	}
	batch := [][]uint16{slices.Clone(msg), slices.Clone(msg)}
	if err := f.EncryptBatch(batch, [][]byte{tweak, tweak}); err != nil || !slices.Equal(batch[0], ct) || !slices.Equal(batch[1], ct) {
		return "wrong in a batch"
	}
	if back, err := f.Decrypt(nil, ct, tweak); err != nil || !slices.Equal(back, msg) || !slices.Equal(got, ct) {
		return "wrong"
	}
	return "passed"
}

func numerals(x []int64) (out []uint16, fits bool) {
	for _, n := range x {
		if n < 0 || n > math.MaxUint16 {
			return nil, false
		}
		out = append(out, uint16(n))
	}
	return out, true
}

// Every invalid value must be refused by Decrypt too, and by the legacy decrypter.
func TestWycheproofInvalidText(t *testing.T) {
	names, err := fs.Glob(wycheproof.TestVectors, "aes_ff1_base*_test.json")
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, name := range names {
		raw, err := fs.ReadFile(wycheproof.TestVectors, name)
		if err != nil {
			t.Fatal(err)
		}
		var file vectors
		if err := json.Unmarshal(raw, &file); err != nil {
			t.Fatal(err)
		}
		for _, g := range file.TestGroups {
			alphabet, err := fpe.NewAlphabet(g.Alphabet)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range g.Tests {
				if v.Result != "invalid" || slices.Contains(v.Flags, "InvalidKeySize") {
					continue
				}
				legacy, err := fpe.NewLegacySmallDomainDecrypter(unhex(t, v.Key), alphabet.Radix())
				if err != nil {
					t.Fatal(err)
				}
				msg := unmarshal[string](t, v.Msg)
				_, err = legacy.DecryptText(alphabet, msg, unhex(t, v.Tweak))
				if err == nil {
					t.Errorf("%s, case %d: accepted", name, v.TcID)
				} else if len(msg) > 1 && strings.Contains(err.Error(), msg) {
					t.Errorf("%s, case %d: the error shows the value", name, v.TcID)
				}
				refused++
			}
		}
	}
	if refused == 0 {
		t.Error("no case found")
	}
}
