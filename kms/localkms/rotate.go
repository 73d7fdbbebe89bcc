package localkms

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// Rotate adds a fresh key, wraps with it from now on, and keeps the old ones
// for unwrapping. The file is replaced atomically and is on disk when Rotate
// returns without an error; the id stays, as does the passphrase.
//
// If the file is not the one k loaded (another process rotated it, say) nothing
// is written and the error matches [ErrChanged]; [Key.Reload] helps. ctx ends the
// wait for another writer's lock; a write that has begun is finished. After an
// error k goes on as before.
func (k *Key) Rotate(ctx context.Context) error {
	err := k.rewrite(ctx, false, func(m *keyset.Manager, _ *state, _ *contents) (bool, error) {
		fresh, err := m.Add(aead.AES256GCMKeyTemplate())
		if err != nil {
			return false, errMakeKey
		}
		if err := m.SetPrimary(fresh); err != nil {
			return false, errors.New("cannot make the new key the primary one")
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("localkms: rotate %s: %w", k.path, err)
	}
	return nil
}

var errMakeKey = errors.New("cannot make a key")

// rewrite edits the keyset, and the list of handles in next, under the lock that
// writers hold, and replaces the file and the loaded state. Where edit returns false
// it writes nothing, and sees that what it found is on disk. A file that another
// process changed is read again if follow is set, and refused otherwise.
func (k *Key) rewrite(ctx context.Context, follow bool, edit func(m *keyset.Manager, old *state, next *contents) (bool, error)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	// Replace the file itself, not a symbolic link to it.
	path, err := filepath.EvalSymlinks(k.path)
	if err != nil {
		return err
	}
	unlock, err := lock(ctx, path+".lock")
	if err != nil {
		return err
	}
	defer unlock()

	data, _, err := readFile(path)
	if err != nil {
		return err
	}
	found := sumOf(data)
	clear(data)
	if found != k.state.Load().sum {
		if !follow {
			return fmt.Errorf("%w; nothing was written", ErrChanged)
		}
		if err := k.reload(); err != nil {
			return err
		}
	}

	old := k.state.Load()
	m := keyset.NewManagerFromHandle(old.handle)
	c := &contents{id: old.id, handleIDs: slices.Clone(old.handleIDs), seal: old.seal}
	switch changed, err := edit(m, old, c); {
	case err != nil:
		return err
	case !changed:
		return syncDir(filepath.Dir(path)) // its writer may have died before it did
	}
	if c.handle, err = m.Handle(); err != nil {
		return errors.New("cannot make the new keyset")
	}
	if data, err = c.marshal(); err != nil {
		return err
	}
	defer clear(data)
	next, err := newState(c, data, nil)
	if err != nil {
		return err
	}
	if next.info, err = replace(path, data); err != nil {
		return err
	}
	k.state.Store(next)
	return nil
}

// Reload reads the file again, to learn of a rotation elsewhere. A file that
// holds another key, or is encrypted anew, makes an error that matches
// [ErrChanged]. After an error k goes on as before.
func (k *Key) Reload(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.reload()
}

// refresh is Reload for a file that looks changed, and nothing for one that does not.
func (k *Key) refresh() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	now, err := os.Stat(k.path)
	if err != nil {
		return err
	}
	if was := k.state.Load().info; unchanged(was, now) {
		return nil
	}
	return k.reload()
}

func unchanged(was, now fs.FileInfo) bool {
	return os.SameFile(was, now) && was.Size() == now.Size() && was.ModTime().Equal(now.ModTime())
}

// reload needs k.mu held.
func (k *Key) reload() error {
	old := k.state.Load()
	data, info, err := readFile(k.path)
	if err != nil {
		return fmt.Errorf("localkms: reload: %w", err)
	}
	defer clear(data)
	c, err := parse(data, func(p params) (*sealing, error) {
		if old.seal == nil || old.seal.params != p {
			return nil, ErrChanged
		}
		return old.seal, nil
	})
	if err != nil {
		return fmt.Errorf("localkms: reload %s: %w", k.path, err)
	}
	if c.id != k.id || (c.seal == nil) != (old.seal == nil) {
		return fmt.Errorf("localkms: reload %s: %w", k.path, ErrChanged)
	}
	next, err := newState(c, data, info)
	if err != nil {
		return fmt.Errorf("localkms: reload %s: %w", k.path, err)
	}
	k.state.Store(next)
	return nil
}
