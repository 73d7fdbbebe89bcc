package vaultkms

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/lethe-go/lethe/kms"
)

const (
	// minPause is the least time between two logins in the background, and
	// between two that a refused token asked for; it doubles up to maxPause
	// while they do not help, for every login leaves a token in Vault.
	minPause = time.Second
	maxPause = 5 * time.Minute
	// maxLease bounds what a server may say of a token's life, in seconds.
	maxLease = 10 * 365 * 24 * 60 * 60
)

// session keeps a client logged in.
type session struct {
	ops     *api.Client // gets the token
	login   *api.Client // logs in and renews
	method  api.AuthMethod
	key     string
	timeout time.Duration
	warn    func(error)
	stop    context.CancelFunc

	turn chan struct{} // holds one value: whose turn it is to log in

	mu        sync.Mutex
	secret    *api.Secret   // of the last login
	changed   chan struct{} // closed by the next login
	notBefore time.Time     // when a refused token may ask for a login again
	pause     time.Duration
}

// startSession logs in and keeps the token alive until close.
func startSession(ctx context.Context, ops, login *api.Client, key string, opts Options) (*session, error) {
	login.SetClientTimeout(opts.Timeout) // renewals bring no context of their own
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &session{
		ops: ops, login: login, method: opts.Auth, key: key, timeout: opts.Timeout, warn: opts.Warn, stop: stop,
		turn: make(chan struct{}, 1), changed: make(chan struct{}), pause: minPause,
	}
	s.turn <- struct{}{}
	if err := s.logIn(ctx); err != nil {
		stop()
		return nil, err
	}
	go s.keep(background)
	return s, nil
}

func (s *session) close() {
	s.stop()
	s.ops.ClearToken()
}

// logIn gets a token and installs it.
func (s *session) logIn(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	s.login.ClearToken()
	secret, err := s.method.Login(bounded, s.login)
	if err != nil {
		return s.loginError(ctx, err)
	}
	if secret == nil || secret.Auth == nil || !plainToken(secret.Auth.ClientToken) || secret.Auth.LeaseDuration < 0 || secret.Auth.LeaseDuration > maxLease {
		return s.loginError(ctx, errAnswer)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secret = secret
	close(s.changed)
	s.changed = make(chan struct{})
	s.ops.SetToken(secret.Auth.ClientToken)
	// What a token this fresh is refused, another one would be too.
	if fresh := time.Now().Add(minPause); fresh.After(s.notBefore) {
		s.notBefore = fresh
	}
	return nil
}

// loginError sorts a failed login: whatever Vault refuses for good is a denial.
func (s *session) loginError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	status := statusOf(err)
	if status == nil && errors.Is(err, errToken) {
		return kms.Denied("login", s.key, errToken)
	}
	if status == nil {
		return kms.Unavailable("login", s.key, harmless(err))
	}
	if kind(status.code) == kms.ErrUnavailable { //nolint:errorlint // a sentinel of ours, as it is
		return kms.Unavailable("login", s.key, status)
	}
	return kms.Denied("login", s.key, status)
}

// loginAgain is called with a token that was refused. It reports whether
// there is another one to try.
func (s *session) loginAgain(ctx context.Context, refused string) (bool, error) {
	if err := s.take(ctx); err != nil {
		return false, err
	}
	defer s.give()
	s.mu.Lock()
	if s.secret.Auth.ClientToken != refused {
		s.mu.Unlock()
		return true, nil
	}
	if time.Now().Before(s.notBefore) {
		s.mu.Unlock()
		return false, nil
	}
	s.notBefore = time.Now().Add(s.pause)
	s.pause = min(2*s.pause, maxPause)
	s.mu.Unlock()
	if err := s.logIn(ctx); err != nil {
		return false, err
	}
	return true, nil
}

// settled is called when a login helped.
func (s *session) settled() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pause = minPause
}

func (s *session) take(ctx context.Context) error {
	select {
	case <-s.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *session) give() { s.turn <- struct{}{} }

// keep renews the token, and logs in again where that ends.
func (s *session) keep(ctx context.Context) {
	for {
		s.mu.Lock()
		secret, changed := s.secret, s.changed
		s.mu.Unlock()
		began := time.Now()
		s.renew(ctx, secret, changed)
		if !sleep(ctx, minPause-time.Since(began)) {
			return
		}
		for pause := minPause; ; pause = min(2*pause, maxPause) {
			err := s.replace(ctx, secret)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return
			}
			s.warn(fmt.Errorf("vaultkms: cannot log in again: %w", err))
			if !sleep(ctx, pause) {
				return
			}
		}
	}
}

// replace logs in unless somebody has since secret was the latest.
func (s *session) replace(ctx context.Context, secret *api.Secret) error {
	if err := s.take(ctx); err != nil {
		return err
	}
	defer s.give()
	s.mu.Lock()
	replaced := s.secret != secret
	s.mu.Unlock()
	if replaced {
		return nil
	}
	return s.logIn(ctx)
}

// renew keeps the token of secret alive and returns when that is over, another
// took its place, or ctx ends.
func (s *session) renew(ctx context.Context, secret *api.Secret, changed <-chan struct{}) {
	if secret.Auth.LeaseDuration == 0 { // it does not expire
		select {
		case <-ctx.Done():
		case <-changed:
		}
		return
	}
	watcher, err := s.login.NewLifetimeWatcher(&api.LifetimeWatcherInput{Secret: secret})
	if err != nil {
		s.warn(errors.New("vaultkms: cannot watch the token's lifetime"))
		return
	}
	go watcher.Start()
	defer watcher.Stop()
	select {
	case <-ctx.Done():
	case <-changed:
	case err := <-watcher.DoneCh():
		if err != nil {
			s.warn(fmt.Errorf("vaultkms: cannot renew the token: %w", s.loginError(ctx, err)))
		}
	}
}

// sleep waits, and reports whether ctx lets it go on.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Token is an [api.AuthMethod] for a token that exists already, for
// Options.Auth: it is renewed as long as Vault lets it. read is called at the
// start, and again when the token's life ends; a file that an agent writes will
// then hold another. The token needs the default policy's lookup-self and
// renew-self.
func Token(read func(context.Context) (string, error)) api.AuthMethod { return tokenMethod(read) }

type tokenMethod func(context.Context) (string, error)

// Login looks the token up.
func (m tokenMethod) Login(ctx context.Context, client *api.Client) (*api.Secret, error) {
	token, err := m(ctx)
	if err != nil {
		return nil, err
	}
	if !plainToken(token) {
		return nil, errToken
	}
	client.SetToken(token)
	defer client.ClearToken()
	secret, err := client.Auth().Token().LookupSelfWithContext(ctx)
	if err != nil {
		return nil, err
	}
	ttl, err := secret.TokenTTL()
	if err != nil {
		return nil, errAnswer
	}
	renewable, err := secret.TokenIsRenewable()
	if err != nil {
		return nil, errAnswer
	}
	return &api.Secret{Auth: &api.SecretAuth{ClientToken: token, Renewable: renewable, LeaseDuration: int(ttl / time.Second)}}, nil
}
