-- How far each store stage has got; moved by compare-and-set together with the effects.
CREATE TABLE stage_offsets (
    stage         TEXT   NOT NULL,
    cluster_id    TEXT   NOT NULL,
    topic_id      TEXT   NOT NULL,
    partition     BIGINT NOT NULL,
    next_offset   BIGINT NOT NULL,
    last_event_id TEXT,
    PRIMARY KEY (stage, cluster_id, topic_id, partition)
);

-- What is to be published, written with the effects that it tells of. Column names follow Debezium's
-- outbox event router; aggregatetype is the topic, aggregateid the key (exact_key holds a key that text
-- can't tell: not UTF-8, or empty; an empty aggregateid without it is no key).
CREATE TABLE outbox (
    sequence      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id            TEXT   NOT NULL,
    tenant_id     TEXT   NOT NULL,
    aggregatetype TEXT   NOT NULL,
    aggregateid   TEXT   NOT NULL,
    exact_key     BYTEA,
    type          TEXT   NOT NULL,
    payload       BYTEA,
    partition     BIGINT,
    headers       TEXT   NOT NULL,
    bucket        BIGINT NOT NULL,
    created_at    BIGINT NOT NULL,
    UNIQUE (tenant_id, id)
);
CREATE INDEX outbox_by_bucket ON outbox (bucket, sequence);

-- One row a bucket; whoever holds its row lock relays the bucket.
CREATE TABLE outbox_buckets (bucket BIGINT PRIMARY KEY);
INSERT INTO outbox_buckets SELECT generate_series(0, 15);
