package vaultkms

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/lethe-go/lethe/kms"
)

// Handles says what the handles of a [kms.Eraser] are; see the package documentation.
type Handles string

// What handles may be.
const (
	NoHandles      Handles = ""         // nothing is destroyed: EraseSemantics matches errors.ErrUnsupported
	HandleVersions Handles = "versions" // versions of the transit key, "v2" for its second
	HandleKeys     Handles = "keys"     // transit keys of their own, "NAME-LABEL"
)

func (h Handles) check() error {
	switch h {
	case NoHandles, HandleVersions, HandleKeys:
		return nil
	}
	return fmt.Errorf("vaultkms: Options.Handles is %q, which is none of \"\", \"versions\" and \"keys\"", clip(string(h)))
}

var (
	errNotHandle = errors.New("that is no handle of this key")
	errNoHandles = fmt.Errorf("the key was opened without handles; set Options.Handles, or handles=versions or handles=keys in the URI: %w", errors.ErrUnsupported)
	errLabel     = errors.New("a label is 1 to 48 of a-z, 0-9 and -")
	errLeaks     = errors.New("the transit key is exportable or allows a plaintext backup, which cannot be taken back: destroying it would prove nothing; use a key that never was")
	errLatest    = errors.New("it is the latest version, which transit cannot trim: make the next handle first")
	errNoVersion = errors.New("the transit key has no such version: it was made anew, or restored from an older backup")
	errOldServer = errors.New("transit does not answer a rotation with the new version (it is too old): use handles=keys")
	errNoBase    = errors.New("neither the handle nor the transit key it belongs to is there: the mount or namespace is another, or was enabled anew; make them what they were, or the key with this name again if it was deleted")
	errNotGone   = errors.New("transit took the order and still has it")
)

// EraseSemantics reads the transit key. Destruction is at once and nobody can undo
// it, but snapshots of Vault's storage hold the handle until they are deleted too.
// Without Options.Handles the error matches [errors.ErrUnsupported]; a key that is
// exportable or allows a plaintext backup is [kms.ErrDenied].
func (k *Key) EraseSemantics(ctx context.Context) (kms.EraseSemantics, error) {
	const op = "semantics"
	if k.handles == NoHandles {
		return kms.EraseSemantics{}, fmt.Errorf("vaultkms: %s: %w", k.uri, errNoHandles)
	}
	if _, err := k.erasable(ctx, op); err != nil {
		return kms.EraseSemantics{}, err
	}
	return kms.EraseSemantics{OperatorBackedUp: true}, nil
}

// erasable reads the key and refuses one that may exist outside of Vault.
func (k *Key) erasable(ctx context.Context, op string) (Info, error) {
	if err := ctx.Err(); err != nil {
		return Info{}, err
	}
	info, _, err := k.info(ctx)
	if err != nil {
		return Info{}, k.refused(ctx, op, err, "keys/"+k.name, "read")
	}
	if info.Exportable || info.PlaintextBackup {
		return Info{}, kms.Denied(op, k.uri, errLeaks)
	}
	return info, nil
}

// refused is classify; where the token lacks a permission it names the policy.
func (k *Key) refused(ctx context.Context, op string, cause error, path, capabilities string) error {
	err := classify(ctx, op, k.uri, cause)
	if status, ok := errors.AsType[*statusError](err); ok && status.code == http.StatusForbidden && status.reason != reasonBadToken {
		return kms.Denied(op, k.uri, fmt.Errorf("%w; the token's policy needs: path \"%s/%s\" { capabilities = [\"%s\"] }",
			status, k.mount, path, strings.ReplaceAll(capabilities, ",", `", "`)))
	}
	return err
}

