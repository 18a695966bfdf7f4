-- Counts an endpoint's starts: it goes up when the endpoint gets another URL, and when it is served again after it was
-- paused or disabled. What an attempt of an earlier one came to says nothing of it.
ALTER TABLE webhook_endpoints ADD COLUMN generation BIGINT NOT NULL DEFAULT 1;
