package measure

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	mrand "math/rand/v2"
	"time"

	"github.com/lethe-go/lethe/bench/internal/model"
	"github.com/lethe-go/lethe/envelope"
)

// mostSubjects is how many subjects are made at most: enough for some hundreds of pages.
const mostSubjects = 50_000

// fill makes subjects, with a sealed record each in the table.
func (b *bench) fill(ctx context.Context) error {
	before, err := b.place.storeBytes(ctx)
	if err != nil {
		return err
	}
	for b.n < mostSubjects && (b.n == 0 || !b.over(0, 1)) {
		rows := make([]record, batch)
		for i := range rows {
			rows[i] = newRecord(b.n + i)
		}
		if err := b.sealer.SealSlice(ctx, rows); err != nil {
			return err
		}
		if b.n == 0 {
			header, cells, err := rows[0].bytes()
			if err != nil {
				return err
			}
			b.costs.HeaderBytes = len(header)
			b.costs.CellOverhead = len(cells[0]) - len(values[0])
		}
		if err := b.place.insert(ctx, rows); err != nil {
			return err
		}
		b.n += len(rows)
	}
	b.fresh, b.costs.Subjects = b.n, b.n
	after, err := b.place.storeBytes(ctx)
	b.costs.KeyStoreBytes = (after - before) / float64(b.n)
	return err
}

// newSubjects seals the first record of subjects that have no key yet, one by one.
func (b *bench) newSubjects(ctx context.Context) error {
	var took samples
	for len(took) < 3 || !b.over(0, 1) {
		row := newRecord(b.fresh)
		b.fresh++
		start := time.Now()
		if err := b.sealer.Seal(ctx, &row); err != nil {
			return err
		}
		took.since(start)
	}
	b.costs.SealNewSubject = took.dist()
	return nil
}

// blockOf is how many calls one sample of a fast operation is the mean of: the
// clock takes too long for less.
const blockOf = 16

// warm seals and opens records of subjects in random order, whose keys are in memory.
func (b *bench) warm(ctx context.Context) error {
	rows, err := b.place.read(ctx, "", min(b.n, 4*batch))
	if err != nil {
		return err
	}
	sealed := append([]record(nil), rows...)
	if err := b.sealer.OpenSlice(ctx, rows); err != nil { // the keys are in memory now
		return err
	}
	seal, err := b.block(0, func(i int) func() error {
		row := newRecord(0)
		row.ID = sealed[i%len(sealed)].ID
		return func() error { return b.sealer.Seal(ctx, &row) }
	})
	if err != nil {
		return err
	}
	open, err := b.block(0.5, func(i int) func() error {
		row := sealed[i%len(sealed)]
		return func() error { return b.sealer.Open(ctx, &row) }
	})
	b.costs.SealWarm, b.costs.OpenWarm = seal.dist(), open.dist()
	return err
}

// block times an operation for the half of the step that begins at from. prepare
// is not timed; a sample is the mean of some calls.
func (b *bench) block(from float64, prepare func(i int) func() error) (took samples, err error) {
	random := mrand.New(mrand.NewPCG(1, 2)) //nolint:gosec // an order, not a secret
	var calls [blockOf]func() error
	for len(took) < 100 || !b.over(from, 0.5) {
		for i := range calls {
			calls[i] = prepare(random.IntN(1 << 30))
		}
		start := time.Now()
		for _, call := range calls {
			if err := call(); err != nil {
				return nil, err
			}
		}
		took = append(took, time.Since(start)/blockOf)
	}
	return took, nil
}

// seenPages is a key store that knows which leaf pages its keys come from.
type seenPages struct {
	envelope.Store
	seen map[envelope.PageID]bool
	news bool // the last query brought a page that was not seen before
}

func (s *seenPages) Keys(ctx context.Context, tree envelope.TreeID, refVer uint32, srefs []envelope.SRef) ([]envelope.KeyRow, []envelope.PageRow, error) {
	keys, pages, err := s.Store.Keys(ctx, tree, refVer, srefs)
	s.news = false
	for i := range keys {
		s.news = s.news || !s.seen[keys[i].Page]
		s.seen[keys[i].Page] = true
	}
	return keys, pages, err
}

// perStart is how many records a process reads after its start until the next starts.
const perStart = 200

