// Package wycheprooftest runs Project Wycheproof's test vectors for FF1. It is a
// module of its own, outside the workspace, because the vectors of all algorithms
// come in one large package.
package wycheprooftest
