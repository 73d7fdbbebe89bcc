// Package migrate goes through live tables of rows with sealed fields and changes
// them: moves their keys under new ones (Rewrap), seals them anew (Reseal), computes
// their blind indexes again (Reindex), moves plaintext columns into sealed ones
// (Backfill) and back (Unseal). The service goes on reading and writing.
//
//	job, err := migrate.NewJob(ctx, migrate.Rewrap, migrate.Table{
//		Name: "customers", Key: []string{"id"}, DB: db, Dialect: lethe.Postgres, Rows: customers.Rows(),
//	}, migrate.Options{})
//	report, err := job.Run(ctx, func(p migrate.Progress) { fmt.Println(p) })
//
// # What it promises
//
// A row is written only if every column the job worked from, and every one it
// writes, is as it was read. Otherwise the service changed it in between, and it is
// read and done again. So no value is lost or taken back to an older one, whatever
// runs beside a job: the service, other jobs, the same job in another process.
//
// What is done and how far the job is are committed together, in the table lethe_job
// (see [Migrate]), batch by batch; that table holds the primary key a job has come
// to, and those of rows that failed. A job that was stopped, by break, by its context
// or by kill -9, goes on where it was, in any process. Rows may be visited twice
// then, which does no harm.
//
// Passes are repeated until one finds nothing to do, for rows that the service wrote
// with old keys behind the job. Reseal has one pass: it cannot tell whether a row
// was sealed anew.
//
// Rows of forgotten and suspended people are left as they are, and counted. So are
// rows that fail, or that the database refuses, which are listed; they do not stop a
// job, unless it is every row of a page.
//
// # What it costs the service
//
// A batch is one short transaction. On PostgreSQL a job never waits for a row, it
// skips what is locked and comes back to it, so it cannot deadlock with anybody; who
// wants a row that a batch has just written waits for its commit. On SQLite, which has one
// writer, batches are small. The default rate leaves the service most of a small
// server; see Options.Rate. [Job.Estimate] says beforehand how many rows and bytes a
// job would write.
//
// Rewriting rows makes dead ones: on PostgreSQL leave room in pages (fillfactor) or
// vacuum afterwards. Old ciphertext and old keys stay in those dead rows, in the
// write-ahead log and in backups, as after any update.
package migrate
