package tokenize_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/tokenize"
	"github.com/lethe-go/lethe/tokenize/memstore"
)

// fixedKeys are keys that are the hash of their owner and version: 1 and 2.
type fixedKeys struct{}

func (fixedKeys) TokenKeys(_ context.Context, owners []tokenize.Owner, _ bool, sets []tokenize.KeySet) error {
	for i, o := range owners {
		for version := uint32(2); version > 0; version-- {
			secret := sha256.Sum256([]byte(o.Tenant + "\n" + o.Kind + "\n" + o.ID + "\n" + o.Purpose + "\n" + string('0'+rune(version))))
			key, err := tokenize.NewKey(version, secret[:])
			if err != nil {
				return err
			}
			sets[i].Keys = append(sets[i].Keys, key)
		}
	}
	return nil
}

// vector is a token that must turn back for ever.
type vector struct {
	Kind           string // of which the tokenizer is
	Format         string // a sample's name
	Version        uint32
	AssociatedData string
	Value          string
	Token          string
	Sealed         string // of a random token: hexadecimal
}

const vectorFile = "testdata/vectors.json"

var vectorUpdate = flag.Bool("vectors", false, "write testdata/vectors.json anew: only before the first release")

var vectorValues = map[string][]string{
	"card": {"4111111111111111", "5555555555554444"}, "card 6 and 4": {"4111111111111111", "4242424242424242"}, "card 8": {"4111111111111111"},
	"card last 4, valid": {"4111111111111111"}, "card 6, valid, lengths": {"378282246310005", "4111111111111111"}, "card grouped": {"4111 1111-1111 1111"},
	"ssn": {"123-45-6789", "899999999"}, "nino": {"AB123456C"}, "uuid": {"3f2504e0-4f89-41d3-9a0c-0305e82c3301"},
	"alphanumeric": {"Order-AB-123456/é", "abcde", "a long text of more than sixty-two bits 0123456789"},
	"email":        {"ada.lovelace@example.com"}, "email domain": {"ada.lovelace@example.com"}, "email local": {"ada@example.com"},
	"iban": {"GB82WEST12345698765432"}, "iban valid, bank": {"GB82 WEST 1234 5698 7654 32"},
	"postcode GB": {"AB12 3CD"}, "postcode US": {"12345-6789"}, "pattern": {"AB-12345xäöüßäöü"},
}

func vectorTokenizers(t *testing.T, format string) map[string]tokenize.Tokenizer {
	t.Helper()
	out := map[string]tokenize.Tokenizer{}
	for _, s := range samples(t) {
		if s.name != format {
			continue
		}
		out["subject"] = newFPE(t, tokenize.FormatPreservingOptions{Name: "vectors", Keys: fixedKeys{}, Purpose: "test", Format: s.format})
		out["tenant"] = newFPE(t, tokenize.FormatPreservingOptions{Name: "vectors", Keys: fixedKeys{}, Format: s.format, Scope: tokenize.ScopeTenant})
	}
	oneWay, err := tokenize.NewOneWay(tokenize.OneWayOptions{Domain: "vectors", Purpose: "test", Period: "2026", Keys: fixedKeys{}})
	require.NoError(t, err)
	dates, err := tokenize.NewDateShift(tokenize.DateShiftOptions{Name: "vectors", Keys: fixedKeys{}, Days: 30})
	require.NoError(t, err)
	out["pseudonym"], out["date"] = oneWay, dates
	return out
}

func makeVectors(t *testing.T) []vector {
	t.Helper()
	var out []vector
	add := func(kind, format, value, ad string) {
		token, version, err := tokenize.One(t.Context(), vectorTokenizers(t, format)[kind], subject(1), []byte(ad), value)
		require.NoError(t, err, value)
		out = append(out, vector{Kind: kind, Format: format, Version: version, AssociatedData: ad, Value: value, Token: token})
	}
	for _, s := range samples(t) {
		for _, v := range vectorValues[s.name] {
			add("subject", s.name, v, "")
			add("subject", s.name, v, "column")
			add("tenant", s.name, v, "")
		}
	}
	add("pseudonym", "", "ada", "")
	add("pseudonym", "", "ada", "column")
	add("date", "", "2026-02-28", "")
	store := memstore.New()
	for _, metadata := range []map[string]string{nil, {"a": "b"}} {
		items := []tokenize.Item{{Subject: subject(1), AssociatedData: []byte("column"), Value: testCard, Metadata: metadata}}
		require.NoError(t, newRandom(t, tokenize.RandomOptions{Name: "vectors", Keys: fixedKeys{}, Store: store}).Tokenize(t.Context(), items))
		require.NoError(t, items[0].Err)
		found, err := store.Find(t.Context(), "vectors", []tokenize.Place{{Tenant: "acme", Token: items[0].Token}})
		require.NoError(t, err)
		out = append(out, vector{Kind: "random", Version: found[0].KeyVersion, AssociatedData: "column", Value: testCard, Token: items[0].Token, Sealed: hex.EncodeToString(found[0].Sealed)})
	}
	return out
}

const testCard = "4111111111111111"

// Tokens made once turn back, and what is deterministic is made as it was.
func TestVectors(t *testing.T) {
	if *vectorUpdate {
		data, err := json.MarshalIndent(makeVectors(t), "", " ")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(vectorFile, append(data, '\n'), 0o600))
	}
	data, err := os.ReadFile(vectorFile)
	require.NoError(t, err)
	var all []vector
	require.NoError(t, json.Unmarshal(data, &all))
	require.Len(t, all, len(makeVectors(t)))
	for _, v := range all {
		if v.Kind == "random" {
			sealed, err := hex.DecodeString(v.Sealed)
			require.NoError(t, err)
			store := memstore.New()
			_, err = store.Insert(t.Context(), []tokenize.Entry{{Tokenizer: "vectors", Tenant: "acme", Token: v.Token, KeyVersion: v.Version, Sealed: sealed, UsesLeft: -1}})
			require.NoError(t, err)
			r := newRandom(t, tokenize.RandomOptions{Name: "vectors", Keys: fixedKeys{}, Store: store})
			value, err := tokenize.OneBack(t.Context(), r, subject(1), []byte(v.AssociatedData), v.Token, 0)
			require.NoError(t, err)
			require.Equal(t, v.Value, value)
			continue
		}
		tokenizer := vectorTokenizers(t, v.Format)[v.Kind]
		token, version, err := tokenize.One(t.Context(), tokenizer, subject(1), []byte(v.AssociatedData), v.Value)
		require.NoError(t, err)
		require.Equal(t, v.Token, token, v)
		require.Equal(t, v.Version, version)
		if v.Kind != "pseudonym" {
			value, err := tokenize.OneBack(t.Context(), tokenizer, subject(1), []byte(v.AssociatedData), v.Token, v.Version)
			require.NoError(t, err)
			require.Equal(t, v.Value, value)
		}
	}
}