// NewHandle makes a handle: it rotates the transit key, or makes one named
// "NAME-LABEL". There, repeating it for a label gives the same handle.
func (k *Key) NewHandle(ctx context.Context, label string) (string, error) {
	const op = "new handle"
	if !validLabel(label) {
		return "", kms.Rejected(op, k.uri, errLabel)
	}
	switch k.handles {
	case HandleVersions:
		return k.newVersion(ctx, op)
	case HandleKeys:
		return k.newKey(ctx, op, label)
	case NoHandles:
	}
	return "", kms.Rejected(op, k.uri, errNoHandles)
}

func (k *Key) newVersion(ctx context.Context, op string) (string, error) {
	before, err := k.erasable(ctx, op)
	if err != nil {
		return "", err
	}
	answer, err := k.post(ctx, k.mount+"/keys/"+k.name+"/rotate", struct{}{})
	if err != nil {
		return "", k.refused(ctx, op, err, "keys/"+k.name+"/rotate", "update")
	}
	if len(answer) == 0 {
		return "", kms.Rejected(op, k.uri, errOldServer)
	}
	after, _, err := parseInfo(answer, k.name) // made under transit's lock, so the latest version is this call's
	if err == nil && after.LatestVersion <= before.LatestVersion {
		err = errAnswer
	}
	if err != nil {
		return "", classify(ctx, op, k.uri, err)
	}
	return versionName(after.LatestVersion), nil
}

func (k *Key) newKey(ctx context.Context, op, label string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	name := k.name + "-" + label
	one, err := k.keyOf(name)
	if err != nil {
		return "", kms.Rejected(op, k.uri, err)
	}
	// Where the key exists transit changes nothing and says so.
	_, err = k.post(ctx, k.mount+"/keys/"+name, map[string]any{
		"type": "aes256-gcm96", "exportable": false, "allow_plaintext_backup": false, "derived": false,
	})
	if err != nil {
		return "", k.refused(ctx, op, err, "keys/"+k.name+"-*", "create,read,update,delete")
	}
	if _, err := one.erasable(ctx, op); err != nil {
		return "", err
	}
	// Now, while it exists: that a deleted one is not made anew, and that it binds
	// associated data.
	if err := one.verify(ctx, k.opts); err != nil {
		return "", err
	}
	return name, nil
}

// keyOf returns the Key of another transit key in the same engine.
func (k *Key) keyOf(name string) (*Key, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	uri, err := keyURI(k.ops.Address(), k.mount, name, strings.Trim(k.ops.Namespace(), "/"))
	if err != nil {
		return nil, err
	}
	return &Key{ops: k.ops, caller: k.caller, session: k.session, mount: k.mount, name: name, uri: uri, timeout: k.timeout, closed: k.closed, opts: k.opts}, nil
}

// HandleKey returns the Key of a handle, which ends with k. That of a version
// sends transit only ciphertexts of this version. That of a key sees, before it
// wraps first, that transit would not make a deleted key anew; its errors then are
// those of [New]. The handle may be one that is destroyed.
func (k *Key) HandleKey(handle string) (kms.Key, error) {
	version, one, err := k.parseHandle(handle)
	if err != nil {
		return nil, kms.Rejected("open handle", k.uri, err)
	}
	if one != nil {
		return &keyHandle{one: one}, nil
	}
	return &versionHandle{k: k, version: version}, nil
}

// parseHandle returns the version, or the key, that a handle is.
func (k *Key) parseHandle(handle string) (version int, one *Key, err error) {
	switch k.handles {
	case HandleVersions:
		digits, ok := strings.CutPrefix(handle, "v")
		version, err := parseVersion(digits)
		if !ok || err != nil {
			return 0, nil, errNotHandle
		}
		return version, nil, nil
	case HandleKeys:
		label, ok := strings.CutPrefix(handle, k.name+"-")
		if !ok || !validLabel(label) {
			return 0, nil, errNotHandle
		}
		if one, err = k.keyOf(handle); err != nil {
			return 0, nil, errNotHandle
		}
		return 0, one, nil
	case NoHandles:
	}
	return 0, nil, errNoHandles
}

