package config

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/lethe-go/lethe/envelope"
)

// Config is how a program finds its keys, and how it treats them. The zero value of
// a field means the default of package envelope. It does not change once loaded,
// and no form of printing shows a secret of it.
type Config struct {
	Path     string  // of the file; "" if there was none
	Store    Address // the key store
	KMS      Address // the key the store's root is wrapped under
	MoreKMS  []Address
	Ledger   Address
	Database Address // of the application; may be zero

	Suite       envelope.Suite
	CacheTTL    time.Duration
	CacheSize   int
	Timeout     time.Duration
	RotateAfter time.Duration
	Epochs      envelope.EpochOptions

	ReceiptKey string // file of the key that signs receipts; "" if they are not signed
	Tables     []Table

	passphrase  []byte
	secrets     []string
	secretFiles []string // that hold them
}

// Format writes "[config PATH]", for every verb.
func (c *Config) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[config "+c.Path+"]") }

// Load reads the configuration file at path, or that which LETHE_CONFIG names if
// path is empty, or none; then the environment of the process, which wins. The
// error lists all mistakes at once, with the line of the file.
func Load(path string) (*Config, error) {
	if path == "" {
		path = os.Getenv("LETHE_CONFIG")
	}
	return Read(path, os.Environ())
}

// Read is Load with another environment, of pairs "LETHE_STORE=…". An empty path
// means no file.
func Read(path string, environ []string) (*Config, error) {
	c := &Config{Path: path}
	var errs []error
	if path != "" {
		data, err := readFile(path)
		if err != nil {
			return nil, fmt.Errorf("config: %w", err)
		}
		errs = c.file(path, data)
	}
	errs = append(errs, c.environment(environ)...)
	if err := errors.Join(errs...); err != nil {
		return nil, c.hide(fmt.Errorf("config: %w", err))
	}
	return c, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}

// Check says what must be set before anything can be opened, and is not, or does not
// fit together. It opens nothing; Open and Init begin with it.
func (c *Config) Check() error {
	var errs []error
	where := "set it in the file"
	if c.Path == "" {
		where = "name the file in LETHE_CONFIG"
	}
	for _, n := range []struct {
		key string
		at  Address
	}{{"store", c.Store}, {"kms", c.KMS}, {"ledger", c.Ledger}} {
		if n.at.IsZero() {
			errs = append(errs, fmt.Errorf("config: %s is missing: %s, or set LETHE_%s", n.key, where, strings.ToUpper(n.key)))
		}
	}
	if !c.Store.IsZero() && sameDatabase(c.Store, c.Ledger) {
		errs = append(errs, errors.New("config: store and ledger are one database: a restore of it would bring forgotten people back; put the ledger elsewhere"))
	}
	return errors.Join(errs...)
}

// KMSPassphrase returns a copy of the passphrase of local key files; nil if there
// is none.
func (c *Config) KMSPassphrase() []byte { return bytes.Clone(c.passphrase) }

// Table returns the description of the table with this name in the file.
func (c *Config) Table(name string) (Table, error) {
	var known []string
	for _, t := range c.Tables {
		if t.Name == name {
			return t, nil
		}
		known = append(known, t.Name)
	}
	slices.Sort(known)
	if c.Path == "" {
		return Table{}, fmt.Errorf("config: there is no table %q: no file was named that describes it, see LETHE_CONFIG", name)
	}
	if len(known) == 0 {
		return Table{}, fmt.Errorf("config: there is no table %q: the configuration describes none", name)
	}
	return Table{}, fmt.Errorf("config: there is no table %q; there are %s", name, strings.Join(known, ", "))
}

// Signer returns the key that signs receipts, or nil if none is set. It is read
// from the file at every call.
func (c *Config) Signer() (crypto.Signer, error) {
	if c.ReceiptKey == "" {
		return nil, nil
	}
	data, err := os.ReadFile(c.ReceiptKey)
	if err != nil {
		return nil, fmt.Errorf("config: receipt_key: %w", err)
	}
	defer clear(data)
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" || strings.TrimSpace(string(rest)) != "" {
		return nil, fmt.Errorf("config: receipt_key: %s is not one PEM block PRIVATE KEY", c.ReceiptKey)
	}
	defer clear(block.Bytes)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("config: receipt_key: %s holds no PKCS#8 key", c.ReceiptKey)
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("config: receipt_key: %s holds a %T: receipts are signed with Ed25519", c.ReceiptKey, key)
	}
	return private, nil
}

const hidden = "[hidden]"

// Hide replaces every secret of the configuration that text has in it. It is the
// last net, for the errors of other packages.
func (c *Config) Hide(text string) string {
	// The longest first: one that another begins with would leave the rest of it.
	secrets := slices.SortedFunc(slices.Values(c.secrets), func(a, b string) int { return len(b) - len(a) })
	for _, secret := range secrets {
		if len(secret) > 2 {
			text = strings.ReplaceAll(text, secret, hidden)
		}
	}
	return text
}

// hide makes an error whose text has no secret; errors.Is and errors.As see through it.
func (c *Config) hide(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if hidden := c.Hide(text); hidden != text {
		return &hiddenError{text: hidden, err: err}
	}
	return err
}

type hiddenError struct {
	text string
	err  error
}

func (e *hiddenError) Error() string { return e.text }

func (e *hiddenError) Is(target error) bool { return errors.Is(e.err, target) }

func (e *hiddenError) As(target any) bool { return errors.As(e.err, target) }
