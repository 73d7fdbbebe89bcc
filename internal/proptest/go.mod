module github.com/lethe-go/lethe/internal/proptest

go 1.26.0

replace github.com/lethe-go/lethe => ../..

require (
	github.com/lethe-go/lethe v0.0.0
	pgregory.net/rapid v1.3.0
)

require (
	github.com/tink-crypto/tink-go/v2 v2.9.0 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	google.golang.org/protobuf v1.36.11 // indirect
)
