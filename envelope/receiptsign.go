package envelope

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// ReceiptType is the payload type of signed receipts.
const ReceiptType = "application/vnd.lethe.receipt+json"

// ErrNotVerified means that a receipt is not what its signer signed, or does not
// fit the ledger.
var ErrNotVerified = errors.New("lethe: receipt not verified")

// SignedReceipt is a receipt in a DSSE v1 envelope with one Ed25519 signature.
// json.Marshal writes it; json.Unmarshal takes what that wrote, but for white
// space, and nothing else. What Payload says counts only once Verify returned it.
type SignedReceipt struct {
	PayloadType string             `json:"payloadType"`
	Payload     []byte             `json:"payload"` // a Receipt as JSON
	Signatures  []ReceiptSignature `json:"signatures"`
}

// ReceiptSignature is one signature of a SignedReceipt.
type ReceiptSignature struct {
	KeyID string `json:"keyid"` // see [ReceiptKeyID]
	Sig   []byte `json:"sig"`   // 64 bytes
}

// ReceiptKeyID names a public key: its SHA-256, in lower-case hexadecimal.
func ReceiptKeyID(pub ed25519.PublicKey) string {
	sum := sha256.Sum256(pub)
	return hex.EncodeToString(sum[:])
}

// pae is what DSSE v1 signs, its pre-authentication encoding.
func pae(payloadType string, payload []byte) []byte {
	b := append([]byte("DSSEv1 "), strconv.Itoa(len(payloadType))...)
	b = append(append(b, ' '), payloadType...)
	b = append(strconv.AppendInt(append(b, ' '), int64(len(payload)), 10), ' ')
	return append(b, payload...)
}

// SignReceipt signs a receipt. The signer must have an Ed25519 key (an
// ed25519.PrivateKey, or one that an HSM keeps). Use a key for receipts only, and
// publish its public half where whoever asks for a receipt finds it.
//
// It refuses a receipt that is not whole: of a call that failed, of RetireIndexKeys,
// which is not about a person, or made by hand. Ask [Keyring.Receipt] for one by its
// ledger entry. It does not see whether the receipt is true.
func SignReceipt(r Receipt, signer crypto.Signer) (SignedReceipt, error) {
	if signer == nil {
		return SignedReceipt{}, errors.New("envelope: SignReceipt needs a signer")
	}
	pub, ok := signer.Public().(ed25519.PublicKey)
	if !ok || len(pub) != ed25519.PublicKeySize {
		return SignedReceipt{}, fmt.Errorf("envelope: receipts are signed with Ed25519, and the signer's public key is a %T", signer.Public())
	}
	if err := r.check(); err != nil {
		return SignedReceipt{}, fmt.Errorf("envelope: the receipt is not whole, and was not signed: %w: ask Keyring.Receipt for it", err)
	}
	payload, err := json.Marshal(r)
	if err != nil {
		return SignedReceipt{}, fmt.Errorf("envelope: the receipt cannot be written: %w", err)
	}
	sig, err := signer.Sign(rand.Reader, pae(ReceiptType, payload), crypto.Hash(0))
	if err != nil {
		return SignedReceipt{}, fmt.Errorf("envelope: the receipt could not be signed: %w", err)
	}
	out := SignedReceipt{PayloadType: ReceiptType, Payload: payload, Signatures: []ReceiptSignature{{KeyID: ReceiptKeyID(pub), Sig: sig}}}
	if _, err := out.Verify(pub); err != nil {
		return SignedReceipt{}, fmt.Errorf("envelope: what the signer made does not verify: %w", err)
	}
	return out, nil
}

// Verify returns the receipt if one of the keys signed it. The signature is
// checked before anything is parsed. It needs neither a store nor a network. The
// error is ErrNotVerified.
func (s SignedReceipt) Verify(pubs ...ed25519.PublicKey) (Receipt, error) {
	switch {
	case len(pubs) == 0:
		return Receipt{}, fmt.Errorf("%w: no public key was given", ErrNotVerified)
	case s.PayloadType != ReceiptType:
		return Receipt{}, fmt.Errorf("%w: the payload is of type %.100q, not %q", ErrNotVerified, s.PayloadType, ReceiptType)
	case len(s.Signatures) != 1:
		return Receipt{}, fmt.Errorf("%w: it has %d signatures, not 1", ErrNotVerified, len(s.Signatures))
	}
	sig := &s.Signatures[0]
	found := false
	for _, pub := range pubs {
		if len(pub) != ed25519.PublicKeySize || ReceiptKeyID(pub) != sig.KeyID {
			continue
		}
		if found = ed25519.Verify(pub, pae(s.PayloadType, s.Payload), sig.Sig); !found {
			return Receipt{}, fmt.Errorf("%w: the signature is wrong: the receipt was changed", ErrNotVerified)
		}
		break
	}
	if !found {
		return Receipt{}, fmt.Errorf("%w: it was signed with the key %.64q, which is none of those given", ErrNotVerified, sig.KeyID)
	}
	var r Receipt
	if err := strictJSON(s.Payload, &r); err != nil {
		return Receipt{}, fmt.Errorf("%w: the payload is no receipt of this version: %w", ErrNotVerified, err)
	}
	return r, nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *SignedReceipt) UnmarshalJSON(data []byte) error {
	type plain SignedReceipt
	var got plain
	var compact bytes.Buffer
	err := json.Compact(&compact, data)
	if err == nil {
		err = strictJSON(compact.Bytes(), &got)
	}
	if err != nil {
		return fmt.Errorf("%w: it is no signed receipt: %w", ErrNotVerified, err)
	}
	*s = SignedReceipt(got)
	return nil
}

// strictJSON decodes what json.Marshal would have written, byte for byte: no
// unknown or repeated members, no other spelling, nothing after it.
func strictJSON(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows it")
	}
	if again, err := json.Marshal(v); err != nil || !bytes.Equal(again, data) {
		return errors.New("it is not written as it must be")
	}
	return nil
}
