//go:build !unix

package peers

import "time"

// CPUTime is 0: there is no such clock here.
func CPUTime() time.Duration { return 0 }
