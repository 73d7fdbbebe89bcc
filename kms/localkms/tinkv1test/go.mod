module github.com/lethe-go/lethe/kms/localkms/tinkv1test

go 1.26.0

require (
	github.com/google/tink/go v1.7.0
	github.com/lethe-go/lethe v0.0.0
)

require (
	github.com/tink-crypto/tink-go/v2 v2.9.0 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	google.golang.org/protobuf v1.36.11 // indirect
)

replace github.com/lethe-go/lethe => ../../..