// Destroy destroys a handle and reads that transit has it no more. Of versions
// all earlier ones go too, and the latest is refused with [kms.ErrRejected]. A
// missing permission is [kms.ErrDenied], with the line the policy needs.
func (k *Key) Destroy(ctx context.Context, handle string) (kms.Erasure, error) {
	const op = "destroy"
	version, one, err := k.parseHandle(handle)
	if err != nil {
		return kms.Erasure{}, kms.Rejected(op, k.uri, err)
	}
	if one != nil {
		return k.destroyKey(ctx, op, one)
	}
	return k.destroyVersion(ctx, op, version)
}

func (k *Key) destroyVersion(ctx context.Context, op string, version int) (kms.Erasure, error) {
	info, err := k.erasable(ctx, op)
	if err != nil {
		return kms.Erasure{}, err
	}
	switch {
	case info.MinAvailableVersion > version:
		return kms.Erasure{State: kms.HandleDestroyed}, nil
	case version > info.LatestVersion:
		return kms.Erasure{}, kms.Rejected(op, k.uri, errNoVersion)
	case version == info.LatestVersion:
		return kms.Erasure{}, kms.Rejected(op, k.uri, errLatest)
	}
	// Transit trims only what neither encrypts nor decrypts. Bounds are never lowered.
	_, err = k.post(ctx, k.mount+"/keys/"+k.name+"/config", map[string]any{
		"min_decryption_version": max(version+1, info.MinDecryptionVersion),
		"min_encryption_version": max(version+1, info.MinEncryptionVersion),
	})
	if err != nil {
		return kms.Erasure{}, k.refused(ctx, op, err, "keys/"+k.name+"/config", "update")
	}
	_, trimErr := k.post(ctx, k.mount+"/keys/"+k.name+"/trim", map[string]any{"min_available_version": version + 1})
	// What counts is what is there now; another caller may have trimmed more.
	got, err := k.versionErasure(ctx, op, version)
	switch {
	case err == nil && got.State == kms.HandleDestroyed:
		return got, nil
	case trimErr != nil:
		return kms.Erasure{}, k.refused(ctx, op, trimErr, "keys/"+k.name+"/trim", "update")
	case err != nil:
		return kms.Erasure{}, err
	}
	return kms.Erasure{}, kms.Unavailable(op, k.uri, errNotGone)
}

// destroyKey deletes one, a handle of k.
func (k *Key) destroyKey(ctx context.Context, op string, one *Key) (kms.Erasure, error) {
	got, err := k.keyErasure(ctx, op, one)
	if err != nil || got.State == kms.HandleDestroyed {
		return got, err
	}
	if _, err := one.erasable(ctx, op); err != nil && !missing(err) {
		return kms.Erasure{}, err
	}
	path := "keys/" + k.name + "-*"
	_, err = one.post(ctx, one.mount+"/keys/"+one.name+"/config", map[string]any{"deletion_allowed": true})
	if err == nil {
		_, err = one.send(ctx, http.MethodDelete, one.mount+"/keys/"+one.name, nil)
	}
	// Another caller may have deleted it in between.
	got, readErr := k.keyErasure(ctx, op, one)
	switch {
	case readErr == nil && got.State == kms.HandleDestroyed:
		return got, nil
	case err != nil:
		return kms.Erasure{}, one.refused(ctx, op, err, path, "create,read,update,delete")
	case readErr != nil:
		return kms.Erasure{}, readErr
	}
	return kms.Erasure{}, kms.Unavailable(op, k.uri, errNotGone)
}

// Erasure reads what transit has of a handle.
func (k *Key) Erasure(ctx context.Context, handle string) (kms.Erasure, error) {
	const op = "erasure"
	version, one, err := k.parseHandle(handle)
	if err != nil {
		return kms.Erasure{}, kms.Rejected(op, k.uri, err)
	}
	if one != nil {
		return k.keyErasure(ctx, op, one)
	}
	return k.versionErasure(ctx, op, version)
}

