//go:build !race

package lethe_test

const raceEnabled = false
