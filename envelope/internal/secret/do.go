//go:build !goexperiment.runtimesecret

// Package secret runs code that handles keys so that Go wipes what it left
// behind, where the toolchain can.
package secret

// Do calls f. Built with GOEXPERIMENT=runtimesecret it is runtime/secret.Do:
// registers and stack that f used are wiped before it returns, and what f
// allocated is when the garbage collector frees it.
func Do(f func()) { f() }

// Wipes reports whether Do wipes.
const Wipes = false
