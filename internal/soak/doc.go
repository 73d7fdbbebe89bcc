// Package soak holds a soak test: processes that share a key store, a ledger and
// a KMS, all of which fail now and then, and a checker that knows what each person's
// rows may and may not do. It is a module of its own, for goleak.
//
//	go test -race -run TestSoak -soak 10m -timeout 30m ./internal/soak
package soak
