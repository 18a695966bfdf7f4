-- A backfill that runs, with its progress, as JSON; null when none does.
ALTER TABLE cursors ADD COLUMN backfill TEXT;

-- Of a backfill: its id, where it ends (null: where the target is), the time between two events, and whether only the
-- newest event of each lane is wanted.
ALTER TABLE cursor_wishes ADD COLUMN backfill_id TEXT;
ALTER TABLE cursor_wishes ADD COLUMN to_offset BIGINT;
ALTER TABLE cursor_wishes ADD COLUMN every_micros BIGINT;
ALTER TABLE cursor_wishes ADD COLUMN newest_only BIGINT;

-- Backfills of webhook endpoints, as they were asked for. Of one endpoint one runs at a time.
CREATE TABLE backfills (
    tenant_id   TEXT   NOT NULL,
    id          TEXT   NOT NULL,
    endpoint_id TEXT   NOT NULL,
    asked_by    TEXT   NOT NULL,
    asked_at    BIGINT NOT NULL,
    state       TEXT   NOT NULL CHECK (state IN ('running', 'done', 'cancelled')),
    rate_milli  BIGINT,
    newest_only BIGINT NOT NULL,
    ended_at    BIGINT,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX backfills_running ON backfills (tenant_id, endpoint_id) WHERE state = 'running';
CREATE INDEX backfills_by_endpoint ON backfills (tenant_id, endpoint_id, asked_at);

-- Each partition's part of a backfill; its owner tells how far it is. to_offset is null until it has begun.
CREATE TABLE backfill_parts (
    backfill_id TEXT   NOT NULL,
    stage       TEXT   NOT NULL,
    cluster_id  TEXT   NOT NULL,
    topic_id    TEXT   NOT NULL,
    partition   BIGINT NOT NULL,
    from_offset BIGINT NOT NULL,
    at_offset   BIGINT NOT NULL,
    to_offset   BIGINT,
    delivered   BIGINT NOT NULL,
    set_aside   BIGINT NOT NULL,
    state       TEXT   NOT NULL CHECK (state IN ('running', 'done', 'cancelled')),
    PRIMARY KEY (backfill_id, stage, cluster_id, topic_id, partition)
);

-- Where each endpoint begins: what was written below was there before it was registered.
CREATE TABLE webhook_starts (
    tenant_id    TEXT   NOT NULL,
    endpoint_id  TEXT   NOT NULL,
    topic        TEXT   NOT NULL,
    partition    BIGINT NOT NULL,
    start_offset BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, endpoint_id, topic, partition)
);

-- Where the event of an attempt lies, and whether somebody asked for it to be sent again.
ALTER TABLE webhook_attempts ADD COLUMN source_topic TEXT;
ALTER TABLE webhook_attempts ADD COLUMN source_partition BIGINT;
ALTER TABLE webhook_attempts ADD COLUMN source_offset BIGINT;
ALTER TABLE webhook_attempts ADD COLUMN resend BIGINT NOT NULL DEFAULT 0;

-- What has left the log is read from the history, by where it lay.
CREATE INDEX order_events_by_place ON order_events (topic, partition, record_offset);
