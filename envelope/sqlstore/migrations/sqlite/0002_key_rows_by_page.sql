-- The keys of a page lie next to each other: an epoch close rewrites those of whole
-- pages, and new ones are appended. No limit is NULL.
CREATE TABLE lethe_key_by_page (
	tree       INTEGER NOT NULL,
	page       INTEGER NOT NULL,
	kid        BLOB    NOT NULL,
	page_gen   INTEGER NOT NULL,
	kind       INTEGER NOT NULL,
	suite      INTEGER NOT NULL,
	ref_ver    INTEGER NOT NULL,
	sref       BLOB    NOT NULL,
	pid        INTEGER NOT NULL,
	seq        INTEGER NOT NULL,
	wrapped    BLOB    NOT NULL,
	state      INTEGER NOT NULL,
	created    INTEGER NOT NULL,
	seal_until INTEGER,
	expires    INTEGER,
	PRIMARY KEY (page, tree, kid)
) STRICT, WITHOUT ROWID;

INSERT INTO lethe_key_by_page (tree, page, kid, page_gen, kind, suite, ref_ver, sref, pid, seq, wrapped, state, created, seal_until, expires)
	SELECT tree, page, kid, page_gen, kind, suite,
		CASE WHEN ref_ver < 2147483648 THEN ref_ver ELSE ref_ver - 4294967296 END, sref,
		CASE WHEN pid < 2147483648 THEN pid ELSE pid - 4294967296 END,
		CASE WHEN seq < 2147483648 THEN seq ELSE seq - 4294967296 END,
		wrapped, state, created, NULLIF(seal_until, 0), NULLIF(expires, 0)
	FROM lethe_key ORDER BY page, tree, kid;

DROP TABLE lethe_key;

ALTER TABLE lethe_key_by_page RENAME TO lethe_key;

CREATE UNIQUE INDEX lethe_key_name ON lethe_key (sref, tree, ref_ver, pid, seq);

CREATE INDEX lethe_key_system ON lethe_key (tree, kind) WHERE kind > 2;
