"""A producer as somebody else would write it: confluent-kafka's AvroSerializer, no headers, nothing of ours but
the schema files. Arguments: bootstrap servers, registry URL, topic, subject strategy, then pairs of schema file and
event as JSON. Every record is keyed by its order id."""

import json
import sys

from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient, topic_record_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

STRATEGIES = {
    "default": {},
    "topic-record": {"subject.name.strategy": topic_record_subject_name_strategy},
}


def main(bootstrap, registry, topic, strategy, *events):
    client = SchemaRegistryClient({"url": registry})
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    failures = []
    for path, event in zip(events[::2], events[1::2]):
        with open(path, encoding="utf-8") as file:
            serializer = AvroSerializer(client, file.read(), conf=STRATEGIES[strategy])
        event = json.loads(event)
        producer.produce(
            topic,
            key=event["meta"]["order_id"].encode(),
            value=serializer(event, SerializationContext(topic, MessageField.VALUE)),
            on_delivery=lambda error, _: error and failures.append(str(error)),
        )
    producer.flush(30)
    sys.exit("; ".join(failures) or 0)


main(*sys.argv[1:])
