package envelope

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope/internal/wire"
)

// hexBytes are bytes in lower-case hexadecimal.
type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h), nil }

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.AppendDecode([]byte{}, text)
	return err
}

// recordVector is one record: what is stored, the keys there are, and what
// opening each cell gives. The steps in between are there to find one's mistakes by.
type recordVector struct {
	About  string         `json:"about"`
	Store  hexBytes       `json:"store"`
	Keys   []vectorKey    `json:"keys"`           // subject keys, ascending versions of each owner
	Dead   []hexBytes     `json:"dead,omitempty"` // kids the ledger lists as forgotten
	Record string         `json:"record"`
	RowID  *string        `json:"row_id"` // null: the caller gives none
	Scopes []vectorScope  `json:"scopes"`
	Header hexBytes       `json:"header"`
	Cells  []vectorCell   `json:"cells"`
	RD     hexBytes       `json:"record_digest,omitempty"`
	Steps  []vectorStep   `json:"steps,omitempty"` // by scope
	deks   map[int][]byte // of the writer, for the scenarios
}

type vectorKey struct {
	Tenant  string   `json:"tenant"`
	Kind    string   `json:"kind"`
	ID      string   `json:"id"`
	Purpose string   `json:"purpose"`
	KID     hexBytes `json:"kid"`
	Suite   byte     `json:"suite"`
	Key     hexBytes `json:"key"`
}

type vectorScope struct {
	Group   string `json:"group"`
	Purpose string `json:"purpose"`
	Tenant  string `json:"tenant"`
	Kind    string `json:"kind"`
	ID      string `json:"id"`
}

type vectorCell struct {
	Scope   int      `json:"scope"`
	Field   string   `json:"field"`
	Sealed  hexBytes `json:"sealed"`
	Context hexBytes `json:"context,omitempty"`
	Error   string   `json:"error,omitempty"` // a class of FORMAT.md section 7, or empty
	Codec   uint8    `json:"codec,omitempty"`
	Plain   hexBytes `json:"plain,omitzero"`
}

type vectorStep struct {
	Tag     hexBytes `json:"tag"`
	Context hexBytes `json:"context"`
	DEK     hexBytes `json:"dek"`
	Commit  hexBytes `json:"commit"`
}

func (v *recordVector) rowID() string {
	if v.RowID == nil {
		return ""
	}
	return *v.RowID
}

func (v *recordVector) names(scope int) refNames {
	s := v.Scopes[scope]
	return refNames{s.Tenant, s.Kind, s.ID, v.Record, s.Group, s.Purpose, v.rowID()}
}

func (v *recordVector) refKeys() []refKey {
	var out []refKey
	for _, k := range v.Keys {
		out = append(out, refKey{k.Tenant, k.Kind, k.ID, k.Purpose, k.KID, k.Suite, k.Key})
	}
	return out
}

func (v *recordVector) dead(kid []byte) bool {
	return slices.ContainsFunc(v.Dead, func(d hexBytes) bool { return bytes.Equal(d, kid) })
}

func (v *recordVector) production() Record {
	r := Record{Name: v.Record, RowID: v.rowID(), Bound: v.RowID != nil, Header: v.Header}
	for _, s := range v.Scopes {
		r.Scopes = append(r.Scopes, Scope{Group: s.Group, Purpose: s.Purpose, Subject: Subject{s.Tenant, s.Kind, s.ID}})
	}
	for _, c := range v.Cells {
		r.Cells = append(r.Cells, Cell{Scope: c.Scope, Field: c.Field, Sealed: c.Sealed})
	}
	return r
}

// emptyStore is asked for keys the vector does not have.
type emptyStore struct{ Store }

func (emptyStore) Keys(context.Context, TreeID, uint32, []SRef) ([]KeyRow, []PageRow, error) {
	return nil, nil, nil
}

func (emptyStore) Evidence(context.Context, TreeID, uint32, []SRef, []KeyID) ([]Tomb, []KeyID, error) {
	return nil, nil, nil
}

