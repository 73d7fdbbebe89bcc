-- The keys of a page lie next to each other: an epoch close rewrites those of whole
-- pages, and new ones are appended. No limit is NULL. Numbers of 32 bits wrap around to
-- negative ones above 2^31-1, as in PostgreSQL. One that is none becomes NULL below, and
-- is refused; so is a large one as a program of the version before would write it.
CREATE TABLE lethe_key_by_page (
	tree       INTEGER NOT NULL,
	page       INTEGER NOT NULL,
	kid        BLOB    NOT NULL,
	page_gen   INTEGER NOT NULL,
	kind       INTEGER NOT NULL,
	suite      INTEGER NOT NULL,
	ref_ver    INTEGER NOT NULL CHECK (ref_ver BETWEEN -2147483648 AND 2147483647),
	sref       BLOB    NOT NULL,
	pid        INTEGER NOT NULL CHECK (pid BETWEEN -2147483648 AND 2147483647),
	seq        INTEGER NOT NULL CHECK (seq BETWEEN -2147483648 AND 2147483647),
	wrapped    BLOB    NOT NULL,
	state      INTEGER NOT NULL,
	created    INTEGER NOT NULL,
	seal_until INTEGER,
	expires    INTEGER,
	PRIMARY KEY (page, tree, kid)
) STRICT, WITHOUT ROWID;

INSERT INTO lethe_key_by_page (tree, page, kid, page_gen, kind, suite, ref_ver, sref, pid, seq, wrapped, state, created, seal_until, expires)
	SELECT tree, page, kid, page_gen, kind, suite,
		CASE WHEN ref_ver BETWEEN 0 AND 2147483647 THEN ref_ver WHEN ref_ver BETWEEN 2147483648 AND 4294967295 THEN ref_ver - 4294967296 END, sref,
		CASE WHEN pid BETWEEN 0 AND 2147483647 THEN pid WHEN pid BETWEEN 2147483648 AND 4294967295 THEN pid - 4294967296 END,
		CASE WHEN seq BETWEEN 0 AND 2147483647 THEN seq WHEN seq BETWEEN 2147483648 AND 4294967295 THEN seq - 4294967296 END,
		wrapped, state, created, NULLIF(seal_until, 0), NULLIF(expires, 0)
	FROM lethe_key ORDER BY page, tree, kid;

DROP TABLE lethe_key;

ALTER TABLE lethe_key_by_page RENAME TO lethe_key;

CREATE UNIQUE INDEX lethe_key_name ON lethe_key (sref, tree, ref_ver, pid, seq);

CREATE INDEX lethe_key_system ON lethe_key (tree, kind) WHERE kind > 2;
