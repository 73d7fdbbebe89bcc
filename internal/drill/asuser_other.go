//go:build !unix

package drill

import "os/exec"

func unprivileged() (uid, gid int, err error) { return -1, -1, nil }

func runAs(*exec.Cmd, int, int) {}
