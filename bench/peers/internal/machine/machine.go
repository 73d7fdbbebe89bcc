// Package machine says what a measurement was made on.
package machine

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

// Machine is what a measurement was made on, and what it was busy with.
type Machine struct {
	CPU       string    `json:"cpu"`
	Cores     int       `json:"cores"`
	OS        string    `json:"os"`
	Arch      string    `json:"arch"`
	Kernel    string    `json:"kernel,omitempty"`
	Go        string    `json:"go"`
	Commit    string    `json:"commit,omitempty"`
	Loads     []float64 `json:"load_averages,omitempty"` // of a minute, at the start of each round
	StartedAt string    `json:"started_at"`
}

// Describe describes the machine that runs the program. started is when the
// measurement was started, in RFC 3339.
func Describe(ctx context.Context, started string) Machine {
	m := Machine{CPU: "unknown CPU", Cores: runtime.NumCPU(), OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version(), StartedAt: started}
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		defer func() { _ = f.Close() }()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	if kernel, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(kernel))
	}
	if commit, err := exec.CommandContext(ctx, "git", "rev-parse", "--short=12", "HEAD").Output(); err == nil {
		m.Commit = strings.TrimSpace(string(commit))
		if changed, err := exec.CommandContext(ctx, "git", "status", "--porcelain", "--untracked-files=no").Output(); err == nil && len(changed) > 0 {
			m.Commit += "+changes"
		}
	}
	return m
}

// Load is the load average of the last minute; ok is false where it is not known.
func Load() (load float64, ok bool) {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0, false
	}
	first, _, _ := strings.Cut(string(text), " ")
	load, err = strconv.ParseFloat(first, 64)
	return load, err == nil
}

// Slug is the CPU's name as part of a file's.
func (m Machine) Slug() string {
	return strings.Trim(regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(m.CPU), "-"), "-")
}

// Versions returns the versions of the modules this program is made of.
func Versions() map[string]string {
	versions := map[string]string{}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return versions
	}
	for _, module := range info.Deps {
		version := module.Version
		if module.Replace != nil {
			version = "this repository"
		}
		versions[module.Path] = version
	}
	return versions
}