// vectorRing is a Keyring whose cache holds the given subject keys.
func vectorRing(t testing.TB, store []byte, keys []refKey) *Keyring {
	t.Helper()
	k := &Keyring{
		store: emptyStore{}, id: StoreID(store), tree: defaultTree,
		opts:  Options{Suite: SuiteAES256GCM, CacheTTL: time.Hour, CacheSize: 1000, Timeout: time.Second},
		clock: newCoarseClock(), cache: newKeyCache(1000), refKey: newMACKey(make([]byte, keySize)),
		led:     &ledgerState{dead: map[KeyID]struct{}{}, dirty: map[PageID]uint64{}},
		flights: map[flightKey]*flight{}, purposes: map[string]PID{"": defaultPID}, names: map[PID]string{defaultPID: ""},
	}
	t.Cleanup(k.Close)
	sets := map[keyRef]*keySet{}
	for i, key := range keys {
		ref := keyRef{key.tenant, key.kind, key.id, key.purpose}
		if sets[ref] == nil {
			sets[ref] = &keySet{expires: int64(time.Hour)}
		}
		require.NoError(t, sets[ref].add(&KeyRow{KID: KeyID(key.kid), Kind: KindSubject, Suite: Suite(key.suite), Seq: uint32(i + 1)}, key.key))
	}
	for ref, set := range sets {
		require.True(t, k.cache.put(ref, set, func() bool { return false }))
	}
	return k
}

// sentinels are what the classes are to a caller.
var sentinels = map[string]error{
	"malformed": ErrDecrypt, "decrypt": ErrDecrypt, "key-missing": ErrKeyMissing, "forgotten": ErrForgotten,
}

// vectorSource draws bytes that depend on a name alone.
type vectorSource struct{ *rand.ChaCha8 }

func newVectorSource(name string) vectorSource {
	return vectorSource{rand.NewChaCha8(sha256.Sum256([]byte("lethe vectors/" + name)))}
}

func (s vectorSource) bytes(n int) []byte {
	b := make([]byte, n)
	_, _ = s.Read(b) // never fails
	return b
}

const vectorDir = "testdata/vectors"

func readVector[T any](t testing.TB, path string) *T {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	v := new(T)
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	require.NoError(t, dec.Decode(v))
	return v
}

func recordVectors(t testing.TB) map[string]*recordVector {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(vectorDir, "record_*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	out := make(map[string]*recordVector, len(paths))
	for _, p := range paths {
		out[strings.TrimSuffix(filepath.Base(p), ".json")] = readVector[recordVector](t, p)
	}
	return out
}

func TestRecordVectors(t *testing.T) {
	t.Parallel()
	classes := map[string]int{}
	vectors := recordVectors(t)
	for _, name := range slices.Sorted(maps.Keys(vectors)) {
		v := vectors[name]
		for _, c := range v.Cells {
			classes[c.Error]++
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if strings.Contains(name, "_s2_") || slices.ContainsFunc(v.Keys, func(k vectorKey) bool { return Suite(k.Suite) == SuiteXChaCha }) {
				needsSuite2(t)
			}
			v.checkProduction(t)
			v.checkReference(t)
			if len(v.Steps) > 0 {
				v.checkSteps(t)
			}
		})
	}
	for _, class := range []string{"", "malformed", "decrypt", "key-missing", "forgotten"} {
		require.Positive(t, classes[class], "no vector of class %q", class)
	}
	require.Len(t, classes, 5)
}

func (v *recordVector) checkProduction(t *testing.T) {
	t.Helper()
	k := vectorRing(t, v.Store, v.refKeys())
	for _, kid := range v.Dead {
		k.led.addDead([]KeyID{KeyID(kid)})
	}
	recs := []Record{v.production()}
	header := bytes.Clone(v.Header)
	require.NoError(t, k.OpenRecords(t.Context(), recs))
	require.Equal(t, header, []byte(v.Header), "the input was written to")
	var h wire.Header
	parsed := wire.ParseHeader(v.Header, &h) == nil
	if parsed {
		require.Equal(t, []byte(v.Header), h.Append(nil))
	}
	for i, want := range v.Cells {
		got := recs[0].Cells[i]
		if want.Error == "" {
			require.NoError(t, got.Err, "cell %d", i)
			require.Equal(t, want.Codec, got.Codec)
			require.True(t, bytes.Equal(want.Plain, got.Plain), "cell %d", i)
			continue
		}
		require.Contains(t, sentinels, want.Error)
		require.ErrorIs(t, got.Err, sentinels[want.Error], "cell %d", i)
		require.Nil(t, got.Plain)
		malformed := !parsed
		if parsed {
			_, _, err := wire.ParseCell(want.Sealed, h.CellSuite)
			malformed = err != nil
		}
		require.Equal(t, want.Error == "malformed", malformed, "cell %d", i)
	}
}

