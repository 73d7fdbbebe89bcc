package peers

import "errors"

var (
	errTruncated = errors.New("peers: the stored record is too short")
	errKey       = errors.New("peers: the record's key is not the one committed to")
	errType      = errors.New("peers: the value has another type than was stored")
)
