-- The log of attempts is written for every delivery, and keys cost more than rows. An attempt is named by its delivery,
-- its time and its number, so that the key also finds what belongs to a delivery; among attempts of one moment, and of
-- one order, few are to be sorted.
ALTER TABLE webhook_attempts DROP CONSTRAINT webhook_attempts_pkey;
DROP INDEX webhook_attempts_by_delivery;
DROP INDEX webhook_attempts_by_endpoint;
DROP INDEX webhook_attempts_by_order;
ALTER TABLE webhook_attempts ADD PRIMARY KEY (tenant_id, delivery_id, attempted_at, attempt);
CREATE INDEX webhook_attempts_by_endpoint ON webhook_attempts (tenant_id, endpoint_id, attempted_at);
CREATE INDEX webhook_attempts_by_order ON webhook_attempts (tenant_id, order_id);
