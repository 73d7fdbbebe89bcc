package measure

import (
	"bufio"
	"os"
	"runtime"
	"strings"

	"github.com/lethe-go/lethe/bench/internal/model"
)

// machine says where costs are measured. The processor's name is known on Linux only.
func machine() model.Machine {
	return model.Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, CPU: cpu(), CPUs: runtime.NumCPU(), Go: runtime.Version()}
}

func cpu() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }() // it was only read
	for scan := bufio.NewScanner(f); scan.Scan(); {
		if name, value, ok := strings.Cut(scan.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
