package peers_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/lethe-go/lethe/bench/peers"
)

// A block is prepared untimed and then run: records that a service has just read
// from its database are in the processor's caches, the keys of 10,000 subjects in
// random order mostly not.
const block = 50

// counted is the number of records whose KMS calls and bytes are counted.
const counted = 1000

// order is a fixed random order of the subjects.
var order = rand.New(rand.NewPCG(1, 2)).Perm(peers.Subjects)

// side is one of the two directions: prepare fills slot for a subject, run works
// on the first n slots.
type side struct {
	size    int
	prepare func(slot, subject int)
	run     func() error
}

func sealing(ctx context.Context, peer peers.Peer, a peers.Adapter) side {
	size := max(peer.Batch, block)
	subjects, in, out := make([]int, size), make([]peers.Record, size), make([]peers.Stored, size)
	s := side{size: size, prepare: func(slot, subject int) { subjects[slot], in[slot] = subject, peers.Sample }}
	if slices, ok := a.(peers.SliceAdapter); ok && peer.Batch > 1 {
		s.run = func() error { return slices.SealSlice(ctx, subjects, in, out) }
		return s
	}
	s.run = func() error {
		for i := range in {
			if err := a.Seal(ctx, subjects[i], &in[i], &out[i]); err != nil {
				return err
			}
		}
		return nil
	}
	return s
}

func opening(ctx context.Context, peer peers.Peer, a peers.Adapter, sealed []peers.Stored) side {
	size := max(peer.Batch, block)
	subjects, in, out := make([]int, size), make([]peers.Stored, size), make([]peers.Record, size)
	s := side{size: size, prepare: func(slot, subject int) {
		subjects[slot] = subject
		in[slot].CopyFrom(&sealed[subject])
	}}
	if slices, ok := a.(peers.SliceAdapter); ok && peer.Batch > 1 {
		s.run = func() error { return slices.OpenSlice(ctx, subjects, in, out) }
		return s
	}
	s.run = func() error {
		for i := range in {
			if err := a.Open(ctx, subjects[i], &in[i], &out[i]); err != nil {
				return err
			}
		}
		return nil
	}
	return s
}

// measure runs blocks; all figures are for one record.
func measure(b *testing.B, s side) {
	b.Helper()
	n, records := 0, 0
	fill := func() {
		for slot := range s.size {
			s.prepare(slot, order[n])
			n = (n + 1) % len(order)
		}
	}
	b.ReportAllocs()
	fill() // gives the slots their memory
	runtime.GC()
	var m peers.Meter
	m.Begin()
	for b.Loop() {
		fill()
		m.Start()
		err := s.run()
		m.Stop()
		if err != nil {
			b.Fatal(err)
		}
		records += s.size
	}
	m.End()
	m.Report(records, b.ReportMetric)
}

// sealSome seals records of the first subjects in order, and reports their KMS
// calls and size.
func sealSome(b *testing.B, a peers.Adapter, sealed []peers.Stored) {
	b.Helper()
	calls, size := a.KMSCalls(), 0
	for i := range sealed {
		if err := a.Seal(b.Context(), order[i], &peers.Sample, &sealed[i]); err != nil {
			b.Fatal(err)
		}
		size += sealed[i].Size()
	}
	b.ReportMetric(float64(a.KMSCalls()-calls)*1000/float64(len(sealed)), "KMS-calls/1000")
	b.ReportMetric(float64(size)/float64(len(sealed))-peers.RecordBytes, "B-added/record")
}

func adapter(b *testing.B, peer peers.Peer) peers.Adapter {
	b.Helper()
	a, err := peer.New(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(a.Close)
	return a
}

// BenchmarkSeal and BenchmarkOpen: see the package documentation. An iteration
// is a block; ns/op and the others are for one record. cpu-ns/op is the time the
// process had a processor, of the garbage collector too.
func BenchmarkSeal(b *testing.B) {
	for _, peer := range peers.All() {
		b.Run("peer="+peer.Name, func(b *testing.B) {
			a := adapter(b, peer)
			measure(b, sealing(b.Context(), peer, a))
			sealSome(b, a, make([]peers.Stored, counted))
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, peer := range peers.All() {
		b.Run("peer="+peer.Name, func(b *testing.B) {
			a := adapter(b, peer)
			sealed := make([]peers.Stored, peers.Subjects)
			for i := range sealed {
				if err := a.Seal(b.Context(), i, &peers.Sample, &sealed[i]); err != nil {
					b.Fatal(err)
				}
			}
			measure(b, opening(b.Context(), peer, a, sealed))
			calls := a.KMSCalls()
			var out peers.Record
			for i := range counted {
				if err := a.Open(b.Context(), order[i], &sealed[order[i]], &out); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(a.KMSCalls()-calls)*1000/counted, "KMS-calls/1000")
		})
	}
}

// BenchmarkFF1 encrypts digits under AES-256, with a new tweak of 8 bytes for each
// value; the figures are for one value.
func BenchmarkFF1(b *testing.B) {
	const size = 256
	for _, length := range ff1Lengths {
		for _, peer := range peers.AllFF1() {
			b.Run(fmt.Sprint("digits=", length, "/peer=", peer.Name), func(b *testing.B) {
				encrypt, _, err := peer.New(ff1Key)
				if err != nil {
					b.Fatal(err)
				}
				values, tweaks := make([]string, size), make([][]byte, size)
				for i := range values {
					values[i], tweaks[i] = peers.DigitsOf(length), peers.Tweak(0)
				}
				b.ReportAllocs()
				var m peers.Meter
				tweak, n := uint64(0), 0
				m.Begin()
				for b.Loop() {
					for i := range tweaks {
						tweak++
						for j := range tweaks[i] {
							tweaks[i][j] = byte(tweak >> (8 * j))
						}
					}
					m.Start()
					for from := 0; from < size; from += peer.Batch {
						if err := encrypt(values[from:from+peer.Batch], tweaks[from:from+peer.Batch]); err != nil {
							b.Fatal(err)
						}
					}
					m.Stop()
					n += size
				}
				m.End()
				m.Report(n, b.ReportMetric)
			})
		}
	}
}
