CREATE TABLE lethe_ledger (
	seq  BIGINT PRIMARY KEY CHECK (seq > 0),
	line TEXT   NOT NULL
);

CREATE FUNCTION lethe_ledger_refuse() RETURNS trigger LANGUAGE plpgsql AS
	'BEGIN RAISE EXCEPTION ''lethe_ledger is append-only''; END';

CREATE TRIGGER lethe_ledger_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON lethe_ledger
	FOR EACH STATEMENT EXECUTE FUNCTION lethe_ledger_refuse();
