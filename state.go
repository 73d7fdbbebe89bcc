package lethe

// Status is where a Secret stands.
type Status uint8

// The statuses of a Secret.
const (
	StatusUnset     Status = iota // the zero Secret: never set, or its column was not selected
	StatusNull                    // SQL NULL, JSON null
	StatusPlain                   // set with Of, not yet sealed
	StatusSealed                  // ciphertext
	StatusOpen                    // ciphertext and its value
	StatusDenied                  // ciphertext this caller may not read: the policy forbids it, or the person is suspended
	StatusForgotten               // ciphertext nobody can read any more
	StatusFailed                  // ciphertext that does not open; Reveal says why
)

var statusNames = [...]string{"unset", "null", "plain", "sealed", "open", "denied", "forgotten", "failed"}

// String returns the status in lower case.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return "unknown"
}

// state is the inside of a Secret. It never changes once it is installed, so
// copies of a Secret may share it.
type state struct {
	status Status
	codec  uint8
	mask   maskID
	value  hidden // Plain, Open: what the codec made of the value; Denied: its mask, if it may be seen
	sealed []byte // ciphertext
	err    error  // Failed: why; Denied: ErrSuspended, or nil for the policy's; Plain: why the value cannot be encoded
}

// nullState is NULL as it stands in the database; nullGiven is NULL set by the
// program, which the next Seal turns into nullState.
var nullState, nullGiven = &state{status: StatusNull}, &state{status: StatusNull}

func (s *state) statusOf() Status {
	if s == nil {
		return StatusUnset
	}
	return s.status
}

// fromPlain reports whether Open had the value, or the reason there is none, from a
// plaintext column: then there is no ciphertext.
func (s *state) fromPlain() bool {
	return s.statusOf() >= StatusSealed && len(s.sealed) == 0
}

// redacted is all that printing ever shows.
func (s *state) redacted() string {
	if s != nil && s.status == StatusForgotten {
		return "[forgotten]"
	}
	return "[sealed]"
}
