package tinkv1test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/lethe-go/lethe/kms/localkms"
)

func TestKeysetsOfTheOldModuleOpen(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "go", "run", "./mkkeyset", dir).CombinedOutput(); err != nil {
		t.Fatalf("mkkeyset: %v\n%s", err, out)
	}
	for _, name := range []string{"single", "rotated"} {
		var uris []string
		for _, encoding := range []string{".bin", ".json"} {
			t.Run(name+encoding, func(t *testing.T) {
				path := filepath.Join(dir, name+encoding)
				k, err := localkms.Open(path, localkms.Options{})
				if err != nil {
					t.Fatal(err)
				}
				uris = append(uris, k.KeyURI())
				opens(t, k, dir, name)

				// Rotation turns the file into Lethe's format and keeps everything readable.
				if err := k.Rotate(t.Context()); err != nil {
					t.Fatal(err)
				}
				again, err := localkms.Open(path, localkms.Options{})
				if err != nil {
					t.Fatal(err)
				}
				if again.KeyURI() != k.KeyURI() {
					t.Errorf("the id changed from %s to %s", k.KeyURI(), again.KeyURI())
				}
				opens(t, again, dir, name)
			})
		}
		if len(uris) != 2 || uris[0] != uris[1] {
			t.Errorf("%s: the binary and the JSON form of one keyset have the ids %q", name, uris)
		}
	}
}

func opens(t *testing.T, k *localkms.Key, dir, name string) {
	t.Helper()
	for file, want := range map[string]string{name + ".old.ct": "old plaintext", name + ".ct": "plaintext"} {
		ct, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		pt, err := k.DecryptWithContext(t.Context(), ct, []byte("ad"))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if string(pt) != want {
			t.Errorf("%s: got %q, want %q", file, pt, want)
		}
	}
}
