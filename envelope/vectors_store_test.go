package envelope

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"errors"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/kms"
)

// storeVector is a whole key store with its ledger and a record sealed under it.
type storeVector struct {
	About    string          `json:"about"`
	KEK      hexBytes        `json:"kek"` // stands for the KMS: AES-256-GCM, nonce | ciphertext | tag
	Store    hexBytes        `json:"store"`
	Applied  uint64          `json:"applied_seq"`
	Head     hexBytes        `json:"ledger_head"`
	Epoch    uint64          `json:"active_epoch"`
	Purposes []vectorPurpose `json:"purposes"`
	Roots    []vectorRoot    `json:"roots"`
	Pages    []vectorPage    `json:"pages"`
	Keys     []vectorKeyRow  `json:"keys"`
	Ledger   []vectorEntry   `json:"ledger"`
	Record   *recordVector   `json:"record"`
	Index    vectorIndexOf   `json:"index"`
}

type vectorPurpose struct {
	PID  uint32 `json:"pid"`
	Name string `json:"name"`
}

type vectorRoot struct {
	Tree    uint32   `json:"tree"`
	Epoch   uint64   `json:"epoch"`
	KMSURI  string   `json:"kms_uri"`
	Suite   byte     `json:"suite"`
	State   byte     `json:"state"`
	Wrapped hexBytes `json:"wrapped"`
	Commit  hexBytes `json:"commit"`
	Context hexBytes `json:"context"`
	Key     hexBytes `json:"key"`
}

type vectorPage struct {
	Tree      uint32   `json:"tree"`
	Page      uint64   `json:"page,string"`
	Parent    uint64   `json:"parent,string"`
	ParentGen uint64   `json:"parent_gen"`
	Level     byte     `json:"level"`
	Gen       uint64   `json:"gen"`
	Suite     byte     `json:"suite"`
	Wrapped   hexBytes `json:"wrapped"`
	Context   hexBytes `json:"context"`
	Key       hexBytes `json:"key"`
}

type vectorKeyRow struct {
	KID       hexBytes `json:"kid"`
	Tree      uint32   `json:"tree"`
	Page      uint64   `json:"page,string"`
	PageGen   uint64   `json:"page_gen"`
	Kind      byte     `json:"kind"`
	Suite     byte     `json:"suite"`
	RefVer    uint32   `json:"ref_ver"`
	SRef      hexBytes `json:"sref"`
	PID       uint32   `json:"pid"`
	Purpose   string   `json:"purpose"`
	Seq       uint32   `json:"seq"`
	Created   int64    `json:"created"`
	SealUntil int64    `json:"seal_until"`
	Expires   int64    `json:"expires"`
	Wrapped   hexBytes `json:"wrapped"`
	Context   hexBytes `json:"context"`
	Key       hexBytes `json:"key"`
}

type vectorEntry struct {
	Seq        uint64       `json:"seq"`
	Prev       hexBytes     `json:"prev"`
	Time       int64        `json:"time"`
	Store      hexBytes     `json:"store"`
	Kind       string       `json:"kind"`
	Tree       uint32       `json:"tree"`
	Epoch      uint64       `json:"epoch"`
	RefVer     uint32       `json:"ref_ver"`
	SRef       hexBytes     `json:"sref"`
	PID        uint32       `json:"pid"`
	KIDs       []hexBytes   `json:"kids"`
	Pages      []vectorPgID `json:"pages"`
	KMSHandle  string       `json:"kms_handle"`
	RootCommit hexBytes     `json:"root_commit"`
	Canonical  hexBytes     `json:"canonical"`
	MAC        hexBytes     `json:"mac"`
	Hash       hexBytes     `json:"hash"`
}

// vectorPgID is a page number as a string: JSON numbers lose digits elsewhere.
type vectorPgID uint64

func (p vectorPgID) MarshalText() ([]byte, error) { return strconv.AppendUint(nil, uint64(p), 10), nil }

func (p *vectorPgID) UnmarshalText(b []byte) error {
	n, err := strconv.ParseUint(string(b), 10, 64)
	*p = vectorPgID(n)
	return err
}

// vectorIndexOf is a value of a blind index whose key is in the store.
type vectorIndexOf struct {
	Tenant     string   `json:"tenant"`
	Record     string   `json:"record"`
	Index      string   `json:"index"`
	Normaliser string   `json:"normaliser"`
	Value      hexBytes `json:"value"`
	Bits       int      `json:"bits"`
	IndexValue hexBytes `json:"index_value"`
}

func (r *vectorRoot) row() RootRow {
	return RootRow{Tree: TreeID(r.Tree), Epoch: r.Epoch, KMSURI: r.KMSURI, Suite: Suite(r.Suite), State: RootState(r.State), Wrapped: r.Wrapped, Commit: r.Commit}
}

