//go:build goexperiment.runtimesecret

// Package secret runs code that handles keys so that Go wipes what it left
// behind, where the toolchain can.
package secret

import (
	"runtime"
	"runtime/secret"
)

// Do is runtime/secret.Do: registers and stack that f used are wiped before it
// returns, and what f allocated is when the garbage collector frees it. On other
// systems than Linux on amd64 and arm64 it only calls f.
func Do(f func()) { secret.Do(f) }

// Wipes reports whether Do wipes.
const Wipes = runtime.GOOS == "linux" && (runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64")
