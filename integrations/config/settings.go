package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/lethe-go/lethe/envelope"
)

// value is what a setting was given, and where.
type value struct {
	text string
	from string // "lethe.yaml:3" or "LETHE_STORE", to name in an error
	base string // what a relative path starts from
}

// setting is one key of the file, "epochs.every", and one variable of the
// environment, LETHE_EPOCHS_EVERY.
type setting struct {
	key    string
	secret bool // may be given as the name of a file that holds it
	clear  bool // may stand in the file itself (without a credential in it)
	set    func(c *Config, v value) error
}

func (s *setting) env() string {
	return "LETHE_" + strings.ToUpper(strings.ReplaceAll(s.key, ".", "_"))
}

// settings are all there are, but for the tables.
func settings() []setting {
	address := func(key string, kind addressKind, at func(c *Config) *Address) setting {
		return setting{key: key, secret: true, clear: true, set: func(c *Config, v value) (err error) {
			*at(c), err = kind.parse(v.text, v.base)
			return err
		}}
	}
	duration := func(key string, at func(c *Config) *time.Duration) setting {
		return setting{key: key, clear: true, set: func(c *Config, v value) (err error) {
			*at(c), err = parseDuration(v.text)
			return err
		}}
	}
	return []setting{
		address("store", storeAddress, func(c *Config) *Address { return &c.Store }),
		address("kms", kmsAddress, func(c *Config) *Address { return &c.KMS }),
		{key: "more_kms", secret: true, clear: true, set: func(c *Config, v value) error {
			c.MoreKMS = nil
			for text := range strings.SplitSeq(v.text, ",") {
				a, err := kmsAddress.parse(strings.TrimSpace(text), v.base)
				if err != nil {
					return err
				}
				c.MoreKMS = append(c.MoreKMS, a)
			}
			return nil
		}},
		{key: "kms_passphrase", secret: true, set: func(c *Config, v value) error {
			c.passphrase = []byte(v.text)
			return nil
		}},
		address("ledger", ledgerAddress, func(c *Config) *Address { return &c.Ledger }),
		address("database", storeAddress, func(c *Config) *Address { return &c.Database }),
		{key: "receipt_key", clear: true, set: func(c *Config, v value) error {
			c.ReceiptKey = v.text
			if !filepath.IsAbs(v.text) {
				c.ReceiptKey = filepath.Join(v.base, v.text)
			}
			return nil
		}},
		{key: "suite", clear: true, set: func(c *Config, v value) error {
			switch v.text {
			case "aes-256-gcm":
				c.Suite = envelope.SuiteAES256GCM
			case "xchacha20-poly1305":
				c.Suite = envelope.SuiteXChaCha
			default:
				return errors.New("is to be aes-256-gcm or xchacha20-poly1305")
			}
			return nil
		}},
		duration("cache.ttl", func(c *Config) *time.Duration { return &c.CacheTTL }),
		{key: "cache.size", clear: true, set: func(c *Config, v value) (err error) {
			if c.CacheSize, err = strconv.Atoi(v.text); err != nil {
				return errors.New("is to be a number")
			}
			return nil
		}},
		duration("timeout", func(c *Config) *time.Duration { return &c.Timeout }),
		duration("rotate_after", func(c *Config) *time.Duration { return &c.RotateAfter }),
		duration("epochs.every", func(c *Config) *time.Duration { return &c.Epochs.Every }),
		{key: "epochs.window", clear: true, set: func(c *Config, v value) (err error) {
			if v.text == "none" {
				c.Epochs.Window = -1
				return nil
			}
			c.Epochs.Window, err = parseDuration(v.text)
			return err
		}},
		duration("epochs.close_time", func(c *Config) *time.Duration { return &c.Epochs.CloseTime }),
		duration("epochs.replica_lag", func(c *Config) *time.Duration { return &c.Epochs.ReplicaLag }),
		{key: "epochs.long", clear: true, set: func(c *Config, v value) (err error) {
			if c.Epochs.Long, err = strconv.ParseBool(v.text); err != nil {
				return errors.New("is to be true or false")
			}
			return nil
		}},
	}
}

// parseDuration reads what time.ParseDuration does, and whole days: "7d".
func parseDuration(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, errors.New(`is to be a length of time, such as "90s", "12h" or "7d"`)
	}
	return d, nil
}

const maxSecret = 64 << 10

// readSecret reads a file that holds one value; a line end after it is none of it.
func (c *Config) readSecret(path, base string) (string, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(base, path)
	}
	c.secretFiles = append(c.secretFiles, path)
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if info.Size() > maxSecret {
		return "", fmt.Errorf("%s has more than %d KiB", path, maxSecret>>10)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	text := strings.TrimRight(string(data), "\r\n")
	if text == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return text, nil
}

// apply sets one value. The error names its place, and nothing of a secret one.
func (c *Config) apply(s *setting, v value) error {
	if s.secret {
		c.secrets = append(c.secrets, Address{url: v.text}.credentials()...)
		if !s.clear {
			c.secrets = append(c.secrets, v.text)
		}
	}
	if v.text == "" {
		return fmt.Errorf("%s: %s is empty: leave it out", v.from, s.key)
	}
	if err := s.set(c, v); err != nil {
		return fmt.Errorf("%s: %s %w", v.from, s.key, err)
	}
	return nil
}

// notOurs are variables that begin like a setting: the file's name, those of tests,
// and what Kubernetes sets for a Service that is named lethe.
func notOurs(name string) bool {
	if name == "LETHE_CONFIG" || name == "LETHE_PORT" {
		return true
	}
	for _, prefix := range []string{"LETHE_TEST_", "LETHE_SERVICE_", "LETHE_PORT_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// environment takes the variables LETHE_…, and LETHE_…_FILE for what may be
// secret. Their relative paths start from the working directory.
func (c *Config) environment(environ []string) []error {
	known := map[string]*setting{}
	all := settings()
	for i := range all {
		known[all[i].env()] = &all[i]
		if all[i].secret {
			known[all[i].env()+"_FILE"] = &all[i]
		}
	}
	var errs []error
	from := map[*setting]string{}
	for _, pair := range environ {
		name, text, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, "LETHE_") || notOurs(name) {
			continue
		}
		s := known[name]
		if s == nil {
			errs = append(errs, fmt.Errorf("the environment has %s, which is no setting: see the documentation of package config for their names", name))
			continue
		}
		if other := from[s]; other != "" {
			errs = append(errs, fmt.Errorf("the environment has both %s and %s: unset one", other, name))
			continue
		}
		from[s] = name
		if name != s.env() {
			var err error
			if text, err = c.readSecret(text, ""); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
				continue
			}
		}
		if err := c.apply(s, value{text: text, from: name}); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}
