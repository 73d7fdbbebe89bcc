package tokenize

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/bits"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// RandomOptions configure a Random tokenizer.
type RandomOptions struct {
	// Name is the tokenizer's own, 1 to 256 bytes, and part of its keys and rows.
	Name string
	// Keys are those of a Keyring: lethe.TokenKeys(ring).
	Keys Keys
	// Store keeps the tokens.
	Store Store
	// Purpose is what the values are used for, as in the tags of package lethe;
	// forgetting it ends the tokens. Empty is a purpose of its own.
	Purpose string
	// Format is what tokens look like, and values must. nil makes opaque tokens of
	// 128 random bits after Prefix, for values of any kind up to MaxValue bytes.
	Format Format
	// Prefix of opaque tokens, "tok_" by default: 1 to 32 letters, digits or signs
	// of "-_". Not with a Format.
	Prefix string
	// SameToken gives equal values of one subject with equal associated data the
	// same token, which shows that they are equal. Without it every call makes a new
	// one.
	SameToken bool
	// TTL is how long a token lives, at least a second; 0: no limit.
	TTL time.Duration
	// MaxUses is how often a token may be detokenized; 0: no limit.
	MaxUses int
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Random makes tokens that have nothing to do with their values. Each value is
// sealed under its subject's key in the Store, so that forgetting the subject
// ends its tokens. It is the right choice unless tokens must be made without a
// store.
type Random struct {
	id     identity
	o      RandomOptions
	format layout // if there is one
	now    func() time.Time
}

var _ Describer = (*Random)(nil)

const (
	// MaxValue is the longest value of an opaque token in bytes.
	MaxValue = 64 << 10
	// MaxMetadata is the most metadata of a token in bytes, as JSON.
	MaxMetadata = 4 << 10
)

// NewRandom checks the options, and reports all mistakes at once.
func NewRandom(o RandomOptions) (*Random, error) {
	t := &Random{id: identity{o.Name, o.Purpose, ScopeSubject, o.Keys}, o: o, now: o.Now}
	errs := []error{t.id.check(false)}
	if o.Store == nil {
		errs = append(errs, errors.New("Options.Store is required: package tokenize/sqlstore has one"))
	}
	switch {
	case o.Format != nil && o.Prefix != "":
		errs = append(errs, errors.New("Options.Prefix is for opaque tokens, which have no Format"))
	case o.Format != nil:
		format, err := newLayout(o.Format)
		t.format, errs = format, append(errs, err)
	case o.Prefix == "":
		t.o.Prefix = "tok_"
	case len(o.Prefix) > 32 || strings.Trim(o.Prefix, prefixAlphabet) != "":
		errs = append(errs, errors.New("Options.Prefix must be 1 to 32 letters, digits or signs of -_"))
	}
	if o.TTL != 0 && o.TTL < time.Second {
		errs = append(errs, fmt.Errorf("Options.TTL %v is under a second", o.TTL))
	}
	if o.MaxUses < 0 {
		errs = append(errs, fmt.Errorf("Options.MaxUses %d is negative", o.MaxUses))
	}
	if t.now == nil {
		t.now = time.Now
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("tokenize: NewRandom: %w", err)
	}
	return t, nil
}

const prefixAlphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

// Format writes "[tokenizer]", for every verb: the fields lead to keys.
func (t *Random) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[tokenizer]") }

// Describe implements Describer.
func (t *Random) Describe() Description { return Description{Purpose: t.id.purpose} }

// randomKey is what Random makes of a subject's key.
type randomKey struct {
	aead cipher.AEAD
	mac  sync.Pool // of the fingerprint: hash.Hash
}

func (t *Random) prepare(k *Key) (any, error) {
	secret, err := k.subkey(useSeal, t.id.name)
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	r := &randomKey{}
	if r.aead, err = cipher.NewGCMWithRandomNonce(block); err != nil {
		return nil, err
	}
	macKey, err := k.subkey(useFingerprint, t.id.name)
	if err != nil {
		return nil, err
	}
	r.mac.New = func() any { return hmac.New(sha256.New, macKey) }
	return r, nil
}

func (t *Random) prepared(k *Key) (*randomKey, error) {
	made, err := k.prepare(t, t.prepare)
	if err != nil {
		return nil, err
	}
	r, _ := made.(*randomKey)
	return r, nil
}

// fingerprintSize is that of Entry.Fingerprint: a chance hit among 2^50 values has
// a probability below 2^-28, and shows as ErrBinding.
const fingerprintSize = 16

// fingerprint is HMAC-SHA-256 of the associated data and the value.
func (r *randomKey) fingerprint(it *Item) []byte {
	h, _ := r.mac.Get().(hash.Hash)
	defer r.mac.Put(h)
	h.Reset()
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(it.AssociatedData)))
	h.Write(n[:])
	h.Write(it.AssociatedData)
	_, _ = io.WriteString(h, it.Value)
	return h.Sum(nil)[:fingerprintSize]
}

