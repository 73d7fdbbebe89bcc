package model

import "math"

// Grown is what a number becomes that grows by rate a year: n * (1 + rate)^years.
// Source: compound growth.
func Grown(n, rate, years float64) float64 { return n * math.Pow(1+rate, years) }
