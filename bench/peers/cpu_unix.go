//go:build unix

package peers

import (
	"syscall"
	"time"
)

// CPUTime is how long the process has been running on processors until now, in
// the garbage collector's threads too. Unlike the time on the wall it does not
// grow while others have the processor.
func CPUTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
