-- Since when somebody is to be told of a gap, epoch milliseconds; null when it was told, or nobody is to be. An older
-- program tells of each gap as it meets it.
ALTER TABLE cursor_gaps ADD COLUMN untold_since BIGINT;
CREATE INDEX cursor_gaps_untold ON cursor_gaps (target) WHERE untold_since IS NOT NULL;
