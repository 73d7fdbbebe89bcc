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
	StatusDenied                  // ciphertext the policy does not let this caller read
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
	at     uint16 // argument of hidden
	mask   maskFunc
	sealed []byte
	// hidden returns the value's bytes (Plain, Open) or its mask (Denied). A
	// function, since dumpers that follow pointers through unexported fields stop here.
	hidden func(at uint16) []byte
	err    error
}

var nullState = &state{status: StatusNull}

func (s *state) statusOf() Status {
	if s == nil {
		return StatusUnset
	}
	return s.status
}

func (s *state) value() []byte { return s.hidden(s.at) }

func hide(b []byte) func(uint16) []byte { return func(uint16) []byte { return b } }

// redacted is all that printing ever shows.
func (s *state) redacted() string {
	if s != nil && s.status == StatusForgotten {
		return "[forgotten]"
	}
	return "[sealed]"
}
