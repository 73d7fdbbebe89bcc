package tokenize

import "errors"

// Sentinel errors, to be tested with errors.Is. None carries a value, a token, a
// key or a subject's id.
var (
	// ErrValue: the value does not fit the tokenizer's format.
	ErrValue = errors.New("tokenize: the value does not fit the format")
	// ErrDomain: too few values look like this one: whoever may ask could try them
	// all. It is always an ErrValue too, unless a constructor returns it.
	ErrDomain = errors.New("tokenize: too few values are possible")
	// ErrToken: it is no token of this tokenizer: another format, or none that was
	// ever given out.
	ErrToken = errors.New("tokenize: not a token of this tokenizer")
	// ErrOtherTokenizer: the token was made by a tokenizer with another name.
	ErrOtherTokenizer = errors.New("tokenize: a token of another tokenizer")
	// ErrOtherTenant: the token was made for another tenant.
	ErrOtherTenant = errors.New("tokenize: a token of another tenant")
	// ErrOtherPurpose: the token was made for another purpose.
	ErrOtherPurpose = errors.New("tokenize: a token of another purpose")
	// ErrBinding is opaque on purpose: the token is of another subject or was made
	// with other associated data, or what is stored for it is damaged.
	ErrBinding = errors.New("tokenize: the token does not belong to this subject and associated data")
	// ErrExpired: the token's time is over.
	ErrExpired = errors.New("tokenize: the token has expired")
	// ErrUsedUp: the token was detokenized as often as it may be.
	ErrUsedUp = errors.New("tokenize: the token is used up")
	// ErrForgotten: the subject, or this purpose of it, was forgotten.
	ErrForgotten = errors.New("tokenize: the subject was forgotten")
	// ErrKeyMissing: there is no key the token could have been made with.
	ErrKeyMissing = errors.New("tokenize: no such key: check the subject, and that this is the key store the token was made with")
	// ErrKeyVersion: the owner has several keys, and the item does not say with
	// which the token was made.
	ErrKeyVersion = errors.New("tokenize: the key was rotated: set Item.KeyVersion to what Tokenize returned beside the token")
	// ErrNoSubject: the tokenizer needs a subject and the item has none.
	ErrNoSubject = errors.New("tokenize: no subject: kind and id must both be set")
	// ErrOneWay: pseudonyms have no way back.
	ErrOneWay = errors.New("tokenize: one-way pseudonyms cannot be turned back")
	// ErrExhausted: every token drawn was taken; the format has hardly any left.
	ErrExhausted = errors.New("tokenize: the format has hardly any free token left: use a longer one")
)
