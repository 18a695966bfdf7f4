-- One row per Idempotency-Key of a POST request. While it runs, status is null and locked_until says until
-- when nobody else may take it up; when it has succeeded, the answer is kept, sealed, until expires_at.
CREATE TABLE idempotency (
    tenant_id     TEXT   NOT NULL,
    key           TEXT   NOT NULL,
    request_hash  BYTEA  NOT NULL,
    first_seen_at BIGINT NOT NULL,
    locked_until  BIGINT NOT NULL,
    expires_at    BIGINT NOT NULL,
    status        BIGINT,
    content_type  TEXT,
    body          BYTEA,
    PRIMARY KEY (tenant_id, key)
);
CREATE INDEX idempotency_by_expiry ON idempotency (expires_at);
