CREATE TABLE lethe_meta (
	id          INTEGER PRIMARY KEY CHECK (id = 1),
	store_id    BLOB    NOT NULL,
	schema      INTEGER NOT NULL,
	incarnation INTEGER NOT NULL,
	applied_seq INTEGER NOT NULL,
	ledger_head BLOB
) STRICT;

CREATE TABLE lethe_tree (
	tree         INTEGER PRIMARY KEY,
	tref         TEXT    NOT NULL,
	active_epoch INTEGER NOT NULL,
	state        INTEGER NOT NULL
) STRICT;

CREATE TABLE lethe_root (
	tree          INTEGER NOT NULL,
	epoch         INTEGER NOT NULL,
	wrap_no       INTEGER NOT NULL,
	kms_uri       TEXT    NOT NULL,
	kms_handle    TEXT    NOT NULL,
	semantics     TEXT    NOT NULL,
	suite         INTEGER NOT NULL,
	wrapped       BLOB    NOT NULL,
	root_commit   BLOB    NOT NULL,
	state         INTEGER NOT NULL,
	created       INTEGER NOT NULL,
	destroy_after INTEGER NOT NULL,
	destroyed_at  INTEGER NOT NULL,
	PRIMARY KEY (tree, epoch, wrap_no)
) STRICT, WITHOUT ROWID;

CREATE TABLE lethe_page (
	tree        INTEGER NOT NULL,
	page        INTEGER NOT NULL,
	parent      INTEGER NOT NULL,
	parent_gen  INTEGER NOT NULL,
	level       INTEGER NOT NULL,
	gen         INTEGER NOT NULL,
	suite       INTEGER NOT NULL,
	wrapped     BLOB    NOT NULL,
	fill        INTEGER NOT NULL,
	dirty_epoch INTEGER NOT NULL,
	PRIMARY KEY (tree, page)
) STRICT, WITHOUT ROWID;

CREATE INDEX lethe_page_parent ON lethe_page (tree, parent);
CREATE INDEX lethe_page_open ON lethe_page (tree, level) WHERE fill < 64;
CREATE INDEX lethe_page_dirty ON lethe_page (tree) WHERE dirty_epoch > 0;

CREATE TABLE lethe_key (
	kid        BLOB    NOT NULL PRIMARY KEY,
	tree       INTEGER NOT NULL,
	page       INTEGER NOT NULL,
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
	seal_until INTEGER NOT NULL,
	expires    INTEGER NOT NULL,
	UNIQUE (tree, ref_ver, sref, pid, seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX lethe_key_page ON lethe_key (tree, page);
CREATE INDEX lethe_key_system ON lethe_key (tree, kind) WHERE kind > 2;

CREATE TABLE lethe_purpose (
	pid  INTEGER PRIMARY KEY,
	name TEXT    NOT NULL UNIQUE
) STRICT;

CREATE TABLE lethe_tomb (
	tree       INTEGER NOT NULL,
	ref_ver    INTEGER NOT NULL,
	sref       BLOB    NOT NULL,
	pid        INTEGER NOT NULL,
	ledger_seq INTEGER NOT NULL,
	lifted_seq INTEGER NOT NULL,
	PRIMARY KEY (tree, ref_ver, sref, pid)
) STRICT, WITHOUT ROWID;

CREATE TABLE lethe_dead (
	kid        BLOB    NOT NULL PRIMARY KEY,
	ledger_seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE lethe_hold (
	tree       INTEGER NOT NULL,
	sref       BLOB    NOT NULL,
	pid        INTEGER NOT NULL,
	until      INTEGER NOT NULL,
	ledger_seq INTEGER NOT NULL,
	PRIMARY KEY (tree, sref, pid)
) STRICT, WITHOUT ROWID;

CREATE TABLE lethe_journal (
	tree        INTEGER NOT NULL,
	epoch       INTEGER NOT NULL,
	step        TEXT    NOT NULL,
	cursor      INTEGER NOT NULL,
	owner       TEXT    NOT NULL,
	lease_until INTEGER NOT NULL,
	PRIMARY KEY (tree, epoch)
) STRICT, WITHOUT ROWID;
