package envelope_test

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/envelope/memledger"
	"github.com/lethe-go/lethe/envelope/memstore"
	"github.com/lethe-go/lethe/kms"
)

// handleKMS is a KMS whose handles are destroyed, at once unless held.
type handleKMS struct {
	kms.Key
	delay time.Duration
	hold  bool // destruction is only ordered

	mu      sync.Mutex
	t       testing.TB
	handles map[string]kms.Key
}

func newHandleKMS(t testing.TB) *handleKMS {
	t.Helper()
	return &handleKMS{Key: envelopetest.NewKey(t), t: t, handles: map[string]kms.Key{}}
}

func (h *handleKMS) KeyURI() string { return "test-kms://receipts" }

func (h *handleKMS) EraseSemantics(context.Context) (kms.EraseSemantics, error) {
	return kms.EraseSemantics{MinDelay: h.delay}, nil
}

func (h *handleKMS) NewHandle(_ context.Context, label string) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.handles[label] == nil {
		h.handles[label] = envelopetest.NewKey(h.t)
	}
	return label, nil
}

func (h *handleKMS) HandleKey(handle string) (kms.Key, error) { return oneHandle{h, handle}, nil }

func (h *handleKMS) Destroy(ctx context.Context, handle string) (kms.Erasure, error) {
	h.mu.Lock()
	if !h.hold {
		delete(h.handles, handle)
	}
	h.mu.Unlock()
	return h.Erasure(ctx, handle)
}

func (h *handleKMS) Erasure(_ context.Context, handle string) (kms.Erasure, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.handles[handle] != nil {
		return kms.Erasure{State: kms.HandleScheduled, At: time.Now().Add(time.Hour)}, nil
	}
	return kms.Erasure{State: kms.HandleDestroyed}, nil
}

type oneHandle struct {
	of     *handleKMS
	handle string
}

func (o oneHandle) key() (kms.Key, error) {
	o.of.mu.Lock()
	defer o.of.mu.Unlock()
	if k := o.of.handles[o.handle]; k != nil {
		return k, nil
	}
	return nil, kms.Rejected("decrypt", "test", errors.New("destroyed"))
}

func (o oneHandle) EncryptWithContext(ctx context.Context, p, ad []byte) ([]byte, error) {
	k, err := o.key()
	if err != nil {
		return nil, err
	}
	return k.EncryptWithContext(ctx, p, ad)
}

func (o oneHandle) DecryptWithContext(ctx context.Context, p, ad []byte) ([]byte, error) {
	k, err := o.key()
	if err != nil {
		return nil, err
	}
	return k.DecryptWithContext(ctx, p, ad)
}

func receiptRing(t testing.TB, key kms.Key, window time.Duration) (*envelope.Keyring, *memledger.Ledger) {
	t.Helper()
	ledger := &memledger.Ledger{}
	store, opts := memstore.New(), envelope.Options{Ledger: ledger, Epochs: envelope.EpochOptions{Window: window}}
	require.NoError(t, envelope.Init(t.Context(), store, key, opts))
	k, err := envelope.NewKeyring(t.Context(), store, key, opts)
	require.NoError(t, err)
	t.Cleanup(k.Close)
	return k, ledger
}

func entriesOf(t testing.TB, l envelope.Ledger) []envelope.LedgerEntry {
	t.Helper()
	entries, err := l.Read(t.Context(), 0)
	require.NoError(t, err)
	return entries
}

