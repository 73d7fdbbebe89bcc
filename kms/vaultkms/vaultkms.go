package vaultkms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/lethe-go/lethe/kms"
)

const (
	// MaxPlaintext is the length in bytes of the longest plaintext a Key wraps.
	MaxPlaintext = 64 << 10
	// maxAssociatedData is the length in bytes of the longest associated data.
	maxAssociatedData = 64 << 10
	// maxCiphertext is the length in bytes of the longest ciphertext worth sending.
	maxCiphertext = 128 << 10
)

// Options configures [New] and an [Opener]. The zero value means the engine at
// "transit", the client's namespace, and the client's token as it stands.
type Options struct {
	// Mount is the path the transit engine is mounted at; "" means "transit".
	Mount string
	// Namespace is a namespace of Vault Enterprise or OpenBao; "" means the client's.
	Namespace string
	// Auth logs in: approle.NewAppRoleAuth and kubernetes.NewKubernetesAuth of
	// Vault's own modules, [Token], or any other. The Key renews the token it
	// gets, logs in again where renewal ends or the token is refused, and stops
	// with [Key.Close]; the client's own token is not used.
	//
	// Nil means the token the client has at each call; keeping it alive is the
	// caller's.
	Auth api.AuthMethod
	// Timeout is how long one request may take; 0 means 10 seconds, a negative one is an error.
	Timeout time.Duration
	// AllowUnverified lets New go on where it cannot see whether a deleted key
	// would be made anew; it tells Warn. See the package documentation.
	AllowUnverified bool
	// Handles makes the Key a [kms.Eraser] that can destroy; see the package documentation.
	Handles Handles
	// Warn is told of what goes wrong without failing a call: a set-up that
	// cannot be verified, a renewal or login that failed in the background. The
	// errors carry no secret. It may be called from another goroutine; nil drops them.
	Warn func(error)
}

func (o *Options) check() error {
	var errs []error
	if o.Mount = strings.Trim(o.Mount, "/"); o.Mount == "" {
		o.Mount = "transit"
	}
	errs = append(errs, checkPath("mount path", o.Mount))
	if o.Namespace = strings.Trim(o.Namespace, "/"); o.Namespace != "" {
		errs = append(errs, checkPath("namespace", o.Namespace))
	}
	errs = append(errs, o.Handles.check())
	if o.Timeout < 0 {
		errs = append(errs, errors.New("vaultkms: Options.Timeout is negative"))
	} else if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Warn == nil {
		o.Warn = func(error) {}
	}
	return errors.Join(errs...)
}

// Key is a [kms.Key] held by transit. It is safe for concurrent use, and
// implements [kms.Identified], [kms.Pinger], [io.Closer] and [kms.Eraser].
type Key struct {
	ops     *api.Client // ours
	caller  *api.Client // theirs, for its token; nil with a session
	session *session    // nil without Options.Auth
	mount   string
	name    string
	uri     string
	timeout time.Duration
	probe   atomic.Pointer[probe]
	closed  *atomic.Bool // shared with the Keys of its handles
	opts    Options
	handles Handles // NoHandles for the Key of a handle
}

var (
	_ kms.Key        = (*Key)(nil)
	_ kms.Identified = (*Key)(nil)
	_ kms.Pinger     = (*Key)(nil)
	_ io.Closer      = (*Key)(nil)
	_ kms.Eraser     = (*Key)(nil)
)

