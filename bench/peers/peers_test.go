package peers_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/bench/peers"
)

func TestSampleHasTheSizeThatIsClaimed(t *testing.T) {
	r := peers.Sample
	require.Equal(t, peers.RecordBytes, len(r.Name)+len(r.Email)+len(r.Phone)+len(r.IBAN)+len(r.Note))
}

// Every adapter opens what it sealed, and what it stores does not show it.
func TestPeersOpenWhatTheySealed(t *testing.T) {
	for _, peer := range peers.All() {
		t.Run(peer.Name, func(t *testing.T) {
			a, err := peer.New(t.Context())
			require.NoError(t, err)
			defer a.Close()
			in := peers.Record{Name: "Grace Hopper", Email: "grace@example.com", Phone: "+1 555 0100", IBAN: "GB33BUKB20201555555555", Note: `"quoted" <née> 𝄞`}
			for _, subject := range []int{0, 17, peers.Subjects - 1} {
				var stored peers.Stored
				require.NoError(t, a.Seal(t.Context(), subject, &in, &stored))
				for _, column := range stored.Columns {
					require.NotContains(t, string(column), "Grace")
					require.NotContains(t, string(column), "+1 555")
				}
				var copied peers.Stored
				copied.CopyFrom(&stored)
				var out peers.Record
				require.NoError(t, a.Open(t.Context(), subject, &copied, &out))
				require.Equal(t, in, out)
				require.Equal(t, stored, copied, "Open changed what is stored")

				if peer.Bound || peer.SubjectKeys {
					require.Error(t, a.Open(t.Context(), subject^1, &copied, &out), "another subject's record opened")
				}
				damaged := copied.Columns[0]
				damaged[len(damaged)/2] ^= 1
				require.Error(t, a.Open(t.Context(), subject, &copied, &out), "a damaged record opened")
			}
		})
	}
}

func TestSlicesOpenWhatTheySealed(t *testing.T) {
	for _, peer := range peers.All() {
		if peer.Batch == 1 {
			continue
		}
		a, err := peer.New(t.Context())
		require.NoError(t, err)
		defer a.Close()
		s, ok := a.(peers.SliceAdapter)
		require.True(t, ok)
		subjects, in := []int{3, 1, 3}, make([]peers.Record, 3)
		for i := range in {
			in[i] = peers.Sample
			in[i].Name += string(rune('a' + i))
		}
		stored, out := make([]peers.Stored, 3), make([]peers.Record, 3)
		require.NoError(t, s.SealSlice(t.Context(), subjects, in, stored))
		require.NoError(t, s.OpenSlice(t.Context(), subjects, stored, out))
		require.Equal(t, in, out)
	}
}
