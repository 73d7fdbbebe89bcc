package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/tokenize"
	"github.com/lethe-go/lethe/tokenize/sqlstore"
)

// mistreat makes random tokens, each under its customer's own key, and misuses
// some in every way.
func (s *show) mistreat(ctx context.Context) (err error) {
	store, err := sqlstore.OpenSQLite(ctx, s.path("tokens.db"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := store.Migrate(ctx); err != nil {
		return err
	}
	now := time.Now()
	opts := tokenize.RandomOptions{Name: "pan", Keys: s.keys, Store: store, Purpose: "payments", TTL: time.Hour, MaxUses: 2, Now: func() time.Time { return now }}
	pans, err := tokenize.NewRandom(opts)
	if err != nil {
		return err
	}
	opts.Name = "iban"
	ibans, err := tokenize.NewRandom(opts)
	if err != nil {
		return err
	}
	opts.Name, opts.Purpose = "pan", "marketing"
	marketing, err := tokenize.NewRandom(opts)
	if err != nil {
		return err
	}
	n := min(2000, s.n)
	items := make([]tokenize.Item, n)
	for i := range items {
		items[i] = tokenize.Item{Subject: customer(i), AssociatedData: []byte("orders.card"), Value: cardNumber(i)}
	}
	if err := s.timed("random tokens in SQLite, with new customers' keys", func() (int, error) { return n, pans.Tokenize(ctx, items) }); err != nil {
		return err
	}
	tokens := make([]string, n)
	for i := range items {
		if items[i].Err != nil {
			return items[i].Err
		}
		tokens[i] = items[i].Token
	}
	if err := s.timed("turned back", func() (int, error) { return n, pans.Detokenize(ctx, items) }); err != nil {
		return err
	}
	for i := range items {
		if items[i].Err != nil || items[i].Value != cardNumber(i) {
			return fmt.Errorf("customer %d: the token does not turn back: %w", i, items[i].Err)
		}
	}
	if _, err := s.ring.Forget(ctx, envelope.Subject(customer(0))); err != nil {
		return err
	}
	refused := tally{}
	misuse := func(t tokenize.Tokenizer, it tokenize.Item) error {
		one := []tokenize.Item{it}
		if err := t.Detokenize(ctx, one); err != nil {
			return err
		}
		if one[0].Err == nil {
			return nil
		}
		refused.add(one[0].Err)
		return nil
	}
	card := func(i int) tokenize.Item {
		return tokenize.Item{Subject: customer(i), AssociatedData: []byte("orders.card"), Token: tokens[i%n]}
	}
	other, data, none, twice := card(1), card(1), card(1), card(1)
	other.Subject.Tenant = "globex"
	data.AssociatedData = []byte("refunds.card")
	none.Subject.ID = ""
	unknown := card(1)
	unknown.Token = "tok_00000000000000000000000000"
	for _, m := range []struct {
		by   tokenize.Tokenizer
		item tokenize.Item
	}{{pans, card(0)}, {ibans, card(1)}, {marketing, card(1)}, {pans, other}, {pans, data}, {pans, none}, {pans, unknown}, {pans, twice}, {pans, twice}} {
		if err := misuse(m.by, m.item); err != nil {
			return err
		}
	}
	now = now.Add(2 * time.Hour)
	if err := misuse(pans, card(2)); err != nil {
		return err
	}
	s.print("  misused", refused)
	return nil
}

func customer(i int) tokenize.Subject {
	return tokenize.Subject{Tenant: tenant, Kind: "customer", ID: "cus_" + strconv.Itoa(i)}
}
