package tokenize

import (
	"errors"
	"fmt"
	"strings"
)

// EmailOptions say which half of an e-mail address a token keeps. One of them at
// most may be set.
type EmailOptions struct {
	KeepLocal  bool
	KeepDomain bool
}

// EmailFormat is e-mail addresses in ASCII, local@domain. Letters become letters
// of the same case and digits digits; dots and other signs stay. A domain that is
// not kept gets ".invalid" after it (RFC 2606), so that no mail to a token ever
// reaches anyone; with KeepDomain a token can be the address of somebody else
// there. Nothing is normalised: addresses that differ in case have different
// tokens.
//
// A half with fewer than 1,000,000 values of its pattern is ErrDomain ("ada" has
// 17,576): that is so for many local parts. Where those must have tokens, keep
// neither half or use opaque random tokens.
func EmailFormat(o EmailOptions) (Format, error) {
	if o.KeepLocal && o.KeepDomain {
		return nil, errors.New("tokenize: EmailFormat: nothing would be replaced")
	}
	return &emailFormat{o, fmt.Sprintf("email/1 local=%t domain=%t", o.KeepLocal, o.KeepDomain)}, nil
}

type emailFormat struct {
	keep EmailOptions
	name string
}

const (
	invalidDomain = ".invalid"
	localSigns    = "!#$%&'*+-/=?^_`{|}~." // of a dot-atom, RFC 5322, section 3.2.3
)

func (f *emailFormat) Name() string { return f.name }
func (f *emailFormat) Radix() int   { return 0 }

// Split leaves the address without ".invalid" in Text, and the position of the @ in State.
func (f *emailFormat) Split(p *Parts, text string, side Side) error {
	if !f.keep.KeepDomain {
		short, is := strings.CutSuffix(text, invalidDomain)
		if is != (side == OfToken) {
			return side.misfit("its domain must end in .invalid if it is a token, and only then")
		}
		text = short
	}
	at := strings.LastIndexByte(text, '@')
	if at < 1 || at > 64 || len(text)-at-1 < 1 || len(text)-at-1 > 255-len(invalidDomain) {
		return side.misfit("an address is local@domain, of 1 to 64 and 1 to 247 bytes")
	}
	for i := range len(text) {
		if i == at {
			continue
		}
		_, size := classOf(text[i])
		signs := localSigns
		if i > at {
			signs = ".-"
		}
		if size == 0 && strings.IndexByte(signs, text[i]) < 0 {
			return side.misfit("byte %d is not allowed in an address", i)
		}
	}
	p.Text = append(p.Text, text...)
	p.State = at
	for _, half := range []struct {
		text string
		keep bool
	}{{text[:at], f.keep.KeepLocal}, {text[at:], f.keep.KeepDomain}} {
		if half.keep {
			p.Kept = append(p.Kept, half.text...)
		} else {
			splitClasses(p, half.text)
		}
	}
	return nil
}

func (f *emailFormat) Join(dst []byte, p *Parts, side Side) ([]byte, error) {
	numerals := p.Numerals
	if f.keep.KeepLocal {
		dst = append(dst, p.Text[:p.State]...)
	} else {
		dst, numerals = joinClasses(dst, p.Text[:p.State], numerals)
	}
	if f.keep.KeepDomain {
		return append(dst, p.Text[p.State:]...), nil
	}
	dst, _ = joinClasses(dst, p.Text[p.State:], numerals)
	if side == OfToken {
		dst = append(dst, invalidDomain...)
	}
	return dst, nil
}
