// Package peers puts Lethe and other Go libraries that encrypt records behind
// one small interface, so that one benchmark measures them on one workload: a
// record of 265 bytes in 5 string fields, 10,000 subjects in random order, keys
// warm. It also has FF1 of package fpe and of others.
//
// What is timed is the same for all: from a struct of five plain strings to the
// bytes that are stored, and back from these bytes to five plain strings.
// Encoding (JSON, protobuf, database/sql values) is in it where a library needs
// it, a database is not. The KMS is a key in memory: its calls are counted, not
// timed, since a real one would drown everything else.
//
// The module is not part of the workspace: it needs many others that Lethe does
// not.
package peers