func TestReceiptFromForgetToDestruction(t *testing.T) {
	key := newHandleKMS(t)
	key.hold = true
	k, ledger := receiptRing(t, key, -1)
	seal(t, k, record("ada", "a"))
	seal(t, k, record("bob", "b"))

	first, err := k.Forget(t.Context(), person("ada"))
	require.NoError(t, err)
	require.Len(t, first.KeyIDs, 1)
	require.EqualValues(t, 1, first.Epoch)
	require.Zero(t, first.ClosedEpoch)
	require.False(t, first.Complete)
	require.Equal(t, []uint64{first.Seq}, first.Entries)
	require.Len(t, first.Handles, 1)
	require.Equal(t, envelope.ReceiptLive, first.Handles[0].State)
	require.Equal(t, first.Time.Add(k.Promise().Backups).Unix(), first.Forgotten.Unix())
	require.Empty(t, first.None)
	require.NoError(t, envelope.VerifyAgainstLedger(first, entriesOf(t, ledger)))

	_, err = k.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.NoError(t, err)
	ordered, err := k.Receipt(t.Context(), first.Seq)
	require.NoError(t, err)
	require.EqualValues(t, 2, ordered.ClosedEpoch)
	require.Len(t, ordered.Handles, 1)
	require.Equal(t, envelope.ReceiptOrdered, ordered.Handles[0].State)
	require.Equal(t, ordered.Handles[0].Until, ordered.Forgotten)
	require.False(t, ordered.Complete)

	// One who is forgotten now is reached by the new root too.
	late, err := k.Forget(t.Context(), person("bob"))
	require.NoError(t, err)
	require.Zero(t, late.ClosedEpoch)
	require.Len(t, late.Handles, 2)

	key.hold = false
	_, err = k.EraseDue(t.Context())
	require.NoError(t, err)
	key.mu.Lock()
	for handle := range key.handles { // the KMS does what was ordered
		if strings.HasSuffix(handle, "-1") {
			delete(key.handles, handle)
		}
	}
	key.mu.Unlock()
	_, err = k.EraseDue(t.Context())
	require.NoError(t, err)
	second, err := k.Receipt(t.Context(), first.Seq)
	require.NoError(t, err)
	require.True(t, second.Complete)
	require.Equal(t, envelope.ReceiptDestroyed, second.Handles[0].State)
	require.Equal(t, second.Handles[0].Destroyed, second.Forgotten)
	require.NoError(t, envelope.VerifyAgainstLedger(second, entriesOf(t, ledger)))
	require.NoError(t, envelope.VerifyAgainstLedger(first, entriesOf(t, ledger)), "a receipt holds as of its entry")
	require.Contains(t, second.String(), "confirmed")

	other, err := k.Receipt(t.Context(), late.Seq)
	require.NoError(t, err)
	require.False(t, other.Complete, "its key was alive in epoch 2")
}

func TestReceiptWithoutATime(t *testing.T) {
	t.Run("the key cannot be destroyed in part", func(t *testing.T) {
		k, _ := receiptRing(t, envelopetest.NewKey(t), 0)
		seal(t, k, record("ada", "a"))
		r, err := k.Forget(t.Context(), person("ada"))
		require.NoError(t, err)
		require.Zero(t, r.Forgotten)
		require.NotEmpty(t, r.None)
		require.Equal(t, envelope.ReceiptNotErasable, r.Handles[0].State)
	})
	t.Run("unknown", func(t *testing.T) {
		k, ledger := receiptRing(t, newHandleKMS(t), 0)
		r, err := k.Forget(t.Context(), person("nobody"))
		require.NoError(t, err)
		require.True(t, r.Unknown)
		require.Zero(t, r.Forgotten)
		require.NotEmpty(t, r.None)
		require.NoError(t, envelope.VerifyAgainstLedger(r, entriesOf(t, ledger)))
	})
	t.Run("no forget", func(t *testing.T) {
		k, _ := receiptRing(t, newHandleKMS(t), 0)
		for _, seq := range []uint64{0, 1, 2, 1 << 60} {
			_, err := k.Receipt(t.Context(), seq)
			require.ErrorIs(t, err, envelope.ErrLedger, seq)
		}
	})
}

func TestReceiptOfAPurposeHasItsTokenKeys(t *testing.T) {
	k, ledger := receiptRing(t, newHandleKMS(t), 0)
	var out [1]envelope.TokenKeys
	require.NoError(t, k.TokenKeys(t.Context(), []envelope.TokenOwner{{Subject: person("ada"), Purpose: "billing"}}, true, out[:]))
	r, err := k.ForgetPurpose(t.Context(), person("ada"), "billing")
	require.NoError(t, err)
	require.Len(t, r.KeyIDs, 1)
	require.False(t, r.Unknown)
	require.Len(t, r.Entries, 2)
	require.NoError(t, envelope.VerifyAgainstLedger(r, entriesOf(t, ledger)))
	again, err := k.ForgetPurpose(t.Context(), person("ada"), "billing")
	require.NoError(t, err)
	require.True(t, again.Already)
	require.Equal(t, r.KeyIDs, again.KeyIDs)
}

