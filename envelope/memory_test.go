//go:build linux && !race

package envelope

import (
	"bufio"
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/bits"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope/internal/secret"
	"github.com/lethe-go/lethe/envelope/internal/wire"
	"github.com/lethe-go/lethe/kms"
)

// kekKey is a KMS in this process; the parent can unwrap what it wrapped.
type kekKey struct{ aead cipher.AEAD }

func newKEK(kek []byte) (kekKey, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return kekKey{}, err
	}
	a, err := cipher.NewGCMWithRandomNonce(block)
	return kekKey{a}, err
}

func (k kekKey) EncryptWithContext(_ context.Context, plaintext, ad []byte) ([]byte, error) {
	return k.aead.Seal(nil, nil, plaintext, ad), nil
}

func (k kekKey) DecryptWithContext(_ context.Context, ciphertext, ad []byte) ([]byte, error) {
	out, err := k.aead.Open(nil, nil, ciphertext, ad)
	if err != nil {
		return nil, kms.Rejected("decrypt", "", nil)
	}
	return out, nil
}

// rowStore is a Store of one store's rows, as few as a warm Keyring needs. It
// keeps nothing but wrapped keys.
type rowStore struct {
	Store

	init  InitRows
	pages []PageRow
	keys  map[SRef][]KeyRow
	reads atomic.Int64
	meta  Meta
}

func (s *rowStore) Meta(context.Context) (Meta, error) {
	if s.init.Meta.Schema == 0 {
		return Meta{}, ErrStoreEmpty
	}
	return s.meta, nil
}

func (s *rowStore) Init(_ context.Context, rows InitRows) error {
	s.init, s.meta, s.keys, s.pages = rows, rows.Meta, map[SRef][]KeyRow{}, rows.Pages
	for _, k := range rows.Keys {
		s.keys[k.SRef] = append(s.keys[k.SRef], k)
	}
	return nil
}

func (s *rowStore) Advance(_ context.Context, _, seq uint64, head []byte) error {
	s.meta.AppliedSeq, s.meta.LedgerHead = seq, head
	return nil
}

func (s *rowStore) Tree(context.Context, TreeID) (TreeRow, []RootRow, error) {
	return s.init.Tree, []RootRow{s.init.Root}, nil
}

func (s *rowStore) Pages(_ context.Context, _ TreeID, ids []PageID) (out []PageRow, err error) {
	for _, id := range ids {
		for _, p := range s.pages {
			if p.Page == id {
				out = append(out, p)
			}
		}
	}
	return out, nil
}

func (s *rowStore) OpenPages(_ context.Context, _ TreeID, level uint8, limit int) (out []PageRow, err error) {
	for _, p := range s.pages {
		if p.Level == level && p.Fill < PageFanOut && len(out) < limit {
			out = append(out, p)
		}
	}
	return out, nil
}

func (s *rowStore) CountRootPages(_ context.Context, _ TreeID, level uint8) (n int, err error) {
	for _, p := range s.pages {
		if p.Level == level && p.Parent == 0 {
			n++
		}
	}
	return n, nil
}

func (s *rowStore) withPages(rows []KeyRow) ([]KeyRow, []PageRow, error) {
	want := map[PageID]bool{}
	for _, r := range rows {
		want[r.Page] = true
	}
	var pages []PageRow
	for _, p := range s.pages {
		if want[p.Page] {
			pages = append(pages, p)
		}
	}
	return rows, pages, nil
}

func (s *rowStore) Keys(_ context.Context, _ TreeID, _ uint32, srefs []SRef) ([]KeyRow, []PageRow, error) {
	s.reads.Add(1)
	var rows []KeyRow
	for _, r := range srefs {
		rows = append(rows, s.keys[r]...)
	}
	return s.withPages(rows)
}

func (s *rowStore) SystemKeys(_ context.Context, _ TreeID, kind KeyKind) ([]KeyRow, []PageRow, error) {
	return s.withPages(s.keys[systemSRef(kind)])
}

func (s *rowStore) Evidence(context.Context, TreeID, uint32, []SRef, []KeyID) ([]Tomb, []KeyID, error) {
	return nil, nil, nil
}

func (s *rowStore) Insert(_ context.Context, in Insert) (Inserted, error) {
	for _, r := range in.Reserves {
		for i := range s.pages {
			if s.pages[i].Page == r.Page {
				s.pages[i].Fill += r.N
			}
		}
	}
	s.pages = append(s.pages, in.Pages...)
	for _, k := range in.Keys {
		s.keys[k.SRef] = append(s.keys[k.SRef], k)
	}
	return Inserted{}, nil
}

func (s *rowStore) Purposes(context.Context) ([]PurposeRow, error) { return s.init.Purposes, nil }

