package envelope_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/memledger"
	"github.com/lethe-go/lethe/envelope/memstore"
	"github.com/lethe-go/lethe/kms/localkms"
)

// newRing is a Keyring of the examples: store and ledger in memory, the KMS key in a file.
func newRing(ctx context.Context) (ring *envelope.Keyring, dir string, stop func(), err error) {
	dir, err = os.MkdirTemp("", "envelope")
	if err != nil {
		return nil, "", nil, err
	}
	key, err := localkms.Create(filepath.Join(dir, "app.key"), localkms.Options{})
	if err != nil {
		return nil, "", nil, err
	}
	store, opts := memstore.New(), envelope.Options{Ledger: &memledger.Ledger{}}
	if err := envelope.Init(ctx, store, key, opts); err != nil {
		return nil, "", nil, err
	}
	ring, err = envelope.NewKeyring(ctx, store, key, opts)
	if err != nil {
		return nil, "", nil, err
	}
	return ring, dir, func() { ring.Close(); _ = os.RemoveAll(dir) }, nil
}

func customer(id string) envelope.Subject { return envelope.Subject{Kind: "customer", ID: id} }

// stored is what a database gives back of a sealed record.
func stored(r envelope.Record) []envelope.Record {
	out := envelope.Record{Name: r.Name, RowID: r.RowID, Bound: r.Bound, Header: r.Header}
	for _, s := range r.Scopes {
		out.Scopes = append(out.Scopes, envelope.Scope{Group: s.Group, Purpose: s.Purpose, Subject: s.Subject})
	}
	for _, c := range r.Cells {
		out.Cells = append(out.Cells, envelope.Cell{Scope: c.Scope, Field: c.Field, Sealed: c.Sealed})
	}
	return []envelope.Record{out}
}

// Init once, by an operator's hand; NewKeyring at every start.
func ExampleInit() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "envelope")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	key, err := localkms.Create(filepath.Join(dir, "app.key"), localkms.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	store := memstore.New()                                      // a service uses package sqlstore
	opts := envelope.Options{Ledger: new(memledger.Ledger)}      // and package fileledger
	if err := envelope.Init(ctx, store, key, opts); err != nil { // fills the empty store
		fmt.Println(err)
		return
	}
	fmt.Println("again:", errors.Is(envelope.Init(ctx, store, key, opts), envelope.ErrStoreExists))

	ring, err := envelope.NewKeyring(ctx, store, key, opts)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ring.Close()
	fmt.Println(len(ring.StoreID()), "bytes name the store")
	// Output:
	// again: true
	// 16 bytes name the store
}

// One row with a field of one person, whose row id is bound to its keys.
func ExampleKeyring_SealRecords() {
	ctx := context.Background()
	ring, _, stop, err := newRing(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stop()

	recs := []envelope.Record{{
		Name: "customers", RowID: "42", Bound: true,
		Scopes: []envelope.Scope{{Subject: customer("ada")}},
		Cells:  []envelope.Cell{{Field: "email", Codec: 1, Plain: []byte("ada@example.com")}},
	}}
	if err := ring.SealRecords(ctx, recs); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(recs[0].Header), len(recs[0].Cells[0].Sealed)) // store both

	rows := stored(recs[0])
	if err := ring.OpenRecords(ctx, rows); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(rows[0].Cells[0].Plain), rows[0].Cells[0].Err)

	rows = stored(recs[0])
	rows[0].RowID = "43" // moved to another row
	if err := ring.OpenRecords(ctx, rows); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(errors.Is(rows[0].Cells[0].Err, envelope.ErrDecrypt))
	// Output:
	// 110 44
	// ada@example.com <nil>
	// true
}

// A page of rows is opened in one call; each cell has an error of its own.
func ExampleKeyring_OpenRecords() {
	ctx := context.Background()
	ring, _, stop, err := newRing(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stop()
	recs := make([]envelope.Record, 0, 2)
	for _, id := range []string{"ada", "bob"} {
		recs = append(recs, envelope.Record{
			Name:   "customers",
			Scopes: []envelope.Scope{{Subject: customer(id)}},
			Cells:  []envelope.Cell{{Field: "name", Codec: 1, Plain: []byte("I am " + id)}},
		})
	}
	if err := ring.SealRecords(ctx, recs); err != nil {
		fmt.Println(err)
		return
	}
	rows := append(stored(recs[0]), stored(recs[1])...)
	rows[1].Cells[0].Sealed = rows[0].Cells[0].Sealed // ada's name in bob's row
	if err := ring.OpenRecords(ctx, rows); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(rows[0].Cells[0].Plain))
	fmt.Println(errors.Is(rows[1].Cells[0].Err, envelope.ErrDecrypt))
	// Output:
	// I am ada
	// true
}

func ExampleKeyring_Forget() {
	ctx := context.Background()
	ring, _, stop, err := newRing(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stop()
	recs := []envelope.Record{{
		Name:   "customers",
		Scopes: []envelope.Scope{{Subject: customer("ada")}},
		Cells:  []envelope.Cell{{Field: "email", Codec: 1, Plain: []byte("ada@example.com")}},
	}}
	if err := ring.SealRecords(ctx, recs); err != nil {
		fmt.Println(err)
		return
	}

	receipt, err := ring.Forget(ctx, customer("ada"))
	fmt.Println(len(receipt.KeyIDs), receipt.Unknown, err)

	rows := stored(recs[0])
	if err := ring.OpenRecords(ctx, rows); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(errors.Is(rows[0].Cells[0].Err, envelope.ErrForgotten))

	receipt, err = ring.Forget(ctx, customer("mistyped"))
	fmt.Println(len(receipt.KeyIDs), receipt.Unknown, err)
	// Output:
	// 1 false <nil>
	// true
	// 0 true <nil>
}

// A new version of one person's keys, and the records moved to it.
func ExampleKeyring_Rotate() {
	ctx := context.Background()
	ring, _, stop, err := newRing(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stop()
	recs := []envelope.Record{{
		Name:   "customers",
		Scopes: []envelope.Scope{{Subject: customer("ada")}},
		Cells:  []envelope.Cell{{Field: "email", Codec: 1, Plain: []byte("ada@example.com")}},
	}}
	if err := ring.SealRecords(ctx, recs); err != nil {
		fmt.Println(err)
		return
	}
	versions, err := ring.Rotate(ctx, customer("ada"))
	fmt.Println(versions, err)

	rows := stored(recs[0])
	changed, err := ring.RewrapRecords(ctx, rows) // store the new Headers; cells stay
	fmt.Println(changed, err)
	if err := ring.OpenRecords(ctx, rows); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(rows[0].Cells[0].Plain))
	// Output:
	// 1 <nil>
	// 1 <nil>
	// ada@example.com
}

// The whole store moves under another KMS key; no record is touched.
func ExampleKeyring_RewrapKEK() {
	ctx := context.Background()
	ring, dir, stop, err := newRing(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stop()
	recs := []envelope.Record{{
		Name:   "customers",
		Scopes: []envelope.Scope{{Subject: customer("ada")}},
		Cells:  []envelope.Cell{{Field: "email", Codec: 1, Plain: []byte("ada@example.com")}},
	}}
	if err := ring.SealRecords(ctx, recs); err != nil {
		fmt.Println(err)
		return
	}
	next, err := localkms.Create(filepath.Join(dir, "next.key"), localkms.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(ring.RewrapKEK(ctx, next))

	rows := stored(recs[0])
	if err := ring.OpenRecords(ctx, rows); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(rows[0].Cells[0].Plain))
	// Output:
	// <nil>
	// ada@example.com
}
