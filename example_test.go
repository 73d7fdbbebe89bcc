package lethe_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"expvar"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/memledger"
	"github.com/lethe-go/lethe/envelope/memstore"
	"github.com/lethe-go/lethe/kms/localkms"
)

// Seal a row, store it, find it without reading it, open it, forget the person.
func Example() {
	ctx := context.Background()
	ring, closeRing := exampleRing(ctx)
	defer closeRing()
	db := exampleDB(ctx)
	defer func() { _ = db.Close() }()
	customers, err := lethe.For[Customer](ring) // checks every tag
	must(err)

	c := Customer{ID: "cus_1", Email: lethe.Of("ada@example.com"), Plan: "pro"}
	must(customers.Seal(ctx, &c))
	_, err = db.ExecContext(ctx, `INSERT INTO customers VALUES (?, ?, ?, ?, ?)`, c.Keys, c.ID, c.Email, c.EmailIdx, c.Plan)
	must(err)

	q, err := customers.Query(ctx, "email_idx", "Ada@Example.com")
	must(err)
	where, args := q.In(lethe.SQLite, "email_idx", 1)
	var row Customer
	must(db.QueryRowContext(ctx, `SELECT sealed_keys, id, email, plan FROM customers WHERE `+where, args...).
		Scan(&row.Keys, &row.ID, &row.Email, &row.Plan))
	must(customers.Open(ctx, &row))
	email, err := row.Email.Reveal()
	must(err)
	fmt.Println(row.ID, email, row.Email.Masked(), row.Email)

	_, err = ring.Forget(ctx, lethe.Subject{Kind: "customer", ID: "cus_1"})
	must(err)
	must(db.QueryRowContext(ctx, `SELECT sealed_keys, email FROM customers`).Scan(&row.Keys, &row.Email))
	must(customers.Open(ctx, &row)) // forgotten is a state, not an error
	_, err = row.Email.Reveal()
	fmt.Println(row.Email, errors.Is(err, lethe.ErrForgotten))
	// Output:
	// cus_1 ada@example.com a***@example.com [sealed]
	// [forgotten] true
}

func ExampleFor() {
	ring, closeRing := exampleRing(context.Background())
	defer closeRing()
	type Patient struct {
		Keys  lethe.Keys           `lethe:"patients"`
		ID    string               `lethe:"subject=patient"`
		Name  lethe.Secret[string] `lethe:"name,mask=initials"`
		Phone lethe.Secret[string] `lethe:"phone,mask=fone"`
		Notes *lethe.Secret[string]
	}
	_, err := lethe.For[Patient](ring) // all mistakes at once
	fmt.Println(err)
	// Output:
	// lethe: the tags of lethe_test.Patient are wrong:
	// Patient.Phone: unknown mask "fone"; known: email, full, iban, initials, last4, phone, year
	// Patient.Notes: a pointer to lethe.Secret[string] cannot be sealed in place: use lethe.Secret[string] itself, which has a NULL of its own
}

func ExampleSealer_Seal() {
	ctx := context.Background()
	ring, closeRing := exampleRing(ctx)
	defer closeRing()
	customers, err := lethe.For[Customer](ring)
	must(err)

	c := Customer{ID: "cus_1", Email: lethe.Of("ada@example.com")}
	_, err = c.Email.Value() // what a database driver asks for
	fmt.Println("before:", errors.Is(err, lethe.ErrNotSealed))

	must(customers.Seal(ctx, &c))
	_, err = c.Email.Value()
	fmt.Println("after:", c.Email.Status(), err)
	fmt.Println("again:", errors.Is(customers.Seal(ctx, &c), lethe.ErrSealed))
	// Output:
	// before: true
	// after: sealed <nil>
	// again: true
}

