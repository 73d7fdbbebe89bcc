// Package proptest holds property tests: random histories of a keyring, checked
// step by step against a model of what must open and what must not.
package proptest
