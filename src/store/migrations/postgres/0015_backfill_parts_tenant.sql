-- Whose a part of a backfill is: the tenant's, as everything is.
ALTER TABLE backfill_parts ADD COLUMN tenant_id TEXT NOT NULL DEFAULT '';
UPDATE backfill_parts SET tenant_id = COALESCE(
    (SELECT MIN(b.tenant_id) FROM backfills b WHERE b.id = backfill_parts.backfill_id), '');