// appendContext appends the associated data of a sealed value: all that must be
// as it was for the token to turn back.
func (t *Random) appendContext(dst []byte, it *Item, token string, version uint32, expires int64) []byte {
	dst = appendLP(appendLP(appendLP(dst, "lethe/1/token-value"), t.id.name), t.id.purpose)
	dst = appendLP(appendLP(appendLP(dst, it.Subject.Tenant), it.Subject.Kind), it.Subject.ID)
	dst = binary.BigEndian.AppendUint32(appendLP(dst, token), version)
	dst = binary.BigEndian.AppendUint64(dst, uint64(expires))
	return appendLP(dst, it.AssociatedData)
}

// Tokenize makes and stores a token for every item; see Tokenizer. Tokens that
// were stored before an error were given to nobody. With SameToken a value that
// has a token keeps its metadata and its time. Item errors: ErrValue, ErrDomain,
// ErrNoSubject, ErrForgotten, ErrExhausted.
func (t *Random) Tokenize(ctx context.Context, items []Item) error {
	w := newWork()
	defer w.release()
	if err := t.id.acquire(ctx, w, items, true); err != nil {
		return err
	}
	w.begin(len(items))
	values := make(map[string]struct{}, len(items))
	pending := make([]int, 0, len(items))
	for i := range items {
		it := &items[i]
		it.Token, it.KeyVersion = "", 0
		if it.Err != nil {
			continue
		}
		if it.Err = t.checkItem(&w.parts[i], it); it.Err != nil {
			continue
		}
		if w.keys[i] = w.newest(i, it); w.keys[i] != nil {
			pending = append(pending, i)
			values[it.Value] = struct{}{}
		}
	}
	now := t.now()
	for attempt := 0; len(pending) > 0; attempt++ {
		if attempt == maxDraws {
			for _, i := range pending {
				items[i].Err = ErrExhausted
			}
			return nil
		}
		var err error
		if pending, err = t.insert(ctx, w, items, pending, values, now); err != nil {
			return err
		}
	}
	return nil
}

// maxDraws is how many tokens are drawn for an item before its format counts as full.
const maxDraws = 20

// storable reports whether a database takes the text.
func storable(text string) bool { return utf8.ValidString(text) && strings.IndexByte(text, 0) < 0 }

var errTenant = errors.New("tokenize: the tenant must be valid UTF-8 without NUL")

func (t *Random) checkItem(p *Parts, it *Item) error {
	if !storable(it.Subject.Tenant) {
		return errTenant
	}
	if err := checkMetadata(it.Metadata); err != nil {
		return err
	}
	if t.o.Format != nil {
		if !storable(it.Value) {
			return OfValue.misfit("it is not valid UTF-8, or has a NUL")
		}
		return t.format.split(p, it.Value, OfValue)
	}
	if len(it.Value) > MaxValue {
		return OfValue.misfit("%d bytes, at most %d are allowed", len(it.Value), MaxValue)
	}
	return nil
}

// checkMetadata refuses what would not come back as it was.
func checkMetadata(metadata map[string]string) error {
	if metadata == nil {
		return nil
	}
	for k, v := range metadata {
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return errors.New("tokenize: metadata must be valid UTF-8")
		}
	}
	if text, err := json.Marshal(metadata); err != nil || len(text) > MaxMetadata {
		return fmt.Errorf("tokenize: metadata has %d bytes as JSON, at most %d are allowed", len(text), MaxMetadata)
	}
	return nil
}

