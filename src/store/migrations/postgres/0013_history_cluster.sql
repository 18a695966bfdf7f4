-- Offsets mean something on one Kafka cluster alone. Events that were kept before this was written down are of the one
-- cluster that their topic was read from, and of nobody knows which where there were several.
ALTER TABLE order_events ADD COLUMN cluster_id TEXT;
UPDATE order_events SET cluster_id = (
    SELECT MIN(o.cluster_id) FROM stage_offsets o
    WHERE o.topic_id = order_events.topic AND o.partition = order_events.partition
    HAVING COUNT(DISTINCT o.cluster_id) = 1
);
DROP INDEX order_events_by_place;
CREATE INDEX order_events_by_place ON order_events (cluster_id, topic, partition, record_offset);
