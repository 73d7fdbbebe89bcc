// Package localkms is the embedded KMS: a Tink keyset (AES-256-GCM) in a file,
// under a passphrase if one is given. It needs no service, and protects no
// better than the file is protected: who can read the file (and knows the
// passphrase) can unwrap everything.
//
// [Create] and [Open] are different acts: Create never touches a file that
// exists, Open never makes one, so a mistyped path cannot start a new key.
//
// # File format
//
// The file is a JSON object:
//
//	{
//	  "lethe_localkms": 1,                  format version: 2 if there are handles
//	  "id": "32 hexadecimal digits",        random, survives rotation
//	  "handles": ["k01234567"],             only with handles: their names, ascending
//	  "kdf": {                              only under a passphrase
//	    "name": "argon2id",
//	    "time": 3, "memory_kib": 65536, "threads": 4,
//	    "salt": "16 bytes, base64"
//	  },
//	  "keyset": "base64"
//	}
//
// Without a kdf, keyset is a binary cleartext Tink keyset, and nothing but the
// file's permissions protects it. With one, keyset is that keyset encrypted
// with AES-256-GCM (a random 12-byte nonce, ciphertext, tag) under the key
// argon2id derives from the passphrase; version, id, handles and kdf are
// authenticated with it. The parameters read are bounded: 10 passes, 256 MiB, 16 threads, and
// the file may have 1 MiB.
//
// Open also reads what Tink itself writes: a cleartext keyset of AEAD keys,
// binary or JSON, by any version of Tink. Its id is derived from its oldest
// key's; rotating it turns the file into the format above.
//
// # Rotation
//
// [Key.Rotate] and Create replace files atomically and sync them to disk.
// Writers exclude each other with a lock on the file PATH.lock, which stays.
// Other Keys opened from the same file, in this process or another, go on
// working: one that meets a ciphertext of a key it does not know reads the file
// again. Backups of the file must be kept as long as what it wrapped.
//
// # Handles
//
// [Key.NewHandle] adds a key to the keyset that is never the primary one and
// wraps only what is wrapped with [Key.HandleKey]; [Key.Destroy] takes it out
// again and replaces the file. A handle is named "k" and the 8 hexadecimal digits
// of its key's id in the keyset. The file lists its handles, and Destroy refuses a
// key that is not on the list: one that was primary before a rotation, or that Tink
// made, still protects what it wrapped.
//
// What Destroy reaches is the file. The old one is unlinked and not overwritten:
// its bytes stay on the disk until the file system reuses them, and a solid-state
// disk, a journaling or copy-on-write file system and its snapshots would keep
// them after an overwriting too. Copies of the file that anybody made (backups
// above all) hold the handle as long as they exist. An encrypted disk, and a
// passphrase that is not kept where the copies are, make that remainder
// worthless to who finds it; deleting the copies is the operator's, and
// [kms.EraseSemantics] says so with OperatorBackedUp. Processes that have the
// file open forget the key at their next call of a handle's Key.
//
// # FIPS 140-3
//
// With GODEBUG=fips140=on the nonces of AES-GCM are drawn inside the Go
// cryptographic module; the bytes written are of the same form. GODEBUG=fips140=only
// refuses, with an error, a passphrase (argon2id is not approved) and a keyset
// of Tink that has keys of another kind than AES-GCM.
package localkms

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/lethe-go/lethe/kms"
)

// Sentinel errors, to be tested with errors.Is. A missing file matches
// [fs.ErrNotExist], one in the way of Create [fs.ErrExist].
var (
	// ErrPassphrase: the passphrase is wrong, missing, or given for a file that is not encrypted.
	ErrPassphrase = errors.New("passphrase")
	// ErrChanged: the file is not the one that was opened; open it again.
	ErrChanged = errors.New("the key file changed since it was opened")
)

// MaxPlaintext is the length in bytes of the longest plaintext a Key wraps.
const MaxPlaintext = 64 << 10

// Options configures [Create] and [Open].
type Options struct {
	// Passphrase encrypts the file. Nil means the file is not encrypted; an
	// empty one that is not nil is an error. It is not modified or retained.
	Passphrase []byte
}

