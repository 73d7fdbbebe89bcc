package lethe_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/tokenize"
)

// A plaintext column may be on its way to a token.
func TestAPlaintextColumnOfAToken(t *testing.T) {
	t.Parallel()
	type payer struct {
		Keys    lethe.Keys           `lethe:"payers"`
		ID      string               `lethe:"subject=customer"`
		Name    lethe.Secret[string] `lethe:"name"`
		Card    lethe.Token          `lethe:"card,token=pan,mask=last4"`
		CardKey int64                `lethe:"version=card"`
		Old     *string              `lethe:"plain=card"`
	}
	ring := envelopetest.NewKeyring(t)
	s, err := lethe.For[payer](ring, lethe.Options{
		Tokenizers: map[string]tokenize.Tokenizer{"pan": tokenizersOf(t, ring)["format-preserving"]},
		Migrations: map[string]lethe.Migration{"card": {Until: time.Now().Add(time.Hour)}},
	})
	require.NoError(t, err)
	load := func(id string) payer {
		pan := testPAN
		p := payer{ID: id, Old: &pan}
		require.NoError(t, p.Name.Scan(nil))
		require.NoError(t, p.Card.Scan(nil))
		return p
	}
	_, err = ring.Forget(t.Context(), lethe.Subject{Kind: "customer", ID: "2"})
	require.NoError(t, err)
	rows := []payer{load("1"), load("2")}
	require.NoError(t, s.OpenSlice(t.Context(), rows))
	require.Equal(t, testPAN, revealed(t, rows[0].Card))
	require.Equal(t, lethe.StatusForgotten, rows[1].Card.Status())
	_, err = rows[0].Card.Token()
	require.ErrorIs(t, err, lethe.ErrNotSealed)

	rows = []payer{load("1"), load("2")}
	changed, err := s.SealPlain(t.Context(), rows)
	require.ErrorIs(t, err, lethe.ErrForgotten)
	require.Equal(t, []int{0}, changed)
	require.Nil(t, rows[0].Old)
	require.NotEqual(t, testPAN, tokenText(t, rows[0].Card))
	require.EqualValues(t, 1, rows[0].CardKey)
	require.NoError(t, s.Open(t.Context(), &rows[0]))
	require.Equal(t, testPAN, revealed(t, rows[0].Card))

	changed, err = s.Unseal(t.Context(), rows[:1])
	require.NoError(t, err)
	require.Equal(t, []int{0}, changed)
	require.Equal(t, testPAN, *rows[0].Old)
	require.Equal(t, lethe.StatusNull, rows[0].Card.Status())
}

// A value that is still in its plaintext column has no index to rebuild.
func TestReindexOfAMovingTable(t *testing.T) {
	t.Parallel()
	ring := envelopetest.NewKeyring(t)
	s := movers(t, ring, moving(newClock(), false))
	rows := []mover{{ID: "1", Email: lethe.Of("a@example.com")}, {ID: "2"}}
	require.NoError(t, s.SealSlice(t.Context(), rows))
	rows = []mover{load(t, "1", save(t, &rows[0])), unsealedRow(t, "2", "b@example.com")}
	before := rows[0].EmailIdx.Bytes()
	require.NoError(t, ring.RotateIndexKey(t.Context(), "", "movers", "email_idx"))
	require.NoError(t, s.Reindex(t.Context(), rows))
	require.NotEqual(t, before, rows[0].EmailIdx.Bytes())
	require.Nil(t, rows[1].EmailIdx.Bytes())
	require.Equal(t, "b@example.com", reveal(t, rows[1].Email))
	require.NoError(t, s.Seal(t.Context(), &rows[1]))
	q, err := s.Query(t.Context(), "email_idx", "b@example.com")
	require.NoError(t, err)
	require.Equal(t, q.Terms()[0], rows[1].EmailIdx.Bytes())
}

// A NULL that the program set is not filled from the plaintext column.
func TestOpenLeavesANewNull(t *testing.T) {
	t.Parallel()
	s := movers(t, envelopetest.NewKeyring(t), moving(newClock(), false))
	row := unsealedRow(t, "1", "a@example.com")
	row.Email = lethe.Null[string]()
	row.Born = lethe.Secret[time.Time]{} // and one that was not selected stays so
	require.NoError(t, s.Open(t.Context(), &row))
	require.Equal(t, lethe.StatusNull, row.Email.Status())
	require.True(t, row.Born.IsZero())
	require.NoError(t, s.Seal(t.Context(), &row))
	require.Nil(t, row.OldEmail)
	require.NoError(t, s.Open(t.Context(), &row))
	require.Equal(t, lethe.StatusNull, row.Email.Status())
}