func (p *vectorPage) row() PageRow {
	return PageRow{Tree: TreeID(p.Tree), Page: PageID(p.Page), Parent: PageID(p.Parent), ParentGen: p.ParentGen, Level: p.Level, Gen: p.Gen, Suite: Suite(p.Suite), Wrapped: p.Wrapped}
}

func (k *vectorKeyRow) row() KeyRow {
	return KeyRow{
		KID: KeyID(k.KID), Tree: TreeID(k.Tree), Page: PageID(k.Page), PageGen: k.PageGen, Kind: KeyKind(k.Kind), Suite: Suite(k.Suite), RefVer: k.RefVer, SRef: SRef(k.SRef),
		PID: PID(k.PID), Seq: k.Seq, Wrapped: k.Wrapped, State: 1, Created: k.Created, SealUntil: k.SealUntil, Expires: k.Expires,
	}
}

func (e *vectorEntry) entry() LedgerEntry {
	out := LedgerEntry{
		Seq: e.Seq, Prev: e.Prev, Time: e.Time, Store: StoreID(e.Store), Kind: LedgerKind(e.Kind), Tree: TreeID(e.Tree), Epoch: e.Epoch, RefVer: e.RefVer, SRef: SRef(e.SRef),
		PID: PID(e.PID), KMSHandle: e.KMSHandle, RootCommit: e.RootCommit, MAC: e.MAC,
	}
	for _, kid := range e.KIDs {
		out.KIDs = append(out.KIDs, KeyID(kid))
	}
	for _, p := range e.Pages {
		out.Pages = append(out.Pages, PageID(p))
	}
	return out
}

// vectorStore serves the rows of a storeVector; what a reader does not need is not there.
type vectorStore struct {
	Store
	v *storeVector
}

func (s vectorStore) Meta(context.Context) (Meta, error) {
	return Meta{StoreID: StoreID(s.v.Store), Schema: 1, Incarnation: 1, AppliedSeq: s.v.Applied, LedgerHead: s.v.Head}, nil
}

func (s vectorStore) Tree(_ context.Context, tree TreeID) (TreeRow, []RootRow, error) {
	var out []RootRow
	for i := range s.v.Roots {
		out = append(out, s.v.Roots[i].row())
	}
	return TreeRow{Tree: tree, ActiveEpoch: s.v.Epoch, State: 1}, out, nil
}

func (s vectorStore) Pages(_ context.Context, _ TreeID, ids []PageID) ([]PageRow, error) {
	var out []PageRow
	for i := range s.v.Pages {
		if slices.Contains(ids, PageID(s.v.Pages[i].Page)) {
			out = append(out, s.v.Pages[i].row())
		}
	}
	return out, nil
}

func (s vectorStore) selected(ctx context.Context, want func(k *KeyRow) bool) ([]KeyRow, []PageRow, error) {
	var out []KeyRow
	var ids []PageID
	for i := range s.v.Keys {
		if k := s.v.Keys[i].row(); want(&k) {
			out, ids = append(out, k), append(ids, k.Page)
		}
	}
	pages, err := s.Pages(ctx, 0, ids)
	return out, pages, err
}

func (s vectorStore) Keys(ctx context.Context, _ TreeID, _ uint32, srefs []SRef) ([]KeyRow, []PageRow, error) {
	return s.selected(ctx, func(k *KeyRow) bool { return slices.Contains(srefs, k.SRef) })
}

func (s vectorStore) SystemKeys(ctx context.Context, _ TreeID, kind KeyKind) ([]KeyRow, []PageRow, error) {
	return s.selected(ctx, func(k *KeyRow) bool { return k.Kind == kind })
}

func (s vectorStore) Evidence(context.Context, TreeID, uint32, []SRef, []KeyID) ([]Tomb, []KeyID, error) {
	return nil, nil, nil
}

func (s vectorStore) Purposes(context.Context) ([]PurposeRow, error) {
	var out []PurposeRow
	for _, p := range s.v.Purposes {
		out = append(out, PurposeRow{PID(p.PID), p.Name})
	}
	return out, nil
}

// vectorLedger serves the entries of a storeVector.
type vectorLedger struct {
	Ledger
	v *storeVector
}

func (l vectorLedger) Read(_ context.Context, after uint64) ([]LedgerEntry, error) {
	var out []LedgerEntry
	for i := range l.v.Ledger {
		if e := l.v.Ledger[i].entry(); e.Seq > after {
			out = append(out, e)
		}
	}
	return out, nil
}

// vectorKMS is the KMS of the store vectors.
type vectorKMS struct {
	kek []byte
	uri string
}

