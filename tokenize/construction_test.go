package tokenize_test

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/fpe"
	"github.com/lethe-go/lethe/tokenize"
)

type oneKey struct{ secret []byte }

func (k oneKey) TokenKeys(_ context.Context, owners []tokenize.Owner, _ bool, sets []tokenize.KeySet) error {
	key, err := tokenize.NewKey(1, k.secret)
	for i := range owners {
		sets[i].Keys = []*tokenize.Key{key}
	}
	return err
}

func lp(parts ...string) (out []byte) {
	for _, p := range parts {
		out = append(binary.BigEndian.AppendUint32(out, uint32(len(p))), p...)
	}
	return out
}

// A token is what the package documentation says, written down once more.
func TestConstruction(t *testing.T) {
	secret := []byte("0123456789abcdef0123456789abcdef")
	format := must(tokenize.Pattern("([0-9]{4})[0-9]{8}"))
	key, err := hkdf.Expand(sha256.New, secret, string(lp("lethe/1/token", "fpe", "account", "pattern/1 ([0-9]{4})[0-9]{8}")), 32)
	require.NoError(t, err)
	f, err := fpe.NewFF1(key, 10)
	require.NoError(t, err)
	text, err := fpe.NewText(f, fpe.Digits)
	require.NoError(t, err)
	long := string(make([]byte, 189))
	sum := sha256.Sum256(append(lp("1234"), long...))
	for ad, tweak := range map[string]string{"": "\x00\x041234", "ab": "\x00\x041234ab", long: "\x01" + string(sum[:])} {
		want, err := text.Encrypt("56789012", []byte(tweak))
		require.NoError(t, err)
		tok := newFPE(t, tokenize.FormatPreservingOptions{Name: "account", Keys: oneKey{secret}, Format: format})
		got, _, err := tokenize.One(t.Context(), tok, subject(1), []byte(ad), "123456789012")
		require.NoError(t, err)
		require.Equal(t, "1234"+want, got)
	}
}