// cold starts processes; each opens, or seals, records of subjects it has not met.
// Neighbours share a page of the key tree, so that some keys are of a page that is
// in memory already.
func (b *bench) cold(ctx context.Context) error {
	random := mrand.New(mrand.NewPCG(3, 4)) //nolint:gosec // an order, not a secret
	var took [2]struct{ process, page, subject samples }
	for round := 0; round < 2 || !b.over(0, 1); round++ {
		t := &took[round%2]
		store := &seenPages{Store: b.place.store, seen: map[envelope.PageID]bool{}}
		rows, err := b.place.read(ctx, id(random.IntN(max(1, b.n-perStart))-1), perStart)
		if err != nil {
			return err
		}
		random.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
		calls := b.key.calls.Load()
		start := time.Now()
		ring, sealer, err := b.start(ctx, store)
		if err != nil {
			return err
		}
		for i := range rows {
			row := rows[i]
			if round%2 == 0 {
				row = newRecord(0)
				row.ID = rows[i].ID
			}
			if i > 0 {
				start = time.Now()
			}
			store.news = false
			if round%2 == 0 {
				err = sealer.Seal(ctx, &row)
			} else {
				err = sealer.Open(ctx, &row)
			}
			switch {
			case err != nil:
				ring.Close()
				return err
			case i == 0:
				t.process.since(start)
				b.costs.KMSCallsStart = int(b.key.calls.Load() - calls)
			case store.news:
				t.page.since(start)
			default:
				t.subject.since(start)
			}
		}
		ring.Close()
	}
	c := &b.costs
	c.SealProcessCold, c.SealPageCold, c.SealSubjectCold = took[0].process.dist(), took[0].page.dist(), took[0].subject.dist()
	c.OpenProcessCold, c.OpenPageCold, c.OpenSubjectCold = took[1].process.dist(), took[1].page.dist(), took[1].subject.dist()
	return nil
}

// cells seals and opens the fields of a record with AES-256-GCM and nothing else,
// under a key in memory and under one that is expanded for it.
func (b *bench) cells(context.Context) error {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	aead, err := newGCM(key)
	if err != nil {
		return err
	}
	aad := make([]byte, 40)
	var sealed [fields][]byte
	seal := func(aead cipher.AEAD) {
		for i, v := range values {
			sealed[i] = aead.Seal(sealed[i][:0], nil, []byte(v), aad)
		}
	}
	open := func(aead cipher.AEAD) error {
		for _, cell := range sealed {
			if _, err := aead.Open(nil, nil, cell, aad); err != nil {
				return err
			}
		}
		return nil
	}
	withKey := func(fn func(cipher.AEAD) error) func() error {
		return func() error {
			fresh, err := newGCM(key)
			if err != nil {
				return err
			}
			return fn(fresh)
		}
	}
	sealing := func(aead cipher.AEAD) error { seal(aead); return nil }
	c := &b.costs
	for i, part := range []struct {
		out  *model.Dist
		call func() error
	}{
		{&c.CellsSeal, func() error { return sealing(aead) }},
		{&c.CellsOpen, func() error { return open(aead) }},
		{&c.CellsSealKey, withKey(sealing)},
		{&c.CellsOpenKey, withKey(open)},
	} {
		var took samples
		for len(took) < 100 || !b.over(float64(i)*0.25, 0.25) {
			start := time.Now()
			for range blockOf {
				if err := part.call(); err != nil {
					return err
				}
			}
			took = append(took, time.Since(start)/blockOf)
		}
		*part.out = took.dist()
	}
	return nil
}

// newGCM draws its nonces itself and puts them before the ciphertext.
func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// keyRead reads rows of a table (id, wrapped key) by id, as what has no key tree would.
func (b *bench) keyRead(ctx context.Context) (err error) {
	before, err := b.place.plainKeyBytes(ctx)
	if err != nil {
		return err
	}
	n := min(b.n, 10_000)
	wrapped, err := b.key.Eraser.EncryptWithContext(ctx, make([]byte, 32), nil)
	if err != nil {
		return err
	}
	err = b.place.inTx(ctx, "INSERT INTO plainkeys (id, wrapped) VALUES ($1, $2)", func(exec func(args ...any) error) error {
		for i := range n {
			if err := exec(id(i), wrapped); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	after, err := b.place.plainKeyBytes(ctx)
	if err != nil {
		return err
	}
	b.costs.PlainKeyBytes = (after - before) / float64(n)
	stmt, err := b.place.db.PrepareContext(ctx, b.place.bind("SELECT wrapped FROM plainkeys WHERE id = $1"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stmt.Close()) }()
	random := mrand.New(mrand.NewPCG(5, 6)) //nolint:gosec // an order, not a secret
	var took samples
	for len(took) < 100 || !b.over(0, 1) {
		key, got := id(random.IntN(n)), []byte(nil)
		start := time.Now()
		if err := stmt.QueryRowContext(ctx, key).Scan(&got); err != nil {
			return err
		}
		took.since(start)
	}
	b.costs.KeyRead = took.dist()
	return nil
}
