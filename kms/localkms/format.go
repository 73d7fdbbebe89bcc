package localkms

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	_ "github.com/tink-crypto/tink-go/v2/aead" // the key types a file may hold
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// A file without handles has format 1. One with handles has format 2, so that a
// version that does not keep their list refuses it rather than dropping the list.
const (
	formatPlain   = 1
	formatHandles = 2
)

// fileJSON is the file; see the package comment.
type fileJSON struct {
	Format  *int     `json:"lethe_localkms"`
	ID      string   `json:"id"`
	Handles []string `json:"handles,omitempty"`
	KDF     *kdfJSON `json:"kdf,omitempty"`
	Keyset  []byte   `json:"keyset"`
}

type kdfJSON struct {
	Name      string `json:"name"`
	Time      uint32 `json:"time"`
	MemoryKiB uint32 `json:"memory_kib"`
	Threads   uint8  `json:"threads"`
	Salt      []byte `json:"salt"`
}

// contents is a key file, read.
type contents struct {
	id        string
	handleIDs []uint32 // ids of the keys that NewHandle made, ascending
	handle    *keyset.Handle
	seal      *sealing // nil: not encrypted
}

// format is the version of the file that c is written as.
func (c *contents) format() int {
	if len(c.handleIDs) > 0 {
		return formatHandles
	}
	return formatPlain
}

// sum identifies a file's bytes.
type sum [sha256.Size]byte

func sumOf(data []byte) sum { return sha256.Sum256(data) }

var (
	errNotKeyFile = errors.New("this is neither a key file nor a cleartext Tink keyset")
	errDamaged    = errors.New("the key file is damaged")
	errNotAEAD    = errors.New("the keyset does not consist of AEAD keys that can be used here")
)

// marshal writes c as a file's bytes.
func (c *contents) marshal() ([]byte, error) {
	var clearKeyset bytes.Buffer
	if err := insecurecleartextkeyset.Write(c.handle, keyset.NewBinaryWriter(&clearKeyset)); err != nil {
		return nil, errors.New("localkms: cannot serialise the keyset")
	}
	version := c.format()
	f := fileJSON{Format: &version, ID: c.id, Keyset: clearKeyset.Bytes()}
	for _, id := range c.handleIDs {
		f.Handles = append(f.Handles, handleName(id))
	}
	if c.seal != nil {
		f.KDF = c.seal.params.json()
		sealed, err := c.seal.encrypt(clearKeyset.Bytes(), c)
		clear(clearKeyset.Bytes())
		if err != nil {
			return nil, err
		}
		f.Keyset = sealed
	}
	data, err := json.MarshalIndent(f, "", "  ")
	clear(f.Keyset)
	if err != nil {
		return nil, errors.New("localkms: cannot serialise the key file")
	}
	if len(data) >= maxFileSize {
		clear(data)
		return nil, errors.New("localkms: the key file would exceed 1 MiB")
	}
	return append(data, '\n'), nil
}

// parse reads a file's bytes, whoever wrote them. unlock derives what opens an
// encrypted keyset; it gets parameters that have been checked. No error repeats
// bytes of the file.
func parse(data []byte, unlock func(params) (*sealing, error)) (*contents, error) {
	trimmed := bytes.TrimLeft(data, " \t\r\n")
	if len(trimmed) == 0 || trimmed[0] != '{' {
		return parseTink(keyset.NewBinaryReader(bytes.NewReader(data)))
	}
	var probe struct {
		Format json.RawMessage `json:"lethe_localkms"`
	}
	if err := json.Unmarshal(data, &probe); err != nil {
		return nil, errNotKeyFile
	}
	if probe.Format == nil {
		return parseTink(keyset.NewJSONReader(bytes.NewReader(data)))
	}

	var version int
	if err := json.Unmarshal(probe.Format, &version); err != nil {
		return nil, errDamaged
	}
	if version != formatPlain && version != formatHandles {
		return nil, fmt.Errorf("the key file has format %d; this version of Lethe reads formats %d and %d", version, formatPlain, formatHandles)
	}
	var f fileJSON
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, errDamaged
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errDamaged
	}
	defer clear(f.Keyset)
	if !validID(f.ID) {
		return nil, errDamaged
	}
	c := &contents{id: f.ID}
	for _, name := range f.Handles {
		id, err := parseHandle(name)
		if n := len(c.handleIDs); err != nil || n > 0 && c.handleIDs[n-1] >= id {
			return nil, errDamaged
		}
		c.handleIDs = append(c.handleIDs, id)
	}
	if c.format() != version {
		return nil, errDamaged
	}
	clearKeyset := f.Keyset
	if f.KDF != nil {
		p, err := f.KDF.params()
		if err != nil {
			return nil, err
		}
		if c.seal, err = unlock(p); err != nil {
			return nil, err
		}
		if clearKeyset, err = c.seal.decrypt(f.Keyset, c); err != nil {
			return nil, err
		}
		defer clear(clearKeyset)
	}
	var err error
	if c.handle, err = readKeyset(keyset.NewBinaryReader(bytes.NewReader(clearKeyset))); err != nil {
		return nil, errDamaged
	}
	return c, nil
}

// parseTink reads a keyset that Tink wrote.
func parseTink(r keyset.Reader) (*contents, error) {
	h, err := readKeyset(r)
	if err != nil {
		return nil, err
	}
	// Tink appends keys, so the first is the oldest.
	return &contents{id: fmt.Sprintf("tink-%08x", h.KeysetInfo().GetKeyInfo()[0].GetKeyId()), handle: h}, nil
}

func readKeyset(r keyset.Reader) (*keyset.Handle, error) {
	h, err := insecurecleartextkeyset.Read(r)
	if err != nil {
		return nil, errNotKeyFile
	}
	keys := h.KeysetInfo().GetKeyInfo()
	if len(keys) == 0 {
		return nil, errNotKeyFile
	}
	for _, k := range keys {
		// Such a "key" is the address of a remote one: opening a file must not go there.
		if strings.Contains(k.GetTypeUrl(), "Kms") {
			return nil, errNotAEAD
		}
	}
	return h, nil
}

// validID accepts the ids that Create draws and parseTink derives.
func validID(id string) bool {
	digits, tink := strings.CutPrefix(id, "tink-")
	if tink && len(digits) != 8 || !tink && len(digits) != 32 {
		return false
	}
	_, err := hex.DecodeString(digits)
	return err == nil && strings.ToLower(digits) == digits
}
