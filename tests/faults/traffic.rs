//! Steady traffic: records of many lanes and events of a few orders, from the start of a run until it is told to stop.
//! Each round waits for its acknowledgements, so that nothing is counted as sent that isn't in the log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orderflow::runtime::{OutRecord, Producer};
use orderflow::task;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::outside::PARTITIONS;
use crate::store_part::Publisher;

/// Lanes that records are sent for.
const LANES: u32 = 60;
/// Records of each partition in a round.
const PER_PARTITION: u32 = 3;
const ROUND: Duration = Duration::from_millis(25);

pub(crate) struct Traffic {
    /// Lane → how many of its numbers are acknowledged, from 0.
    sent: Arc<Mutex<BTreeMap<u32, u32>>>,
    stop: CancellationToken,
    sending: JoinHandle<()>,
}

impl Traffic {
    pub(crate) fn start(seed: u64, source: &str, producer: Producer, publisher: Option<Publisher>) -> Self {
        let sent: Arc<Mutex<BTreeMap<u32, u32>>> = Arc::default();
        let stop = CancellationToken::new();
        let (source, counts, stopped) = (Arc::from(source), Arc::clone(&sent), stop.clone());
        let sending = task::spawn("traffic", async move {
            let mut random = SmallRng::seed_from_u64(seed);
            let mut clock = tokio::time::interval(ROUND);
            clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut round = 0;
            while !stopped.is_cancelled() {
                clock.tick().await;
                send_round(&mut random, &source, &producer, &counts).await;
                if let Some(publisher) = publisher.as_ref().filter(|_| round % 3 == 0) {
                    publisher.publish(round / 3).await;
                }
                round += 1;
            }
        });
        Self { sent, stop, sending }
    }

    /// Stops and gives what was sent.
    pub(crate) async fn stop(self) -> BTreeMap<u32, u32> {
        self.stop.cancel();
        self.sending.await.expect("all was acknowledged");
        self.sent.lock().expect("no panic").clone()
    }
}

async fn send_round(
    random: &mut SmallRng,
    source: &Arc<str>,
    producer: &Producer,
    counts: &Mutex<BTreeMap<u32, u32>>,
) {
    let mut round: BTreeMap<u32, u32> = BTreeMap::new();
    let mut sends = Vec::new();
    for partition in 0..PARTITIONS {
        for _ in 0..PER_PARTITION {
            let lane = random.random_range(0..LANES / PARTITIONS) * PARTITIONS + partition;
            let before = counts.lock().expect("no panic").get(&lane).copied().unwrap_or(0);
            let more = round.entry(lane).or_default();
            sends.push(producer.send(task_record(source, lane, before + *more)));
            *more += 1;
        }
    }
    for sent in futures_util::future::join_all(sends).await {
        sent.expect("acknowledged");
    }
    let mut counts = counts.lock().expect("no panic");
    for (lane, more) in round {
        *counts.entry(lane).or_default() += more;
    }
}

/// A record of a lane, on its partition.
pub(crate) fn task_record(source: &Arc<str>, lane: u32, number: u32) -> OutRecord {
    let mut record = OutRecord::keyed(Arc::clone(source), format!("{lane}"), format!("{lane} {number}"));
    record.partition = Some((lane % PARTITIONS).cast_signed());
    record
}