func (k vectorKMS) aead() (a cipher.AEAD, err error) {
	block, err := aes.NewCipher(k.kek)
	if err != nil {
		return nil, err
	}
	fips140.WithoutEnforcement(func() { a, err = cipher.NewGCM(block) }) // nonces are part of the vectors
	return a, err
}

func (k vectorKMS) KeyURI() string { return k.uri }

func (k vectorKMS) EncryptWithContext(context.Context, []byte, []byte) ([]byte, error) {
	return nil, kms.Rejected("encrypt", k.uri, nil)
}

func (k vectorKMS) DecryptWithContext(_ context.Context, ciphertext, aad []byte) ([]byte, error) {
	a, err := k.aead()
	if err != nil || len(ciphertext) < 12 {
		return nil, kms.Rejected("decrypt", k.uri, nil)
	}
	out, err := a.Open(nil, ciphertext[:12], ciphertext[12:], aad)
	if err != nil {
		return nil, kms.Rejected("decrypt", k.uri, nil)
	}
	return out, nil
}

// openAll opens store, ledger and record the way a program does.
func (v *storeVector) openAll(t *testing.T) (Record, error) {
	t.Helper()
	k, err := NewKeyring(t.Context(), vectorStore{v: v}, vectorKMS{v.KEK, v.Roots[len(v.Roots)-1].KMSURI}, Options{Ledger: vectorLedger{v: v}})
	if err != nil {
		return Record{}, err
	}
	defer k.Close()
	recs := []Record{v.Record.production()}
	if err := k.OpenRecords(t.Context(), recs); err != nil {
		return Record{}, err
	}
	for i := range recs[0].Cells {
		if err := recs[0].Cells[i].Err; err != nil {
			return recs[0], err
		}
	}
	keys, err := k.IndexKeys(t.Context(), v.Index.Tenant, v.Index.Record, v.Index.Index, false)
	if err != nil {
		return recs[0], err
	}
	require.NotEmpty(t, keys)
	require.Equal(t, []byte(v.Index.IndexValue), keys[0].Append(nil, v.Index.Normaliser, v.Index.Value, v.Index.Bits))
	return recs[0], nil
}

func storeVectors(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(vectorDir, "keystore_*.json"))
	require.NoError(t, err)
	require.Len(t, paths, 2)
	return paths
}

func TestStoreVectors(t *testing.T) {
	needsSuite2(t)
	t.Parallel()
	for _, path := range storeVectors(t) {
		v := readVector[storeVector](t, path)
		rec, err := v.openAll(t)
		require.NoError(t, err, path)
		for i, c := range v.Record.Cells {
			require.Equal(t, c.Codec, rec.Cells[i].Codec)
			require.Equal(t, []byte(c.Plain), rec.Cells[i].Plain)
		}
		v.Record.checkReference(t)
		v.Record.checkSteps(t)
		v.checkRows(t)
	}
}

// checkRows holds both implementations to every context, wrap, commitment and hash.
func (v *storeVector) checkRows(t *testing.T) {
	t.Helper()
	id := StoreID(v.Store)
	roots, pages := map[uint64]vectorRoot{}, map[uint64]vectorPage{}
	for _, r := range v.Roots {
		roots[r.Epoch] = r
		row := r.row()
		require.Equal(t, []byte(r.Context), row.appendAAD(nil, id))
		require.Equal(t, []byte(r.Context), refRootContext(v.Store, r.Tree, r.Epoch, r.KMSURI))
		commit := rootCommit(id, row.Tree, row.Epoch, row.Suite, r.Key)
		require.Equal(t, []byte(r.Commit), commit[:])
		require.Equal(t, []byte(r.Commit), refRootCommit(v.Store, r.Tree, r.Epoch, r.Suite, r.Key))
		key, err := refOpen(1, v.KEK, r.Wrapped, r.Context)
		require.NoError(t, err)
		require.Equal(t, []byte(r.Key), key)
	}
	for _, p := range v.Pages {
		pages[p.Page] = p
	}
	for _, p := range v.Pages {
		row := p.row()
		require.Equal(t, []byte(p.Context), row.appendAAD(nil, id))
		require.Equal(t, []byte(p.Context), refPageContext(v.Store, &p))
		suite, under := roots[p.ParentGen].Suite, roots[p.ParentGen].Key
		if p.Parent != 0 {
			suite, under = pages[p.Parent].Suite, pages[p.Parent].Key
		}
		key, err := refOpen(suite, under, p.Wrapped, p.Context)
		require.NoError(t, err)
		require.Equal(t, []byte(p.Key), key)
	}
	for _, k := range v.Keys {
		row := k.row()
		require.Equal(t, []byte(k.Context), row.appendAAD(nil, id, k.Purpose))
		require.Equal(t, []byte(k.Context), refKeyContext(v.Store, &k))
		key, err := refOpen(pages[k.Page].Suite, pages[k.Page].Key, k.Wrapped, k.Context)
		require.NoError(t, err)
		require.Equal(t, []byte(k.Key), key)
	}
	ledgerKey := v.key(KindLedger)
	mac := newMACKey(ledgerKey)
	prev := make([]byte, 32)
	for i := range v.Ledger {
		e := v.Ledger[i]
		entry := e.entry()
		require.Equal(t, []byte(e.Canonical), entry.appendCanonical(nil))
		require.Equal(t, []byte(e.Canonical), refLedgerBytes(&e))
		require.Equal(t, prev, []byte(e.Prev))
		sum := mac.sum(entry.appendCanonical)
		require.Equal(t, []byte(e.MAC), sum[:])
		require.Equal(t, []byte(e.MAC), refMAC(ledgerKey, e.Canonical))
		head := entry.hash()
		require.Equal(t, []byte(e.Hash), head[:])
		require.Equal(t, []byte(e.Hash), refHash(e.Canonical, e.MAC))
		prev = e.Hash
	}
}

