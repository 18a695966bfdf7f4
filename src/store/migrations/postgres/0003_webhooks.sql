-- Where a tenant wants to be told of events. The secrets are a sealed list, newest first, so that they can be
-- rotated with overlap.
CREATE TABLE webhook_endpoints (
    tenant_id       TEXT   NOT NULL,
    id              TEXT   NOT NULL,
    url             TEXT   NOT NULL,
    events          TEXT   NOT NULL,
    retry_attempts  BIGINT,
    retry_delay_ms  BIGINT,
    timeout_ms      BIGINT NOT NULL,
    secrets         BYTEA  NOT NULL,
    state           TEXT   NOT NULL CHECK (state IN ('enabled', 'disabled')),
    disabled_reason TEXT,
    owner           TEXT,
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, id)
);

-- Counts the changes to webhook_endpoints: whoever holds a copy asks this one row whether it is still true.
CREATE TABLE webhook_revision (
    only_row BIGINT PRIMARY KEY CHECK (only_row = 1),
    revision BIGINT NOT NULL
);
INSERT INTO webhook_revision (only_row, revision) VALUES (1, 0);

-- Every attempt to deliver, as it ended. The answer may hold anything, so it is sealed.
CREATE TABLE webhook_attempts (
    tenant_id       TEXT   NOT NULL,
    attempt_id      TEXT   NOT NULL,
    endpoint_id     TEXT   NOT NULL,
    delivery_id     TEXT   NOT NULL,
    webhook_id      TEXT   NOT NULL,
    event_id        TEXT   NOT NULL,
    event_type      TEXT   NOT NULL,
    order_id        TEXT   NOT NULL,
    attempt         BIGINT NOT NULL,
    outcome         TEXT   NOT NULL,
    status          BIGINT,
    latency_ms      BIGINT NOT NULL,
    error           TEXT,
    response        BYTEA,
    attempted_at    BIGINT NOT NULL,
    next_attempt_at BIGINT,
    PRIMARY KEY (tenant_id, attempt_id)
);
CREATE INDEX webhook_attempts_by_endpoint ON webhook_attempts (tenant_id, endpoint_id, attempted_at, attempt_id);