func (s *rowStore) Forget(_ context.Context, f Forgetting) ([]KeyRow, error) {
	gone := s.keys[f.SRef]
	delete(s.keys, f.SRef)
	s.meta.AppliedSeq, s.meta.LedgerHead = f.Seq, f.Head
	return gone, nil
}

// sliceLedger is a Ledger in memory.
type sliceLedger struct{ entries []LedgerEntry }

func (l *sliceLedger) Append(_ context.Context, e LedgerEntry) error {
	l.entries = append(l.entries, e)
	return nil
}

func (l *sliceLedger) Read(_ context.Context, after uint64) ([]LedgerEntry, error) {
	return l.entries[min(after, uint64(len(l.entries))):], nil
}

// wrapped is what the child tells of its store: nothing secret.
type wrapped struct {
	Store   StoreID
	Root    RootRow
	Pages   []PageRow
	Keys    []KeyRow
	Headers [][]byte
}

const (
	memorySubjects = 64
	memoryCache    = 1024 // its shards hold 16 each: none is too small for its share of the 64
	memoryOthers   = 128
)

// memoryChild works with keys and stops where it is to be looked at.
func memoryChild(t *testing.T) {
	kek, err := hex.DecodeString(os.Getenv("LETHE_MEMORY_KEK"))
	require.NoError(t, err)
	key, err := newKEK(kek)
	require.NoError(t, err)
	ctx, store, opts := context.Background(), &rowStore{}, Options{Ledger: &sliceLedger{}, CacheSize: memoryCache}
	require.NoError(t, Init(ctx, store, key, opts))
	ring, err := NewKeyring(ctx, store, key, opts)
	require.NoError(t, err)
	in := bufio.NewReader(os.Stdin)
	stop := func(stage string) {
		runtime.GC()
		runtime.GC()
		_, _ = fmt.Println(stage)
		_, _ = in.ReadString('\n')
	}
	records := func(prefix string, n int) []Record {
		out := make([]Record, n)
		for i := range out {
			out[i] = Record{Name: "r", Scopes: []Scope{{Subject: Subject{Kind: "p", ID: prefix + strconv.Itoa(i)}}}, Cells: []Cell{{Field: "f", Plain: []byte("v")}}}
		}
		return out
	}
	recs := records("first", memorySubjects)
	require.NoError(t, ring.SealRecords(ctx, recs))
	require.NoError(t, ring.OpenRecords(ctx, recs))
	say := wrapped{Store: ring.id, Root: store.init.Root, Pages: store.pages}
	for _, rows := range store.keys {
		say.Keys = append(say.Keys, rows...)
	}
	for i := range recs {
		say.Headers = append(say.Headers, recs[i].Header)
	}
	line, err := json.Marshal(say)
	require.NoError(t, err)
	_, _ = fmt.Println(string(line))
	stop("warm")
	for i := memorySubjects / 2; i < memorySubjects; i++ {
		_, err := ring.Forget(ctx, recs[i].Scopes[0].Subject)
		require.NoError(t, err)
	}
	stop("forgot")
	for i := range 20 {
		others := records(fmt.Sprint("other", i, "-"), memoryOthers)
		require.NoError(t, ring.SealRecords(ctx, others))
		require.NoError(t, ring.OpenRecords(ctx, others))
	}
	stop("evicted")
	ring.Close()
	stop("closed")
}

// image is the writable memory of a process.
func image(t *testing.T, pid int) []byte {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	require.NoError(t, err)
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	require.NoError(t, err)
	defer func() { _ = mem.Close() }()
	var out []byte
	zero := make([]byte, os.Getpagesize())
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		var perms string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &perms); err != nil || !strings.HasPrefix(perms, "rw") || to-from > 1<<30 {
			continue // the shadow of the race detector is larger than any machine's memory
		}
		page := make([]byte, os.Getpagesize())
		for ; from < to; from += int64(len(page)) {
			if _, err := mem.ReadAt(page, from); err == nil && !bytes.Equal(page, zero) {
				out = append(out, page...)
			} else if !bytes.HasSuffix(out, zero[:64]) {
				out = append(out, zero[:64]...) // nothing is found across a gap
			}
		}
	}
	return out
}