// Changing one column keeps the row's Keys. The UPDATE is guarded by them, so
// that it does not land on a row that got new ones meanwhile.
func ExampleSealer_Seal_oneColumn() {
	ctx := context.Background()
	ring, closeRing := exampleRing(ctx)
	defer closeRing()
	db := exampleDB(ctx)
	defer func() { _ = db.Close() }()
	customers, err := lethe.For[Customer](ring)
	must(err)
	c := Customer{ID: "cus_1", Email: lethe.Of("ada@example.com"), Plan: "pro"}
	must(customers.Seal(ctx, &c))
	_, err = db.ExecContext(ctx, `INSERT INTO customers VALUES (?, ?, ?, ?, ?)`, c.Keys, c.ID, c.Email, c.EmailIdx, c.Plan)
	must(err)

	var row Customer // the columns that are needed
	must(db.QueryRowContext(ctx, `SELECT sealed_keys, id FROM customers`).Scan(&row.Keys, &row.ID))
	row.Email = lethe.Of("lovelace@example.com")
	must(customers.Seal(ctx, &row))
	res, err := db.ExecContext(ctx, `UPDATE customers SET email = ?, email_idx = ? WHERE id = ? AND sealed_keys = ?`,
		row.Email, row.EmailIdx, row.ID, row.Keys)
	must(err)
	updated, err := res.RowsAffected() // 0: somebody was faster; load the row again
	must(err)
	fmt.Println(updated)
	// Output: 1
}

// Several people in one record: each field is sealed for the one it belongs to.
func ExampleSealer_Seal_severalSubjects() {
	ctx := context.Background()
	ring, closeRing := exampleRing(ctx)
	defer closeRing()
	type Message struct {
		Keys     lethe.Keys           `lethe:"messages"`
		Receiver string               `lethe:"subject=user"`
		Sender   string               `lethe:"subject=user,group=sender"`
		Body     lethe.Secret[string] `lethe:"body,group=sender"`
		Reply    lethe.Secret[string] `lethe:"reply"`
	}
	messages, err := lethe.For[Message](ring)
	must(err)
	m := Message{Receiver: "ada", Sender: "bob", Body: lethe.Of("Tea?"), Reply: lethe.Of("At five.")}
	must(messages.Seal(ctx, &m))

	_, err = ring.Forget(ctx, lethe.Subject{Kind: "user", ID: "bob"})
	must(err)
	must(messages.Open(ctx, &m))
	reply, err := m.Reply.Reveal()
	fmt.Println(m.Body, reply, err)
	// Output: [forgotten] At five. <nil>
}

// One forgotten person does not make a list fail.
func ExampleSealer_OpenSlice() {
	ctx := context.Background()
	ring, closeRing := exampleRing(ctx)
	defer closeRing()
	customers, err := lethe.For[Customer](ring)
	must(err)
	rows := []Customer{
		{ID: "cus_1", Email: lethe.Of("ada@example.com"), Plan: "pro"},
		{ID: "cus_2", Email: lethe.Of("bob@example.com"), Plan: "free"},
	}
	must(customers.SealSlice(ctx, rows))
	_, err = ring.Forget(ctx, lethe.Subject{Kind: "customer", ID: "cus_2"})
	must(err)

	must(customers.OpenSlice(ctx, rows)) // one batch
	for _, c := range rows {
		email, err := c.Email.Reveal()
		if errors.Is(err, lethe.ErrForgotten) {
			email = "(forgotten)"
		} else {
			must(err)
		}
		fmt.Println(c.ID, c.Plan, email)
	}
	// Output:
	// cus_1 pro ada@example.com
	// cus_2 free (forgotten)
}

// The database compares index values; Match drops the rows that only collide.
func ExampleSealer_Query() {
	ctx := context.Background()
	ring, closeRing := exampleRing(ctx)
	defer closeRing()
	customers, err := lethe.For[Customer](ring)
	must(err)
	rows := []Customer{{ID: "cus_1", Email: lethe.Of("ada@example.com")}, {ID: "cus_2", Email: lethe.Of("bob@example.com")}}
	must(customers.SealSlice(ctx, rows))

	q, err := customers.Query(ctx, "email_idx", " ADA@example.com")
	must(err)
	where, args := q.In(lethe.Postgres, "email_idx", 1) // or email_idx = ANY($1) with q.Terms()
	fmt.Println(where, len(args))

	must(customers.OpenSlice(ctx, rows)) // what the database found
	for i := range rows {
		ok, err := q.Match(&rows[i])
		must(err)
		fmt.Println(rows[i].ID, ok)
	}
	// Output:
	// email_idx IN ($1) 1
	// cus_1 true
	// cus_2 false
}

