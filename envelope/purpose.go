package envelope

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// PurposeNumber is the number a store gives the purpose name, unless another name
// has it already: then the next free one. It is 1 for the default purpose, whose
// name is empty, and from 2 to 2^31-1 for the others: the first 31 bits of a hash of
// the name. Numbers that were counted up would come again after a restore, for
// other names, and the ledger's entries would then be about the wrong purpose.
func PurposeNumber(name string) PID {
	if name == "" {
		return defaultPID
	}
	sum := sha256.Sum256(append(appendLP(nil, "lethe/1/purpose"), name...))
	return max(PID(binary.BigEndian.Uint32(sum[:])>>1), 2)
}

// FreePurposeNumber is PurposeNumber, or the next number after it that is not taken,
// for stores. taken is asked until it returns false or an error.
func FreePurposeNumber(name string, taken func(PID) (bool, error)) (PID, error) {
	for n := PurposeNumber(name); ; {
		used, err := taken(n)
		if err != nil || !used {
			return n, err
		}
		if n++; n > lastPurpose {
			n = 2
		}
	}
}

const lastPurpose = PID(1<<31 - 1) // SQL's INTEGER has no more

func (k *Keyring) purposeID(name string) (PID, bool) {
	k.purposeMu.RLock()
	defer k.purposeMu.RUnlock()
	pid, ok := k.purposes[name]
	return pid, ok
}

// pidOf returns the number that a name the store does not have would get, since the
// ledger may have it: of a history that a restore gave up.
func (k *Keyring) pidOf(name string) PID {
	if pid, ok := k.purposeID(name); ok {
		return pid
	}
	pid := PurposeNumber(name)
	if _, taken := k.purposeName(pid); taken {
		return ^PID(0) // which no purpose has
	}
	return pid
}

func (k *Keyring) purposeName(pid PID) (string, bool) {
	k.purposeMu.RLock()
	defer k.purposeMu.RUnlock()
	name, ok := k.names[pid]
	return name, ok
}

func (k *Keyring) purposeNames() []string {
	k.purposeMu.RLock()
	defer k.purposeMu.RUnlock()
	out := make([]string, 0, len(k.purposes))
	for name := range k.purposes {
		out = append(out, name)
	}
	return out
}

// learnPurposes reads the purposes again when rows use one made by another process.
func (k *Keyring) learnPurposes(ctx context.Context, rows []KeyRow) error {
	known := true
	for i := range rows {
		if _, ok := k.purposeName(rows[i].PID); !ok {
			known = false
		}
	}
	if known {
		return nil
	}
	return k.readPurposes(ctx)
}

func (k *Keyring) readPurposes(ctx context.Context) error {
	all, err := k.store.Purposes(ctx)
	if err != nil {
		return storeErr(err)
	}
	for _, p := range all {
		if err := k.takePurpose(p); err != nil {
			return err
		}
	}
	return nil
}

// takePurpose remembers a row of the table of purposes, in which numbers and
// names are unique and for good: a key found under another purpose's number
// would be one that a forget of the purpose does not find.
func (k *Keyring) takePurpose(p PurposeRow) error {
	k.purposeMu.Lock()
	defer k.purposeMu.Unlock()
	pid, known := k.purposes[p.Name]
	name, named := k.names[p.PID]
	if p.PID == 0 || known && pid != p.PID || named && name != p.Name {
		return fmt.Errorf("%w: the key store's purpose %d was changed, or is there twice: put the table of purposes back", ErrDecrypt, p.PID)
	}
	k.purposes[p.Name], k.names[p.PID] = p.PID, p.Name
	return nil
}

// ensurePurpose returns the number of a purpose, making it on first use.
func (k *Keyring) ensurePurpose(ctx context.Context, name string) (PID, error) {
	if pid, ok := k.purposeID(name); ok {
		return pid, nil
	}
	if err := validName("purpose", name); err != nil {
		return 0, err
	}
	pid, err := k.store.AddPurpose(ctx, name)
	if err != nil {
		return 0, storeErr(err)
	}
	return pid, k.takePurpose(PurposeRow{PID: pid, Name: name})
}
