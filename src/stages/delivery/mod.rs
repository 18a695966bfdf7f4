//! The delivery stage: brings what the notification stage decided to people, and records what became of it.
//!
//! ```text
//! notifications.outbound ──► lane (tenant, order, recipient, channel) ──► live │ email ──► decision: sent │ failed
//!                                                                                 └──► order.confirmation_sent
//! ```
//!
//! A message that was sent before is not sent again; one that was handed over just before a crash is, under the
//! same name. While the store is away messages wait: none is given up for that. What must not live here:
//! deciding who is told what.

pub mod channel;
pub mod email;
pub mod live;
mod receipt;

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::channel::{Accepted, Carrier, Refusal};
use self::email::Email;
use self::live::Live;
use super::notification::rules::Channel;
use super::{Parts, intake, schedule_of};
use crate::clock::Clock;
use crate::event::{Codec, EventType, OutboundNotification};
use crate::runtime::retry::Schedule;
use crate::runtime::{
    EffectStage, ErrorClass, Failure, Intake, Outcome, Record, SkipReason, StageHandle, StageSpec, Task,
    Tasks, start_effect_stage,
};
use crate::store::Database;
use crate::store::notifications;
use crate::telemetry::Metrics;
use crate::topology::Stage;

/// The stage's name.
pub const NAME: &str = "delivery";
/// The topic that the live socket's gateways read, by its id in the topology.
pub const LIVE: &str = "notifications.live";

/// Pauses while the store, Kafka or the registry is away.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Brings messages to people.
#[derive(Debug, Clone)]
pub struct Delivery {
    declared: Stage,
    db: Database,
    codec: Codec,
    live: Live,
    email: Email,
    events: Arc<str>,
    schedule: Schedule,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// A message to be brought to somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    message: OutboundNotification,
    notification_id: Uuid,
    event_id: Uuid,
    channel: Channel,
}

impl EffectStage for Delivery {
    type Input = Outgoing;

    fn name(&self) -> &str {
        &self.declared.name
    }

    async fn decode(&self, record: &Record) -> Intake<Outgoing> {
        let Some(payload) = &record.payload else {
            return Intake::Skipped(SkipReason::Tombstone);
        };
        match self.codec.decode_record::<OutboundNotification>(payload).await {
            Ok(message) => match Outgoing::checked(message) {
                Ok(outgoing) => Intake::Ready(outgoing),
                Err(why) => Intake::Dead(Failure::new(ErrorClass::Data, why)),
            },
            Err(error) => intake::refused(&error),
        }
    }

    async fn open(&self, _record: &Record, input: &Outgoing, tasks: &mut Tasks) -> Intake<()> {
        let message = &input.message;
        let parts = [&message.tenant_id, &message.order_id, &message.user_id, &message.channel];
        let about = message.event_type.parse::<EventType>();
        let priority = about.map_or(self.declared.priority, |of| self.declared.priority_of(of));
        tasks.push(lane(parts.map(String::as_str)), &input.channel.as_str().into(), priority);
        Intake::Ready(())
    }

    async fn run(&self, task: &Task<Outgoing>) -> Outcome {
        let outgoing = &*task.input;
        let (tenant, id) = (&outgoing.message.tenant_id, &outgoing.message.notification_id);
        let sent = self.patiently(|| notifications::outcome(&self.db, tenant, id)).await;
        if sent == Some(notifications::Outcome::Sent) {
            return Outcome::Skipped(SkipReason::Duplicate);
        }
        let carried = match outgoing.channel {
            Channel::Live => self.live.carry(&outgoing.message).await,
            Channel::Email => self.email.carry(&outgoing.message).await,
        };
        match carried {
            Ok(accepted) => self.accepted(outgoing, &accepted).await,
            Err(Refusal::Never(why)) => Outcome::Dead(why),
            Err(Refusal::Away(why)) => Outcome::Retry { after: LONGEST_PAUSE, why },
            Err(Refusal::NotNow(why)) => self.cut_off(task, why),
        }
    }

    fn before(&self, task: &Task<Outgoing>) {
        let (message, acting) = (&task.input.message, task.input.message.actor.as_ref());
        tracing::debug!(
            stage = self.declared.name, notification = message.notification_id, channel = message.channel,
            attempt = task.attempt, actor = acting.map(|actor| actor.id.as_str()), role = ?acting.map(|actor| actor.role),
            "a message is being delivered"
        );
    }

    /// Records that the message is given up; its record goes to the dead letters.
    async fn given_up(&self, task: &Task<Outgoing>, why: &Failure) -> Result<(), Failure> {
        let (outgoing, now_ms) = (&*task.input, self.clock.now_ms());
        let marked = self.patiently(|| receipt::mark_failed(&self.db, outgoing, &why.message, now_ms)).await;
        if marked {
            self.count(outgoing, notifications::Outcome::Failed);
        }
        Ok(())
    }

