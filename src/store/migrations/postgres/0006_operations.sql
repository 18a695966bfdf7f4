-- Whether a stage is paused; `version` grows with every change. A stage without a row runs.
CREATE TABLE stage_controls (
    stage      TEXT   PRIMARY KEY,
    paused     BIGINT NOT NULL,
    reason     TEXT   NOT NULL,
    changed_by TEXT   NOT NULL,
    changed_at BIGINT NOT NULL,
    version    BIGINT NOT NULL
);

-- What the owner of a partition is to do once. `argument` is a lane, or an offset, by `kind`.
CREATE TABLE stage_orders (
    id          TEXT   PRIMARY KEY,
    stage       TEXT   NOT NULL,
    partition   BIGINT NOT NULL,
    kind        TEXT   NOT NULL,
    argument    TEXT   NOT NULL,
    asked_by    TEXT   NOT NULL,
    asked_at    BIGINT NOT NULL,
    state       TEXT   NOT NULL,
    answer      TEXT,
    answered_at BIGINT
);
CREATE INDEX stage_orders_by_state ON stage_orders (state, stage);

-- Redrives: what was asked for, by whom, and whether it came to its end.
CREATE TABLE redrives (
    id         TEXT   PRIMARY KEY,
    stage      TEXT   NOT NULL,
    wanted     TEXT   NOT NULL,
    started_by TEXT   NOT NULL,
    started_at BIGINT NOT NULL,
    ended_at   BIGINT
);

-- Dead letters that were taken up by a redrive, by their coordinates in the dead-letter topic. A claim comes before the
-- record is appended anywhere, so that of two redrives only one appends it. `target_end` is the end that the partition
-- it is appended to had before.
CREATE TABLE redriven (
    cluster_id TEXT   NOT NULL,
    topic      TEXT   NOT NULL,
    partition  BIGINT NOT NULL,
    at_offset  BIGINT NOT NULL,
    lane       TEXT   NOT NULL,
    redrive_id TEXT   NOT NULL,
    runner     TEXT   NOT NULL,
    claimed_at BIGINT NOT NULL,
    target_end BIGINT NOT NULL,
    sent_at    BIGINT,
    PRIMARY KEY (cluster_id, topic, partition, at_offset)
);
CREATE INDEX redriven_by_redrive ON redriven (redrive_id);
CREATE INDEX redriven_unsent ON redriven (topic, lane) WHERE sent_at IS NULL;

-- One row a dead-letter topic; claims take turns at it.
CREATE TABLE redrive_turns (topic TEXT PRIMARY KEY, taken BIGINT NOT NULL);

-- Who did what, and why. Only ever added to.
CREATE TABLE audit (
    id     TEXT   PRIMARY KEY,
    at     BIGINT NOT NULL,
    actor  TEXT   NOT NULL,
    action TEXT   NOT NULL,
    stage  TEXT   NOT NULL,
    reason TEXT   NOT NULL,
    detail TEXT   NOT NULL
);
CREATE INDEX audit_by_time ON audit (at);
