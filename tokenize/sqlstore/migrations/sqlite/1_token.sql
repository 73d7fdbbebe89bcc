CREATE TABLE lethe_token (
	tokenizer   TEXT   NOT NULL,
	tenant      TEXT   NOT NULL,
	token       TEXT   NOT NULL,
	purpose     TEXT   NOT NULL,
	fingerprint BLOB,
	key_version BIGINT NOT NULL,
	sealed      BLOB  NOT NULL,
	created     BIGINT NOT NULL,
	expires     BIGINT NOT NULL,
	uses_left   BIGINT NOT NULL,
	PRIMARY KEY (token, tenant, tokenizer)
) WITHOUT ROWID;

CREATE UNIQUE INDEX lethe_token_fingerprint ON lethe_token (fingerprint) WHERE fingerprint IS NOT NULL;
CREATE INDEX lethe_token_expires ON lethe_token (expires) WHERE expires > 0;
CREATE INDEX lethe_token_used ON lethe_token (token) WHERE uses_left = 0;
