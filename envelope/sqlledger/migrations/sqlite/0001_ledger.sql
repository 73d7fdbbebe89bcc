CREATE TABLE lethe_ledger (
	seq  INTEGER PRIMARY KEY CHECK (seq > 0),
	line TEXT    NOT NULL
) STRICT;

CREATE TRIGGER lethe_ledger_no_update BEFORE UPDATE ON lethe_ledger BEGIN SELECT RAISE(ABORT, 'lethe_ledger is append-only'); END;

CREATE TRIGGER lethe_ledger_no_delete BEFORE DELETE ON lethe_ledger BEGIN SELECT RAISE(ABORT, 'lethe_ledger is append-only'); END;
