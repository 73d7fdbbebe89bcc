CREATE TABLE lethe_token (
	tokenizer   TEXT   COLLATE "C" NOT NULL,
	tenant      TEXT   COLLATE "C" NOT NULL,
	token       TEXT   COLLATE "C" NOT NULL,
	purpose     TEXT   NOT NULL,
	fingerprint BYTEA,
	key_version BIGINT NOT NULL,
	sealed      BYTEA  NOT NULL,
	created     BIGINT NOT NULL,
	expires     BIGINT NOT NULL,
	uses_left   BIGINT NOT NULL,
	PRIMARY KEY (token, tenant, tokenizer)
);

CREATE UNIQUE INDEX lethe_token_fingerprint ON lethe_token (fingerprint) WHERE fingerprint IS NOT NULL;
CREATE INDEX lethe_token_expires ON lethe_token (expires) WHERE expires > 0;
CREATE INDEX lethe_token_used ON lethe_token (token) WHERE uses_left = 0;