// insert draws a token for each of the pending items and stores them in one
// batch. It returns those that need another try.
func (t *Random) insert(ctx context.Context, w *work, items []Item, pending []int, values map[string]struct{}, now time.Time) ([]int, error) {
	entries := make([]Entry, 0, len(pending))
	for _, i := range pending {
		e, err := t.entry(w, &items[i], i, values, now)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	results, err := t.o.Store.Insert(ctx, entries)
	if err != nil {
		return nil, err
	}
	if len(results) != len(entries) {
		return nil, fmt.Errorf("tokenize: the store answered for %d of %d entries", len(results), len(entries))
	}
	again := pending[:0]
	var stale []Place
	for j, i := range pending {
		it := &items[i]
		switch r := &results[j]; r.Outcome {
		case Inserted:
			it.Token, it.KeyVersion = entries[j].Token, entries[j].KeyVersion
		case SameValue:
			switch usable, err := t.usable(w, i, it, &r.Existing, now); {
			case err != nil:
				it.Err = err
			case usable:
				it.Token, it.KeyVersion = r.Existing.Token, r.Existing.KeyVersion
			default:
				stale = append(stale, Place{r.Existing.Tenant, r.Existing.Token})
				again = append(again, i)
			}
		default:
			again = append(again, i)
		}
	}
	if len(stale) > 0 {
		if _, err := t.o.Store.Delete(ctx, t.id.name, stale); err != nil {
			return nil, err
		}
	}
	return again, nil
}

// usable reports whether an entry with the item's fingerprint can serve it; one
// that has expired or is used up is to be replaced.
func (t *Random) usable(w *work, i int, it *Item, e *Entry, now time.Time) (bool, error) {
	if e.Expires != 0 && now.Unix() >= e.Expires || e.UsesLeft == 0 {
		return false, nil
	}
	value, _, err := t.open(w, i, it, e)
	if err == nil && value != it.Value {
		err = ErrBinding
	}
	return err == nil, err
}

func (t *Random) entry(w *work, it *Item, i int, values map[string]struct{}, now time.Time) (Entry, error) {
	key := w.keys[i]
	prepared, err := t.prepared(key)
	if err != nil {
		return Entry{}, err
	}
	e := Entry{
		Tokenizer: t.id.name, Tenant: it.Subject.Tenant, Purpose: t.id.purpose,
		KeyVersion: key.version, Created: now.Unix(), UsesLeft: -1,
	}
	if t.o.TTL > 0 {
		e.Expires = now.Add(t.o.TTL).Unix()
	}
	if t.o.MaxUses > 0 {
		e.UsesLeft = int64(t.o.MaxUses)
	}
	if e.Token, err = t.draw(&w.parts[i], values); err != nil {
		return Entry{}, err
	}
	if t.o.SameToken {
		// The oldest version makes fingerprints: those made before a rotation still match.
		oldest, err := t.prepared(w.oldest(i))
		if err != nil {
			return Entry{}, err
		}
		e.Fingerprint = oldest.fingerprint(it)
	}
	w.mark()
	w.text = appendLP(w.text[:0], it.Value)
	if it.Metadata != nil {
		text, err := json.Marshal(it.Metadata)
		if err != nil {
			return Entry{}, err
		}
		w.text = append(w.text, text...)
	}
	w.tweak = t.appendContext(w.tweak[:0], it, e.Token, e.KeyVersion, e.Expires)
	e.Sealed = prepared.aead.Seal(make([]byte, 0, len(w.text)+prepared.aead.Overhead()), nil, w.text, w.tweak)
	return e, nil
}

var tokenEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// draw makes a token that no value of the call is.
func (t *Random) draw(p *Parts, values map[string]struct{}) (string, error) {
	for range maxWalk {
		token, err := t.drawOnce(p)
		if err != nil {
			return "", err
		}
		if _, is := values[token]; !is && token != "" {
			return token, nil
		}
	}
	return "", errWalk
}

func (t *Random) drawOnce(p *Parts) (string, error) {
	if t.o.Format == nil {
		var random [16]byte
		rand.Read(random[:])
		return t.o.Prefix + tokenEncoding.EncodeToString(random[:]), nil
	}
	radix := t.format.radix
	for j := range p.Numerals {
		r := uint32(radix)
		if radix == 0 {
			r = p.Radices[j]
		}
		p.Numerals[j] = uint16(uniform(r))
	}
	if f, ok := t.o.Format.(Restricted); ok && !f.Admits(p) {
		return "", nil
	}
	token, err := t.o.Format.Join(nil, p, OfToken)
	return string(token), err
}

// uniform draws a number below n: Lemire, Fast random integer generation in an
// interval (ACM TOMACS 29, 2019), algorithm 5, on crypto/rand.
func uniform(n uint32) uint32 {
	if n == 1 {
		return 0
	}
	var b [4]byte
	for threshold := -n % n; ; {
		rand.Read(b[:])
		hi, lo := bits.Mul32(binary.BigEndian.Uint32(b[:]), n)
		if lo >= threshold {
			return hi
		}
	}
}

// open returns the value and metadata of an entry.
func (t *Random) open(w *work, i int, it *Item, e *Entry) (string, map[string]string, error) {
	probe := Item{}
	key := w.version(i, &probe, e.KeyVersion)
	if key == nil {
		return "", nil, probe.Err
	}
	prepared, err := t.prepared(key)
	if err != nil {
		return "", nil, err
	}
	w.mark()
	w.tweak = t.appendContext(w.tweak[:0], it, e.Token, e.KeyVersion, e.Expires)
	opened, err := prepared.aead.Open(w.text[:0], nil, e.Sealed, w.tweak)
	if err != nil || len(opened) < 4 {
		return "", nil, ErrBinding
	}
	w.text = opened
	n := int(binary.BigEndian.Uint32(w.text))
	if n > len(w.text)-4 {
		return "", nil, ErrBinding
	}
	value, rest := string(w.text[4:4+n]), w.text[4+n:]
	var metadata map[string]string
	if len(rest) > 0 {
		if err := json.Unmarshal(rest, &metadata); err != nil {
			return "", nil, ErrBinding
		}
	}
	return value, metadata, nil
}

// Detokenize sets Value and Metadata of every item; see Tokenizer. A use is taken
// only from a token that opened; of two calls for the last use one gets ErrUsedUp.
// Item errors: ErrToken, ErrOtherTokenizer, ErrOtherTenant, ErrOtherPurpose,
// ErrBinding, ErrExpired, ErrUsedUp, ErrNoSubject, ErrForgotten, ErrKeyMissing.
// KeyVersion is set, not read. After an error no item has a value, and uses may
// have been taken.
func (t *Random) Detokenize(ctx context.Context, items []Item) error {
	err := t.detokenize(ctx, items)
	if err != nil {
		for i := range items {
			items[i].Value, items[i].Metadata = "", nil
		}
	}
	return err
}

func (t *Random) detokenize(ctx context.Context, items []Item) error {
	w := newWork()
	defer w.release()
	if err := t.id.acquire(ctx, w, items, false); err != nil {
		return err
	}
	w.begin(1)
	places := make([]Place, 0, len(items))
	asked := make(map[Place]struct{}, len(items))
	for i := range items {
		it := &items[i]
		it.Value, it.Metadata = "", nil
		if it.Err != nil {
			continue
		}
		if !storable(it.Subject.Tenant) {
			it.Err = errTenant
			continue
		}
		if it.Err = t.checkToken(&w.parts[0], it.Token); it.Err != nil {
			continue
		}
		place := Place{it.Subject.Tenant, it.Token}
		if _, ok := asked[place]; !ok {
			asked[place] = struct{}{}
			places = append(places, place)
		}
	}
	if len(places) == 0 {
		return nil
	}
	found, err := t.o.Store.Find(ctx, t.id.name, places)
	if err != nil {
		return err
	}
	entries := make(map[Place]*Entry, len(found))
	for j := range found {
		entries[Place{found[j].Tenant, found[j].Token}] = &found[j]
	}
	if err := t.openAll(w, items, entries); err != nil {
		return err
	}
	if err := t.explainMissing(ctx, items, entries); err != nil {
		return err
	}
	return t.takeUses(ctx, items, entries)
}

func (t *Random) checkToken(p *Parts, token string) error {
	if t.o.Format != nil {
		if !storable(token) {
			return OfToken.misfit("it is not valid UTF-8, or has a NUL")
		}
		return t.format.split(p, token, OfToken)
	}
	body, ok := strings.CutPrefix(token, t.o.Prefix)
	if raw, err := tokenEncoding.DecodeString(body); !ok || err != nil || len(raw) != 16 || tokenEncoding.EncodeToString(raw) != body {
		return fmt.Errorf("%w: its tokens have the prefix %q and 26 characters", ErrToken, t.o.Prefix)
	}
	return nil
}

// openAll opens what was found, and says why not where it does not open.
func (t *Random) openAll(w *work, items []Item, entries map[Place]*Entry) error {
	now := t.now().Unix()
	for i := range items {
		it := &items[i]
		if it.Err != nil {
			continue
		}
		e := entries[Place{it.Subject.Tenant, it.Token}]
		set := &w.sets[w.which[i]]
		switch {
		case e == nil:
			it.Err = set.Err // nil: explainMissing
		case e.Purpose != t.id.purpose:
			it.Err = ErrOtherPurpose
		case set.Err != nil:
			it.Err = set.Err
		case len(set.Keys) == 0: // a subject who never had a token
			it.Err = ErrBinding
		case e.Expires != 0 && now >= e.Expires:
			it.Err = ErrExpired
		case e.UsesLeft == 0:
			it.Err = ErrUsedUp
		default:
			it.Value, it.Metadata, it.Err = t.open(w, i, it, e)
			it.KeyVersion = e.KeyVersion
		}
	}
	return nil
}

// explainMissing tells tokens of others from those that never were.
func (t *Random) explainMissing(ctx context.Context, items []Item, entries map[Place]*Entry) error {
	var tokens []string
	for i := range items {
		it := &items[i]
		if it.Err == nil && entries[Place{it.Subject.Tenant, it.Token}] == nil {
			tokens = append(tokens, it.Token)
		}
	}
	if len(tokens) == 0 {
		return nil
	}
	found, err := t.o.Store.Elsewhere(ctx, t.id.name, tokens)
	if err != nil {
		return err
	}
	others := make(map[string]*Entry, len(found))
	for j := range found {
		others[found[j].Token] = &found[j]
	}
	for i := range items {
		it := &items[i]
		if it.Err != nil || entries[Place{it.Subject.Tenant, it.Token}] != nil {
			continue
		}
		switch e := others[it.Token]; {
		case e == nil:
			it.Err = ErrToken
		case e.Tokenizer != t.id.name:
			it.Err = ErrOtherTokenizer
		case e.Tenant != it.Subject.Tenant:
			it.Err = ErrOtherTenant
		default: // it came between the two looks
			it.Err = ErrToken
		}
	}
	return nil
}

// takeUses takes a use from every token that has a limit, and the value back
// where there was none left. A token that is there several times is taken as often.
func (t *Random) takeUses(ctx context.Context, items []Item, entries map[Place]*Entry) error {
	var limited []int
	for i := range items {
		if e := entries[Place{items[i].Subject.Tenant, items[i].Token}]; items[i].Err == nil && e.UsesLeft >= 0 {
			limited = append(limited, i)
		}
	}
	for len(limited) > 0 {
		var places []Place
		var later []int
		now := make(map[Place]int, len(limited))
		for _, i := range limited {
			place := Place{items[i].Subject.Tenant, items[i].Token}
			if _, ok := now[place]; ok {
				later = append(later, i)
				continue
			}
			now[place] = i
			places = append(places, place)
		}
		taken, err := t.o.Store.Take(ctx, t.id.name, places)
		if err != nil {
			return err
		}
		for _, place := range taken {
			delete(now, place)
		}
		for _, i := range now {
			items[i].Value, items[i].Metadata, items[i].Err = "", nil, ErrUsedUp
		}
		limited = later
	}
	return nil
}

// Delete ends tokens of a tenant and returns how many there were. What is no
// token is passed over.
func (t *Random) Delete(ctx context.Context, tenant string, tokens []string) (int, error) {
	if !storable(tenant) {
		return 0, errTenant
	}
	places := make([]Place, 0, len(tokens))
	seen := make(map[string]struct{}, len(tokens))
	for _, token := range tokens {
		if _, ok := seen[token]; !ok && storable(token) {
			seen[token] = struct{}{}
			places = append(places, Place{tenant, token})
		}
	}
	return t.o.Store.Delete(ctx, t.id.name, places)
}
