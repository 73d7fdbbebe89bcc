// Package clustertest runs vaultkms against Vault itself: three nodes in this
// process, over TLS, with policies, logins, sealing and changes of leader.
//
// It is a module outside go.work, for Vault's server code has another licence
// and needs other versions of much. Its go.mod must not be tidied: two of
// Vault's dependencies are had only by the replacements it holds. Compiling it
// takes minutes; .ci/cluster keeps the test binary.
package clustertest
