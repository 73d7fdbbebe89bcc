package drill

import (
	"context"

	"github.com/lethe-go/lethe/envelope"
)

// Recorder is a key store that keeps a copy of every row it is given, also of
// transactions that do not commit: their bytes are in the log all the same.
type Recorder struct {
	envelope.Store

	Rows *Rows
}

// Init implements envelope.Store.
func (r *Recorder) Init(ctx context.Context, rows envelope.InitRows) error {
	r.Rows.Add([]envelope.RootRow{rows.Root}, rows.Pages, rows.Keys)
	return r.Store.Init(ctx, rows)
}

// Insert implements envelope.Store.
func (r *Recorder) Insert(ctx context.Context, in envelope.Insert) (envelope.Inserted, error) {
	r.Rows.Add(nil, in.Pages, in.Keys)
	return r.Store.Insert(ctx, in)
}

// Rekey implements envelope.Store.
func (r *Recorder) Rekey(ctx context.Context, k envelope.Rekey) error {
	r.Rows.Add([]envelope.RootRow{k.Root}, k.Pages, k.Keys)
	return r.Store.Rekey(ctx, k)
}

// RekeyPages implements envelope.Store.
func (r *Recorder) RekeyPages(ctx context.Context, k envelope.RekeyPages) error {
	r.Rows.Add(nil, k.Pages, k.Keys)
	return r.Store.RekeyPages(ctx, k)
}