func ExampleFields() {
	ctx := context.Background()
	ring, closeRing := exampleRing(ctx)
	defer closeRing()
	type Contact struct {
		Keys  lethe.Keys           `lethe:"contacts"`
		ID    string               `lethe:"subject=customer"`
		Email lethe.Secret[string] `lethe:"email"`
		Phone lethe.Secret[string] `lethe:"phone"`
	}
	contacts, err := lethe.For[Contact](ring)
	must(err)
	c := Contact{ID: "cus_1", Email: lethe.Of("ada@example.com"), Phone: lethe.Of("+1 555 0100")}
	must(contacts.Seal(ctx, &c))

	must(contacts.Open(ctx, &c, lethe.Fields("email")))
	fmt.Println(c.Email.Status(), c.Phone.Status())
	// Output: open sealed
}

// The support desk sees masks, whatever more the policy would allow.
func ExampleMasks() {
	ctx := context.Background()
	ring, closeRing := exampleRing(ctx)
	defer closeRing()
	customers, err := lethe.For[Customer](ring)
	must(err)
	c := Customer{ID: "cus_1", Email: lethe.Of("ada@example.com")}
	must(customers.Seal(ctx, &c))

	must(customers.Open(ctx, &c, lethe.Masks()))
	_, err = c.Email.Reveal()
	fmt.Println(c.Email.Masked(), err)
	// Output: a***@example.com lethe: denied by the policy
}

func ExamplePolicy() {
	ctx := context.Background()
	ring, closeRing := exampleRing(ctx)
	defer closeRing()
	type role struct{} // the key under which the program keeps who is asking
	policy := func(ctx context.Context, a lethe.Access) lethe.Decision {
		switch who, _ := ctx.Value(role{}).(string); who {
		case "billing":
			return lethe.Allow
		case "support":
			return lethe.MaskOnly
		}
		return lethe.Deny
	}
	customers, err := lethe.For[Customer](ring, lethe.Options{Policy: policy})
	must(err)
	c := Customer{ID: "cus_1", Email: lethe.Of("ada@example.com")}
	must(customers.Seal(ctx, &c))

	for _, who := range []string{"guest", "support", "billing"} {
		row := c // a copy of a Secret is independent
		must(customers.Open(context.WithValue(ctx, role{}, who), &row))
		fmt.Println(who, row.Email.Status(), row.Email.Masked())
	}
	// Output:
	// guest denied [denied]
	// support denied a***@example.com
	// billing open a***@example.com
}

// Masked shows part of a value to those who need no more.
func ExampleSecret_Masked() {
	ctx := context.Background()
	ring, closeRing := exampleRing(ctx)
	defer closeRing()
	type Account struct {
		Keys  lethe.Keys           `lethe:"accounts"`
		ID    int64                `lethe:"subject=account"`
		Phone lethe.Secret[string] `lethe:"phone,mask=phone"`
		Card  lethe.Secret[string] `lethe:"card,mask=last4"`
		Note  lethe.Secret[string] `lethe:"note"`
	}
	accounts, err := lethe.For[Account](ring)
	must(err)
	a := Account{ID: 7, Phone: lethe.Of("+1 555 0100"), Card: lethe.Of("4111 1111 1111 1234"), Note: lethe.Of("a note")}
	must(accounts.Seal(ctx, &a))
	must(accounts.Open(ctx, &a))
	fmt.Println(a.Phone.Masked(), a.Card.Masked(), a.Note.Masked())
	fmt.Println(a.Phone, a.Card, a.Note)
	// Output:
	// +*** *** 00 •••• 1234 ••••
	// [sealed] [sealed] [sealed]
}

