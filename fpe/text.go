package fpe

// Text encrypts and decrypts strings over an alphabet with FF1. It is immutable
// and safe for concurrent use.
type Text struct {
	core     *core
	alphabet *Alphabet
}

// NewText returns FF1 over strings of the alphabet, whose radix must be that of
// f; otherwise it returns ErrRadix.
func NewText(f *FF1, alphabet *Alphabet) (*Text, error) {
	if f.Radix() != alphabet.Radix() {
		return nil, ErrRadix
	}
	return &Text{f.core, alphabet}, nil
}

// Encrypt returns the encryption of s: a string of as many symbols of the same
// alphabet. The tweak is not secret and may be empty; see the package
// documentation. The errors are those of FF1.Encrypt. A symbol takes as many
// bytes as its rune; the result can have another number of bytes than s if the
// alphabet mixes runes of one and of several bytes.
func (t *Text) Encrypt(s string, tweak []byte) (string, error) {
	return t.core.cryptText(t.alphabet, s, tweak, encrypting)
}

// Decrypt returns the decryption of s under the same tweak, like Encrypt. It
// cannot notice a wrong key, a wrong tweak or a changed value: it returns another
// string then.
func (t *Text) Decrypt(s string, tweak []byte) (string, error) {
	return t.core.cryptText(t.alphabet, s, tweak, decrypting)
}

// EncryptBatch returns what Encrypt returns for each of the values under the
// tweak with the same index, faster (see FF1.EncryptBatch). With an error,
// ErrBatch or a *BatchError, it returns nothing.
func (t *Text) EncryptBatch(values []string, tweaks [][]byte) ([]string, error) {
	return t.core.cryptTexts(t.alphabet, values, tweaks, encrypting)
}

// DecryptBatch is the inverse of EncryptBatch.
func (t *Text) DecryptBatch(values []string, tweaks [][]byte) ([]string, error) {
	return t.core.cryptTexts(t.alphabet, values, tweaks, decrypting)
}

const (
	stackNumerals = 64
	stackBytes    = 128
)

func (c *core) cryptText(a *Alphabet, s string, tweak []byte, dir direction) (string, error) {
	var numerals [stackNumerals]uint16
	in, err := a.AppendNumerals(numerals[:0], s)
	if err != nil {
		return "", err
	}
	if err := c.check(in, tweak); err != nil {
		return "", err
	}
	c.crypt(in, in, c.plan(len(in)), tweak, dir)
	var text [stackBytes]byte
	out, err := a.AppendText(text[:0], in)
	return string(out), err
}

func (c *core) cryptTexts(a *Alphabet, values []string, tweaks [][]byte, dir direction) ([]string, error) {
	if len(values) != len(tweaks) {
		return nil, ErrBatch
	}
	total := 0
	for _, s := range values {
		total += min(len(s), MaxLength)
	}
	flat := make([]uint16, 0, total)
	in := make([][]uint16, len(values))
	for i, s := range values {
		start := len(flat)
		var err error
		if flat, err = a.AppendNumerals(flat, s); err == nil {
			err = c.check(flat[start:], tweaks[i])
		}
		if err != nil {
			return nil, &BatchError{i, err}
		}
		in[i] = flat[start:len(flat):len(flat)]
	}
	c.cryptBatch(in, tweaks, dir)
	out := make([]string, len(values))
	var text []byte
	for i := range in {
		var err error
		if text, err = a.AppendText(text[:0], in[i]); err != nil {
			return nil, &BatchError{i, err}
		}
		out[i] = string(text)
	}
	return out, nil
}
