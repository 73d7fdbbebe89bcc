package migrate_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/memledger"
	"github.com/lethe-go/lethe/envelope/memstore"
	"github.com/lethe-go/lethe/integrations/migrate"
	"github.com/lethe-go/lethe/kms/localkms"
)

type Account struct {
	ID    int64                `db:"id" lethe:"id"`
	Owner string               `db:"owner" lethe:"subject=customer"`
	Keys  lethe.Keys           `db:"sealed_keys" lethe:"accounts"`
	Email lethe.Secret[string] `db:"email" lethe:"email"`
}

// A customer's key was rotated: move the rows that are still under the old one.
func ExampleJob_Run() {
	ctx := context.Background()
	db, ring, accounts, done := exampleAccounts(ctx)
	defer done()
	_, err := ring.Rotate(ctx, lethe.Subject{Kind: "customer", ID: "cus_1"})
	must(err)

	must(migrate.Migrate(ctx, db)) // once: the table lethe_job
	job, err := migrate.NewJob(ctx, migrate.Rewrap, migrate.Table{
		Name: "accounts", Key: []string{"id"}, DB: db, Dialect: lethe.SQLite, Rows: accounts.Rows(),
	}, migrate.Options{})
	must(err)
	report, err := job.Run(ctx, nil) // or with a function that shows its Progress
	must(err)
	fmt.Println(report.Done, report.All.Changed, "changed,", report.This.Unchanged, "are under the newest keys")
	for _, failed := range report.Failures {
		fmt.Println(failed) // failed.Key says which row
	}
	// Output:
	// true 2 changed, 6 are under the newest keys
}

// Drive a job batch by batch, and stop it after the first: the next one goes on.
func ExampleJob_Batches() {
	ctx := context.Background()
	db, _, accounts, done := exampleAccounts(ctx)
	defer done()
	must(migrate.Migrate(ctx, db))
	job, err := migrate.NewJob(ctx, migrate.Reseal, migrate.Table{
		Name: "accounts", Key: []string{"id"}, DB: db, Dialect: lethe.SQLite, Rows: accounts.Rows(),
	}, migrate.Options{BatchSize: 2, Workers: 1})
	must(err)
	for p, err := range job.Batches(ctx) {
		must(err)
		fmt.Println(p.All.Changed, "of", p.Total)
		break // the maintenance window is over
	}
	report, err := job.Run(ctx, nil)
	must(err)
	fmt.Println(report.All.Changed, "of", report.Total, report.Resumed, report.Done)
	// Output:
	// 2 of 6
	// 6 of 6 true true
}

// Find out beforehand what a job would do.
func ExampleJob_Estimate() {
	ctx := context.Background()
	db, _, accounts, done := exampleAccounts(ctx)
	defer done()
	job, err := migrate.NewJob(ctx, migrate.Reseal, migrate.Table{
		Name: "accounts", Key: []string{"id"}, DB: db, Dialect: lethe.SQLite, Rows: accounts.Rows(),
	}, migrate.Options{Rate: 1})
	must(err)
	estimate, err := job.Estimate(ctx)
	must(err)
	fmt.Println(estimate)
	// Output:
	// 6 rows, about 6 to change, 918 bytes to write, about 6s
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// exampleAccounts returns a table of six sealed accounts of three customers.
func exampleAccounts(ctx context.Context) (*sql.DB, *envelope.Keyring, *lethe.Sealer[Account], func()) {
	dir, err := os.MkdirTemp("", "migrate-example")
	must(err)
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "data.db")+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)")
	must(err)
	_, err = db.ExecContext(ctx, "CREATE TABLE accounts (id INTEGER PRIMARY KEY, owner TEXT NOT NULL, sealed_keys BLOB NOT NULL, email BLOB)")
	must(err)
	ring := exampleRing(ctx, dir)
	accounts, err := lethe.For[Account](ring)
	must(err)
	for i := range int64(6) {
		a := Account{ID: i + 1, Owner: fmt.Sprint("cus_", i%3), Email: lethe.Of(fmt.Sprintf("a%d@example.com", i))}
		must(accounts.Seal(ctx, &a))
		_, err := db.ExecContext(ctx, "INSERT INTO accounts VALUES (?1, ?2, ?3, ?4)", a.ID, a.Owner, a.Keys, a.Email)
		must(err)
	}
	return db, ring, accounts, func() {
		ring.Close()
		_ = db.Close()
		_ = os.RemoveAll(dir)
	}
}

// exampleRing keeps keys in memory; a real program uses envelope/sqlstore and a
// ledger of its own.
func exampleRing(ctx context.Context, dir string) *envelope.Keyring {
	key, err := localkms.Create(filepath.Join(dir, "kek.json"), localkms.Options{})
	must(err)
	store, opts := memstore.New(), envelope.Options{Ledger: &memledger.Ledger{}}
	must(envelope.Init(ctx, store, key, opts))
	ring, err := envelope.NewKeyring(ctx, store, key, opts)
	must(err)
	return ring
}