// secondRoundKey is the 16 bytes that follow the key in an AES-256 key schedule
// (FIPS 197, section 5.2).
func secondRoundKey(key []byte) []byte {
	var sbox [256]byte // by walking the field with the generator 3 and its inverse
	p, q := byte(1), byte(1)
	for {
		p ^= p<<1 ^ (p>>7)*0x1b
		q ^= q << 1
		q ^= q << 2
		q ^= q << 4
		q ^= (q >> 7) * 0x09
		sbox[p] = q ^ bits.RotateLeft8(q, 1) ^ bits.RotateLeft8(q, 2) ^ bits.RotateLeft8(q, 3) ^ bits.RotateLeft8(q, 4) ^ 0x63
		if p == 1 {
			break
		}
	}
	sbox[0] = 0x63
	w := [4]byte{sbox[key[29]] ^ 1, sbox[key[30]], sbox[key[31]], sbox[key[28]]}
	out := make([]byte, 0, 16)
	for i := 0; i < 16; i += 4 {
		for j := range w {
			w[j] ^= key[i+j]
		}
		out = append(out, w[:]...)
	}
	return out
}

// found counts the copies of keys in memory: those at the head of a key schedule
// of the AEADs, and bare ones.
type found struct{ keys, scheduled, bare int }

func scan(memory []byte, keys [][]byte) (f found) {
	type form struct {
		key        int
		bytes      []byte
		next       []byte
		asIntegers bool // words in the byte order of this machine, as generic code has them
	}
	var first [1 << 16]bool // what the first two bytes may be
	forms := map[[8]byte]form{}
	for i, key := range keys {
		swapped := make([]byte, 0, len(key))
		for j := 0; j < len(key); j += 4 {
			swapped = binary.NativeEndian.AppendUint32(swapped, binary.BigEndian.Uint32(key[j:]))
		}
		forms[[8]byte(key)] = form{key: i, bytes: key, next: secondRoundKey(key)}
		forms[[8]byte(swapped)] = form{key: i, bytes: swapped, asIntegers: true}
		first[binary.LittleEndian.Uint16(key)], first[binary.LittleEndian.Uint16(swapped)] = true, true
	}
	seen := map[int]bool{}
	for i := 0; i+48 <= len(memory); i++ {
		if !first[binary.LittleEndian.Uint16(memory[i:])] {
			continue
		}
		at, ok := forms[[8]byte(memory[i:])]
		if !ok || !bytes.HasPrefix(memory[i:], at.bytes) {
			continue
		}
		seen[at.key] = true
		if at.asIntegers || bytes.HasPrefix(memory[i+len(at.bytes):], at.next) {
			f.scheduled++
		} else {
			f.bare++
		}
	}
	f.keys = len(seen)
	return f
}

// unwrapAll opens what the child wrapped, as whoever has the KMS key can.
func (w *wrapped) unwrapAll(t *testing.T, kek kekKey) map[string][][]byte {
	t.Helper()
	root, err := kek.DecryptWithContext(t.Context(), w.Root.Wrapped, w.Root.appendAAD(nil, w.Store))
	require.NoError(t, err)
	open := func(under, body, aad []byte) []byte {
		a, err := SuiteAES256GCM.aead(under)
		require.NoError(t, err)
		out, err := SuiteAES256GCM.open(a, nil, body, aad)
		require.NoError(t, err)
		return out
	}
	out := map[string][][]byte{"root": {root}}
	pages := map[PageID][]byte{}
	for i := range w.Pages {
		p := &w.Pages[i]
		pages[p.Page] = open(root, p.Wrapped, p.appendAAD(nil, w.Store))
		out["page keys"] = append(out["page keys"], pages[p.Page])
	}
	subjects := map[KeyID][]byte{}
	for i := range w.Keys {
		k := &w.Keys[i]
		key := open(pages[k.Page], k.Wrapped, k.appendAAD(nil, w.Store, ""))
		if k.Kind == KindSubject {
			subjects[k.KID] = key
		} else {
			out["MAC keys"] = append(out["MAC keys"], key)
		}
	}
	for i, header := range w.Headers {
		var h wire.Header
		require.NoError(t, wire.ParseHeader(header, &h))
		s := &h.Scopes[0]
		rd := recordDigest(&h)
		subject := Subject{Kind: "p", ID: "first" + strconv.Itoa(i)}
		name := "subject keys"
		if i >= memorySubjects/2 {
			name = "forgotten keys"
		}
		out[name] = append(out[name], subjects[s.KID])
		out["data keys"] = append(out["data keys"], open(subjects[s.KID], s.Wrap(), appendDEKAAD(nil, w.Store, 1, s.KID, &subject, appendScopeNames(nil, "r", "", ""), false, "", &rd)))
	}
	return out
}

