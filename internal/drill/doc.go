// Package drill proves, on real servers, what a forgotten person's keys are worth
// after an epoch was closed: it scans files for every wrapped key that was deleted,
// restores backups from before the forget, and lets an adversary try who kept every
// row ever written. It is a module of its own; tests of other modules run [Run]
// with the KMS they are about.
//
//	go test ./internal/drill -v
package drill
