-- Every event of every order, once, in the order in which it took effect.
CREATE TABLE order_events (
    tenant_id      TEXT   NOT NULL,
    order_id       TEXT   NOT NULL,
    version        BIGINT NOT NULL,
    event_id       TEXT   NOT NULL,
    event_type     TEXT   NOT NULL,
    schema_id      BIGINT NOT NULL,
    occurred_at    BIGINT NOT NULL,
    recorded_at    BIGINT NOT NULL,
    correlation_id TEXT,
    causation_id   TEXT,
    source         TEXT,
    topic          TEXT   NOT NULL,
    partition      BIGINT NOT NULL,
    record_offset  BIGINT NOT NULL,
    payload_hash   BLOB  NOT NULL,
    event          TEXT   NOT NULL,
    personal       TEXT   NOT NULL,
    PRIMARY KEY (tenant_id, order_id, version)
);
CREATE UNIQUE INDEX order_events_by_id ON order_events (tenant_id, event_id);

-- Each order as it is now.
CREATE TABLE orders (
    tenant_id    TEXT   NOT NULL,
    order_id     TEXT   NOT NULL,
    version      BIGINT NOT NULL,
    status       TEXT   NOT NULL,
    order_number BIGINT,
    buyer_id     TEXT,
    seller_id    TEXT,
    state        BLOB  NOT NULL,
    updated_at   BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, order_id)
);