// versionErasure calls a version live that transit no longer uses and has not
// trimmed, for who may change the key's config may use it again. A key that is not
// there is an error: a wrong mount or namespace looks the same.
func (k *Key) versionErasure(ctx context.Context, op string, version int) (kms.Erasure, error) {
	info, err := k.erasable(ctx, op)
	switch {
	case err != nil:
		return kms.Erasure{}, err
	case info.MinAvailableVersion > version:
		return kms.Erasure{State: kms.HandleDestroyed}, nil
	case version > info.LatestVersion:
		return kms.Erasure{}, kms.Rejected(op, k.uri, errNoVersion)
	}
	return kms.Erasure{State: kms.HandleLive}, nil
}

// keyErasure says what became of one, a handle of k. Where k is missing too, the
// engine is another: one enabled anew where the right one was moved or disabled, or
// in another namespace. There, a missing key says nothing of the handle.
func (k *Key) keyErasure(ctx context.Context, op string, one *Key) (kms.Erasure, error) {
	if err := ctx.Err(); err != nil {
		return kms.Erasure{}, err
	}
	_, _, err := one.info(ctx)
	switch {
	case err == nil:
		return kms.Erasure{State: kms.HandleLive}, nil
	case !missing(err):
		return kms.Erasure{}, one.refused(ctx, op, err, "keys/"+one.name, "read")
	}
	switch _, _, err := k.info(ctx); {
	case err == nil:
		return kms.Erasure{State: kms.HandleDestroyed}, nil
	case missing(err):
		return kms.Erasure{}, kms.Rejected(op, k.uri, errNoBase)
	default:
		return kms.Erasure{}, k.refused(ctx, op, err, "keys/"+k.name, "read")
	}
}

// missing reports whether transit has no such key. Where no engine answers at that
// path, the status is the same and Vault says why.
func missing(err error) bool {
	status, ok := errors.AsType[*statusError](err)
	return ok && status.code == http.StatusNotFound && status.reason == ""
}

// versionHandle is the Key of one version.
type versionHandle struct {
	k       *Key
	version int
}

var (
	_ kms.Identified = (*versionHandle)(nil)
	_ kms.Identified = (*keyHandle)(nil)
)

func (h *versionHandle) KeyURI() string { return h.k.uri }

func (h *versionHandle) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	return h.k.encryptVersion(ctx, "encrypt", h.version, plaintext, associatedData)
}

func (h *versionHandle) DecryptWithContext(ctx context.Context, wrapped, associatedData []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c, err := checkCiphertext(wrapped, associatedData)
	if err == nil && c.version != h.version {
		err = errNotHandle
	}
	if err != nil {
		return nil, kms.Rejected("decrypt", h.k.uri, err)
	}
	return h.k.decrypt(ctx, "decrypt", wrapped, associatedData)
}

// keyHandle is the Key of a transit key that is a handle.
type keyHandle struct {
	one *Key

	mu       sync.Mutex
	verified bool
}

func (h *keyHandle) KeyURI() string { return h.one.uri }

// verify sees, until it did once, that wrapping cannot make a deleted key anew.
func (h *keyHandle) verify(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.verified {
		return nil
	}
	if err := h.one.verify(ctx, h.one.opts); err != nil {
		return err
	}
	h.verified = true
	return nil
}

func (h *keyHandle) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	if err := checkLengths(plaintext, associatedData); err != nil {
		return nil, kms.Rejected("encrypt", h.one.uri, err)
	}
	if err := h.verify(ctx); err != nil {
		return nil, err
	}
	return h.one.EncryptWithContext(ctx, plaintext, associatedData)
}

func (h *keyHandle) DecryptWithContext(ctx context.Context, wrapped, associatedData []byte) ([]byte, error) {
	return h.one.DecryptWithContext(ctx, wrapped, associatedData)
}

func versionName(version int) string { return "v" + strconv.Itoa(version) }

func validLabel(label string) bool {
	return len(label) >= 1 && len(label) <= 48 && strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}