func (v *storeVector) key(kind KeyKind) []byte {
	for _, k := range v.Keys {
		if k.Kind == byte(kind) {
			return k.Key
		}
	}
	return nil
}

// Whatever is changed in a key store or ledger, nothing is served.
func TestStoreVectorsChanged(t *testing.T) {
	needsSuite2(t)
	t.Parallel()
	for _, path := range storeVectors(t) {
		base := readVector[storeVector](t, path)
		subject, leaf := base.path()
		for name, c := range map[string]struct {
			change func(v *storeVector)
			want   []error // one of
		}{
			"store id":            {func(v *storeVector) { v.Store[0]++ }, []error{ErrWrongKey}},
			"kek":                 {func(v *storeVector) { v.KEK[0]++ }, []error{ErrWrongKey}},
			"root uri":            {func(v *storeVector) { v.Roots[len(v.Roots)-1].KMSURI += "2" }, []error{ErrWrongKey}},
			"root suite":          {func(v *storeVector) { r := &v.Roots[len(v.Roots)-1]; r.Suite = 3 - r.Suite }, []error{ErrWrongKey}},
			"root commit":         {func(v *storeVector) { v.Roots[len(v.Roots)-1].Commit[0]++ }, []error{ErrWrongKey}},
			"root wrap":           {func(v *storeVector) { v.Roots[len(v.Roots)-1].Wrapped[20]++ }, []error{ErrWrongKey}},
			"root state":          {func(v *storeVector) { v.Roots[len(v.Roots)-1].State = byte(RootRetiring) }, []error{ErrKeyMissing}},
			"epoch never given":   {func(v *storeVector) { v.Epoch++; v.Roots[len(v.Roots)-1].Epoch++ }, []error{ErrWrongKey, ErrLedger}},
			"page suite":          {func(v *storeVector) { v.Pages[leaf].Suite = 3 - v.Pages[leaf].Suite }, []error{ErrDecrypt}},
			"page suite unknown":  {func(v *storeVector) { v.Pages[leaf].Suite = 3 }, []error{ErrDecrypt}},
			"page level":          {func(v *storeVector) { v.Pages[leaf].Level++ }, []error{ErrDecrypt, ErrKeyMissing}},
			"page gen":            {func(v *storeVector) { v.Pages[leaf].Gen++ }, []error{ErrDecrypt}},
			"page tree":           {func(v *storeVector) { v.Pages[leaf].Tree++ }, []error{ErrDecrypt}},
			"page wrap":           {func(v *storeVector) { v.Pages[leaf].Wrapped[30]++ }, []error{ErrDecrypt}},
			"page parent gen":     {func(v *storeVector) { v.Pages[leaf].ParentGen++ }, []error{ErrDecrypt, ErrUnavailable}},
			"page parent missing": {func(v *storeVector) { v.Pages[leaf].Parent = 12345 }, []error{ErrKeyMissing}},
			"page parent itself":  {func(v *storeVector) { v.Pages[leaf].Parent = v.Pages[leaf].Page }, []error{ErrKeyMissing, ErrDecrypt}},
			"page wrap empty":     {func(v *storeVector) { v.Pages[leaf].Wrapped = nil }, []error{ErrDecrypt}},
			"key kid":             {func(v *storeVector) { v.Keys[subject].KID[0]++ }, []error{ErrDecrypt}},
			"key tree":            {func(v *storeVector) { v.Keys[subject].Tree++ }, []error{ErrDecrypt}},
			"key page gen":        {func(v *storeVector) { v.Keys[subject].PageGen++ }, []error{ErrUnavailable}},
			"key kind":            {func(v *storeVector) { v.Keys[subject].Kind = byte(KindIndex) }, []error{ErrDecrypt}},
			"key suite":           {func(v *storeVector) { v.Keys[subject].Suite = 3 - v.Keys[subject].Suite }, []error{ErrDecrypt}},
			"key suite unknown":   {func(v *storeVector) { v.Keys[subject].Suite = 0 }, []error{ErrDecrypt}},
			"key ref ver":         {func(v *storeVector) { v.Keys[subject].RefVer++ }, []error{ErrDecrypt}},
			"key sref":            {func(v *storeVector) { v.Keys[subject].SRef[0]++ }, []error{ErrKeyMissing}},
			"key purpose":         {func(v *storeVector) { v.Keys[subject].PID++ }, []error{ErrDecrypt, ErrKeyMissing}},
			"key seq":             {func(v *storeVector) { v.Keys[subject].Seq++ }, []error{ErrDecrypt}},
			"key created":         {func(v *storeVector) { v.Keys[subject].Created++ }, []error{ErrDecrypt}},
			"key seal until":      {func(v *storeVector) { v.Keys[subject].SealUntil++ }, []error{ErrDecrypt}},
			"key expires":         {func(v *storeVector) { v.Keys[subject].Expires++ }, []error{ErrDecrypt}},
			"key wrap":            {func(v *storeVector) { v.Keys[subject].Wrapped[0]++ }, []error{ErrDecrypt}},
			"key wrap of another": {func(v *storeVector) { v.Keys[subject].Wrapped = v.Keys[0].Wrapped }, []error{ErrDecrypt}},
			"purpose renamed":     {func(v *storeVector) { v.Purposes[v.Keys[subject].PID-1].Name += "2" }, []error{ErrDecrypt, ErrKeyMissing}},
			"purpose twice":       {func(v *storeVector) { v.Purposes = append(v.Purposes, vectorPurpose{9, v.Purposes[1].Name}) }, []error{ErrDecrypt}},
			"purpose id twice":    {func(v *storeVector) { v.Purposes = append(v.Purposes, vectorPurpose{2, "other"}) }, []error{ErrDecrypt}},
			"purpose id 0":        {func(v *storeVector) { v.Purposes = append(v.Purposes, vectorPurpose{0, "other"}) }, []error{ErrDecrypt}},
			"no system keys":      {func(v *storeVector) { v.Keys = slices.Delete(v.Keys, 0, 1) }, []error{ErrKeyMissing}},
			"applied seq 0":       {func(v *storeVector) { v.Applied = 0 }, []error{ErrStoreEmpty}},
			"applied seq":         {func(v *storeVector) { v.Applied++ }, []error{ErrLedger}},
			"ledger head":         {func(v *storeVector) { v.Head[0]++ }, []error{ErrLedger}},
			"ledger empty":        {func(v *storeVector) { v.Ledger = nil }, []error{ErrLedger}},
			"ledger cut":          {func(v *storeVector) { v.Ledger = v.Ledger[:len(v.Ledger)-1] }, []error{ErrLedger}},
			"ledger first gone":   {func(v *storeVector) { v.Ledger = v.Ledger[1:] }, []error{ErrLedger}},
			"ledger seq":          {func(v *storeVector) { v.Ledger[0].Seq++ }, []error{ErrLedger}},
			"ledger prev":         {func(v *storeVector) { v.Ledger[0].Prev[0]++ }, []error{ErrLedger}},
			"ledger time":         {func(v *storeVector) { v.Ledger[0].Time++ }, []error{ErrLedger}},
			"ledger store":        {func(v *storeVector) { v.Ledger[0].Store[0]++ }, []error{ErrLedger}},
			"ledger kind":         {func(v *storeVector) { v.Ledger[0].Kind = string(LedgerRootSwitch) }, []error{ErrLedger}},
			"ledger tree":         {func(v *storeVector) { v.Ledger[0].Tree++ }, []error{ErrLedger}},
			"ledger epoch":        {func(v *storeVector) { v.Ledger[0].Epoch++ }, []error{ErrLedger}},
			"ledger ref ver":      {func(v *storeVector) { v.Ledger[0].RefVer++ }, []error{ErrLedger}},
			"ledger sref":         {func(v *storeVector) { v.Ledger[0].SRef[15]++ }, []error{ErrLedger}},
			"ledger pid":          {func(v *storeVector) { v.Ledger[0].PID++ }, []error{ErrLedger}},
			"ledger kids":         {func(v *storeVector) { v.Ledger[0].KIDs = append(v.Ledger[0].KIDs, make(hexBytes, 12)) }, []error{ErrLedger}},
			"ledger pages":        {func(v *storeVector) { v.Ledger[0].Pages = append(v.Ledger[0].Pages, 1) }, []error{ErrLedger}},
			"ledger handle":       {func(v *storeVector) { v.Ledger[0].KMSHandle += "2" }, []error{ErrLedger}},
			"ledger commit":       {func(v *storeVector) { v.Ledger[0].RootCommit[0]++ }, []error{ErrLedger}},
			"ledger mac":          {func(v *storeVector) { v.Ledger[0].MAC[0]++ }, []error{ErrLedger}},
			"ledger mac empty":    {func(v *storeVector) { v.Ledger[0].MAC = nil }, []error{ErrLedger}},
		} {
			v := readVector[storeVector](t, path)
			c.change(v)
			_, err := v.openAll(t)
			require.Error(t, err, "%s: %s", path, name)
			require.True(t, slices.ContainsFunc(c.want, func(w error) bool { return errors.Is(err, w) }), "%s: %s: %v", path, name, err)
		}
	}
}