// What of the keys whoever reads the memory of a process finds, be it in a core
// dump. SECURITY.md has the table. What this package holds itself is wiped; what
// is left are the key schedules of the standard library's AEADs, which stay in
// freed memory until it is used again.
func TestKeysInMemory(t *testing.T) {
	if os.Getenv("LETHE_MEMORY_KEK") != "" {
		memoryChild(t)
		return
	}
	kekBytes := newKey()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKeysInMemory$")
	// When the runtime moves a stack or saves the registers of a goroutine that it
	// preempts, it copies what is there: by chance, and out of reach of this package.
	debug := strings.TrimPrefix(os.Getenv("GODEBUG")+",gcshrinkstackoff=1,asyncpreemptoff=1", ",")
	cmd.Env = append(os.Environ(), "GODEBUG="+debug, "LETHE_MEMORY_KEK="+hex.EncodeToString(kekBytes))
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if f, err := os.Open(fmt.Sprintf("/proc/%d/mem", cmd.Process.Pid)); err != nil {
		t.Skipf("NOT TESTED: this system lets nobody read the memory of a child: %v", err)
	} else {
		require.NoError(t, f.Close())
	}
	lines := bufio.NewReaderSize(stdout, 1<<20)
	line, err := lines.ReadBytes('\n')
	require.NoError(t, err, string(line))
	var say wrapped
	require.NoError(t, json.Unmarshal(line, &say), string(line))
	kek, err := newKEK(kekBytes)
	require.NoError(t, err)
	keys := say.unwrapAll(t, kek)
	require.Len(t, keys["subject keys"], memorySubjects/2)
	for _, stage := range []string{"warm", "forgot", "evicted", "closed"} {
		got, err := lines.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, stage, strings.TrimSpace(got))
		memory := image(t, cmd.Process.Pid)
		for _, name := range []string{"root", "page keys", "subject keys", "forgotten keys", "data keys", "MAC keys"} {
			n := len(keys[name])
			f := scan(memory, keys[name])
			t.Logf("%-8s %-14s %2d of %2d found: %3d as schedules, %d bare", stage, name, f.keys, n, f.scheduled, f.bare)
			if name == "MAC keys" {
				require.LessOrEqual(t, f.bare, 2*n, "more copies than the Keyring's and HMAC's")
				continue
			}
			require.Zero(t, f.bare, "%s: %s: copies that are ours to wipe", stage, name)
			require.LessOrEqual(t, f.scheduled, 8*n, "%s: %s", stage, name)
			switch {
			case name == "data keys" && secret.Wipes, name == "forgotten keys" && secret.Wipes && stage != "warm", stage == "closed" && secret.Wipes:
				require.Zero(t, f.keys, "%s: %s: collected and not wiped", stage, name)
			case name == "subject keys" && stage == "warm": // the scan finds what is there
				require.Equal(t, n, f.keys)
			case name == "subject keys" && stage == "evicted":
				require.LessOrEqual(t, f.keys, n/2, "2,560 people later the memory has been used again")
			}
		}
		_, err = io.WriteString(stdin, "\n")
		require.NoError(t, err)
	}
}

// 100,000 people's keys need no locked memory: they are in the cache under the
// limit that a container has.
func TestManyCachedSubjectsUnderASmallMemlock(t *testing.T) {
	const (
		rlimitMemlock = 8
		people        = 100_000
		batch         = 1000
	)
	if os.Getenv("LETHE_MEMLOCK_CHILD") == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), "LETHE_MEMLOCK_CHILD=1")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		require.Contains(t, string(out), "memlock 8388608")
		return
	}
	limit := syscall.Rlimit{Cur: 8 << 20, Max: 8 << 20}
	require.NoError(t, syscall.Setrlimit(rlimitMemlock, &limit))
	require.NoError(t, syscall.Getrlimit(rlimitMemlock, &limit))
	_, _ = fmt.Println("memlock", limit.Cur)
	kek, err := newKEK(newKey())
	require.NoError(t, err)
	ctx, store, opts := context.Background(), &rowStore{}, Options{Ledger: &sliceLedger{}, CacheSize: people + people/4, CacheTTL: time.Hour}
	require.NoError(t, Init(ctx, store, kek, opts))
	ring, err := NewKeyring(ctx, store, kek, opts)
	require.NoError(t, err)
	defer ring.Close()
	sealed := make([]Record, people)
	for i := range sealed {
		sealed[i] = Record{Name: "r", Scopes: []Scope{{Subject: Subject{Kind: "p", ID: strconv.Itoa(i)}}}, Cells: []Cell{{Field: "f", Plain: []byte("v")}}}
	}
	for i := 0; i < people; i += batch {
		require.NoError(t, ring.SealRecords(ctx, sealed[i:i+batch]))
	}
	reads := store.reads.Load()
	require.NoError(t, ring.OpenRecords(ctx, sealed))
	for i := range sealed {
		require.NoError(t, sealed[i].Cells[0].Err)
	}
	require.Equal(t, reads, store.reads.Load(), "all are in the cache")
}
