package localkms

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/crypto/argon2"
)

// Bounds of what a file may ask for, so that a hostile one eats neither the
// memory nor the day.
const (
	maxTime      = 10
	maxMemoryKiB = 256 << 10
	maxThreads   = 16
	saltSize     = 16
)

// params are argon2id's parameters.
type params struct {
	time      uint32 // passes
	memoryKiB uint32
	threads   uint8
	salt      [saltSize]byte
}

// sealing encrypts a keyset under a key derived from a passphrase.
type sealing struct {
	params params
	key    [32]byte
}

// newSealing derives a key with a fresh salt and the second set of parameters
// that RFC 9106, section 4, recommends: 3 passes, 64 MiB, 4 lanes.
func newSealing(passphrase []byte) *sealing {
	p := params{time: 3, memoryKiB: 64 << 10, threads: 4}
	_, _ = rand.Read(p.salt[:]) // never fails
	return p.stretch(passphrase)
}

func (p params) stretch(passphrase []byte) *sealing {
	s := &sealing{params: p}
	k := argon2.IDKey(passphrase, p.salt[:], p.time, p.memoryKiB, p.threads, uint32(len(s.key)))
	copy(s.key[:], k)
	clear(k)
	return s
}

// stretchable refuses passphrases where only approved algorithms may be used.
func stretchable() error {
	if fips140.Enforced() {
		return fmt.Errorf("a %w is stretched with argon2id, which GODEBUG=fips140=only refuses: use a key file without one, or another KMS", ErrPassphrase)
	}
	return nil
}

// derive is stretch for a file's parameters.
func (p params) derive(passphrase []byte) (*sealing, error) {
	if passphrase == nil {
		return nil, fmt.Errorf("the file is encrypted and no %w was given", ErrPassphrase)
	}
	if err := stretchable(); err != nil {
		return nil, err
	}
	return p.stretch(passphrase), nil
}

func (p params) json() *kdfJSON {
	return &kdfJSON{Name: "argon2id", Time: p.time, MemoryKiB: p.memoryKiB, Threads: p.threads, Salt: p.salt[:]}
}

// params checks what a file says.
func (j *kdfJSON) params() (params, error) {
	if j.Name != "argon2id" || len(j.Salt) != saltSize || j.Time < 1 || j.Threads < 1 || j.MemoryKiB < 8*uint32(j.Threads) {
		return params{}, errDamaged
	}
	if j.Time > maxTime || j.MemoryKiB > maxMemoryKiB || j.Threads > maxThreads {
		return params{}, errors.New("the key file asks for more passphrase stretching than the allowed 10 passes, 256 MiB and 16 threads")
	}
	return params{time: j.Time, memoryKiB: j.MemoryKiB, threads: j.Threads, salt: [saltSize]byte(j.Salt)}, nil
}

// header is what the ciphertext authenticates: the file without its keyset.
func (s *sealing) header(c *contents) []byte {
	b := []byte("lethe/localkms/keyset\x00")
	b = binary.BigEndian.AppendUint32(b, uint32(c.format()))
	b = binary.BigEndian.AppendUint32(b, s.params.time)
	b = binary.BigEndian.AppendUint32(b, s.params.memoryKiB)
	b = append(b, s.params.threads)
	b = append(b, s.params.salt[:]...)
	if c.format() == formatHandles {
		b = binary.BigEndian.AppendUint32(b, uint32(len(c.handleIDs)))
		for _, id := range c.handleIDs {
			b = binary.BigEndian.AppendUint32(b, id)
		}
	}
	return append(b, c.id...)
}

func (s *sealing) aead() (cipher.AEAD, error) {
	block, err := aes.NewCipher(s.key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func (s *sealing) encrypt(clearKeyset []byte, c *contents) ([]byte, error) {
	a, err := s.aead()
	if err != nil {
		return nil, errors.New("localkms: cannot encrypt the keyset")
	}
	return a.Seal(nil, nil, clearKeyset, s.header(c)), nil
}

func (s *sealing) decrypt(sealed []byte, c *contents) ([]byte, error) {
	a, err := s.aead()
	if err != nil {
		return nil, errDamaged
	}
	clearKeyset, err := a.Open(nil, nil, sealed, s.header(c))
	if err != nil {
		return nil, fmt.Errorf("wrong %w, or the file was altered", ErrPassphrase)
	}
	return clearKeyset, nil
}
