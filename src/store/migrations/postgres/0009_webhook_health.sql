-- How webhook endpoints fare, by the receipts of their attempts; what their owners were told is part of it, so that they
-- are told once. Times are of attempts, in epoch milliseconds.
CREATE TABLE webhook_health (
    tenant_id       TEXT   NOT NULL,
    endpoint_id     TEXT   NOT NULL,
    last_success_at BIGINT,
    failing_since   BIGINT,
    last_failure_at BIGINT,
    told            TEXT   NOT NULL DEFAULT 'well' CHECK (told IN ('well', 'failing', 'disabled')),
    PRIMARY KEY (tenant_id, endpoint_id)
);
