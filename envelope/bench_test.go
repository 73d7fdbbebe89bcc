package envelope_test

import (
	"fmt"
	"testing"

	"github.com/lethe-go/lethe/envelope"
)

func benchRecord(i int) envelope.Record {
	r := record(fmt.Sprint("c", i))
	for f := range 5 {
		r.Cells = append(r.Cells, envelope.Cell{Field: fmt.Sprint("f", f), Codec: 1, Plain: make([]byte, 53)})
	}
	return r
}

func BenchmarkSealRecords(b *testing.B) {
	k := newWorld(b).ring(b)
	recs := make([]envelope.Record, 10000)
	for i := range recs {
		recs[i] = benchRecord(i)
	}
	if err := k.SealRecords(b.Context(), recs); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		recs[i].Header = nil
		if err := k.SealRecords(b.Context(), recs[i:i+1]); err != nil {
			b.Fatal(err)
		}
		i = (i + 1) % len(recs)
	}
}

func BenchmarkOpenRecords(b *testing.B) {
	k := newWorld(b).ring(b)
	recs := make([]envelope.Record, 10000)
	for i := range recs {
		recs[i] = benchRecord(i)
	}
	if err := k.SealRecords(b.Context(), recs); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if err := k.OpenRecords(b.Context(), recs[i:i+1]); err != nil {
			b.Fatal(err)
		}
		i = (i + 1) % len(recs)
	}
}