func TestVerifyAgainstLedgerFindsChanges(t *testing.T) {
	k, ledger := receiptRing(t, newHandleKMS(t), -1)
	seal(t, k, record("ada", "a"))
	seal(t, k, record("bob", "b"))
	_, err := k.Forget(t.Context(), person("bob"))
	require.NoError(t, err)
	_, err = k.Forget(t.Context(), person("ada"))
	require.NoError(t, err)
	_, err = k.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.NoError(t, err)
	r, err := k.Receipt(t.Context(), 3)
	require.NoError(t, err)
	entries := entriesOf(t, ledger)
	require.NoError(t, envelope.VerifyAgainstLedger(r, entries))
	for name, change := range map[string]func(r *envelope.Receipt){
		"seq":      func(r *envelope.Receipt) { r.Seq-- },
		"kind":     func(r *envelope.Receipt) { r.Seq = 1 },
		"store":    func(r *envelope.Receipt) { r.Store[0] ^= 1 },
		"kids":     func(r *envelope.Receipt) { r.KeyIDs = nil },
		"time":     func(r *envelope.Receipt) { r.Time = r.Time.Add(time.Second) },
		"head":     func(r *envelope.Receipt) { r.LedgerHead = strings.Repeat("0", 64) },
		"last":     func(r *envelope.Receipt) { r.LedgerSeq-- },
		"beyond":   func(r *envelope.Receipt) { r.LedgerSeq += 100 },
		"closed":   func(r *envelope.Receipt) { r.ClosedEpoch = 1 },
		"handles":  func(r *envelope.Receipt) { r.Handles = nil },
		"complete": func(r *envelope.Receipt) { r.Complete = !r.Complete },
		"entries":  func(r *envelope.Receipt) { r.Entries = []uint64{2, 3} },
	} {
		bad := r
		change(&bad)
		require.ErrorIs(t, envelope.VerifyAgainstLedger(bad, entries), envelope.ErrNotVerified, name)
	}
	for i := range entries {
		bad := slices.Clone(entries)
		bad[i].Time++
		require.ErrorIs(t, envelope.VerifyAgainstLedger(r, bad), envelope.ErrNotVerified, i)
		require.ErrorIs(t, envelope.VerifyAgainstLedger(r, slices.Delete(slices.Clone(entries), i, i+1)), envelope.ErrNotVerified, i)
	}
}

// fixedReceipt has every member set.
func fixedReceipt() envelope.Receipt {
	at := time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC)
	return envelope.Receipt{
		Store: envelope.StoreID{1, 2, 3}, Tree: 1, Seq: 7, Time: at, Entries: []uint64{7, 9}, KeyIDs: []envelope.KeyID{{4}, {5}},
		Already: true, Epoch: 3, ClosedEpoch: 4, LedgerSeq: 12, LedgerHead: strings.Repeat("ab", 32), Complete: true,
		Handles: []envelope.ReceiptHandle{{
			Epoch: 3, URI: "test-kms://receipts", Handle: "010203-3", Semantics: kms.EraseSemantics{MinDelay: time.Hour}.String(),
			State: envelope.ReceiptDestroyed, Due: at.Add(time.Hour), Until: at.Add(2 * time.Hour), Destroyed: at.Add(3 * time.Hour),
		}},
		Residuals:  []envelope.Residual{{Kind: envelope.ResidualColumns, Name: "customers", Count: 1, Note: "email_idx"}},
		Everywhere: at.Add(5 * time.Minute), Forgotten: at.Add(3 * time.Hour), Issued: at.Add(4 * time.Hour),
	}
}

// testSigner has a key that everybody knows.
func testSigner() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte("a test key, known to everybody!!"))
}

func testPublic() ed25519.PublicKey { return testSigner().Public().(ed25519.PublicKey) }

func signedJSON(t testing.TB, r envelope.Receipt) []byte {
	t.Helper()
	s, err := envelope.SignReceipt(r, testSigner())
	require.NoError(t, err)
	data, err := json.Marshal(s)
	require.NoError(t, err)
	return data
}

func verifyJSON(data []byte, pubs ...ed25519.PublicKey) (envelope.Receipt, error) {
	var s envelope.SignedReceipt
	if err := json.Unmarshal(data, &s); err != nil {
		return envelope.Receipt{}, err
	}
	return s.Verify(pubs...)
}

var updateReceipts = flag.Bool("update-receipts", false, "write the vectors in testdata/receipts anew")

func TestReceiptVector(t *testing.T) {
	path := filepath.Join("testdata", "receipts", "complete.json")
	want := append(signedJSON(t, fixedReceipt()), '\n')
	if *updateReceipts {
		require.NoError(t, os.WriteFile(path, want, 0o600))
	}
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
	r, err := verifyJSON(got, testPublic())
	require.NoError(t, err)
	require.Equal(t, fixedReceipt(), r)
}

