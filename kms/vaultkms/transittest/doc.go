// Package transittest runs vaultkms against the transit engine of Vault itself,
// without the rest of Vault: behind [Server], which speaks as much of the HTTP
// API as vaultkms uses.
//
// It is a module outside go.work, for Vault's server code has another licence
// and needs other versions of much. Its go.mod must not be tidied: two of
// Vault's dependencies are had only by the replacements it holds.
package transittest