// New opens the transit key called name; it does not make one. Address, TLS,
// headers and namespace are those client has now; without opts.Auth its token
// is read at every call. The client itself is not changed.
//
// New logs in if opts.Auth is set and checks the set-up, see the package
// documentation; ctx bounds that and nothing later. Its errors match
// [ErrUpsert], [ErrUnverified] or [ErrUnsuitable] for a set-up that loses or
// does not bind data, [kms.ErrRejected] where there is no such key,
// [kms.ErrDenied] or [kms.ErrUnavailable]; or are about the arguments.
func New(ctx context.Context, client *api.Client, name string, opts Options) (*Key, error) {
	if client == nil {
		return nil, errNoClient
	}
	if err := errors.Join(checkName(name), opts.check(), checkAddress(client.Address())); err != nil {
		return nil, err
	}
	ops, err := guarded(client, opts.Namespace)
	if err != nil {
		return nil, err
	}
	namespace := strings.Trim(ops.Namespace(), "/")
	if namespace != "" {
		if err := checkPath("namespace", namespace); err != nil {
			return nil, err
		}
	}
	uri, err := keyURI(client.Address(), opts.Mount, name, namespace)
	if err != nil {
		return nil, err
	}
	k := &Key{ops: ops, caller: client, mount: opts.Mount, name: name, uri: uri, timeout: opts.Timeout, closed: new(atomic.Bool), opts: opts, handles: opts.Handles}
	if opts.Auth != nil {
		k.caller = nil
		login, err := guarded(client, opts.Namespace)
		if err != nil {
			return nil, err
		}
		if k.session, err = startSession(ctx, ops, login, uri, opts); err != nil {
			return nil, err
		}
	}
	if err := k.verify(ctx, opts); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// KeyURI returns "hcvault://HOST[:PORT]/MOUNT/keys/NAME", with "?namespace=NS"
// for a key in a namespace. An [Opener] takes it, unless the client's address
// has a path (then that path stands before the mount's) or is plain http.
func (k *Key) KeyURI() string { return k.uri }

// Close stops renewing the token and forgets it; later calls fail with
// [ErrClosed]. It does not revoke the token and never fails.
func (k *Key) Close() error {
	k.closed.Store(true)
	if k.session != nil {
		k.session.close()
	}
	return nil
}

var (
	errTooLong   = errors.New("the plaintext is longer than 64 KiB")
	errADTooLong = errors.New("the associated data is longer than 64 KiB")
)

func checkLengths(plaintext, associatedData []byte) error {
	if len(plaintext) > MaxPlaintext {
		return errTooLong
	}
	if len(associatedData) > maxAssociatedData {
		return errADTooLong
	}
	return nil
}

// encryptInput and decryptInput are requests, alone or in a batch. The
// associated data is always there, be it empty.
type encryptInput struct {
	Plaintext      string `json:"plaintext"`
	AssociatedData string `json:"associated_data"`
	Reference      string `json:"reference,omitempty"`
	KeyVersion     int    `json:"key_version,omitempty"` // 0: the latest
}

type decryptInput struct {
	Ciphertext     string `json:"ciphertext"`
	AssociatedData string `json:"associated_data"`
	Reference      string `json:"reference,omitempty"`
}

// EncryptWithContext wraps plaintext, at most [MaxPlaintext] bytes, under the
// key's latest version. The associated data may have 64 KiB. For errors see the
// package documentation; ctx.Err() when ctx has ended.
func (k *Key) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	return k.encrypt(ctx, "encrypt", plaintext, associatedData)
}

func (k *Key) encrypt(ctx context.Context, op string, plaintext, associatedData []byte) ([]byte, error) {
	return k.encryptVersion(ctx, op, 0, plaintext, associatedData)
}

// encryptVersion wraps under one version of the key, or the latest if that is 0.
func (k *Key) encryptVersion(ctx context.Context, op string, version int, plaintext, associatedData []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := checkLengths(plaintext, associatedData); err != nil {
		return nil, kms.Rejected(op, k.uri, err)
	}
	answer, err := k.post(ctx, k.mount+"/encrypt/"+k.name, encryptInput{
		Plaintext:      b64.EncodeToString(plaintext),
		AssociatedData: b64.EncodeToString(associatedData),
		KeyVersion:     version,
	})
	if err == nil {
		var wrapped []byte
		if wrapped, err = parseWrapped(answer, len(plaintext), version); err == nil {
			return wrapped, nil
		}
	}
	return nil, classify(ctx, op, k.uri, err)
}

// DecryptWithContext unwraps what [Key.EncryptWithContext] returned for the
// same associatedData. What is no transit ciphertext is [kms.ErrRejected]
// without a request. For errors see the package documentation; ctx.Err() when
// ctx has ended.
func (k *Key) DecryptWithContext(ctx context.Context, wrapped, associatedData []byte) ([]byte, error) {
	return k.decrypt(ctx, "decrypt", wrapped, associatedData)
}

