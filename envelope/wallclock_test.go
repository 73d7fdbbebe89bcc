package envelope

import "time"

// SetWallClock makes the keyring go by another wall clock, before it is used.
func (k *Keyring) SetWallClock(now func() time.Time) { k.now = now }
