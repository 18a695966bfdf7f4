-- Endpoints can be paused, and say more: which bodies they want, which headers they get, how fast they are told.
ALTER TABLE webhook_endpoints DROP CONSTRAINT webhook_endpoints_state_check;
ALTER TABLE webhook_endpoints ADD CONSTRAINT webhook_endpoints_state_check
    CHECK (state IN ('enabled', 'paused', 'disabled'));

-- events_before: patterns that the endpoint was told of once and isn't any more; work for it may still wait.
-- headers and contact are sealed: they hold tokens and a mail address. rate is requests per second.
ALTER TABLE webhook_endpoints
    ADD COLUMN events_before TEXT NOT NULL DEFAULT '',
    ADD COLUMN filter        TEXT,
    ADD COLUMN headers       BYTEA,
    ADD COLUMN rate          BIGINT,
    ADD COLUMN concurrency   BIGINT,
    ADD COLUMN contact       BYTEA,
    ADD COLUMN description   TEXT;

CREATE INDEX webhook_attempts_by_delivery ON webhook_attempts (tenant_id, delivery_id, attempt);
CREATE INDEX webhook_attempts_by_order ON webhook_attempts (tenant_id, order_id, attempted_at, attempt_id);
-- Deliveries that are to be tried again.
CREATE INDEX webhook_attempts_waiting ON webhook_attempts (tenant_id, endpoint_id, next_attempt_at)
    WHERE next_attempt_at IS NOT NULL;
-- Rows come in the order of time, so a few pages of ranges do for finding the oldest.
CREATE INDEX webhook_attempts_by_time ON webhook_attempts USING BRIN (attempted_at);
