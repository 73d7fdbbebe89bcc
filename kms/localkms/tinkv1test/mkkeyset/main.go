// Command mkkeyset writes keysets and ciphertexts with github.com/google/tink/go
// 1.7.0 into a directory. It is a program of its own because the old and the
// new Tink register the same protobuf files and cannot share a process.
//
// Per scheme of the keyset (one key; rotated once) it writes NAME.bin and
// NAME.json, the same cleartext keyset in both encodings, and NAME.old.ct and
// NAME.ct, ciphertexts of "old plaintext" and "plaintext" with the associated
// data "ad", made before and after the rotation.
package main

import (
	"bytes"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/google/tink/go/aead"
	"github.com/google/tink/go/insecurecleartextkeyset"
	"github.com/google/tink/go/keyset"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: mkkeyset DIR")
	}
	for _, name := range []string{"single", "rotated"} {
		if err := write(os.Args[1], name, name == "rotated"); err != nil {
			log.Fatal(err)
		}
	}
}

func write(dir, name string, rotate bool) error {
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return err
	}
	old, err := encrypt(h, "old plaintext")
	if err != nil {
		return err
	}
	if rotate {
		m := keyset.NewManagerFromHandle(h)
		id, err := m.Add(aead.AES256GCMKeyTemplate())
		if err != nil {
			return err
		}
		if err := m.SetPrimary(id); err != nil {
			return err
		}
		if h, err = m.Handle(); err != nil {
			return err
		}
	}
	ct, err := encrypt(h, "plaintext")
	if err != nil {
		return err
	}
	var bin, js bytes.Buffer
	if err := insecurecleartextkeyset.Write(h, keyset.NewBinaryWriter(&bin)); err != nil {
		return err
	}
	if err := insecurecleartextkeyset.Write(h, keyset.NewJSONWriter(&js)); err != nil {
		return err
	}
	for suffix, data := range map[string][]byte{".bin": bin.Bytes(), ".json": js.Bytes(), ".old.ct": old, ".ct": ct} {
		if err := os.WriteFile(filepath.Join(dir, name+suffix), data, 0o600); err != nil {
			return fmt.Errorf("write %s: %w", name+suffix, err)
		}
	}
	return nil
}

func encrypt(h *keyset.Handle, plaintext string) ([]byte, error) {
	a, err := aead.New(h)
	if err != nil {
		return nil, err
	}
	return a.Encrypt([]byte(plaintext), []byte("ad"))
}