func (o Options) check() error {
	if o.Passphrase != nil && len(o.Passphrase) == 0 {
		return fmt.Errorf("localkms: the %w is empty; pass nil for a file without one", ErrPassphrase)
	}
	return nil
}

// Key is a [kms.Key] in a file. It is safe for concurrent use, and implements
// [kms.Identified], [kms.Pinger] and [kms.Eraser].
type Key struct {
	path string // absolute
	id   string

	state atomic.Pointer[state]
	mu    sync.Mutex // serialises changes of state
}

var (
	_ kms.Key        = (*Key)(nil)
	_ kms.Identified = (*Key)(nil)
	_ kms.Pinger     = (*Key)(nil)
	_ kms.Eraser     = (*Key)(nil)
)

// Create makes a new key file at path, with mode 0600 and one fresh key, and
// opens it. It never overwrites: where something exists at path the error
// matches [fs.ErrExist]. The directory must exist. When Create returns without
// an error the file is on disk.
func Create(path string, opts Options) (*Key, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("localkms: create: %w", err)
	}
	if _, err := os.Lstat(path); err == nil {
		return nil, errExists(path)
	}
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, errors.New("localkms: create: cannot make a key")
	}
	if opts.Passphrase != nil {
		if err := stretchable(); err != nil {
			return nil, fmt.Errorf("localkms: create %s: %w", path, err)
		}
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	c := &contents{id: hex.EncodeToString(id[:]), handle: handle}
	if opts.Passphrase != nil {
		c.seal = newSealing(opts.Passphrase)
	}
	data, err := c.marshal()
	if err != nil {
		return nil, err
	}
	defer clear(data)
	info, err := writeNew(path, data)
	if errors.Is(err, fs.ErrExist) {
		return nil, errExists(path)
	}
	if err != nil {
		return nil, fmt.Errorf("localkms: create: %w", err)
	}
	return newKey(path, c, data, info)
}

func errExists(path string) error {
	return fmt.Errorf("localkms: create %s: %w; use Open for a key file that exists (nothing was overwritten)", path, fs.ErrExist)
}

// Open opens the key file at path. It makes and changes nothing: where there is
// no file the error matches [fs.ErrNotExist]. A file that its group or others
// may access is refused, except on Windows. A passphrase that is wrong,
// missing, or given for a file without one makes an error that matches
// [ErrPassphrase].
func Open(path string, opts Options) (*Key, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("localkms: open: %w", err)
	}
	data, info, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("localkms: open %s: %w; use Create to make a new key file", path, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("localkms: open: %w", err)
	}
	defer clear(data)
	c, err := parse(data, func(p params) (*sealing, error) { return p.derive(opts.Passphrase) })
	if err == nil && c.seal == nil && opts.Passphrase != nil {
		err = fmt.Errorf("a %w was given and the file is not encrypted", ErrPassphrase)
	}
	if err != nil {
		return nil, fmt.Errorf("localkms: open %s: %w", path, err)
	}
	return newKey(path, c, data, info)
}

func newKey(path string, c *contents, data []byte, info fs.FileInfo) (*Key, error) {
	s, err := newState(c, data, info)
	if err != nil {
		return nil, fmt.Errorf("localkms: open %s: %w", path, err)
	}
	k := &Key{path: path, id: c.id}
	k.state.Store(s)
	return k, nil
}

// KeyURI returns "local:" and the id stored in the file. It stays the same when
// the file is moved or rotated, and is not a URI to open: that is "local://PATH".
func (k *Key) KeyURI() string { return "local:" + k.id }

// EncryptWithContext wraps plaintext, at most [MaxPlaintext] bytes, under the
// newest key this Key knows. Errors match [kms.ErrRejected] for a plaintext
// that is too long, or are ctx.Err().
func (k *Key) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(plaintext) > MaxPlaintext {
		return nil, kms.Rejected("encrypt", k.KeyURI(), errTooLong)
	}
	ct, err := k.state.Load().primitive.Encrypt(plaintext, associatedData)
	if err != nil {
		return nil, kms.Rejected("encrypt", k.KeyURI(), nil)
	}
	return ct, nil
}

