-- The log is kept by endpoint and time, which is also the order in which it is listed and written; see the other engine's file.
CREATE TABLE webhook_attempts_0018 (
    tenant_id        TEXT   NOT NULL,
    attempt_id       TEXT   NOT NULL,
    endpoint_id      TEXT   NOT NULL,
    delivery_id      TEXT   NOT NULL,
    webhook_id       TEXT   NOT NULL,
    event_id         TEXT   NOT NULL,
    event_type       TEXT   NOT NULL,
    order_id         TEXT   NOT NULL,
    attempt          BIGINT NOT NULL,
    outcome          TEXT   NOT NULL,
    status           BIGINT,
    latency_ms       BIGINT NOT NULL,
    error            TEXT,
    response         BLOB,
    attempted_at     BIGINT NOT NULL,
    next_attempt_at  BIGINT,
    source_topic     TEXT,
    source_partition BIGINT,
    source_offset    BIGINT,
    resend           BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, endpoint_id, attempted_at, attempt_id)
);
INSERT INTO webhook_attempts_0018
    SELECT tenant_id, attempt_id, endpoint_id, delivery_id, webhook_id, event_id, event_type, order_id, attempt, outcome,
        status, latency_ms, error, response, attempted_at, next_attempt_at, source_topic, source_partition,
        source_offset, resend
    FROM webhook_attempts;
DROP TABLE webhook_attempts;
ALTER TABLE webhook_attempts_0018 RENAME TO webhook_attempts;
CREATE INDEX webhook_attempts_by_delivery ON webhook_attempts (tenant_id, delivery_id);
CREATE INDEX webhook_attempts_by_order ON webhook_attempts (tenant_id, order_id);
-- Deliveries that are to be tried again.
CREATE INDEX webhook_attempts_waiting ON webhook_attempts (tenant_id, endpoint_id, next_attempt_at)
    WHERE next_attempt_at IS NOT NULL;
CREATE INDEX webhook_attempts_by_time ON webhook_attempts (attempted_at);