    fn cut_off(&self, task: &Task<Outgoing>, why: Failure) -> Outcome {
        self.schedule.outcome(task.attempt, seed(task.input.notification_id), why)
    }

    fn kind(&self, outgoing: &Outgoing) -> &'static str {
        outgoing.message.event_type.parse::<EventType>().map_or("other", EventType::as_str)
    }

    fn has_priorities(&self) -> bool {
        self.declared.has_priorities()
    }

    fn target_concurrency(&self, target: &str) -> usize {
        match Channel::parse(target) {
            Some(Channel::Email) => self.email.concurrency(),
            Some(Channel::Live) | None => self.live.concurrency(),
        }
    }
}

impl Delivery {
    /// Records that the other side took the message, and what follows from that, in one transaction.
    async fn accepted(&self, outgoing: &Outgoing, accepted: &Accepted) -> Outcome {
        let now_ms = self.clock.now_ms();
        let follows =
            self.patiently(|| receipt::events(&self.codec, &self.events, outgoing, accepted, now_ms)).await;
        let marked =
            self.patiently(|| receipt::mark_sent(&self.db, outgoing, accepted, &follows, now_ms)).await;
        if marked {
            self.count(outgoing, notifications::Outcome::Sent);
        }
        Outcome::Done
    }

    fn count(&self, outgoing: &Outgoing, outcome: notifications::Outcome) {
        let labels = [outgoing.channel.as_str(), outcome.as_str()];
        self.metrics.notifications.with_label_values(&labels).inc();
    }

    /// Does `work` until it succeeds: what the store (or the registry) can't do now doesn't count against the
    /// message. The engine drops the future when the partition is taken away; then the work is done again by
    /// whoever has it next.
    async fn patiently<T, E, F>(&self, mut work: impl FnMut() -> F + Send) -> T
    where
        E: Display,
        F: Future<Output = Result<T, E>> + Send,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            match work().await {
                Ok(done) => return done,
                Err(error) => {
                    tracing::warn!(%error, "what became of a message can't be recorded; trying again")
                }
            }
            self.clock.sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

impl Outgoing {
    /// The message, if it holds what the stage needs.
    fn checked(message: OutboundNotification) -> Result<Self, String> {
        let uuid = |name: &str, text: &str| {
            Uuid::parse_str(text).map_err(|_| format!("{name} {text:?} isn't a UUID"))
        };
        Ok(Self {
            notification_id: uuid("notification_id", &message.notification_id)?,
            event_id: uuid("event_id", &message.event_id)?,
            channel: Channel::parse(&message.channel)
                .ok_or_else(|| format!("there is no channel {:?}", message.channel))?,
            message,
        })
    }
}

/// The lane's name: its parts joined by `|`, which is escaped within them, so that no two lanes share a name.
fn lane(parts: [&str; 4]) -> String {
    parts.map(|part| part.replace('\\', "\\\\").replace('|', "\\|")).join("|")
}

/// The jitter's seed: the same for every attempt and restart.
fn seed(notification_id: Uuid) -> u64 {
    notification_id.as_u64_pair().1
}

/// Starts one member of the stage.
pub fn start(parts: &Parts, declared: &Stage, spec: StageSpec, stop: CancellationToken) -> StageHandle {
    let env = &parts.env;
    let stage = Delivery {
        declared: declared.clone(),
        db: parts.db.clone(),
        codec: parts.codec.clone(),
        live: Live::new(parts.codec.clone(), env.producer.clone(), parts.topic(LIVE)),
        email: Email::open(parts.options.mail.clone(), env.clock.clone()),
        events: parts.topic("orders.events"),
        schedule: schedule_of(declared),
        clock: env.clock.clone(),
        metrics: Arc::clone(&env.metrics),
    };
    start_effect_stage(spec, Arc::new(stage), env.clone(), stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_of_different_parts_never_share_a_name() {
        assert_eq!(lane(["shop", "o-1", "ann", "live"]), "shop|o-1|ann|live");
        assert_ne!(lane(["a|b", "c", "d", "live"]), lane(["a", "b|c", "d", "live"]));
        assert_ne!(lane(["a\\", "b", "d", "live"]), lane(["a", "\\b", "d", "live"]));
    }

    #[test]
    fn a_message_that_lacks_what_is_needed_is_refused_by_name() {
        let id = Uuid::from_u128(7).to_string();
        let whole = OutboundNotification {
            notification_id: id.clone(),
            event_id: id,
            channel: "live".to_owned(),
            ..OutboundNotification::default()
        };
        assert!(Outgoing::checked(whole.clone()).is_ok());
        let pigeon = OutboundNotification { channel: "pigeon".to_owned(), ..whole.clone() };
        let nameless = OutboundNotification { notification_id: "x".to_owned(), ..whole };
        assert!(Outgoing::checked(pigeon).unwrap_err().contains("pigeon"));
        assert!(Outgoing::checked(nameless).unwrap_err().contains("notification_id"));
    }
}