// reroot puts everything under another root, as who can use the KMS key and write the store could.
func (v *storeVector) reroot(t *testing.T, epoch uint64) {
	t.Helper()
	r := &v.Roots[len(v.Roots)-1]
	r.Epoch, r.Key, v.Epoch = epoch, make([]byte, 32), epoch
	r.Context, r.Commit = refRootContext(v.Store, 1, epoch, r.KMSURI), refRootCommit(v.Store, 1, epoch, r.Suite, r.Key)
	var err error
	r.Wrapped, err = refSeal(1, v.KEK, make([]byte, 12), r.Key, r.Context)
	require.NoError(t, err)
	for i := range v.Pages {
		if p := &v.Pages[i]; p.Parent == 0 {
			p.ParentGen = epoch
			p.Context = refPageContext(v.Store, p)
			p.Wrapped, err = refSeal(r.Suite, r.Key, make([]byte, refNonceLen(r.Suite)), p.Key, p.Context)
			require.NoError(t, err)
		}
	}
}

// What is consistent in itself and does not fit the ledger is refused.
func TestStoreThatDoesNotFitTheLedger(t *testing.T) {
	needsSuite2(t)
	t.Parallel()
	for _, path := range storeVectors(t) {
		for name, change := range map[string]func(v *storeVector){
			"another root of the same epoch":    func(v *storeVector) { v.reroot(t, v.Epoch) },
			"an epoch the ledger never gave":    func(v *storeVector) { v.reroot(t, v.Epoch+1) },
			"an entry without the ledger's key": func(v *storeVector) { v.forge(func(e *vectorEntry) { e.Time++ }) },
			"an entry of an unknown kind": func(v *storeVector) {
				v.forge(func(e *vectorEntry) { e.Kind = "pause"; e.MAC = refMAC(v.key(KindLedger), refLedgerBytes(e)) })
			},
		} {
			v := readVector[storeVector](t, path)
			change(v)
			_, err := v.openAll(t)
			require.ErrorIs(t, err, ErrLedger, "%s: %s", path, name)
		}
	}
}

