-- lethe_key has a row for every person and purpose, so its bytes decide the size of
-- a store. Columns are ordered by alignment; srefs are UUIDs, which have no length;
-- numbers of 32 bits wrap around to negative ones above 2^31-1. NULL is what nearly
-- all rows have: kind, suite and state 1, and no limit. The database refuses a tree
-- above 2^31-1 and a ref_ver above 2^15-1; there is ref_ver 0 and 1 so far.
-- A number that is none of 32 bits becomes NULL below, and is refused.
--
-- The lock keeps out what a program of the version before would write to the old table
-- after it was read.
LOCK TABLE lethe_key IN ACCESS EXCLUSIVE MODE;

CREATE TABLE lethe_key_narrow (
	page       BIGINT   NOT NULL,
	page_gen   BIGINT   NOT NULL,
	created    BIGINT   NOT NULL,
	seal_until BIGINT,
	expires    BIGINT,
	tree       INTEGER  NOT NULL,
	pid        INTEGER  NOT NULL,
	seq        INTEGER  NOT NULL,
	ref_ver    SMALLINT NOT NULL,
	kind       SMALLINT,
	suite      SMALLINT,
	state      SMALLINT,
	sref       UUID     NOT NULL,
	kid        BYTEA    NOT NULL,
	wrapped    BYTEA    NOT NULL
);

INSERT INTO lethe_key_narrow (page, page_gen, created, seal_until, expires, tree, pid, seq, ref_ver, kind, suite, state, sref, kid, wrapped)
	SELECT page, page_gen, created, NULLIF(seal_until, 0), NULLIF(expires, 0), tree,
		CASE WHEN pid BETWEEN 0 AND 2147483647 THEN pid WHEN pid BETWEEN 2147483648 AND 4294967295 THEN pid - 4294967296 END,
		CASE WHEN seq BETWEEN 0 AND 2147483647 THEN seq WHEN seq BETWEEN 2147483648 AND 4294967295 THEN seq - 4294967296 END,
		CASE WHEN ref_ver BETWEEN 0 AND 2147483647 THEN ref_ver WHEN ref_ver BETWEEN 2147483648 AND 4294967295 THEN ref_ver - 4294967296 END,
		NULLIF(kind, 1), NULLIF(suite, 1), NULLIF(state, 1), encode(sref, 'hex')::uuid, kid, wrapped
	FROM lethe_key ORDER BY tree, page;

DROP TABLE lethe_key;

ALTER TABLE lethe_key_narrow RENAME TO lethe_key;

-- Together these two say: unique (tree, ref_ver, sref, pid, seq). All but a few rows
-- have the numbers of the first, whose entries are half as long for that.
CREATE UNIQUE INDEX lethe_key_subject ON lethe_key (sref, pid, seq) WHERE tree = 1 AND ref_ver = 1;

CREATE UNIQUE INDEX lethe_key_name ON lethe_key (sref, pid, seq, tree, ref_ver) WHERE tree <> 1 OR ref_ver <> 1;

-- Keys are found by subject or by page, never by kid alone: a kid is a random number
-- of 96 bits, and an index to keep it unique would cost 40 bytes a row.
CREATE INDEX lethe_key_page ON lethe_key (tree, page);

CREATE INDEX lethe_key_system ON lethe_key (tree, kind) WHERE kind > 2;

-- No primary key: what replicates the database logically gets whole rows.
ALTER TABLE lethe_key REPLICA IDENTITY FULL;
