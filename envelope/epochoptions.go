package envelope

import (
	"errors"
	"fmt"
	"time"

	"github.com/lethe-go/lethe/kms"
)

// EpochOptions configure forgetting that survives backups. From them and from
// what the KMS says of its handles follows T, the time after which a forgotten
// person is beyond the reach of every backup (see [Keyring.Promise]).
// Give all processes that use a store the same: each close goes by those of the
// process that makes it, the others' promises by their own.
type EpochOptions struct {
	// Every is E, how long an epoch lasts at most: 1 minute to 90 days; a day by
	// default. Close it that often: [Keyring.RunEpochs] does, or a job that calls
	// CloseEpoch.
	Every time.Duration
	// Window is W, how long a backup of the key store can still be restored after
	// the epoch it was made in has closed: up to 90 days; 7 days by default. It
	// must be longer than the age of the oldest backup you would restore. Negative
	// means none at all: every close makes all earlier backups useless.
	Window time.Duration
	// CloseTime is C, what a close may take; it counts into T only. An hour by default.
	CloseTime time.Duration
	// ReplicaLag is how far a replica of the key store that Opens read from may be behind.
	ReplicaLag time.Duration
	// Long says that a T over 30 days is meant. Without it such a T is refused.
	Long bool
}

const longPromise = 30 * 24 * time.Hour

func (o *EpochOptions) setDefaults() error {
	var errs []error
	check := func(name string, d *time.Duration, def, least, most time.Duration) {
		if *d == 0 {
			*d = def
		}
		if *d < least || *d > most {
			errs = append(errs, fmt.Errorf("Options.Epochs.%s %v is outside %v to %v", name, *d, least, most))
		}
	}
	const day = 24 * time.Hour
	check("Every", &o.Every, day, time.Minute, 90*day)
	if o.Window >= 0 {
		check("Window", &o.Window, 7*day, time.Second, 90*day)
	}
	check("CloseTime", &o.CloseTime, time.Hour, time.Second, 7*day)
	check("ReplicaLag", &o.ReplicaLag, 0, 0, 7*day)
	return errors.Join(errs...)
}

// window is W, which Negative makes none.
func (o *EpochOptions) window() time.Duration { return max(o.Window, 0) }

// Promise is what a forget reaches, and when.
type Promise struct {
	// Everywhere is the time until every process refuses: the cache's TTL and the
	// replica's lag. In the process that forgets it is none.
	Everywhere time.Duration
	// Backups is T: after it no backup of the key store or of the data opens what
	// was forgotten, with whatever the KMS still holds. 0: there is no such time,
	// and None says why. T = max(Everywhere, max(E, C) + C + W + P), where P is how long
	// the KMS takes; with C for E if a close may take longer than an epoch lasts, and
	// more while the handle of an earlier epoch is with a KMS that takes longer.
	Backups time.Duration
	None    string
	// Caveats are what can undo it in spite of the time, for people.
	Caveats []string
}

// Promise returns what a forget made now reaches, as configured, with the KMS
// handle of the present epoch. It does not ask the KMS.
func (k *Keyring) Promise() Promise {
	k.rootMu.RLock()
	root := k.root
	k.rootMu.RUnlock()
	semantics := ""
	if root != nil {
		semantics = root.semantics
	} else if s, ok := k.led.epochOf(k.led.activeEpoch()); ok {
		semantics = s.semantics
	}
	return k.promise(semantics)
}

func (k *Keyring) promise(semantics string) Promise {
	o := &k.opts.Epochs
	p := Promise{Everywhere: k.opts.CacheTTL + o.ReplicaLag}
	if semantics == "" {
		p.None = "the KMS key that the key store hangs on cannot be destroyed in part: close an epoch with a key that is a kms.Eraser"
		return p
	}
	sem, err := kms.ParseEraseSemantics(semantics)
	if err != nil {
		p.None = "the key store says something of its KMS handle that this version does not know"
		return p
	}
	retire := max(o.Every, o.CloseTime) + o.CloseTime + o.window()
	p.Backups = max(p.Everywhere, retire+sem.MinDelay)
	now := k.now()
	for _, s := range k.led.pendingErasures() {
		if s.active == 0 {
			continue
		}
		if s.semantics == "" {
			p.Backups = 0
			p.None = fmt.Sprintf("epoch %d hung on the KMS key %q, which cannot be destroyed in part: who has a backup of that time and the key opens what was sealed then, until you destroy the key by hand and call ConfirmErased", s.epoch, s.handle)
			return p
		}
		earlier, err := kms.ParseEraseSemantics(s.semantics)
		if err != nil {
			p.Backups, p.None = 0, fmt.Sprintf("this version does not know what the destruction of the handle of epoch %d is worth", s.epoch)
			return p
		}
		// The next close makes it due no later than the present one's handle.
		due := min(unixTime(s.due).Sub(now), retire) + earlier.MinDelay
		p.Backups = max(p.Backups, due, unixTime(s.until).Sub(now))
	}
	if sem.Cancelable {
		p.Caveats = append(p.Caveats, "until then whoever has the rights at the KMS can cancel the destruction")
	}
	if sem.OperatorBackedUp {
		p.Caveats = append(p.Caveats, "backups of the KMS itself, made by who runs it, hold the destroyed handle until they are deleted")
	}
	return p
}

// checkPromise refuses a configuration whose T is longer than anyone expects.
func (k *Keyring) checkPromise() error {
	p := k.Promise()
	if p.Backups > longPromise && !k.opts.Epochs.Long {
		return fmt.Errorf("envelope: a person would be forgotten only after %v (Options.Epochs: Every %v + CloseTime %v + Window %v + the KMS's delay): shorten them, or set Options.Epochs.Long if that is meant",
			p.Backups, k.opts.Epochs.Every, k.opts.Epochs.CloseTime, k.opts.Epochs.window())
	}
	return nil
}
