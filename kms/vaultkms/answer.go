package vaultkms

import (
	"bytes"
	"encoding/json"
	"slices"
)

// decodeData decodes the "data" of an answer into out, whose pointers stay nil
// for what the answer lacks.
func decodeData(body []byte, out any) error {
	var answer struct {
		Data json.RawMessage `json:"data"`
	}
	if json.Unmarshal(body, &answer) != nil || len(answer.Data) == 0 || bytes.Equal(answer.Data, []byte("null")) ||
		json.Unmarshal(answer.Data, out) != nil {
		return errAnswer
	}
	return nil
}

// wrappedItem is what transit answers to an encryption, alone or in a batch.
type wrappedItem struct {
	Ciphertext *string `json:"ciphertext"`
	KeyVersion *int    `json:"key_version"`
}

// check returns the ciphertext of size bytes of plaintext.
func (w wrappedItem) check(size int) ([]byte, error) {
	if w.Ciphertext == nil {
		return nil, errAnswer
	}
	c, err := parseCiphertext(*w.Ciphertext)
	if err != nil || w.KeyVersion == nil || *w.KeyVersion != c.version ||
		c.size < size+minOverhead || c.size > size+maxOverhead {
		return nil, errAnswer
	}
	return []byte(*w.Ciphertext), nil
}

// openedItem is what transit answers to a decryption.
type openedItem struct {
	Plaintext *string `json:"plaintext"`
}

// check returns the plaintext of a ciphertext.
func (o openedItem) check(c ciphertext) ([]byte, error) {
	if o.Plaintext == nil || len(*o.Plaintext) > b64.EncodedLen(MaxPlaintext) {
		return nil, errAnswer
	}
	plaintext, err := b64.DecodeString(*o.Plaintext)
	if err != nil || b64.EncodedLen(len(plaintext)) != len(*o.Plaintext) ||
		c.size < len(plaintext)+minOverhead || c.size > len(plaintext)+maxOverhead {
		clear(plaintext)
		return nil, errAnswer
	}
	return plaintext, nil
}

// parseWrapped reads the ciphertext of size bytes, of a version unless that is 0.
func parseWrapped(body []byte, size, version int) ([]byte, error) {
	var w wrappedItem
	if err := decodeData(body, &w); err != nil {
		return nil, err
	}
	if version != 0 && (w.KeyVersion == nil || *w.KeyVersion != version) {
		return nil, errAnswer
	}
	return w.check(size)
}

func parseOpened(body []byte, c ciphertext) ([]byte, error) {
	var o openedItem
	if err := decodeData(body, &o); err != nil {
		return nil, err
	}
	return o.check(c)
}

// batchItem is one item of a batch's answer.
type batchItem struct {
	wrappedItem
	openedItem
	Reference string `json:"reference"`
	Error     string `json:"error"`
}

// parseBatch sees that a batch's answer has one item per request, in order.
func parseBatch(body []byte, references []string) ([]batchItem, error) {
	var answer struct {
		Results []batchItem `json:"batch_results"`
	}
	if err := decodeData(body, &answer); err != nil {
		return nil, err
	}
	if len(answer.Results) != len(references) {
		return nil, errAnswer
	}
	for i, item := range answer.Results {
		if item.Reference != references[i] {
			return nil, errAnswer
		}
	}
	return answer.Results, nil
}

// Info is what transit says of a key.
type Info struct {
	Type                 string // "aes256-gcm96" or another AEAD
	LatestVersion        int    // what EncryptWithContext uses, from 1
	MinEncryptionVersion int    // older versions do not encrypt; 0 if none is set
	MinDecryptionVersion int    // older versions do not open
	MinAvailableVersion  int    // older versions were trimmed: they are gone; 0 if none was
	DeletionAllowed      bool
	Exportable           bool // the key was or may be copied out of Vault
	PlaintextBackup      bool // likewise, by a backup
}

// aeadTypes are the key types that authenticate associated data.
var aeadTypes = []string{"aes256-gcm96", "aes128-gcm96", "chacha20-poly1305", "xchacha20-poly1305"}

func parseInfo(body []byte, name string) (info Info, derived bool, err error) {
	var k struct {
		Name       *string `json:"name"`
		Type       *string `json:"type"`
		Derived    *bool   `json:"derived"`
		Latest     *int    `json:"latest_version"`
		MinDecrypt *int    `json:"min_decryption_version"`
		MinAvail   int     `json:"min_available_version"`
		MinEncrypt int     `json:"min_encryption_version"`
		Deletion   *bool   `json:"deletion_allowed"`
		Exportable *bool   `json:"exportable"`
		Backup     *bool   `json:"allow_plaintext_backup"`
	}
	if err := decodeData(body, &k); err != nil {
		return Info{}, false, err
	}
	if k.Name == nil || *k.Name != name || k.Type == nil || k.Derived == nil || k.Latest == nil || k.MinDecrypt == nil ||
		k.Deletion == nil || k.Exportable == nil || k.Backup == nil ||
		*k.Latest < 1 || *k.MinDecrypt < 0 || *k.MinDecrypt > *k.Latest || k.MinAvail < 0 || k.MinAvail > *k.Latest || k.MinEncrypt < 0 || k.MinEncrypt > *k.Latest {
		return Info{}, false, errAnswer
	}
	return Info{
		Type: *k.Type, LatestVersion: *k.Latest, MinDecryptionVersion: *k.MinDecrypt, MinAvailableVersion: k.MinAvail,
		DeletionAllowed: *k.Deletion, Exportable: *k.Exportable, PlaintextBackup: *k.Backup,
		MinEncryptionVersion: k.MinEncrypt,
	}, *k.Derived, nil
}

// parseUpsertDisabled reads MOUNT/config/keys.
func parseUpsertDisabled(body []byte) (bool, error) {
	var c struct {
		DisableUpsert *bool `json:"disable_upsert"`
	}
	if err := decodeData(body, &c); err != nil {
		return false, err
	}
	if c.DisableUpsert == nil {
		return false, errAnswer
	}
	return *c.DisableUpsert, nil
}

// parseCapabilities reads what sys/capabilities-self says of one path.
func parseCapabilities(body []byte, path string) (mayUpdate, mayCreate bool, err error) {
	var byPath map[string]json.RawMessage
	if err := decodeData(body, &byPath); err != nil {
		return false, false, err
	}
	var capabilities []string
	if json.Unmarshal(byPath[path], &capabilities) != nil || len(capabilities) == 0 {
		return false, false, errAnswer
	}
	has := func(c string) bool { return slices.Contains(capabilities, c) }
	if has("deny") {
		return false, false, nil
	}
	return has("root") || has("update"), has("root") || has("create"), nil
}
