package localkms

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// FuzzParse reads a hostile file: it may be refused and must not panic, and what
// is accepted survives being written and read again.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "tinkv1", "*"))
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		f.Fatal(err)
	}
	key := &sealing{params: params{time: 1, memoryKiB: 8, threads: 1}}
	for _, s := range []*sealing{nil, key} {
		data, err := (&contents{id: "00112233445566778899aabbccddeeff", handle: handle, seal: s}).marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"lethe_localkms":1,"id":"tink-00000001","keyset":""}`))
	m := keyset.NewManagerFromHandle(handle)
	id, err := m.Add(aead.AES256GCMKeyTemplate())
	if err != nil {
		f.Fatal(err)
	}
	if handle, err = m.Handle(); err != nil {
		f.Fatal(err)
	}
	data, err := (&contents{id: "00112233445566778899aabbccddeeff", handleIDs: []uint32{id}, handle: handle}).marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	unlock := func(p params) (*sealing, error) { return &sealing{params: p}, nil } // no stretching: it is slow
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parse(data, unlock)
		if err != nil {
			return
		}
		if !validID(c.id) {
			t.Fatalf("invalid id %q accepted", c.id)
		}
		s, err := newState(c, data, nil)
		if err != nil {
			return
		}
		for _, ct := range [][]byte{nil, data} {
			if _, err := s.primitive.Decrypt(ct, nil); err == nil {
				t.Fatal("opened what nobody wrapped")
			}
			s.unknown(ct)
		}
		again, err := c.marshal()
		if err != nil {
			return // a keyset Tink reads and does not write
		}
		c2, err := parse(again, unlock)
		if err != nil || c2.id != c.id {
			t.Fatalf("does not survive being written: %v", err)
		}
	})
}
