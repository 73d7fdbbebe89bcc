package localkms

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/lethe-go/lethe/kms"
)

var (
	errNotHandle = errors.New(`the handle is not "k" and 8 hexadecimal digits`)
	errPrimary   = errors.New("that is the key the file wraps with, not a handle; it is never destroyed")
	errDestroyed = errors.New("the key file has no such handle: it was destroyed, or the file is another or an older one")
	errNotListed = errors.New("that key of the file is no handle: NewHandle did not make it, and it protects what it wrapped; it is never destroyed")
	errLabel     = errors.New("a label is 1 to 48 of a-z, 0-9 and -")
)

// EraseSemantics says that a handle goes at once and for good, from this file;
// copies of the file that the operator made hold it until they are deleted.
// Its only error is ctx.Err().
func (k *Key) EraseSemantics(ctx context.Context) (kms.EraseSemantics, error) {
	if err := ctx.Err(); err != nil {
		return kms.EraseSemantics{}, err
	}
	return kms.EraseSemantics{OperatorBackedUp: true}, nil
}

// NewHandle adds an AES-256-GCM key that is not the primary one to the keyset and
// to the file's list of handles, and replaces the file as [Key.Rotate] does: it is on disk when NewHandle returns without an
// error. A file that another process changed is read again first. The label is
// checked and not kept; every call makes a further handle.
//
// Errors match [kms.ErrUnavailable] where the file cannot be read or written now,
// [kms.ErrDenied] where its permissions forbid it, [kms.ErrRejected] and
// [ErrChanged] where another key is in its place; or are ctx.Err().
func (k *Key) NewHandle(ctx context.Context, label string) (string, error) {
	if !validLabel(label) {
		return "", kms.Rejected("new handle", k.KeyURI(), errLabel)
	}
	var id uint32
	err := k.rewrite(ctx, true, func(m *keyset.Manager, _ *state, next *contents) (changed bool, err error) {
		if id, err = m.Add(aead.AES256GCMKeyTemplate()); err != nil {
			return false, errMakeKey
		}
		next.handleIDs = append(next.handleIDs, id)
		slices.Sort(next.handleIDs)
		return true, nil
	})
	if err != nil {
		return "", k.sort(ctx, "new handle", err)
	}
	return handleName(id), nil
}

// HandleKey returns the Key of a handle. It implements [kms.Identified] with k's
// URI. Before each call it sees whether the file changed, and reads it again then,
// so a handle that another process destroyed is [kms.ErrRejected]; where the file
// cannot be read it is [kms.ErrUnavailable]. It may be called for a handle that is
// destroyed, whose Key refuses everything. The error, which matches
// [kms.ErrRejected], is for what is no handle.
func (k *Key) HandleKey(handle string) (kms.Key, error) {
	id, err := parseHandle(handle)
	if err == nil {
		err = k.state.Load().mayBeHandle(id)
	}
	if err != nil {
		return nil, kms.Rejected("open handle", k.KeyURI(), err)
	}
	return &handleKey{k: k, id: id}, nil
}

// Destroy takes a handle out of the file and replaces it, and out of k. See the
// package documentation for what the disk and copies of the file may still hold.
// A handle the file does not have is reported destroyed: the file keeps no list of
// those it had. Errors are as those of [Key.NewHandle]; a key of the file that
// NewHandle did not make, the primary one or one that was, is refused with
// [kms.ErrRejected].
func (k *Key) Destroy(ctx context.Context, handle string) (kms.Erasure, error) {
	id, err := parseHandle(handle)
	if err != nil {
		return kms.Erasure{}, kms.Rejected("destroy", k.KeyURI(), err)
	}
	err = k.rewrite(ctx, true, func(m *keyset.Manager, s *state, next *contents) (bool, error) {
		if err := s.mayBeHandle(id); err != nil || !s.known[id] {
			return false, err
		}
		if err := m.Delete(id); err != nil {
			return false, errors.New("cannot take the key out of the keyset")
		}
		next.handleIDs = slices.DeleteFunc(next.handleIDs, func(one uint32) bool { return one == id })
		return true, nil
	})
	if err != nil {
		return kms.Erasure{}, k.sort(ctx, "destroy", err)
	}
	return kms.Erasure{State: kms.HandleDestroyed}, nil
}

// Erasure reads the file: a handle is live while it is there, and destroyed
// otherwise. Errors are as those of [Key.Destroy].
func (k *Key) Erasure(ctx context.Context, handle string) (kms.Erasure, error) {
	id, err := parseHandle(handle)
	if err != nil {
		return kms.Erasure{}, kms.Rejected("erasure", k.KeyURI(), err)
	}
	if err := k.Reload(ctx); err != nil {
		return kms.Erasure{}, k.sort(ctx, "erasure", err)
	}
	s := k.state.Load()
	if err := s.mayBeHandle(id); err != nil {
		return kms.Erasure{}, kms.Rejected("erasure", k.KeyURI(), err)
	}
	if s.known[id] {
		return kms.Erasure{State: kms.HandleLive}, nil
	}
	// Who took it out may have died before the file was on disk.
	path, err := filepath.EvalSymlinks(k.path)
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return kms.Erasure{}, k.sort(ctx, "erasure", err)
	}
	return kms.Erasure{State: kms.HandleDestroyed}, nil
}

