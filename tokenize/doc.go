// Package tokenize replaces values by tokens: card numbers, national ids, bank
// accounts, e-mail addresses or any text by something that fits the same place
// and says nothing.
//
// A [Tokenizer] works on batches of [Item]s, each with a subject and associated
// data, and reports what is wrong with an item in the item. There are four:
//
//   - [Random], the default: tokens drawn at random; the value is sealed under its
//     subject's key in a [Store].
//   - [FormatPreserving]: tokens that look like their values, by encryption, with
//     no store.
//   - [OneWay]: pseudonyms for joins, with no way back.
//   - [DateShift]: dates moved by the same number of days for each subject.
//
// # Which to take
//
// Take random tokens unless something forbids a store. They have nothing to do
// with the value, so there is nothing to break; they have integrity, expire, can
// be counted and deleted one by one; and an opaque token fits values of any
// length.
//
// Take format-preserving tokens where a store of every token is out of the
// question, or where the same value must give the same token in places that
// share nothing but a key. What they do not give:
//
//   - Integrity. A wrong key, subject, tenant or associated data, or a changed
//     token, gives a wrong value and mostly no error. Formats with a check digit
//     that is wrong in tokens notice most of it.
//   - Hidden equality. They are deterministic: equal values of one scope and
//     associated data have equal tokens, which can be counted, and whoever may
//     have values tokenized can try guesses.
//   - Large domains. Six free digits have a million values. A table of all of
//     them is made in a second by whoever has the key or is let to ask so often:
//     limit who may tokenize, and how much.
//   - An end, with [ScopeTenant]: no token can be forgotten alone.
//   - A place for the key's version: see below.
//
// Whether systems that hold tokens only are outside the scope of PCI DSS is a
// question for an assessor, who will ask where keys and values are and who can
// turn tokens back. No choice here answers it; tokens that keep BIN and last
// four digits, or pass the Luhn check, make the question harder.
//
// # Keys and forgetting
//
// Keys are those of a Keyring (lethe.TokenKeys): 32 random bytes for each
// subject and purpose, or for each tenant with [ScopeTenant]. What a tokenizer
// uses is derived from them with HKDF for its name and use, and never stored.
// Forgetting a subject, or a purpose of it, ends all tokens made with its keys:
// Detokenize then says [ErrForgotten], here at once, elsewhere after the Keyring's
// CacheTTL. Tokens in old backups of a token store are as dead as the keys. A
// forgotten person's tokens stay in tables as text that leads nowhere; remove
// them where even that is too much.
//
// # Construction
//
// With lp for bytes preceded by their length, 4 bytes big-endian, the subkey of an
// owner's key for a use is HKDF-Expand (RFC 5869, SHA-256) with the info
//
//	lp "lethe/1/token" | lp use | lp name …
//
// Format-preserving: use "fpe", the tokenizer's and the format's names; AES-256
// FF1 with the tweak 0x00 | len(kept) | kept | associated data, or 0x01 and
// SHA-256(lp kept | associated data) where both together are over 192 bytes. Random:
// use "seal" and the tokenizer's name, AES-256-GCM with a random nonce; use
// "fingerprint" for HMAC-SHA-256. One-way: use "pseudonym", purpose and domain,
// HMAC-SHA-256 of lp period | lp associated data | value. Dates: use "shift", the
// tokenizer's name and the days in decimal. What was made once turns back for
// ever: testdata/vectors.json says so.
//
// # Versions
//
// A key that was rotated makes other tokens, and the old ones need the old
// version. A format-preserving token has no room for it, so the version is the
// caller's to keep: [Item].KeyVersion, returned by Tokenize, in a column beside
// the token, and given back to Detokenize. Without it Detokenize works until the
// first rotation, then says [ErrKeyVersion]; it never guesses. A Random token's
// version is in its store.
//
// # Formats
//
// A [Format] says what values look like and what of them tokens keep; see
// [Pattern] for a language of your own, [CardFormat], [SSN], [NINO], [IBANFormat],
// [EmailFormat], [Postcode], [UUID] and [Alphanumeric]. Phone numbers are in the
// module tokenize/phone. What is kept is bound to the token. Values of which fewer
// than 1,000,000 exist are refused, as SP 800-38G Rev. 1 (second public draft)
// requires, for random tokens of a format too: they would run out.
//
// Only tokens that fail the check of their format (card numbers, IBANs by
// default, e-mail addresses under ".invalid") are never anybody's value. Others,
// such as SSNs, can be: mark the column, not the value.
package tokenize