func (k *Key) decrypt(ctx context.Context, op string, wrapped, associatedData []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c, err := checkCiphertext(wrapped, associatedData)
	if err != nil {
		return nil, kms.Rejected(op, k.uri, err)
	}
	answer, err := k.post(ctx, k.mount+"/decrypt/"+k.name, decryptInput{
		Ciphertext:     string(wrapped),
		AssociatedData: b64.EncodeToString(associatedData),
	})
	defer clear(answer)
	if err == nil {
		var plaintext []byte
		if plaintext, err = parseOpened(answer, c); err == nil {
			return plaintext, nil
		}
	}
	return nil, classify(ctx, op, k.uri, err)
}

func checkCiphertext(wrapped, associatedData []byte) (ciphertext, error) {
	if len(wrapped) > maxCiphertext {
		return ciphertext{}, errNotCiphertext
	}
	if err := checkLengths(nil, associatedData); err != nil {
		return ciphertext{}, err
	}
	return parseCiphertext(string(wrapped))
}

// Info reads what transit says of the key now, among it the version in use.
// The token needs "read" on MOUNT/keys/NAME.
func (k *Key) Info(ctx context.Context) (Info, error) {
	info, _, err := k.info(ctx)
	if err != nil {
		return Info{}, classify(ctx, "info", k.uri, err)
	}
	return info, nil
}

func (k *Key) info(ctx context.Context) (info Info, derived bool, err error) {
	answer, err := k.send(ctx, http.MethodGet, k.mount+"/keys/"+k.name, nil)
	if err != nil {
		return Info{}, false, err
	}
	return parseInfo(answer, k.name)
}

// post sends a JSON object and returns the answer.
func (k *Key) post(ctx context.Context, path string, object any) ([]byte, error) {
	body, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err) // strings always marshal
	}
	return k.send(ctx, http.MethodPut, path, body)
}

// send sends a request and returns the answer's body, beside a [statusError]
// too. With a session it logs in again, once, where the token is refused.
func (k *Key) send(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	if k.closed.Load() {
		return nil, ErrClosed
	}
	if k.session == nil {
		k.ops.SetToken(k.caller.Token())
		return k.sendOnce(ctx, method, path, body)
	}
	used := k.ops.Token()
	answer, err := k.sendOnce(ctx, method, path, body)
	if !refusedToken(err) {
		return answer, err
	}
	again, loginErr := k.session.loginAgain(ctx, used)
	if loginErr != nil {
		return nil, loginErr
	}
	if !again {
		return answer, err
	}
	answer, err = k.sendOnce(ctx, method, path, body)
	if !refusedToken(err) {
		k.session.settled()
	}
	return answer, err
}

func refusedToken(err error) bool {
	var status *statusError
	return errors.As(err, &status) && kind(status.code) == kms.ErrDenied //nolint:errorlint // a sentinel of ours, as it is
}

func (k *Key) sendOnce(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	// Without a token the client may talk to an agent that has one.
	if token := k.ops.Token(); token != "" && !plainToken(token) {
		return nil, errToken
	}
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	var resp *api.Response
	var err error
	switch method {
	case http.MethodGet:
		resp, err = k.ops.Logical().ReadRawWithContext(ctx, path)
	case http.MethodDelete:
		resp, err = k.ops.Logical().DeleteRawWithContext(ctx, path)
	default:
		resp, err = k.ops.Logical().WriteRawWithContext(ctx, path, body)
	}
	if resp == nil || resp.Response == nil {
		return nil, errors.Join(err, errIfNil(err))
	}
	defer func() { _ = resp.Body.Close() }()
	answer, readErr := io.ReadAll(resp.Body)
	switch {
	case resp.StatusCode >= http.StatusBadRequest:
		return answer, newStatusError(resp.StatusCode, answer)
	case err != nil:
		return nil, err
	case readErr != nil:
		return nil, readErr
	case resp.StatusCode == http.StatusNoContent && method != http.MethodGet && len(answer) == 0:
		return nil, nil // no error, and nothing where an answer is needed
	case resp.StatusCode != http.StatusOK:
		return nil, errAnswer
	}
	return answer, nil
}

// plainToken reports whether a token may be put into a header; one read from a
// file often ends in a line end.
func plainToken(token string) bool {
	for _, c := range []byte(token) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return token != ""
}

func errIfNil(err error) error {
	if err == nil {
		return errAnswer
	}
	return nil
}
