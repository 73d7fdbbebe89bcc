package envelope

import "time"

// SetNow sets the wall clock that epochs go by. Call it before anything else.
func (k *Keyring) SetNow(now func() time.Time) { k.now = now }
