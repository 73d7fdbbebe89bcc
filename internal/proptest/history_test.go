package proptest

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/envelope/memledger"
	"github.com/lethe-go/lethe/envelope/memstore"
	"github.com/lethe-go/lethe/kms"
)

// owner is a (subject, purpose).
type owner struct {
	subject int
	purpose string
}

var purposes = []string{"", "marketing", "care"}

// kept is a record that was sealed, and whether its person was forgotten since.
type kept struct {
	owner
	record    envelope.Record
	plain     string
	forgotten bool
}

// history is a keyring under test, and the model.
type history struct {
	ctx   context.Context // of the one test
	store *memstore.Store
	keys  []kms.Key // of the KMS; the last is in use
	opts  envelope.Options
	ring  *envelope.Keyring

	records  []*kept
	everyone map[int]bool   // forgotten as a whole, not readmitted
	single   map[owner]bool // forgotten for one purpose, not readmitted
	known    map[owner]bool // has, or had, a key
}

func subject(i int) envelope.Subject {
	return envelope.Subject{Tenant: "t" + strconv.Itoa(i%2), Kind: "customer", ID: strconv.Itoa(i)}
}

func (h *history) open(t *rapid.T) {
	opts := h.opts
	ring, err := envelope.NewKeyring(h.ctx, h.store, h.keys[len(h.keys)-1], opts)
	if err != nil {
		t.Fatalf("NewKeyring: %v", err)
	}
	h.ring = ring
}

func (h *history) forbidden(o owner) bool { return h.everyone[o.subject] || h.single[o] }

func drawOwner(t *rapid.T) owner {
	return owner{rapid.IntRange(0, 4).Draw(t, "subject"), rapid.SampledFrom(purposes).Draw(t, "purpose")}
}

func (h *history) seal(t *rapid.T) {
	o := drawOwner(t)
	plain := rapid.String().Draw(t, "plain")
	r := envelope.Record{
		Name: "r", Scopes: []envelope.Scope{{Purpose: o.purpose, Subject: subject(o.subject)}},
		Cells: []envelope.Cell{{Field: "f", Codec: 1, Plain: []byte(plain)}},
	}
	recs := []envelope.Record{r}
	err := h.ring.SealRecords(h.ctx, recs)
	if h.forbidden(o) {
		if !errors.Is(err, envelope.ErrForgotten) {
			t.Fatalf("sealed for a forgotten person: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatalf("seal: %v", err)
	}
	h.known[o] = true
	h.records = append(h.records, &kept{owner: o, record: recs[0], plain: plain})
}

func (h *history) forget(t *rapid.T) {
	o := drawOwner(t)
	if _, err := h.ring.Forget(h.ctx, subject(o.subject)); err != nil {
		t.Fatalf("forget: %v", err)
	}
	h.everyone[o.subject] = true
	for _, k := range h.records {
		k.forgotten = k.forgotten || k.subject == o.subject
	}
}

func (h *history) forgetPurpose(t *rapid.T) {
	o := drawOwner(t)
	_, err := h.ring.ForgetPurpose(h.ctx, subject(o.subject), o.purpose)
	if err != nil {
		t.Fatalf("forget a purpose: %v", err)
	}
	h.single[o] = true
	for _, k := range h.records {
		k.forgotten = k.forgotten || k.owner == o
	}
}

func (h *history) readmit(t *rapid.T) {
	o := drawOwner(t)
	err := h.ring.Readmit(h.ctx, subject(o.subject))
	anything := h.everyone[o.subject]
	for _, p := range purposes {
		anything = anything || h.single[owner{o.subject, p}]
	}
	if anything && err != nil || !anything && !errors.Is(err, envelope.ErrNotForgotten) {
		t.Fatalf("readmit, forgotten: %v: %v", anything, err)
	}
	delete(h.everyone, o.subject)
	for _, p := range purposes {
		delete(h.single, owner{o.subject, p})
	}
}

func (h *history) rotate(t *rapid.T) {
	o := drawOwner(t)
	_, err := h.ring.Rotate(h.ctx, subject(o.subject))
	if err != nil && !errors.Is(err, envelope.ErrForgotten) && !errors.Is(err, envelope.ErrKeyMissing) {
		t.Fatalf("rotate: %v", err)
	}
	if h.everyone[o.subject] && !errors.Is(err, envelope.ErrForgotten) {
		t.Fatalf("rotated the keys of a forgotten person: %v", err)
	}
}

func (h *history) rewrapRecord(t *rapid.T) {
	if len(h.records) == 0 {
		t.Skip()
	}
	k := rapid.SampledFrom(h.records).Draw(t, "record")
	recs := []envelope.Record{k.record}
	if _, err := h.ring.RewrapRecords(h.ctx, recs); err != nil {
		t.Fatalf("rewrap: %v", err)
	}
	k.record.Header = recs[0].Header
}

func (h *history) rewrapKEK(t *rapid.T) {
	if err := h.ring.RewrapKEK(h.ctx, h.keys[len(h.keys)-1]); err != nil {
		t.Fatalf("RewrapKEK: %v", err)
	}
}

func (h *history) restart(t *rapid.T) {
	h.ring.Close()
	h.open(t)
}

// check opens everything and compares it with the model.
func (h *history) check(t *rapid.T) {
	recs := make([]envelope.Record, len(h.records))
	for i, k := range h.records {
		recs[i] = k.record
		recs[i].Scopes = slices.Clone(k.record.Scopes)
		recs[i].Cells = []envelope.Cell{{Field: "f", Sealed: k.record.Cells[0].Sealed}}
	}
	if len(recs) == 0 {
		return
	}
	if err := h.ring.OpenRecords(h.ctx, recs); err != nil {
		t.Fatalf("open: %v", err)
	}
	for i, k := range h.records {
		c := recs[i].Cells[0]
		switch {
		case k.forgotten && !errors.Is(c.Err, envelope.ErrForgotten):
			t.Fatalf("record %d of a forgotten person: %v", i, c.Err)
		case !k.forgotten && (c.Err != nil || string(c.Plain) != k.plain):
			t.Fatalf("record %d does not open: %v", i, c.Err)
		}
	}
}

// In every history of a keyring, what was sealed opens until its person is
// forgotten, and never after.
func TestHistories(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := &history{
			ctx: t.Context(), store: memstore.New(), keys: []kms.Key{envelopetest.NewKey(t)},
			opts:     envelope.Options{Ledger: &memledger.Ledger{}, Suite: rapid.SampledFrom([]envelope.Suite{1, 2}).Draw(rt, "suite")},
			everyone: map[int]bool{}, single: map[owner]bool{}, known: map[owner]bool{},
		}
		if err := envelope.Init(h.ctx, h.store, h.keys[0], h.opts); err != nil {
			rt.Fatalf("Init: %v", err)
		}
		h.open(rt)
		defer func() { h.ring.Close() }()
		rt.Repeat(map[string]func(*rapid.T){
			"seal": h.seal, "seal again": h.seal, "forget": h.forget, "forget a purpose": h.forgetPurpose, "readmit": h.readmit,
			"rotate": h.rotate, "rewrap": h.rewrapRecord, "new root": h.rewrapKEK, "restart": h.restart,
			"": h.check,
		})
	})
}
