package storetest

import (
	"errors"
	"strconv"
	"testing"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/envelope/memledger"
	"github.com/lethe-go/lethe/kms"
)

// world is a store in use by several processes.
type world struct {
	backend Backend
	key     kms.Key
	opts    envelope.Options
}

func newWorld(t *testing.T, b Backend) *world {
	t.Helper()
	w := &world{backend: b, key: envelopetest.NewKey(t), opts: envelope.Options{Ledger: &memledger.Ledger{}}}
	must(t, envelope.Init(t.Context(), b.Open(t), w.key, w.opts))
	return w
}

func (w *world) ring(t *testing.T) *envelope.Keyring {
	t.Helper()
	ring, err := envelope.NewKeyring(t.Context(), w.backend.Open(t), w.key, w.opts)
	must(t, err)
	t.Cleanup(ring.Close)
	return ring
}

func subject(i int) envelope.Subject {
	return envelope.Subject{Tenant: "acme", Kind: "customer", ID: strconv.Itoa(i)}
}

func record(i int) envelope.Record {
	return envelope.Record{
		Name: "customers", Scopes: []envelope.Scope{{Subject: subject(i)}, {Purpose: "marketing", Subject: subject(i)}},
		Cells: []envelope.Cell{{Field: "name", Codec: 1, Plain: []byte("Ada")}, {Scope: 1, Field: "news", Codec: 1, Plain: []byte("yes")}},
	}
}

// stored is the record as it comes back from a database.
func stored(r envelope.Record) envelope.Record {
	r.Scopes = append([]envelope.Scope(nil), r.Scopes...)
	cells := make([]envelope.Cell, len(r.Cells))
	for i := range cells {
		cells[i] = envelope.Cell{Scope: r.Cells[i].Scope, Field: r.Cells[i].Field, Sealed: r.Cells[i].Sealed}
	}
	r.Cells = cells
	return r
}

// opened opens a record and returns the error of its first cell.
func opened(t *testing.T, ring *envelope.Keyring, r envelope.Record) error {
	recs := []envelope.Record{stored(r)}
	if err := ring.OpenRecords(t.Context(), recs); err != nil {
		return err
	}
	if c := recs[0].Cells[0]; c.Err != nil || string(c.Plain) == "Ada" {
		return c.Err
	}
	return errors.New("storetest: the wrong plaintext")
}

func testKeyrings(t *testing.T, b Backend) {
	w := newWorld(t, b)
	rings := []*envelope.Keyring{w.ring(t), w.ring(t)}
	// Both mint for the same people at once, and each opens what the other sealed.
	const n = 40
	results := make(chan error, 2)
	sealed := [2][]envelope.Record{}
	for i, ring := range rings {
		go func() {
			recs := make([]envelope.Record, n)
			for j := range recs {
				recs[j] = record(j)
			}
			err := ring.SealRecords(t.Context(), recs)
			sealed[i] = recs
			results <- err
		}()
	}
	must(t, <-results)
	must(t, <-results)
	for i, ring := range rings {
		for j := range n {
			must(t, opened(t, ring, sealed[1-i][j]))
		}
	}
	_, err := rings[0].Rotate(t.Context(), subject(1))
	must(t, err)
	rotated := []envelope.Record{record(1)}
	must(t, rings[0].SealRecords(t.Context(), rotated))
	must(t, opened(t, rings[1], rotated[0]))

	_, err = rings[0].Forget(t.Context(), subject(2))
	must(t, err)
	want(t, opened(t, rings[0], sealed[0][2]), envelope.ErrForgotten)
	third := w.ring(t)
	want(t, opened(t, third, sealed[0][2]), envelope.ErrForgotten)
	must(t, opened(t, third, sealed[1][3]))
	want(t, third.SealRecords(t.Context(), []envelope.Record{record(2)}), envelope.ErrForgotten)
}

// Whatever runs at once, a call gives the value or ErrForgotten, nothing between.
func testKeyringRaces(t *testing.T, b Backend) {
	w := newWorld(t, b)
	ring, other := w.ring(t), w.ring(t)
	for i := range 6 {
		recs := []envelope.Record{record(i)}
		must(t, ring.SealRecords(t.Context(), recs))
		results := make(chan error)
		const workers = 4
		for g := range workers {
			r := []*envelope.Keyring{ring, other}[g%2]
			go func() {
				for range 20 {
					if err := opened(t, r, recs[0]); err != nil && !errors.Is(err, envelope.ErrForgotten) {
						results <- err
						return
					}
					fresh := []envelope.Record{record(i)}
					if err := r.SealRecords(t.Context(), fresh); err != nil && !errors.Is(err, envelope.ErrForgotten) {
						results <- err
						return
					}
				}
				results <- nil
			}()
		}
		_, err := ring.Forget(t.Context(), subject(i))
		must(t, err)
		want(t, opened(t, ring, recs[0]), envelope.ErrForgotten)
		for range workers {
			must(t, <-results)
		}
		want(t, opened(t, w.ring(t), recs[0]), envelope.ErrForgotten)
	}
}

func testKeyringRewrap(t *testing.T, b Backend) {
	w := newWorld(t, b)
	ring, other := w.ring(t), w.ring(t)
	must(t, ring.SealRecords(t.Context(), []envelope.Record{record(1000)}))
	_, err := ring.Forget(t.Context(), subject(1000))
	must(t, err)
	done := make(chan error)
	var sealed []envelope.Record
	go func() {
		for i := range 60 {
			recs := []envelope.Record{record(i)}
			if err := other.SealRecords(t.Context(), recs); err != nil {
				done <- err
				return
			}
			sealed = append(sealed, recs[0])
		}
		done <- nil
	}()
	for range 3 {
		if err := ring.RewrapKEK(t.Context(), w.key); err != nil {
			want(t, err, envelope.ErrUnavailable) // lost too many races: nothing changed
		}
	}
	must(t, <-done)
	must(t, ring.RewrapKEK(t.Context(), w.key))
	fresh := w.ring(t)
	for _, r := range sealed {
		must(t, opened(t, fresh, r))
		must(t, opened(t, other, r))
	}
}