func (v *recordVector) checkReference(t *testing.T) {
	t.Helper()
	for i, want := range v.Cells {
		codec, plain, dek, err := refOpenCell(v.Store, v.Header, want.Sealed, v.refKeys(), v.names(want.Scope), want.Field)
		class := ""
		if err != nil {
			class = err.Error()
			if h, herr := refParseHeader(v.Header); herr == nil && errors.Is(err, errRefKeyMissing) &&
				slices.ContainsFunc(h.scopes, func(s refScope) bool { return v.dead(s.kid) }) {
				class = "forgotten"
			}
		}
		require.Equal(t, want.Error, class, "cell %d", i)
		if class == "" {
			require.Equal(t, want.Codec, codec)
			require.True(t, bytes.Equal(want.Plain, plain), "cell %d", i)
			require.Equal(t, []byte(v.Steps[want.Scope].DEK), dek)
		}
	}
}

// checkSteps holds the functions of production to the steps in between.
func (v *recordVector) checkSteps(t *testing.T) {
	t.Helper()
	var h wire.Header
	require.NoError(t, wire.ParseHeader(v.Header, &h))
	require.Len(t, v.Header, h.Len())
	rd := recordDigest(&h)
	require.Equal(t, []byte(v.RD), rd[:])
	bound := h.Flags&wire.FlagRowID != 0
	for i, step := range v.Steps {
		s := v.production().Scopes[i]
		tag := scopeTag(s.Group, s.Purpose)
		require.Equal(t, []byte(step.Tag), binary.BigEndian.AppendUint16(nil, tag))
		at := headerScope(&h, tag)
		require.GreaterOrEqual(t, at, 0)
		commit := dekCommit(Suite(h.CellSuite), step.DEK)
		require.Equal(t, []byte(step.Commit), commit[:])
		require.Equal(t, commit, h.Scopes[at].Commit)
		rowID := v.rowID()
		if !bound {
			rowID = ""
		}
		aad := appendDEKAAD(nil, StoreID(v.Store), Suite(h.Scopes[at].WrapSuite), h.Scopes[at].KID, &s.Subject, appendScopeNames(nil, v.Record, s.Group, s.Purpose), bound, rowID, &rd)
		require.Equal(t, []byte(step.Context), aad)
	}
	for _, c := range v.Cells {
		require.Equal(t, []byte(c.Context), appendCellAAD(nil, c.Sealed[0], Suite(h.CellSuite), v.Record, c.Field))
	}
}

// macVector is a pseudonym or a blind index value.
type macVector struct {
	About string        `json:"about"`
	Key   hexBytes      `json:"key"`
	SRefs []vectorSRef  `json:"srefs,omitempty"`
	Index []vectorIndex `json:"index_values,omitempty"`
}

type vectorSRef struct {
	Tenant hexBytes `json:"tenant"`
	Kind   hexBytes `json:"kind"`
	ID     hexBytes `json:"id"`
	SRef   hexBytes `json:"sref"`
}

type vectorIndex struct {
	Version    uint16   `json:"version"`
	Normaliser string   `json:"normaliser"`
	Value      hexBytes `json:"value"`
	Bits       int      `json:"bits"`
	IndexValue hexBytes `json:"index_value"`
}

func TestMACVectors(t *testing.T) {
	t.Parallel()
	s := readVector[macVector](t, filepath.Join(vectorDir, "sref.json"))
	require.NotEmpty(t, s.SRefs)
	k := &Keyring{refKey: newMACKey(s.Key)}
	for _, c := range s.SRefs {
		got := k.sref(string(c.Tenant), string(c.Kind), string(c.ID))
		require.Equal(t, []byte(c.SRef), got[:])
		require.Equal(t, []byte(c.SRef), refSRef(s.Key, string(c.Tenant), string(c.Kind), string(c.ID)))
	}
	x := readVector[macVector](t, filepath.Join(vectorDir, "blind_index.json"))
	require.NotEmpty(t, x.Index)
	for _, c := range x.Index {
		key := IndexKey{Version: c.Version, mac: newMACKey(x.Key)}
		require.Equal(t, []byte(c.IndexValue), key.Append(nil, c.Normaliser, c.Value, c.Bits))
		require.Equal(t, []byte(c.IndexValue), refIndexValue(x.Key, c.Version, c.Normaliser, c.Value, c.Bits))
	}
	for _, kind := range []KeyKind{KindRef, KindLedger} {
		got := systemSRef(kind)
		require.Equal(t, refSystemSRef(byte(kind)), got[:])
	}
}
