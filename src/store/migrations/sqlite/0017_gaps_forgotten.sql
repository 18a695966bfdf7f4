-- When a gap was met, epoch milliseconds, so that it can be forgotten; null where an older program kept it.
ALTER TABLE cursor_gaps ADD COLUMN met_at BIGINT;
CREATE INDEX cursor_gaps_by_age ON cursor_gaps (met_at);