func TestSignedReceiptIsStrict(t *testing.T) {
	good := signedJSON(t, fixedReceipt())
	for i := range good {
		for bit := range 8 {
			bad := slices.Clone(good)
			bad[i] ^= 1 << bit
			_, err := verifyJSON(bad, testPublic())
			require.Error(t, err, "byte %d bit %d", i, bit)
		}
	}
	for name, change := range map[string]func(s string) string{
		"unknown member":  func(s string) string { return strings.Replace(s, "{", `{"x":1,`, 1) },
		"repeated member": func(s string) string { return strings.Replace(s, "{", `{"payloadType":"x",`, 1) },
		"other spelling":  func(s string) string { return strings.Replace(s, "payloadType", "PayloadType", 1) },
		"trailing data":   func(s string) string { return s + "{}" },
		"no signatures":   func(s string) string { before, _, _ := strings.Cut(s, "["); return before + "[]}" },
		"cut":             func(s string) string { return s[:len(s)-1] },
		"line in base64":  func(s string) string { return strings.Replace(s, `"payload":"`, `"payload":"\n`, 1) },
	} {
		_, err := verifyJSON([]byte(change(string(good))), testPublic())
		require.Error(t, err, name)
	}
	spaced := strings.ReplaceAll(string(good), ",", ",\n  ")
	_, err := verifyJSON([]byte(spaced), testPublic())
	require.NoError(t, err, "white space between members is nobody's")

	s, err := envelope.SignReceipt(fixedReceipt(), testSigner())
	require.NoError(t, err)
	two := s
	two.Signatures = append(slices.Clone(s.Signatures), s.Signatures[0])
	other, _, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	for name, err := range map[string]error{
		"two signatures": second(two.Verify(testPublic())),
		"no key":         second(s.Verify()),
		"another key":    second(s.Verify(other)),
		"a short key":    second(s.Verify(testPublic()[:31])),
	} {
		require.ErrorIs(t, err, envelope.ErrNotVerified, name)
	}
	_, err = s.Verify(other, testPublic())
	require.NoError(t, err, "one of several keys")
}

func second[T any](_ T, err error) error { return err }

// A payload that is signed and is no receipt is refused all the same.
func TestSignedPayloadIsStrict(t *testing.T) {
	whole, err := json.Marshal(fixedReceipt())
	require.NoError(t, err)
	for _, payload := range []string{"", "{}", "null", string(whole) + " ", string(whole) + "{}", strings.Replace(string(whole), "{", `{"x":1,`, 1), strings.Replace(string(whole), `"seq":7`, `"seq":7,"seq":8`, 1)} {
		pae := fmt.Sprintf("DSSEv1 %d %s %d %s", len(envelope.ReceiptType), envelope.ReceiptType, len(payload), payload)
		s := envelope.SignedReceipt{PayloadType: envelope.ReceiptType, Payload: []byte(payload), Signatures: []envelope.ReceiptSignature{{
			KeyID: envelope.ReceiptKeyID(testPublic()), Sig: ed25519.Sign(testSigner(), []byte(pae)),
		}}}
		_, err := s.Verify(testPublic())
		require.ErrorIs(t, err, envelope.ErrNotVerified, payload)
		require.NotContains(t, err.Error(), "signature", "it was signed")
	}
}

type faultySigner struct{ ed25519.PrivateKey }

func (faultySigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return make([]byte, ed25519.SignatureSize), nil
}

func TestSignReceiptChecksItsSigner(t *testing.T) {
	_, err := envelope.SignReceipt(fixedReceipt(), nil)
	require.Error(t, err)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	_, err = envelope.SignReceipt(fixedReceipt(), rsaKey)
	require.ErrorContains(t, err, "Ed25519")
	_, err = envelope.SignReceipt(fixedReceipt(), faultySigner{testSigner()})
	require.ErrorIs(t, err, envelope.ErrNotVerified)
}

// No text that is not the one that was signed verifies.
func FuzzSignedReceipt(f *testing.F) {
	good := signedJSON(f, fixedReceipt())
	f.Add(good, 0, byte(1))
	f.Add(good, len(good)/2, byte(0x20))
	f.Add([]byte("{}"), 0, byte(0))
	f.Fuzz(func(t *testing.T, data []byte, at int, flip byte) {
		if at >= 0 && at < len(data) {
			data = slices.Clone(data)
			data[at] ^= flip
		}
		r, err := verifyJSON(data, testPublic())
		if err != nil {
			return
		}
		again, err := json.Marshal(r)
		require.NoError(t, err)
		want, err := json.Marshal(fixedReceipt())
		require.NoError(t, err)
		require.Equal(t, string(want), string(again))
		require.NotEmpty(t, r.String())
	})
}

func TestReceiptForPeople(t *testing.T) {
	r := fixedReceipt()
	r.Residuals[0].Note = "a\n  beyond backups since ever"
	require.NotContains(t, r.String(), "a\n  beyond")
	require.Contains(t, r.String(), "customers, 1 rows")
	require.NotContains(t, r.String(), "backups of the KMS")
	h := &r.Handles[0]
	h.Semantics = kms.EraseSemantics{Cancelable: true, OperatorBackedUp: true}.String()
	require.Contains(t, r.String(), "backups of the KMS itself hold it")
	require.NotContains(t, r.String(), "can cancel")
	h.State = envelope.ReceiptOrdered
	require.Contains(t, r.String(), "can cancel")
	h.State, h.Semantics = envelope.ReceiptDestroyed, ""
	require.Contains(t, r.String(), "an operator confirmed")
}