// An API request carries plaintext in, and cannot be logged or echoed by mistake.
func ExampleInput() {
	ctx := context.Background()
	ring, closeRing := exampleRing(ctx)
	defer closeRing()
	customers, err := lethe.For[Customer](ring)
	must(err)
	var request struct {
		Email lethe.Input[string] `json:"email"`
		Plan  string              `json:"plan"`
	}
	must(json.Unmarshal([]byte(`{"email":"ada@example.com","plan":"pro"}`), &request))
	fmt.Println(request)

	c := Customer{ID: "cus_1", Email: request.Email.Secret(), Plan: request.Plan}
	must(customers.Seal(ctx, &c))
	fmt.Println(c.Email.Status())
	// Output:
	// {[input] pro}
	// sealed
}

// An event: clear members stay readable for everybody, tagged ones are sealed.
func ExampleMarshal() {
	ctx := context.Background()
	ring, closeRing := exampleRing(ctx)
	defer closeRing()
	type OrderPlaced struct {
		_     lethe.Document `lethe:"order_placed"`
		User  string         `json:"user" lethe:"subject=customer"`
		Total int            `json:"total"`
		Email string         `json:"email" lethe:"email"`
	}
	events, err := lethe.For[OrderPlaced](ring)
	must(err)
	data, err := lethe.Marshal(ctx, events, &OrderPlaced{User: "cus_1", Total: 42, Email: "ada@example.com"})
	must(err)
	var anybody struct {
		User  string
		Total int
		Email map[string]string
	}
	must(json.Unmarshal(data, &anybody))
	fmt.Println(anybody.User, anybody.Total, len(anybody.Email["$lethe"]) > 0)

	var e OrderPlaced
	must(lethe.Unmarshal(ctx, events, data, &e))
	fmt.Println(e.User, e.Total, e.Email)
	// Output:
	// cus_1 42 true
	// cus_1 42 ada@example.com
}

// A document has no place for a status, so what is forgotten is listed.
func ExampleUnmarshal() {
	ctx := context.Background()
	ring, closeRing := exampleRing(ctx)
	defer closeRing()
	type Signup struct {
		_     lethe.Document `lethe:"signup"`
		User  string         `json:"user" lethe:"subject=customer"`
		Email string         `json:"email" lethe:"email"`
	}
	events, err := lethe.For[Signup](ring)
	must(err)
	data, err := lethe.Marshal(ctx, events, &Signup{User: "cus_1", Email: "ada@example.com"})
	must(err)
	_, err = ring.Forget(ctx, lethe.Subject{Kind: "customer", ID: "cus_1"})
	must(err)

	var e Signup
	err = lethe.Unmarshal(ctx, events, data, &e)
	if missing, ok := errors.AsType[*lethe.RowErrors](err); ok {
		for _, m := range missing.Errors {
			fmt.Println(m.Field, errors.Is(m.Err, lethe.ErrForgotten))
		}
	}
	fmt.Printf("%q %q\n", e.User, e.Email)
	// Output:
	// email true
	// "cus_1" ""
}

// Each tenant has keys of its own; the caller says which one it acts for.
func ExampleSealer_Tenant() {
	ctx := context.Background()
	ring, closeRing := exampleRing(ctx)
	defer closeRing()
	customers, err := lethe.For[Customer](ring, lethe.Options{RequireTenant: true})
	must(err)
	c := Customer{ID: "cus_1", Email: lethe.Of("ada@example.com")}
	fmt.Println(customers.Seal(ctx, &c) != nil) // no tenant
	must(customers.Tenant("acme").Seal(ctx, &c))

	stolen := c
	fmt.Println(customers.Tenant("umbrella").Open(ctx, &stolen) != nil, stolen.Email.Status())
	must(customers.Tenant("acme").Open(ctx, &c))
	fmt.Println(c.Email.Status())
	// Output:
	// true
	// true failed
	// open
}

