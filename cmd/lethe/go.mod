module github.com/lethe-go/lethe/cmd/lethe

go 1.26.0

// Until the first release has a version to require. Remove it then: go install
// refuses a module that replaces.
replace github.com/lethe-go/lethe => ../..

require (
	github.com/alecthomas/kong v1.17.0
	github.com/lethe-go/lethe v0.0.0
	github.com/stretchr/testify v1.12.1
)

require (
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)
