-- Keys that grow with the time are written at one edge of their tree, and pages that are written anew cost more than rows: the
-- log is kept by endpoint and time, which is also the order in which it is listed. A delivery is looked up by the hash of its
-- name, which is random and a third as long.
ALTER TABLE webhook_attempts DROP CONSTRAINT webhook_attempts_pkey;
DROP INDEX webhook_attempts_by_endpoint;
ALTER TABLE webhook_attempts ADD PRIMARY KEY (tenant_id, endpoint_id, attempted_at, attempt_id);
CREATE INDEX webhook_attempts_by_delivery ON webhook_attempts USING HASH (delivery_id);
