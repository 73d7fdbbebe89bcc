// Package riverjobs runs the jobs of package migrate, and the epochs of a key
// store, as jobs of River on PostgreSQL, instead of a scheduler of its own.
//
//	worker, err := riverjobs.NewWorker(riverjobs.Options{Tables: []migrate.Table{customers}})
//	workers := river.NewWorkers()
//	river.AddWorker(workers, worker)
//	river.AddWorker(workers, riverjobs.NewEpochs(ring, riverjobs.EpochOptions{}))
//	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
//		Workers: workers, Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 4}},
//		RescueStuckJobsAfter: 10 * time.Minute,
//		PeriodicJobs:         []*river.PeriodicJob{riverjobs.PeriodicEpochs(10 * time.Minute)},
//	})
//	_, err = client.Insert(ctx, riverjobs.Args{Job: "rewrap", Table: "customers"}, nil)
//
// A job works for Options.Slice, then gives its place in the queue to others and
// goes on from its checkpoint when River has a place for it again, in any process.
// Such turns are no attempts; errors are. Errors that pass by themselves are
// retried, others cancel the job: see [Worker].
//
// A process that is killed leaves its job running as far as River knows, until
// RescueStuckJobsAfter, an hour by default: set it lower, and above Worker.Timeout
// and EpochOptions.Timeout. Nothing is lost either way.
//
// What River stores of a job are the names of a table and a tenant, counts, and
// errors that say nothing of rows.
package riverjobs
