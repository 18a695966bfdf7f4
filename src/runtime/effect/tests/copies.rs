//! Records of the retry topic that the producer sent twice, one copy of which lands when all is over: rule 5 makes it void.
//! Invariant 2 (order).

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;
use crate::runtime::consumer::Side;
use crate::runtime::reader::{ReadFrom, TopicReader};
use crate::runtime::retry::{Mark, REDRIVE_ID, marker_of};
use crate::runtime::{ErrorClass, Failure};

/// What a second attempt does at the earliest.
const LATER: Duration = Duration::from_millis(50);

fn options() -> RuntimeOptions {
    RuntimeOptions { in_place_limit: LATER / 10, ..RuntimeOptions::default() }
}

/// The first attempt at the first record fails.
fn fails_once(offset: i64, attempt: u32) -> Outcome {
    match (offset, attempt) {
        (0, 1) => Outcome::Retry { after: LATER, why: Failure::new(ErrorClass::Unavailable, "later") },
        _ => Outcome::Done,
    }
}

impl Scene {
    /// Closes the gate while `what` brings the stage to it; then the engine's producer breaks with what comes next.
    async fn break_behind(&self, gate: Gate, what: impl Future<Output = ()>) {
        self.gate.send_replace(gate);
        what.await;
        self.stands().await;
        let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
        self.cluster.request_errors(RDKafkaApiKey::Produce, &[error]);
        self.gate.send_replace(Gate::Open);
    }

    /// The records of the retry topic: markers, and tasks that were parked by an owner.
    async fn retry(&self) -> (Vec<Record>, Vec<Record>) {
        let topic = self.spec.retry.as_deref().expect("set");
        let reader = TopicReader::open(&self.kafka, topic, None, ReadFrom::Earliest).await;
        let (mut reader, mut all) = (reader.expect("it is there"), Vec::new());
        while let Some(record) = reader.next_to_end().await {
            all.push(record);
        }
        all.retain(|record| !Mark::read(&record.headers).is_ok_and(|mark| mark.epoch.is_empty()));
        all.into_iter().partition(|record| marker_of(&record.headers).is_some())
    }

    /// What a connection of the client that was replaced still held reaches the broker: `record`, once more. Waits until it
    /// was read and is over.
    async fn lands_late(&self, record: &Record) {
        let topic = self.spec.retry.as_deref().expect("set");
        let copy = OutRecord {
            topic: topic.into(),
            partition: Some(0),
            key: record.key.clone(),
            payload: record.payload.clone(),
            headers: record.headers.clone(),
            timestamp_ms: None,
        };
        let at = self.producer.send(copy).await.expect("sent").offset;
        let is_over = || self.desk.committed(Side::Retry, 0).is_some_and(|position| position > at);
        eventually("the copy is over", is_over).await;
    }

    fn assert_void(&self, count: u32) {
        let text = self.metrics.text();
        assert!(text.contains(&format!("orderflow_retry_void_total{{stage=\"doer\"}} {count}")), "{text}");
        assert!(self.progress.borrow().balance.holds());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_parked_record_that_lands_when_its_task_is_over_is_void() {
    let mut scene = Scene::start(1, options(), fails_once).await;
    scene.break_behind(Gate::ToEnds, scene.send("k")).await;
    scene.reaches(1).await;
    eventually("the second attempt is done", || scene.effects() == [0]).await;
    scene.send("k").await;
    scene.reaches(2).await;
    let (markers, parked) = scene.retry().await;
    scene.lands_late(&parked[0]).await;
    assert_eq!(scene.effects(), [0, 1], "nothing ran again behind what came later");
    assert_eq!((markers.len(), parked.len()), (2, 1), "it was taken up anew, once");
    scene.assert_void(1);
    scene.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_redriven_records_task_that_lands_when_the_task_is_over_is_void() {
    let mut scene = Scene::start(1, options(), |_, _| Outcome::Done).await;
    scene.send("k").await;
    scene.reaches(1).await;
    let source = Record {
        topic: scene.spec.source.as_str().into(),
        partition: 0,
        offset: 0,
        timestamp_ms: None,
        key: Some("k".into()),
        payload: Some("v".into()),
        headers: Default::default(),
    };
    let mut headers = Mark::of(&source, &"doer".into(), "").write(&source.headers);
    headers.push(REDRIVE_ID, "r");
    let retry = scene.spec.retry.clone().expect("set");
    let redriven = OutRecord { partition: Some(0), headers, ..OutRecord::keyed(retry, "k", "v") };
    let redrive = async {
        scene.producer.send(redriven).await.expect("sent");
    };
    scene.break_behind(Gate::ToTasks, redrive).await;
    eventually("it is done once more", || scene.effects() == [0, 0]).await;
    let (markers, parked) = scene.retry().await;
    scene.lands_late(&parked[0]).await;
    assert_eq!(scene.effects(), [0, 0], "it did not run again");
    assert_eq!((markers.len(), parked.len()), (2, 1), "it was taken up anew, once");
    scene.assert_void(1);
    scene.leave().await;
}