// forge changes the last entry, and the store's mark so that it fits.
func (v *storeVector) forge(change func(e *vectorEntry)) {
	e := &v.Ledger[len(v.Ledger)-1]
	change(e)
	v.Head = refHash(refLedgerBytes(e), e.MAC)
}

// A row with an expiry is refused even when its wrap is right: this version would ignore it.
func TestExpiryIsRefused(t *testing.T) {
	needsSuite2(t)
	t.Parallel()
	for _, path := range storeVectors(t) {
		v := readVector[storeVector](t, path)
		subject, leaf := v.path()
		rewrap := func(expires int64) error {
			k, p := &v.Keys[subject], &v.Pages[leaf]
			k.Expires = expires
			var err error
			k.Wrapped, err = refSeal(p.Suite, p.Key, make([]byte, refNonceLen(p.Suite)), k.Key, refKeyContext(v.Store, k))
			require.NoError(t, err)
			_, err = v.openAll(t)
			return err
		}
		require.NoError(t, rewrap(0))
		require.ErrorIs(t, rewrap(1<<40), ErrDecrypt)
		require.ErrorIs(t, rewrap(-1), ErrDecrypt)
	}
}

// path returns the positions of the record's subject key and of the leaf it hangs on.
func (v *storeVector) path() (key, leaf int) {
	key = slices.IndexFunc(v.Keys, func(k vectorKeyRow) bool { return k.Kind == byte(KindSubject) })
	leaf = slices.IndexFunc(v.Pages, func(p vectorPage) bool { return p.Page == v.Keys[key].Page })
	return key, leaf
}

// storeGen builds a key store with the independent writer.
type storeGen struct {
	*gen
	v *storeVector
}

