CREATE TABLE lethe_meta (
	id          BIGINT PRIMARY KEY CHECK (id = 1),
	store_id    BYTEA   NOT NULL,
	schema      BIGINT  NOT NULL,
	incarnation BIGINT  NOT NULL,
	applied_seq BIGINT  NOT NULL,
	ledger_head BYTEA
);

CREATE TABLE lethe_tree (
	tree         BIGINT PRIMARY KEY,
	tref         TEXT    NOT NULL,
	active_epoch BIGINT  NOT NULL,
	state        BIGINT  NOT NULL
);

CREATE TABLE lethe_root (
	tree          BIGINT  NOT NULL,
	epoch         BIGINT  NOT NULL,
	wrap_no       BIGINT  NOT NULL,
	kms_uri       TEXT    NOT NULL,
	kms_handle    TEXT    NOT NULL,
	semantics     TEXT    NOT NULL,
	suite         BIGINT  NOT NULL,
	wrapped       BYTEA   NOT NULL,
	root_commit   BYTEA   NOT NULL,
	state         BIGINT  NOT NULL,
	created       BIGINT  NOT NULL,
	destroy_after BIGINT  NOT NULL,
	destroyed_at  BIGINT  NOT NULL,
	PRIMARY KEY (tree, epoch, wrap_no)
);

CREATE TABLE lethe_page (
	tree        BIGINT  NOT NULL,
	page        BIGINT  NOT NULL,
	parent      BIGINT  NOT NULL,
	parent_gen  BIGINT  NOT NULL,
	level       BIGINT  NOT NULL,
	gen         BIGINT  NOT NULL,
	suite       BIGINT  NOT NULL,
	wrapped     BYTEA   NOT NULL,
	fill        BIGINT  NOT NULL,
	dirty_epoch BIGINT  NOT NULL,
	PRIMARY KEY (tree, page)
);

CREATE INDEX lethe_page_parent ON lethe_page (tree, parent);
CREATE INDEX lethe_page_open ON lethe_page (tree, level) WHERE fill < 64;
CREATE INDEX lethe_page_dirty ON lethe_page (tree) WHERE dirty_epoch > 0;

CREATE TABLE lethe_key (
	kid        BYTEA   NOT NULL PRIMARY KEY,
	tree       BIGINT  NOT NULL,
	page       BIGINT  NOT NULL,
	page_gen   BIGINT  NOT NULL,
	kind       BIGINT  NOT NULL,
	suite      BIGINT  NOT NULL,
	ref_ver    BIGINT  NOT NULL,
	sref       BYTEA   NOT NULL,
	pid        BIGINT  NOT NULL,
	seq        BIGINT  NOT NULL,
	wrapped    BYTEA   NOT NULL,
	state      BIGINT  NOT NULL,
	created    BIGINT  NOT NULL,
	seal_until BIGINT  NOT NULL,
	expires    BIGINT  NOT NULL,
	UNIQUE (tree, ref_ver, sref, pid, seq)
);

CREATE INDEX lethe_key_page ON lethe_key (tree, page);
CREATE INDEX lethe_key_system ON lethe_key (tree, kind) WHERE kind > 2;

CREATE TABLE lethe_purpose (
	pid  BIGINT PRIMARY KEY,
	name TEXT    NOT NULL UNIQUE
);

CREATE TABLE lethe_tomb (
	tree       BIGINT  NOT NULL,
	ref_ver    BIGINT  NOT NULL,
	sref       BYTEA   NOT NULL,
	pid        BIGINT  NOT NULL,
	ledger_seq BIGINT  NOT NULL,
	lifted_seq BIGINT  NOT NULL,
	PRIMARY KEY (tree, ref_ver, sref, pid)
);

CREATE TABLE lethe_dead (
	kid        BYTEA   NOT NULL PRIMARY KEY,
	ledger_seq BIGINT  NOT NULL
);

CREATE TABLE lethe_hold (
	tree       BIGINT  NOT NULL,
	sref       BYTEA   NOT NULL,
	pid        BIGINT  NOT NULL,
	until      BIGINT  NOT NULL,
	ledger_seq BIGINT  NOT NULL,
	PRIMARY KEY (tree, sref, pid)
);

CREATE TABLE lethe_journal (
	tree        BIGINT  NOT NULL,
	epoch       BIGINT  NOT NULL,
	step        TEXT    NOT NULL,
	cursor      BIGINT  NOT NULL,
	owner       TEXT    NOT NULL,
	lease_until BIGINT  NOT NULL,
	PRIMARY KEY (tree, epoch)
);