// Handles lists the handles that the file has, ascending: live ones, whoever made
// them. Those that no ledger names, while no epoch is being closed, were made by a
// close that died at once; see Handles of envelope.Keyring. Errors are as those of
// [Key.Destroy].
func (k *Key) Handles(ctx context.Context) ([]string, error) {
	if err := k.Reload(ctx); err != nil {
		return nil, k.sort(ctx, "list handles", err)
	}
	var out []string
	for _, id := range slices.Sorted(maps.Keys(k.state.Load().handles)) {
		out = append(out, handleName(id))
	}
	return out, nil
}

// sort gives an error of the file its kind.
func (k *Key) sort(ctx context.Context, op string, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, fs.ErrPermission):
		return kms.Denied(op, k.KeyURI(), err)
	case errors.Is(err, ErrChanged), errors.Is(err, errPrimary), errors.Is(err, errNotListed):
		return kms.Rejected(op, k.KeyURI(), err)
	}
	return kms.Unavailable(op, k.KeyURI(), err)
}

// handleKey is the Key of one handle.
type handleKey struct {
	k  *Key
	id uint32
}

var (
	_ kms.Key        = (*handleKey)(nil)
	_ kms.Identified = (*handleKey)(nil)
)

func (h *handleKey) KeyURI() string { return h.k.KeyURI() }

// now returns the handle's key as the file has it now.
func (h *handleKey) now(ctx context.Context, op string) (*approvedKey, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := h.k.state.Load()
	info, err := os.Stat(h.k.path)
	if err == nil && !unchanged(s.info, info) {
		if err = h.k.refresh(); err == nil {
			s = h.k.state.Load()
		}
	}
	if err != nil {
		return nil, kms.Unavailable(op, h.k.KeyURI(), fmt.Errorf("the key file cannot be read to see whether the handle is still there: %w", err))
	}
	if key := s.handles[h.id]; key != nil {
		return key, nil
	}
	return nil, kms.Rejected(op, h.k.KeyURI(), errDestroyed)
}

// EncryptWithContext is as [Key.EncryptWithContext], under the handle.
func (h *handleKey) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	if len(plaintext) > MaxPlaintext {
		return nil, kms.Rejected("encrypt", h.k.KeyURI(), errTooLong)
	}
	key, err := h.now(ctx, "encrypt")
	if err != nil {
		return nil, err
	}
	return key.encrypt(plaintext, associatedData), nil
}

// DecryptWithContext is as [Key.DecryptWithContext], of the handle's ciphertexts only.
func (h *handleKey) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	key, err := h.now(ctx, "decrypt")
	if err != nil {
		return nil, err
	}
	plaintext, err := key.decrypt(ciphertext, associatedData)
	if err != nil {
		return nil, kms.Rejected("decrypt", h.k.KeyURI(), nil)
	}
	return plaintext, nil
}

// handlesOf returns the keys on the list of handles. Each must be in the keyset and
// as NewHandle makes it: enabled, not the primary one, AES-GCM, and named in its
// ciphertexts.
func handlesOf(c *contents) (map[uint32]*approvedKey, error) {
	handles := make(map[uint32]*approvedKey, len(c.handleIDs))
	for i := range c.handle.Len() {
		entry, err := c.handle.Entry(i)
		if err != nil {
			return nil, errNotAEAD
		}
		if !slices.Contains(c.handleIDs, entry.KeyID()) || entry.IsPrimary() || entry.KeyStatus() != keyset.Enabled {
			continue
		}
		if key, err := approvedKeyOf(entry); err == nil && len(key.prefix) > 0 {
			handles[entry.KeyID()] = &key
		}
	}
	if len(handles) != len(c.handleIDs) {
		return nil, errDamaged
	}
	return handles, nil
}

// mayBeHandle refuses an id that is another thing than a handle, alive or destroyed.
func (s *state) mayBeHandle(id uint32) error {
	switch {
	case id == s.primary:
		return errPrimary
	case s.known[id] && s.handles[id] == nil:
		return errNotListed
	}
	return nil
}

func handleName(id uint32) string { return fmt.Sprintf("k%08x", id) }

// parseHandle takes the one spelling of a handle.
func parseHandle(handle string) (uint32, error) {
	digits, ok := strings.CutPrefix(handle, "k")
	raw, err := hex.DecodeString(digits)
	if !ok || err != nil || len(raw) != 4 || strings.ToLower(digits) != digits {
		return 0, errNotHandle
	}
	return binary.BigEndian.Uint32(raw), nil
}

func validLabel(label string) bool {
	for _, c := range []byte(label) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return len(label) >= 1 && len(label) <= 48
}