func (g *storeGen) root(epoch uint64, suite, state byte, uri string) *vectorRoot {
	r := vectorRoot{Tree: 1, Epoch: epoch, KMSURI: uri, Suite: suite, State: state, Key: g.bytes(32)}
	r.Context = refRootContext(g.store, 1, epoch, uri)
	r.Commit = refRootCommit(g.store, 1, epoch, suite, r.Key)
	var err error
	r.Wrapped, err = refSeal(1, g.v.KEK, g.bytes(12), r.Key, r.Context)
	require.NoError(g, err)
	g.v.Roots = append(g.v.Roots, r)
	return &r
}

func (g *storeGen) page(p vectorPage, underSuite byte, under []byte) vectorPage {
	p.Tree, p.Key = 1, g.bytes(32)
	p.Context = refPageContext(g.store, &p)
	var err error
	p.Wrapped, err = refSeal(underSuite, under, g.bytes(refNonceLen(underSuite)), p.Key, p.Context)
	require.NoError(g, err)
	g.v.Pages = append(g.v.Pages, p)
	return p
}

func (g *storeGen) addKey(k vectorKeyRow, leaf vectorPage) vectorKeyRow {
	k.Tree, k.KID, k.Page, k.PageGen, k.Key = 1, g.bytes(12), leaf.Page, leaf.Gen, g.bytes(32)
	k.Purpose = g.v.Purposes[k.PID-1].Name
	k.Context = refKeyContext(g.store, &k)
	var err error
	k.Wrapped, err = refSeal(leaf.Suite, leaf.Key, g.bytes(refNonceLen(leaf.Suite)), k.Key, k.Context)
	require.NoError(g, err)
	g.v.Keys = append(g.v.Keys, k)
	return k
}

func (g *storeGen) log(e vectorEntry) {
	e.Seq, e.Store, e.Tree, e.Prev = uint64(len(g.v.Ledger)+1), g.store, 1, make([]byte, 32)
	if n := len(g.v.Ledger); n > 0 {
		e.Prev = g.v.Ledger[n-1].Hash
	}
	if e.SRef == nil {
		e.SRef = make([]byte, 16)
	}
	e.Time = 1_700_000_000 + int64(e.Seq)
	e.Canonical = refLedgerBytes(&e)
	e.MAC = refMAC(g.v.key(KindLedger), e.Canonical)
	e.Hash = refHash(e.Canonical, e.MAC)
	g.v.Ledger = append(g.v.Ledger, e)
	g.v.Applied, g.v.Head = e.Seq, e.Hash
}

// finish seals a record under the subject keys and computes an index value.
func (g *storeGen) finish(subjects []vectorScope, keys []vectorKeyRow, index vectorKeyRow, of vectorIndexOf) *storeVector {
	var spec sealSpec
	spec.about, spec.scopes, spec.rowID = "sealed under the keys of this store", subjects, "42"
	for i, s := range subjects {
		spec.keys = append(spec.keys, vectorKey{s.Tenant, s.Kind, s.ID, s.Purpose, keys[i].KID, keys[i].Suite, keys[i].Key})
		spec.cells = append(spec.cells, vectorCell{Scope: i, Field: "f" + strconv.Itoa(i), Codec: 1, Plain: []byte("value " + strconv.Itoa(i))})
	}
	g.v.Record = g.seal(spec)
	of.IndexValue = refIndexValue(index.Key, uint16(index.Seq), of.Normaliser, of.Value, of.Bits)
	g.v.Index = of
	return g.v
}

