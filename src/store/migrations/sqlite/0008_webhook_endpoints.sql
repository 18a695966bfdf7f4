-- Endpoints can be paused, and say more: which bodies they want, which headers they get, how fast they are told.
-- SQLite can't change a CHECK, so the table is made anew.
--
-- events_before: patterns that the endpoint was told of once and isn't any more; work for it may still wait.
-- headers and contact are sealed: they hold tokens and a mail address. rate is requests per second.
CREATE TABLE webhook_endpoints_0008 (
    tenant_id       TEXT   NOT NULL,
    id              TEXT   NOT NULL,
    url             TEXT   NOT NULL,
    events          TEXT   NOT NULL,
    retry_attempts  BIGINT,
    retry_delay_ms  BIGINT,
    timeout_ms      BIGINT NOT NULL,
    secrets         BLOB   NOT NULL,
    state           TEXT   NOT NULL CHECK (state IN ('enabled', 'paused', 'disabled')),
    disabled_reason TEXT,
    owner           TEXT,
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL,
    events_before   TEXT   NOT NULL DEFAULT '',
    filter          TEXT,
    headers         BLOB,
    rate            BIGINT,
    concurrency     BIGINT,
    contact         BLOB,
    description     TEXT,
    PRIMARY KEY (tenant_id, id)
);
INSERT INTO webhook_endpoints_0008 (tenant_id, id, url, events, retry_attempts, retry_delay_ms, timeout_ms, secrets,
        state, disabled_reason, owner, created_at, updated_at)
    SELECT tenant_id, id, url, events, retry_attempts, retry_delay_ms, timeout_ms, secrets,
        state, disabled_reason, owner, created_at, updated_at FROM webhook_endpoints;
DROP TABLE webhook_endpoints;
ALTER TABLE webhook_endpoints_0008 RENAME TO webhook_endpoints;

CREATE INDEX webhook_attempts_by_delivery ON webhook_attempts (tenant_id, delivery_id, attempt);
CREATE INDEX webhook_attempts_by_order ON webhook_attempts (tenant_id, order_id, attempted_at, attempt_id);
-- Deliveries that are to be tried again.
CREATE INDEX webhook_attempts_waiting ON webhook_attempts (tenant_id, endpoint_id, next_attempt_at)
    WHERE next_attempt_at IS NOT NULL;
CREATE INDEX webhook_attempts_by_time ON webhook_attempts (attempted_at);
