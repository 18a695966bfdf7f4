-- Orders are random keys, and their tree was the dearest part of a row. What belongs to one is looked up by the hash of its name.
DROP INDEX webhook_attempts_by_order;
CREATE INDEX webhook_attempts_by_order ON webhook_attempts USING HASH (order_id);
