//! `orderflow tail`: follow the events on a topic, decoded, personal data masked.

use std::time::Duration;

use serde_json::{Value, json};

use super::context::Context;
use super::exit::{Exit, Fault};
use super::{output, parts};
use crate::clock::Clock;
use crate::config::Config;
use crate::event::{Codec, DecodeError, Decoded, Event, EventType, Peeked, rfc3339};
use crate::runtime::{ReadError, ReadFrom, Record, TopicReader};

/// Between looks for a topic.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  orderflow tail --type order.shipped\n  orderflow tail --order o-1 --from-beginning --no-follow --json"
)]
pub(super) struct Args {
    /// Only events of this order
    #[arg(long, value_name = "ID")]
    order: Option<String>,
    /// Only events of this type, in any spelling; may be given several times
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<EventType>,
    /// Only events of this tenant
    #[arg(long)]
    tenant: Option<String>,
    /// The topic, as named in the topology
    #[arg(long, default_value = "orders.events")]
    topic: String,
    /// Begin at the oldest event instead of those to come
    #[arg(long)]
    from_beginning: bool,
    /// Stop at the newest event instead of waiting for more
    #[arg(long)]
    no_follow: bool,
    /// Print whole events as lines of JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<Exit, Fault> {
    let config = context.start()?.config;
    let topology = config.topology.load()?;
    let Some(topic) = topology.topic(&args.topic).filter(|topic| !topic.events.is_empty()) else {
        let known: Vec<_> =
            topology.topics().filter(|topic| !topic.events.is_empty()).map(|topic| &*topic.id).collect();
        return Err(Fault::usage(format!(
            "{} is no topic of events; there are {}",
            args.topic,
            known.join(", ")
        )));
    };
    let codec = parts::codec(&config)?;
    let from = if args.from_beginning { ReadFrom::Earliest } else { ReadFrom::Latest };
    let mut reader = open(&config, &topic.name, from).await?;
    loop {
        let record = if args.no_follow { reader.next_to_end().await } else { reader.next().await };
        let Some(record) = record else { break };
        show(&args, &codec, &record).await?;
    }
    if args.no_follow {
        Ok(Exit::Fine)
    } else {
        Err(Fault::unavailable("kafka ended the reading; start again"))
    }
}

/// Opens the topic called `name`. One that the broker doesn't tell of is waited for, as stages do: it may have been made a
/// moment ago.
async fn open(config: &Config, name: &str, from: ReadFrom) -> Result<TopicReader, Fault> {
    let (clock, limit) = (Clock::system(), config.runtime.topic_timeout);
    let began = clock.now_ms();
    let mut told = false;
    loop {
        let error = match TopicReader::open(&config.kafka, name, None, from).await {
            Ok(reader) => return Ok(reader),
            Err(error @ ReadError::TopicMissing(_)) => error,
            Err(error) => return Err(unreadable(error)),
        };
        let waited = Duration::from_millis(u64::try_from(clock.now_ms() - began).unwrap_or_default());
        if waited >= limit {
            return Err(Fault::failures(format!(
                "{error}; if it is there, let this user describe it, or raise runtime.topic_timeout ({limit:?})"
            )));
        }
        if !told {
            output::complain(&format!(
                "the broker does not tell of topic {name}; waiting for it up to {limit:?}, as it may have been made a \
                 moment ago"
            ));
            told = true;
        }
        clock.sleep(LOOK_AGAIN.min(limit - waited)).await;
    }
}

/// How a command ends that can't read a topic.
pub(super) fn unreadable(error: ReadError) -> Fault {
    match error {
        ReadError::Settings(_) => Fault::configuration(error.to_string()),
        ReadError::TopicMissing(_) => Fault::failures(error.to_string()),
        ReadError::Unavailable(_) => Fault::unavailable(error.to_string()),
        ReadError::Thread(_) | ReadError::Ended => Fault::internal(error.to_string()),
    }
}

async fn show(args: &Args, codec: &Codec, record: &Record) -> Result<(), Fault> {
    let wanted_key = args.order.as_ref().is_none_or(|order| record.key.as_deref() == Some(order.as_bytes()));
    let Some(payload) = record.payload.as_deref().filter(|_| wanted_key) else { return Ok(()) };
    match look(args, codec, payload).await {
        Ok(Some(event)) => tell(args, record, &event),
        Ok(None) => Ok(()),
        Err(DecodeError::RegistryUnavailable(why)) => Err(Fault::unavailable(why)),
        Err(error) => {
            output::complain(&format!("partition {} offset {}: {error}", record.partition, record.offset));
            Ok(())
        }
    }
}

/// The event, if it is one that was asked for. Bodies of other types aren't decoded.
async fn look(args: &Args, codec: &Codec, payload: &[u8]) -> Result<Option<Event>, DecodeError> {
    let wanted = match codec.identify(payload).await? {
        Peeked::Event(event_type) => args.types.is_empty() || args.types.contains(&event_type),
        Peeked::Unknown(_) => false,
    };
    if !wanted {
        return Ok(None);
    }
    Ok(match codec.decode(payload).await? {
        Decoded::Event { event, .. } => {
            let of_tenant = args.tenant.as_ref().is_none_or(|tenant| *tenant == event.meta().tenant_id);
            of_tenant.then_some(event)
        }
        Decoded::UnknownType { .. } => None,
    })
}

fn tell(args: &Args, record: &Record, event: &Event) -> Result<(), Fault> {
    let mut masked = event.to_json_masked();
    if args.json {
        if let Value::Object(fields) = &mut masked {
            fields.insert("partition".to_owned(), json!(record.partition));
            fields.insert("offset".to_owned(), json!(record.offset));
        }
        return output::json(&masked);
    }
    let meta = event.meta();
    let status = &masked["data"]["order"]["status"];
    output::line(&format!(
        "{}  {}/{}  {:<26} {:<10} {}@{}",
        rfc3339(meta.occurred_at),
        meta.tenant_id,
        meta.order_id,
        event.event_type(),
        status.as_str().unwrap_or_default(),
        record.partition,
        record.offset
    ))
}
