// Command lethe is the operator's tool: it sees how keys and forgetting stand, forgets
// people, closes epochs, rotates keys, moves live tables to new ones, and reads
// receipts and sealed bytes.
//
// # Commands
//
//	lethe init                              make the key store, the ledger and a local key; or update their tables
//	lethe config check [--open]             check the configuration, and whether everything opens
//	lethe status [--check]                  how forgetting stands; for a monitor with --check
//
//	lethe forget --kind K [--id ID]         forget a subject, or with --purpose one purpose of it, and print the receipt
//	    [--now | --after 720h] [--receipt F]    with the close of the epoch, or a grace period
//	lethe forget-due                        carry out forgets that waited
//	lethe unforget --kind K [--id ID]       undo a forget whose grace has not passed
//	lethe readmit --kind K [--id ID]        let a forgotten subject have new data
//	lethe suspend, lethe resume             stop all use of a subject's keys, and end that
//	lethe hold --reason CODE, lethe release a legal hold
//
//	lethe epoch close [--immediate] [--all] close the epoch
//	lethe epoch erase-due                   have the KMS destroy what is due
//	lethe epoch confirm-erased EPOCH        record it where the KMS cannot say
//	lethe restore                           after a backup of the key store was put back
//
//	lethe rotate kek [--to URI]             a new version of the KMS key, or another one
//	lethe rotate subject --kind K [--id ID] new versions of a subject's keys
//	lethe rotate index TABLE INDEX          a new version of an index key
//	lethe rewrap TABLE                      move rows under the newest subject keys
//	lethe reseal TABLE                      seal rows anew, under new data keys
//	lethe reindex TABLE [--retire]          compute blind indexes with the newest key
//	lethe backfill TABLE [--keep]           seal what is in plaintext columns
//	lethe unseal TABLE                      the way out: back to plaintext columns
//
//	lethe receipt verify --key PUB.pem [--ledger FILE] RECEIPT.json
//	lethe receipt show RECEIPT.json
//	lethe receipt issue SEQ                 the receipt of an earlier forget as things stand now
//	lethe receipt keygen --out KEY.pem --public PUB.pem
//	lethe inspect [DATA]                    what a header, cell, index value or document says without keys
//	lethe inventory [TABLE]                 which personal data is where, as Markdown or JSON
//	lethe completion bash|zsh|fish          a script for a shell: source <(lethe completion bash)
//
// lethe COMMAND --help has the flags. receipt verify, show and keygen, inspect and
// completion need no configuration; config check and inventory need no keys.
//
// A subject's id that is left out is read from standard input, so that it stands in
// no shell history and no list of processes. No message repeats it.
//
// Jobs over tables (rewrap, reseal, reindex, backfill, unseal) run beside the
// service and keep their place in the table lethe_job of its database: one that was
// stopped or killed goes on where it was when it is called again. They show a bar on
// a terminal and a line every few seconds elsewhere, on standard error. --dry-run
// says what one would do. See package integrations/migrate.
//
// # Configuration
//
// --config FILE, or LETHE_CONFIG, names a YAML file; variables LETHE_… win over it.
// It is the one a service opens its keyring from with package integrations/config,
// whose documentation describes it; here the tables, which the program does not know
// the structs of, stand in it too. KMS keys are local://FILE and
// hcvault://HOST/MOUNT/keys/NAME (Vault's token and TLS settings come from VAULT_…).
// No output shows a password, a passphrase or a token.
//
// # What cannot be undone
//
// forget, epoch close --immediate or --leave-damaged, epoch confirm-erased, rotate
// kek, restore, reindex --retire, backfill without --keep, and unseal ask on a
// terminal. Without one they do nothing unless --yes is given.
//
// # Exit codes
//
//	0    done, or the answer is yes
//	1    the answer is no, or the request is refused and nothing was changed: a
//	     receipt that is not verified, a subject that is forgotten or held, status
//	     --check with something overdue, a question answered with no
//	2    it could not run: called wrongly, a mistake in the configuration, a file
//	     that is not there, --yes missing
//	3    the KMS, a database, or another process in the way: try again later
//	4    done in part; what was left is listed
//	5    key store, ledger, KMS key and data do not fit together: somebody must look
//	130  interrupted; the same command goes on
//
// # JSON
//
// With --json every command writes one object to standard output, and an error as
// {"error": "…", "exit": 3} to standard error. Members are added, never renamed or
// removed. Times are RFC 3339 in UTC, lengths of time are seconds; a member whose
// value is not known is left out.
//
//	init              store ledger kms already new_key
//	config check      file store kms ledger database receipts_signed tables
//	                  warnings[] opened
//	status            store_id store kms ledger epoch since overdue dirty_pages
//	                  pending[] oldest_backup incarnation closing_until closing_step
//	                  promise{everywhere_seconds backups_seconds none caveats[]}
//	forget            receipt{…} signed{payloadType payload signatures[]} closed{…}
//	receipt issue     receipt{…} signed{…}
//	forget-due,
//	release           receipts[]
//	unforget, readmit, suspend, resume, hold,
//	rotate index, epoch confirm-erased          done
//	epoch close       epoch no_op pages keys checked dropped damaged_pages[]
//	                  damaged_keys[] erasures[] seconds
//	epoch erase-due   erasures[]: epoch kms handle erasable due ordered until
//	                  destroyed error
//	restore           behind from_epoch incarnation closed{…}
//	rotate kek        kms epoch moved
//	rotate subject    versions
//	rewrap, reseal,
//	reindex, backfill,
//	unseal            job table done resumed passes last_pass{…} all_passes{…}
//	                  seconds rows_per_second failures[]: key[] error; receipts[];
//	                  estimate{rows sampled sample{…} change bytes seconds}
//	inspect           what bytes suite row_bound scopes[]: tag names key suite; codec
//	                  plaintext_bytes{}
//	                  key_version bits members[]: path and the same again
//	inventory         tables[]: table sql record columns[]: column field type
//	                  subject group purpose mask index index_norm index_bits
//	receipt verify,
//	receipt show      verified key_id ledger_checked error receipt{…}
//	receipt keygen    key_id private public
//	completion        shell script
//
// Receipts and counts are those of envelope.Receipt and migrate.Counts.
package main
