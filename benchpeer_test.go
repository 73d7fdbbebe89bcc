package lethe_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// plainRow is what a user of Tink encrypts: the record as one JSON text.
type plainRow struct {
	Name  string `json:"name"`
	Email string `json:"email"`
	Phone string `json:"phone"`
	IBAN  string `json:"iban"`
	Note  string `json:"note"`
}

var plainBenchRow = plainRow{benchValues[0], benchValues[1], benchValues[2], benchValues[3], benchValues[4]}

// newTink returns Tink's envelope encryption: a fresh AES-256-GCM key per
// record, wrapped under one key in memory.
func newTink(b *testing.B) tink.AEAD {
	b.Helper()
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		b.Fatal(err)
	}
	kek, err := aead.New(h)
	if err != nil {
		b.Fatal(err)
	}
	return aead.NewKMSEnvelopeAEAD2(aead.AES256GCMKeyTemplate(), kek)
}

// tinkSeal encrypts rows; withJSON encodes them too, inside the timed part.
func tinkSeal(b *testing.B, withJSON bool) operation {
	a := newTink(b)
	text, err := json.Marshal(&plainBenchRow)
	if err != nil {
		b.Fatal(err)
	}
	subject := make([][]byte, benchSubjects)
	for i := range subject {
		subject[i] = []byte(newBenchRow(i).ID)
	}
	var rows [benchBlock]int
	return operation{func(slot, i int) { rows[slot] = i }, func(slot int) {
		in := text
		var err error
		if withJSON {
			if in, err = json.Marshal(&plainBenchRow); err != nil {
				b.Fatal(err)
			}
		}
		if _, err = a.Encrypt(in, subject[rows[slot]]); err != nil {
			b.Fatal(err)
		}
	}}
}

// tinkOpen decrypts rows; withJSON decodes them too, inside the timed part.
func tinkOpen(b *testing.B, withJSON bool) operation {
	a := newTink(b)
	text, err := json.Marshal(&plainBenchRow)
	if err != nil {
		b.Fatal(err)
	}
	subject, sealed := make([][]byte, benchSubjects), make([][]byte, benchSubjects)
	for i := range sealed {
		subject[i] = []byte(newBenchRow(i).ID)
		if sealed[i], err = a.Encrypt(text, subject[i]); err != nil {
			b.Fatal(err)
		}
	}
	type row struct{ sealed, subject []byte }
	var rows [benchBlock]row
	return operation{func(slot, i int) { rows[slot] = row{bytes.Clone(sealed[i]), subject[i]} }, func(slot int) {
		out, err := a.Decrypt(rows[slot].sealed, rows[slot].subject)
		if err != nil {
			b.Fatal(err)
		}
		if !withJSON {
			return
		}
		var into plainRow
		if err := json.Unmarshal(out, &into); err != nil {
			b.Fatal(err)
		}
	}}
}

// Of Tink, "json" is a record turned into one JSON blob and encrypted, "blob"
// the encryption of a blob that is there already.

func BenchmarkSeal5AgainstTink(b *testing.B) {
	b.Run("json", func(b *testing.B) { against(b, sealOne(b), tinkSeal(b, true)) })
	b.Run("blob", func(b *testing.B) { against(b, sealOne(b), tinkSeal(b, false)) })
}

func BenchmarkOpen5AgainstTink(b *testing.B) {
	b.Run("json", func(b *testing.B) { against(b, openOne(b), tinkOpen(b, true)) })
	b.Run("blob", func(b *testing.B) { against(b, openOne(b), tinkOpen(b, false)) })
}
