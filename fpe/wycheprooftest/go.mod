module github.com/lethe-go/lethe/fpe/wycheprooftest

go 1.26.4

replace github.com/lethe-go/lethe => ../..

require (
	github.com/c2sp/wycheproof v0.0.0-20260902155932-3fa63dd0344a
	github.com/lethe-go/lethe v0.0.0
)

require golang.org/x/sys v0.49.0 // indirect
