// Package config opens what a program that uses Lethe stands on, from one file and
// the environment: the key store, its KMS key, the ledger, and the application's
// database. The command lethe and a service read the same:
//
//	cfg, err := config.Load("lethe.yaml")
//	var mux kms.Mux
//	err = mux.Register("local", localkms.Opener(localkms.Options{Passphrase: cfg.KMSPassphrase()}))
//	stack, err := cfg.Open(ctx, &mux)
//	defer stack.Close()
//	customers, err := lethe.For[Customer](stack.Keyring)
//
// # The file
//
//	store: sqlite:keys.db               # or postgres://lethe@db1:5432/keys
//	kms: local://kek.json               # any URI the program's Mux opens
//	more_kms: [local://old.json]        # keys that may still unwrap the root
//	kms_passphrase: {file: kek.pass}    # of local key files
//	ledger: file:forgets.ledger         # or sqlite:FILE, postgres://…: never where the store is
//	database: postgres://app@db2/shop   # the application's, for jobs over its tables
//	receipt_key: receipts.pem           # Ed25519 key that signs receipts
//	suite: aes-256-gcm                  # or xchacha20-poly1305
//	cache: {ttl: 5m, size: 100000}
//	timeout: 5s
//	rotate_after: 90d
//	epochs: {every: 24h, window: 7d, close_time: 1h, replica_lag: 0s, long: false}
//	tables:
//	  customers:                        # the name by which the command knows it
//	    table: shop.customers           # in SQL; the same name if left out
//	    key: [id]
//	    columns:
//	      sealed_keys: {type: keys, lethe: customers}
//	      id:          {type: string, lethe: "subject=customer"}
//	      email:       {type: secret string, lethe: "email,mask=email"}
//	      email_idx:   {type: index, lethe: "email_idx,of=email,norm=email/1,bits=32"}
//
// store, kms and ledger are needed, all else has the default of
// [envelope.Options]. Lengths of time are Go's, and whole days: 7d. window may be
// none. Relative paths start from the folder of the file. A key that is not known,
// or stands twice, is an error with its line.
//
// tables describe the application's tables for programs that do not have its
// structs: each column of the primary key, each tagged one, with the tag it has in
// the struct. Types are those of [Types]; a secret of a type with MarshalBinary is
// "secret binary", with MarshalText "secret text", of a struct with the option json
// "secret json". Columns of tokens are left out. A plaintext column that a migration
// leaves beside the secret one is "plain string" and so on, with the tag plain=FIELD.
//
// # The environment
//
// Every key but tables has a variable, which wins over the file: LETHE_STORE,
// LETHE_KMS, LETHE_MORE_KMS (with commas), LETHE_KMS_PASSPHRASE, LETHE_LEDGER,
// LETHE_DATABASE, LETHE_RECEIPT_KEY, LETHE_SUITE, LETHE_CACHE_TTL,
// LETHE_CACHE_SIZE, LETHE_TIMEOUT, LETHE_ROTATE_AFTER, LETHE_EPOCHS_EVERY,
// LETHE_EPOCHS_WINDOW, LETHE_EPOCHS_CLOSE_TIME, LETHE_EPOCHS_REPLICA_LAG,
// LETHE_EPOCHS_LONG. LETHE_CONFIG names the file. Other variables that begin with
// LETHE_ are an error, but for LETHE_TEST_… and those that Kubernetes sets for a
// Service of that name.
//
// # Secrets
//
// A password or passphrase does not stand in the file: a URL with one in it is
// refused there. It comes from the environment (LETHE_STORE, or PGPASSWORD and
// PGPASSFILE, which the driver reads), or from a file of its own, which {file: PATH}
// or LETHE_STORE_FILE names and which holds the whole value. No message shows it;
// [Config.Warnings] says where a file of secrets lets others at it.
package config
