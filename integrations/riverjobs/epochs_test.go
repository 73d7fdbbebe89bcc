package riverjobs_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/riverqueue/river"
	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/integrations/riverjobs"
)

func TestEpochsDoWhatIsDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ring := envelopetest.NewKeyring(t, envelope.Options{Epochs: envelope.EpochOptions{Every: 24 * time.Hour}})
		who := func(id string) envelope.Subject { return envelope.Subject{Kind: "customer", ID: id} }
		for _, id := range []string{"1", "2"} {
			rec := envelope.Record{Name: "rows", Scopes: []envelope.Scope{{Subject: who(id)}}, Cells: []envelope.Cell{{Field: "f", Plain: []byte("x")}}}
			require.NoError(t, ring.SealRecords(t.Context(), []envelope.Record{rec}))
		}
		var receipts []envelope.Receipt
		var closed []envelope.Closed
		e := riverjobs.NewEpochs(ring, riverjobs.EpochOptions{
			Forgotten: func(r []envelope.Receipt) { receipts = append(receipts, r...) },
			Closed:    func(c envelope.Closed) { closed = append(closed, c) },
		})
		look := func() { require.NoError(t, e.Work(t.Context(), &river.Job[riverjobs.EpochArgs]{})) }
		_, err := ring.ForgetAfter(t.Context(), who("1"), time.Hour)
		require.NoError(t, err)
		look()
		require.Empty(t, receipts)
		time.Sleep(2 * time.Hour)
		look()
		require.Len(t, receipts, 1)
		require.Empty(t, closed, "the epoch is young")
		time.Sleep(48 * time.Hour)
		look()
		require.Len(t, closed, 1)
		look()
		time.Sleep(48 * time.Hour)
		look()
		require.Len(t, closed, 1, "nothing was forgotten since")
		require.Len(t, receipts, 1)
		ring.Close()
		require.ErrorIs(t, e.Work(t.Context(), &river.Job[riverjobs.EpochArgs]{}), envelope.ErrClosed)
	})
}
