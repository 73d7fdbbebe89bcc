package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/fileledger"
)

type receiptCommands struct {
	Verify receiptVerify `cmd:"" help:"Check a receipt's signature and, with --ledger, what it says."`
	Show   receiptShow   `cmd:"" help:"Print a receipt without checking it."`
	Issue  receiptIssue  `cmd:"" help:"Print the receipt of an earlier forget as things stand now: the second receipt."`
	Keygen receiptKeygen `cmd:"" help:"Make a key pair that signs receipts."`
}

type receiptVerify struct {
	Key     []string `required:"" placeholder:"PUB.pem" help:"Public key of a signer; may be repeated."`
	Ledger  string   `placeholder:"FILE" help:"Copy of the ledger file, which is not changed."`
	Receipt string   `arg:"" placeholder:"RECEIPT.json" help:"A signed receipt; - for standard input."`
}

// verified is the answer of verify and show, with --json.
type verified struct {
	Verified bool              `json:"verified"`
	KeyID    string            `json:"key_id,omitempty"`
	Ledger   bool              `json:"ledger_checked"`
	Error    string            `json:"error,omitempty"`
	Receipt  *envelope.Receipt `json:"receipt,omitempty"`
}

// Run verifies.
func (c *receiptVerify) Run(out *output) error {
	pubs := make([]ed25519.PublicKey, 0, len(c.Key))
	for _, path := range c.Key {
		pub, err := readPublicKey(path)
		if err != nil {
			return err
		}
		pubs = append(pubs, pub)
	}
	data, err := readInput(c.Receipt)
	if err != nil {
		return err
	}
	answer := verified{}
	r, keyID, err := verify(data, pubs)
	if err == nil && c.Ledger != "" {
		var entries []envelope.LedgerEntry
		if entries, err = fileledger.ReadCopy(c.Ledger); err != nil {
			return err
		}
		err = envelope.VerifyAgainstLedger(r, entries)
		answer.Ledger = err == nil
	}
	if err != nil {
		if out.json {
			answer.Error = err.Error()
			if err := out.result(answer, ""); err != nil {
				return err
			}
		}
		return verdictError{err}
	}
	answer.Verified, answer.KeyID, answer.Receipt = true, keyID, &r
	text := r.String() + "Verified: signed with the key " + keyID + "\n"
	if answer.Ledger {
		text += "and it fits the ledger (whose MACs only the key store's key can check)\n"
	}
	return out.result(answer, text)
}

func verify(data []byte, pubs []ed25519.PublicKey) (envelope.Receipt, string, error) {
	s, err := parse(data)
	if err != nil {
		return envelope.Receipt{}, "", err
	}
	r, err := s.Verify(pubs...)
	if err != nil {
		return envelope.Receipt{}, "", err
	}
	return r, s.Signatures[0].KeyID, nil
}

func parse(data []byte) (s envelope.SignedReceipt, err error) {
	if err := json.Unmarshal(data, &s); err != nil && !errors.Is(err, envelope.ErrNotVerified) {
		return s, fmt.Errorf("%w: it is no signed receipt: %w", envelope.ErrNotVerified, err)
	} else if err != nil {
		return s, err
	}
	return s, nil
}

type receiptShow struct {
	Receipt string `arg:"" placeholder:"RECEIPT.json" help:"A signed receipt; - for standard input."`
}

// Run prints what a receipt says, whoever wrote it.
func (c *receiptShow) Run(out *output) error {
	data, err := readInput(c.Receipt)
	if err != nil {
		return err
	}
	s, err := parse(data)
	if err != nil {
		return verdictError{err}
	}
	var r envelope.Receipt
	if err := json.Unmarshal(s.Payload, &r); err != nil {
		return verdictError{fmt.Errorf("%w: the payload is no receipt: %w", envelope.ErrNotVerified, err)}
	}
	return out.result(verified{Receipt: &r}, "NOT VERIFIED: anybody can have written this; see lethe receipt verify\n"+r.String())
}

type receiptKeygen struct {
	Out    string `required:"" placeholder:"KEY.pem" help:"File for the private key: PKCS#8, mode 0600, never overwritten."`
	Public string `required:"" placeholder:"PUB.pem" help:"File for the public key, never overwritten."`
}

// Run makes a key pair.
func (c *receiptKeygen) Run(out *output) error {
	pub, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	defer clear(der)
	publicDER, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return err
	}
	if err := writeNew(c.Out, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return err
	}
	if err := writeNew(c.Public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicDER}), 0o644); err != nil {
		return errors.Join(err, os.Remove(c.Out)) // half a pair is none
	}
	id := envelope.ReceiptKeyID(pub)
	return out.result(map[string]string{"key_id": id, "private": c.Out, "public": c.Public},
		fmt.Sprintf("key %s\nprivate half in %s: keep it secret\npublic half in %s: give it to whoever verifies receipts\n", id, c.Out, c.Public))
}

// writeNew writes a file that is not there yet, whole and synced, or none.
func writeNew(path string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

func readPublicKey(path string) (ed25519.PublicKey, error) {
	data, err := readInput(path)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PUBLIC KEY" || strings.TrimSpace(string(rest)) != "" {
		return nil, fmt.Errorf("%s is not one PEM block PUBLIC KEY", path)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	pub, ok := key.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%s is a %T: receipts are signed with Ed25519", path, key)
	}
	return pub, nil
}

const maxInputSize = 16 << 20

// readInput reads a file, or standard input, of a size that a receipt or key can have.
func readInput(path string) ([]byte, error) {
	f := os.Stdin
	if path != "-" {
		var err error
		if f, err = os.Open(path); err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
	}
	data, err := io.ReadAll(io.LimitReader(f, maxInputSize+1))
	if err == nil && len(data) > maxInputSize {
		err = fmt.Errorf("%s has more than %d MiB", path, maxInputSize>>20)
	}
	return data, err
}
