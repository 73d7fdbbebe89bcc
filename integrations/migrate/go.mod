module github.com/lethe-go/lethe/integrations/migrate

go 1.26.0

replace github.com/lethe-go/lethe => ../..

require (
	github.com/lethe-go/lethe v0.0.0
	golang.org/x/sync v0.24.0
	golang.org/x/time v0.12.0
)

require (
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)