var (
	errTooLong = errors.New("the plaintext is longer than 64 KiB")
	errReread  = errors.New("the ciphertext names a key that is not loaded, and the key file cannot be read again")
)

// DecryptWithContext unwraps ciphertext. What does not open is
// [kms.ErrRejected], without a reason. A ciphertext of an unknown key makes it
// read the file again if that has changed; where it cannot, the error is
// [kms.ErrUnavailable], for the ciphertext may be good. Otherwise errors are
// ctx.Err().
func (k *Key) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := k.state.Load()
	if id, ok := keyIDOf(ciphertext); ok && id != s.primary && s.known[id] {
		// It may be a handle that another process destroyed. Where the file cannot
		// be read, what is loaded goes on working, as for the primary key.
		if k.refresh() == nil {
			s = k.state.Load()
		}
	}
	pt, err := s.primitive.Decrypt(ciphertext, associatedData)
	if err == nil {
		return pt, nil
	}
	if !s.unknown(ciphertext) {
		return nil, kms.Rejected("decrypt", k.KeyURI(), nil)
	}
	if err := k.refresh(); err != nil {
		return nil, kms.Unavailable("decrypt", k.KeyURI(), errReread)
	}
	if pt, err = k.state.Load().primitive.Decrypt(ciphertext, associatedData); err != nil {
		return nil, kms.Rejected("decrypt", k.KeyURI(), nil)
	}
	return pt, nil
}

// Ping checks that the loaded key wraps and unwraps. It does not read the file.
func (k *Key) Ping(ctx context.Context) error {
	var probe [16]byte
	_, _ = rand.Read(probe[:]) // never fails
	ct, err := k.EncryptWithContext(ctx, probe[:], nil)
	if err != nil {
		return err
	}
	pt, err := k.DecryptWithContext(ctx, ct, nil)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(pt, probe[:]) != 1 {
		return kms.Rejected("ping", k.KeyURI(), errors.New("the key does not unwrap what it wrapped"))
	}
	return nil
}

// state is what a Key loaded; it is immutable.
type state struct {
	*contents
	primitive primitive
	known     map[uint32]bool         // ids of the keys in the keyset
	handles   map[uint32]*approvedKey // of the keys that are handles; see NewHandle
	primary   uint32
	sum       sum         // of the file's bytes
	info      fs.FileInfo // the file's, to notice changes cheaply
}

func newState(c *contents, data []byte, info fs.FileInfo) (*state, error) {
	p, err := newPrimitive(c.handle)
	if err != nil {
		return nil, err
	}
	s := &state{contents: c, primitive: p, known: make(map[uint32]bool), sum: sumOf(data), info: info}
	for _, k := range c.handle.KeysetInfo().GetKeyInfo() {
		s.known[k.GetKeyId()] = true
	}
	s.primary = c.handle.KeysetInfo().GetPrimaryKeyId()
	if s.handles, err = handlesOf(c); err != nil {
		return nil, err
	}
	return s, nil
}

// unknown reports whether ciphertext names, in Tink's prefix, a key not in s.
func (s *state) unknown(ciphertext []byte) bool {
	id, ok := keyIDOf(ciphertext)
	return ok && !s.known[id]
}

// keyIDOf returns the id in Tink's prefix, if ciphertext seems to have one.
func keyIDOf(ciphertext []byte) (id uint32, ok bool) {
	const tinkPrefix = 1 // the version byte before the key id
	if len(ciphertext) <= 5 || ciphertext[0] != tinkPrefix {
		return 0, false
	}
	return binary.BigEndian.Uint32(ciphertext[1:5]), true
}

// Opener opens key files for a [kms.Mux]: "local://PATH", where PATH is taken
// as it is, with no escapes and no query; "local:///etc/app.key" is absolute.
// All files it opens share opts.
func Opener(opts Options) kms.Opener {
	return func(ctx context.Context, uri string) (kms.Key, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		path, err := pathOf(uri)
		if err != nil {
			return nil, err
		}
		k, err := Open(path, opts)
		if err != nil {
			return nil, err
		}
		return k, nil
	}
}