func storeScenarios() []scenario {
	return []scenario{
		{"keystore_small", func(g *gen) any {
			g.suite = 1
			s := storeGen{g, &storeVector{About: "a store after Init and its first keys, suite 1", KEK: g.bytes(32), Store: g.store, Epoch: 1, Purposes: []vectorPurpose{{1, ""}, {2, "billing"}}}}
			root := s.root(1, 1, 2, "local:vectors")
			leaf := s.page(vectorPage{Page: 7_600_000_000_000_000_001, ParentGen: 1, Gen: 1, Suite: 1}, 1, root.Key)
			ref := s.addKey(vectorKeyRow{Kind: 3, Suite: 1, SRef: refSystemSRef(3), PID: 1, Seq: 1, Created: 1_700_000_000}, leaf)
			s.addKey(vectorKeyRow{Kind: 4, Suite: 1, SRef: refSystemSRef(4), PID: 1, Seq: 1, Created: 1_700_000_000}, leaf)
			billing := s.addKey(vectorKeyRow{Kind: 1, Suite: 1, RefVer: 1, SRef: refSRef(ref.Key, "", "customer", "ada"), PID: 2, Seq: 1, Created: 1_700_000_100, SealUntil: 1_800_000_000}, leaf)
			plain := s.addKey(vectorKeyRow{Kind: 1, Suite: 1, RefVer: 1, SRef: refSRef(ref.Key, "", "customer", "ada"), PID: 1, Seq: 1, Created: 1_700_000_100}, leaf)
			index := s.addKey(vectorKeyRow{Kind: 2, Suite: 1, RefVer: 1, SRef: refIndexSRef(ref.Key, "", "customers", "email_idx"), PID: 1, Seq: 1, Created: 1_700_000_200}, leaf)
			s.log(vectorEntry{Kind: "init", Epoch: 1, KMSHandle: "local:vectors", RootCommit: root.Commit})
			return s.finish([]vectorScope{{Purpose: "billing", Kind: "customer", ID: "ada"}, {Kind: "customer", ID: "ada"}}, []vectorKeyRow{billing, plain},
				index, vectorIndexOf{Record: "customers", Index: "email_idx", Normaliser: "email/1", Value: []byte("ada@example.com"), Bits: 32})
		}},
		{"keystore_deep", func(g *gen) any {
			g.suite = 2
			s := storeGen{g, &storeVector{About: "a store that has seen a forget, a readmission and a change of the KMS key: pages of two levels, suites mixed", KEK: g.bytes(32), Store: g.store, Epoch: 3, Purposes: []vectorPurpose{{1, ""}, {2, "billing"}, {3, "marketing"}}}}
			first := s.root(1, 1, 3, "local:old")
			root := s.root(3, 2, 2, "local:new")
			system := s.page(vectorPage{Page: 11, ParentGen: 3, Gen: 1, Suite: 1}, 2, root.Key)
			branch := s.page(vectorPage{Page: 12, ParentGen: 3, Level: 1, Gen: 3, Suite: 1}, 2, root.Key)
			leaf := s.page(vectorPage{Page: 1<<63 - 1, Parent: 12, ParentGen: 3, Gen: 3, Suite: 2}, 1, branch.Key)
			ref := s.addKey(vectorKeyRow{Kind: 3, Suite: 1, SRef: refSystemSRef(3), PID: 1, Seq: 1, Created: 1_600_000_000}, system)
			s.addKey(vectorKeyRow{Kind: 4, Suite: 1, SRef: refSystemSRef(4), PID: 1, Seq: 1, Created: 1_600_000_000}, system)
			old := s.addKey(vectorKeyRow{Kind: 1, Suite: 1, RefVer: 1, SRef: refSRef(ref.Key, "acme", "customer", "bob"), PID: 3, Seq: 1, Created: 1_600_000_100}, leaf)
			s.addKey(vectorKeyRow{Kind: 1, Suite: 2, RefVer: 1, SRef: old.SRef, PID: 3, Seq: 2, Created: 1_700_000_100}, leaf)
			s.addKey(vectorKeyRow{Kind: 2, Suite: 1, RefVer: 1, SRef: refIndexSRef(ref.Key, "acme", "customers", "phone_idx"), PID: 1, Seq: 1, Created: 1_600_000_200}, leaf)
			index := s.addKey(vectorKeyRow{Kind: 2, Suite: 2, RefVer: 1, SRef: refIndexSRef(ref.Key, "acme", "customers", "phone_idx"), PID: 1, Seq: 2, Created: 1_700_000_200}, leaf)
			gone := refSRef(ref.Key, "acme", "customer", "carol")
			s.log(vectorEntry{Kind: "init", Epoch: 1, KMSHandle: "local:old", RootCommit: first.Commit})
			s.log(vectorEntry{Kind: "forget", Epoch: 1, RefVer: 1, SRef: gone, KIDs: []hexBytes{g.bytes(12), g.bytes(12)}, Pages: []vectorPgID{1<<63 - 1, 12}})
			s.log(vectorEntry{Kind: "forget-more", Epoch: 1, RefVer: 1, SRef: gone, KIDs: []hexBytes{g.bytes(12)}, Pages: []vectorPgID{1<<63 - 1}})
			s.log(vectorEntry{Kind: "readmit", Epoch: 1, RefVer: 1, SRef: gone})
			s.log(vectorEntry{Kind: "forget", Epoch: 1, RefVer: 1, SRef: gone, PID: 3})
			s.log(vectorEntry{Kind: "root-begin", Epoch: 2, KMSHandle: "local:lost"})
			s.log(vectorEntry{Kind: "root-begin", Epoch: 3, KMSHandle: "local:new"})
			s.log(vectorEntry{Kind: "root-switch", Epoch: 3, KMSHandle: "local:new", RootCommit: root.Commit})
			return s.finish([]vectorScope{{Group: "buyer", Purpose: "marketing", Tenant: "acme", Kind: "customer", ID: "bob"}}, []vectorKeyRow{old},
				index, vectorIndexOf{Tenant: "acme", Record: "customers", Index: "phone_idx", Normaliser: "phone/1", Value: []byte("+491701234567"), Bits: 20})
		}},
	}
}
