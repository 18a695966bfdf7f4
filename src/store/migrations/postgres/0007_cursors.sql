-- Who may write a partition's cursors: whoever claimed them last. The epoch only grows.
CREATE TABLE cursor_epochs (
    stage      TEXT   NOT NULL,
    cluster_id TEXT   NOT NULL,
    topic_id   TEXT   NOT NULL,
    partition  BIGINT NOT NULL,
    epoch      BIGINT NOT NULL,
    PRIMARY KEY (stage, cluster_id, topic_id, partition)
);

-- Targets that are served from a position of their own. Offsets below next_offset are finished, those up to
-- until_offset (null: all) are the cursor's, the rest is the live stream's. done is the map of what is finished
-- above next_offset, resume_offset the next_offset that a cancelled backfill restores.
CREATE TABLE cursors (
    stage         TEXT   NOT NULL,
    cluster_id    TEXT   NOT NULL,
    topic_id      TEXT   NOT NULL,
    partition     BIGINT NOT NULL,
    target        TEXT   NOT NULL,
    next_offset   BIGINT NOT NULL,
    done          TEXT   NOT NULL,
    until_offset  BIGINT,
    state         TEXT   NOT NULL,
    reason        TEXT,
    resume_offset BIGINT,
    PRIMARY KEY (stage, cluster_id, topic_id, partition, target)
);
CREATE INDEX cursors_by_target ON cursors (stage, target);

-- Offsets that a target never got, because they had left the log.
CREATE TABLE cursor_gaps (
    stage       TEXT   NOT NULL,
    cluster_id  TEXT   NOT NULL,
    topic_id    TEXT   NOT NULL,
    partition   BIGINT NOT NULL,
    target      TEXT   NOT NULL,
    from_offset BIGINT NOT NULL,
    to_offset   BIGINT NOT NULL,
    PRIMARY KEY (stage, cluster_id, topic_id, partition, target, from_offset)
);

-- What is asked of a target's cursor; the partition's owner carries it out, and then it is gone.
CREATE TABLE cursor_wishes (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stage       TEXT   NOT NULL,
    cluster_id  TEXT   NOT NULL,
    topic_id    TEXT   NOT NULL,
    partition   BIGINT NOT NULL,
    target      TEXT   NOT NULL,
    kind        TEXT   NOT NULL,
    from_offset BIGINT
);
CREATE INDEX cursor_wishes_by_partition ON cursor_wishes (stage, cluster_id, topic_id, partition, id);
