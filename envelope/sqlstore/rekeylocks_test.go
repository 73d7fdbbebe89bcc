package sqlstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
)

// rekeyOf plans a fresh key for leaf 2, which has key 1.
func rekeyOf(gen uint64) envelope.RekeyPages {
	page, key := pageRow(2, 1), keyRow(1, 2)
	page.Gen, key.PageGen = gen, gen
	return envelope.RekeyPages{
		Tree: 1, Epoch: 1, Pages: []envelope.PageRow{page}, Keys: []envelope.KeyRow{key},
		Seen: map[envelope.PageID][]byte{2: pageRow(2, 1).Wrapped}, PageChildren: map[envelope.PageID]int{2: 1},
	}
}

// An Insert that took its slot first and is not committed yet is waited for and
// counted: its key would hang on a page key that is gone. One on another page is
// not waited for.
func TestPostgresRekeyPagesAgainstAnOpenInsert(t *testing.T) {
	d := newPostgres(t)
	s := d.open(t)
	initialise(t, s)
	_, err := s.Insert(t.Context(), envelope.Insert{Tree: 1, Epoch: 1, Pages: []envelope.PageRow{pageRow(2, 1), pageRow(3, 0)}, Keys: []envelope.KeyRow{keyRow(1, 2)}})
	require.NoError(t, err)
	for _, test := range []struct {
		page  envelope.PageID
		waits bool
	}{{3, false}, {2, true}} {
		insert, err := d.raw.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		_, err = insert.ExecContext(t.Context(), "SELECT pg_advisory_xact_lock_shared($1)", int64(0x6c657468)<<32|1)
		require.NoError(t, err)
		_, err = insert.ExecContext(t.Context(), "UPDATE lethe_page SET fill = fill + 1 WHERE page = $1", int64(test.page))
		require.NoError(t, err)
		row := keyRow(100+uint32(test.page), test.page)
		_, err = insert.ExecContext(t.Context(), `INSERT INTO lethe_key (kid, tree, page, page_gen, kind, suite, ref_ver, sref, pid, seq, wrapped, state, created, seal_until, expires)
			VALUES ($1, 1, $2, 1, 1, 1, 1, $3, 1, 1, $4, 1, 0, NULL, NULL)`, row.KID[:], int64(row.Page), row.SRef[:], row.Wrapped)
		require.NoError(t, err)
		result := make(chan error, 1)
		go func() { result <- s.RekeyPages(t.Context(), rekeyOf(1+uint64(test.page))) }()
		if test.waits {
			select {
			case err := <-result:
				t.Fatalf("it did not wait: %v", err)
			case <-time.After(200 * time.Millisecond):
			}
			require.NoError(t, insert.Commit())
			require.ErrorIs(t, <-result, envelope.ErrStoreConflict)
		} else {
			require.NoError(t, <-result)
			require.NoError(t, insert.Rollback())
		}
	}
	pages, err := s.Pages(t.Context(), 1, []envelope.PageID{2})
	require.NoError(t, err)
	require.EqualValues(t, 4, pages[0].Gen, "of the first re-key")
}

// While pages are re-keyed, inserts elsewhere and every read go on.
func TestPostgresRekeyPagesBlocksLittle(t *testing.T) {
	d := newPostgres(t)
	s := d.open(t)
	initialise(t, s)
	_, err := s.Insert(t.Context(), envelope.Insert{Tree: 1, Epoch: 1, Pages: []envelope.PageRow{pageRow(2, 1), pageRow(3, 0)}, Keys: []envelope.KeyRow{keyRow(1, 2)}})
	require.NoError(t, err)
	// A re-key holds these until its end.
	rekey, err := d.raw.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = rekey.ExecContext(t.Context(), "SELECT pg_advisory_xact_lock_shared($1)", int64(0x6c657468)<<32|1)
	require.NoError(t, err)
	_, err = rekey.ExecContext(t.Context(), "SELECT 1 FROM lethe_page WHERE page = 2 FOR UPDATE")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err = s.Insert(ctx, envelope.Insert{Tree: 1, Epoch: 1, Reserves: []envelope.Reserve{{Page: 3, Gen: 1, N: 1}}, Keys: []envelope.KeyRow{keyRow(7, 3)}})
	require.NoError(t, err)
	keys, _, err := s.Keys(ctx, 1, 1, []envelope.SRef{keyRow(1, 2).SRef})
	require.NoError(t, err)
	require.Len(t, keys, 1)
	short, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer stop()
	_, err = s.Insert(short, envelope.Insert{Tree: 1, Epoch: 1, Reserves: []envelope.Reserve{{Page: 2, Gen: 1, N: 1}}, Keys: []envelope.KeyRow{keyRow(8, 2)}})
	require.ErrorIs(t, err, context.DeadlineExceeded, "an insert on the page itself waits")
	require.NoError(t, rekey.Rollback())
}
