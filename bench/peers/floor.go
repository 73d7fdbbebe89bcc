package peers

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
)

// floor is what no library with these keys can go below: a fresh AES-256 key and
// GCM per record, that key wrapped under a cached one of the subject and
// committed to with one SHA-256, five cells with random nonces in one buffer;
// nothing is bound to a context, nothing looked up, nothing checked by tags.
type floor struct {
	noKMS

	subjects []cipher.AEAD
}

const (
	floorNonce  = 12
	floorCell   = floorNonce + 16
	floorWrap   = 32 + floorCell
	floorHeader = floorWrap + sha256.Size
)

func newFloor(context.Context) (Adapter, error) {
	f := &floor{subjects: make([]cipher.AEAD, Subjects)}
	for i := range f.subjects {
		aead, err := newGCM(randomBytes(32))
		if err != nil {
			return nil, err
		}
		f.subjects[i] = aead
	}
	return f, nil
}

func floorAppend(g cipher.AEAD, out, plain []byte) []byte {
	start := len(out)
	out = out[:start+floorNonce]
	_, _ = rand.Read(out[start:])
	return g.Seal(out, out[start:start+floorNonce], plain, nil)
}

func (f *floor) Seal(_ context.Context, subject int, in *Record, out *Stored) error {
	var dek [32]byte
	_, _ = rand.Read(dek[:])
	record, err := newGCM(dek[:])
	if err != nil {
		return err
	}
	fields, size := in.fields(), floorHeader
	for _, v := range fields {
		size += 2 + len(*v) + floorCell
	}
	commit := sha256.Sum256(dek[:])
	buf := floorAppend(f.subjects[subject], make([]byte, 0, size), dek[:])
	buf = append(buf, commit[:]...)
	for _, v := range fields {
		buf = binary.LittleEndian.AppendUint16(buf, uint16(len(*v)+floorCell))
		buf = floorAppend(record, buf, []byte(*v))
	}
	out.Columns[0] = buf
	return nil
}

func (f *floor) Open(_ context.Context, subject int, in *Stored, out *Record) error {
	buf := in.Columns[0]
	if len(buf) < floorHeader {
		return errTruncated
	}
	var space [32]byte
	dek, err := f.subjects[subject].Open(space[:0], buf[:floorNonce], buf[floorNonce:floorWrap], nil)
	if err != nil {
		return err
	}
	if commit := sha256.Sum256(dek); subtle.ConstantTimeCompare(commit[:], buf[floorWrap:floorHeader]) != 1 {
		return errKey
	}
	record, err := newGCM(dek)
	if err != nil {
		return err
	}
	buf = buf[floorHeader:]
	plain := make([]byte, 0, len(buf))
	var ends [5]int
	for i := range ends {
		if len(buf) < 2 {
			return errTruncated
		}
		n := 2 + int(binary.LittleEndian.Uint16(buf))
		if n < 2+floorCell || len(buf) < n {
			return errTruncated
		}
		if plain, err = record.Open(plain, buf[2:2+floorNonce], buf[2+floorNonce:n], nil); err != nil {
			return err
		}
		ends[i], buf = len(plain), buf[n:]
	}
	text, start := string(plain), 0
	for i, v := range out.fields() {
		*v = text[start:ends[i]]
		start = ends[i]
	}
	return nil
}
