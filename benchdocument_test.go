package lethe_test

import (
	"encoding/json"
	"testing"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope/envelopetest"
)

// benchEvent is the workload as a document; plainEvent is the same without seals.
type benchEvent struct {
	_     lethe.Document `lethe:"events"`
	ID    string         `json:"id" lethe:"subject=customer"`
	Name  string         `json:"name" lethe:"name"`
	Email string         `json:"email" lethe:"email"`
	Phone string         `json:"phone" lethe:"phone"`
	IBAN  string         `json:"iban" lethe:"iban"`
	Note  string         `json:"note" lethe:"note"`
}

type plainEvent struct {
	ID string `json:"id"`
	plainRow
}

func newBenchEvent(i int) benchEvent {
	r := plainBenchRow
	return benchEvent{ID: newBenchRow(i).ID, Name: r.Name, Email: r.Email, Phone: r.Phone, IBAN: r.IBAN, Note: r.Note}
}

// benchDocuments returns sealed documents, whose keys are warm.
func benchDocuments(b *testing.B) (*lethe.Sealer[benchEvent], [][]byte) {
	b.Helper()
	s, err := lethe.For[benchEvent](envelopetest.NewKeyring(b))
	if err != nil {
		b.Fatal(err)
	}
	docs := make([][]byte, benchSubjects)
	for i := range docs {
		e := newBenchEvent(i)
		if docs[i], err = lethe.Marshal(b.Context(), s, &e); err != nil {
			b.Fatal(err)
		}
	}
	return s, docs
}

func marshalOne(b *testing.B) operation {
	s, _ := benchDocuments(b)
	var events [benchBlock]benchEvent
	ctx := b.Context()
	return operation{func(slot, i int) { events[slot] = newBenchEvent(i) }, func(slot int) {
		if _, err := lethe.Marshal(ctx, s, &events[slot]); err != nil {
			b.Fatal(err)
		}
	}}
}

func unmarshalOne(b *testing.B) operation {
	s, docs := benchDocuments(b)
	var in [benchBlock][]byte
	ctx := b.Context()
	return operation{func(slot, i int) { in[slot] = append([]byte(nil), docs[i]...) }, func(slot int) {
		var into benchEvent
		if err := lethe.Unmarshal(ctx, s, in[slot], &into); err != nil {
			b.Fatal(err)
		}
	}}
}

// floorMarshalOne is encoding/json of the plain struct, and the floor.
func floorMarshalOne(b *testing.B) operation {
	bare := floor{}.sealOne(b)
	var events [benchBlock]plainEvent
	return operation{func(slot, i int) {
		bare.make(slot, i)
		events[slot] = plainEvent{newBenchRow(i).ID, plainBenchRow}
	}, func(slot int) {
		if _, err := json.Marshal(&events[slot]); err != nil {
			b.Fatal(err)
		}
		bare.run(slot)
	}}
}

func floorUnmarshalOne(b *testing.B) operation {
	bare := floor{}.openOne(b)
	text, err := json.Marshal(&plainEvent{newBenchRow(1).ID, plainBenchRow})
	if err != nil {
		b.Fatal(err)
	}
	var in [benchBlock][]byte
	return operation{func(slot, i int) {
		bare.make(slot, i)
		in[slot] = append([]byte(nil), text...)
	}, func(slot int) {
		bare.run(slot)
		var into plainEvent
		if err := json.Unmarshal(in[slot], &into); err != nil {
			b.Fatal(err)
		}
	}}
}

func BenchmarkMarshal5(b *testing.B)   { single(b, marshalOne(b)) }
func BenchmarkUnmarshal5(b *testing.B) { single(b, unmarshalOne(b)) }

// Of these two the other side is encoding/json of the plain struct plus the floor.

func BenchmarkMarshal5AgainstFloor(b *testing.B)   { against(b, marshalOne(b), floorMarshalOne(b)) }
func BenchmarkUnmarshal5AgainstFloor(b *testing.B) { against(b, unmarshalOne(b), floorUnmarshalOne(b)) }
