-- What an endpoint chose before it was changed, and which offsets that holds for, as JSON; null is nothing.
ALTER TABLE webhook_endpoints ADD COLUMN choices TEXT;