// After a person's keys were rotated, their rows move under the new ones when
// there is time: only the Keys column is written.
func ExampleSealer_Rewrap() {
	ctx := context.Background()
	ring, closeRing := exampleRing(ctx)
	defer closeRing()
	customers, err := lethe.For[Customer](ring)
	must(err)
	c := Customer{ID: "cus_1", Email: lethe.Of("ada@example.com")}
	must(customers.Seal(ctx, &c))
	_, err = ring.Rotate(ctx, lethe.Subject{Kind: "customer", ID: "cus_1"})
	must(err)

	old := c.Keys
	changed, err := customers.Rewrap(ctx, &c)
	must(err)
	fmt.Println(changed, c.Keys.Equal(old)) // UPDATE … SET sealed_keys = c.Keys WHERE id = … AND sealed_keys = old
	must(customers.Open(ctx, &c))
	fmt.Println(c.Email.Status())
	// Output:
	// true false
	// open
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// exampleRing keeps keys in memory and the key that wraps them in a file; a real
// program uses envelope/sqlstore and a ledger of its own.
func exampleRing(ctx context.Context) (ring *envelope.Keyring, closeRing func()) {
	dir, err := os.MkdirTemp("", "lethe")
	must(err)
	key, err := localkms.Create(filepath.Join(dir, "kek.json"), localkms.Options{})
	must(err)
	store, opts := memstore.New(), envelope.Options{Ledger: &memledger.Ledger{}}
	must(envelope.Init(ctx, store, key, opts))
	ring, err = envelope.NewKeyring(ctx, store, key, opts)
	must(err)
	return ring, func() {
		ring.Close()
		must(os.RemoveAll(dir))
	}
}

func exampleDB(ctx context.Context) *sql.DB {
	db, err := sql.Open("sqlite", ":memory:")
	must(err)
	db.SetMaxOpenConns(1) // each connection would have a memory of its own
	_, err = db.ExecContext(ctx, customerDDL)
	must(err)
	return db
}

// Move a table from a plaintext column to a sealed one while it is in use, and
// watch how far it is.
func ExampleMigration() {
	ctx := context.Background()
	ring, closeRing := exampleRing(ctx)
	defer closeRing()
	type Customer struct {
		Keys     lethe.Keys           `lethe:"customers"`
		ID       string               `lethe:"subject=customer"`
		Email    lethe.Secret[string] `lethe:"email"`
		OldEmail *string              `lethe:"plain=email"`
	}
	customers, err := lethe.For[Customer](ring, lethe.Options{Migrations: map[string]lethe.Migration{
		"email": {Until: time.Now().Add(30 * 24 * time.Hour)},
	}})
	must(err)
	stats := expvar.Func(func() any { return customers.MigrationStats() }) // expvar.Publish("migrations", stats)

	old := "ada@example.com"
	rows := []Customer{{ID: "cus_1", OldEmail: &old}} // as the database has it
	must(rows[0].Keys.Scan(nil))
	must(rows[0].Email.Scan(nil))
	must(customers.OpenSlice(ctx, rows))
	email, err := rows[0].Email.Reveal()
	must(err)
	fmt.Println(email)

	changed, err := customers.SealPlain(ctx, rows)
	must(err)
	fmt.Println(changed, rows[0].OldEmail == nil, rows[0].Email.Status())
	// UPDATE customers SET sealed_keys = ?, email_sealed = ?, email = NULL WHERE id = ? AND sealed_keys IS NULL AND email = ?
	must(customers.OpenSlice(ctx, rows))
	now, _ := stats.Value().([]lethe.MigrationStat)
	fmt.Println(now[0].Field, now[0].PlainReads, now[0].SealedReads, now[0].Backfilled)
	// Output:
	// ada@example.com
	// [0] true sealed
	// email 1 1 1
}
