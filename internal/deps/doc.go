// Package deps holds nothing but the test that keeps the import graph and the
// modules as they are drawn: imports run downwards only, the core needs the
// standard library and golang.org/x, and nothing but a program or a test
// imports a driver.
package deps
