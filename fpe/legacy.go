package fpe

// legacyMinDomain is the limit of SP 800-38G as it was published in 2016.
const legacyMinDomain = 100

// LegacySmallDomainDecrypter decrypts what was encrypted by others in lengths
// that have fewer than MinDomain values, and cannot encrypt. It is immutable and
// safe for concurrent use.
type LegacySmallDomainDecrypter struct {
	core *core
}

// NewLegacySmallDomainDecrypter returns a decrypter for a migration away from
// small domains: it takes every length with at least 100 values, which is what
// SP 800-38G of 2016 allowed and its Revision 1 does not. Whoever has one
// encrypted value of such a length has few to choose from, and FF1 itself is weaker
// there (Bellare, Hoang and Tessaro, Message-recovery attacks on Feistel-based
// format-preserving encryption, CCS 2016; Hoang, Tessaro and Trieu, The curse of
// small domains, CRYPTO 2018). The errors are those of NewFF1.
func NewLegacySmallDomainDecrypter(key []byte, radix int) (*LegacySmallDomainDecrypter, error) {
	c, err := newCore(key, radix, legacyMinDomain)
	if err != nil {
		return nil, err
	}
	return &LegacySmallDomainDecrypter{c}, nil
}

// Decrypt is FF1.Decrypt, for short values too.
func (d *LegacySmallDomainDecrypter) Decrypt(dst, src []uint16, tweak []byte) ([]uint16, error) {
	return d.core.append(dst, src, tweak, decrypting)
}

// DecryptText is Text.Decrypt, for short values too. The alphabet must have the
// decrypter's radix; otherwise it returns ErrRadix.
func (d *LegacySmallDomainDecrypter) DecryptText(alphabet *Alphabet, s string, tweak []byte) (string, error) {
	if uint64(alphabet.Radix()) != d.core.radix {
		return "", ErrRadix
	}
	return d.core.cryptText(alphabet, s, tweak, decrypting)
}
