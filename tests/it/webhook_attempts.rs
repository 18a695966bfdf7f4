//! Receipts of webhook attempts on real services: kept once, their answers sealed, and junk put aside.

use std::time::Duration;

use orderflow::crypto::Subject;
use orderflow::event::WebhookAttempt;
use orderflow::runtime::{OutRecord, Record};
use orderflow::stages::StageOptions;
use orderflow::store::attempts::{self, Wanted};

use crate::harness::eventually;
use crate::harness::program::TestProgram;

const SOON: Duration = Duration::from_secs(30);

fn receipt(tenant: &str, number: i32) -> WebhookAttempt {
    WebhookAttempt {
        attempt_id: format!("a-{number}"),
        tenant_id: tenant.to_owned(),
        endpoint_id: "wh_1".to_owned(),
        webhook_id: "evt_01998a00-0000-7000-8000-000000000001".to_owned(),
        event_id: "01998a00-0000-7000-8000-000000000001".to_owned(),
        event_type: "order.paid".to_owned(),
        order_id: "o-1".to_owned(),
        attempt: number,
        outcome: "failed".to_owned(),
        status: Some(500),
        latency_ms: 3,
        error: Some("answered 500".to_owned()),
        response: Some("dear\0sir".to_owned()),
        attempted_at: i64::from(number),
        ..WebhookAttempt::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_without_any_receipt_is_put_aside_and_the_log_goes_on() {
    let mut program = TestProgram::new("junk", StageOptions::default()).await;
    let topic = program.topic("webhooks.attempts");
    for payload in [None, Some(b"\x01junk".to_vec())] {
        let mut record = OutRecord::keyed(topic.as_str(), "o-1", Vec::new());
        record.payload = payload.map(Into::into);
        program.parts.env.producer.send(record).await.expect("acknowledged");
    }
    program.start(&["attempts"]);
    let letters = program.topic("webhooks.attempts.attempts.dlq");
    eventually("the junk is a dead letter", SOON, async || program.kafka.all(&letters).await.len() == 1)
        .await;
    program.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_are_kept_once_and_what_is_none_is_put_aside() {
    let mut program = TestProgram::new("attempts", StageOptions::default()).await;
    let topic = program.topic("webhooks.attempts");
    let send = async |payload: Vec<u8>| {
        let record = OutRecord::keyed(topic.as_str(), "o-1", payload);
        program.parts.env.producer.send(record).await.expect("acknowledged");
    };
    let nul = WebhookAttempt { order_id: "o\0".to_owned(), ..receipt("shop", 9) };
    for receipt in [receipt("shop", 1), receipt("shop", 2), nul, receipt("shop", 2), receipt("market", 1)] {
        send(program.parts.codec.encode_record(&topic, &receipt).await.expect("it fits")).await;
    }
    send(b"\x01junk".to_vec()).await;
    send(program.parts.codec.encode_record(&topic, &receipt("shop", 3)).await.expect("it fits")).await;

    program.start(&["attempts"]);
    let log = async |tenant: &str| {
        attempts::of_endpoint(&program.parts.db, tenant, "wh_1", &Wanted { limit: 10, ..Wanted::default() })
            .await
            .expect("the store answers")
    };
    eventually("the last receipt is kept", SOON, async || log("shop").await.len() == 3).await;
    let shop = log("shop").await;
    assert_eq!(shop.iter().map(|row| row.attempt).collect::<Vec<_>>(), [3, 2, 1]);
    let sealed = shop[0].response.as_ref().expect("an answer");
    let opened = program.parts.vault.open_text(Subject::Tenant { tenant: "shop" }, sealed);
    assert_eq!(opened.expect("it opens"), "dear\0sir");
    assert_eq!(log("market").await.len(), 1);

    let letters = program.topic("webhooks.attempts.attempts.dlq");
    eventually("both bad ones are dead letters", SOON, async || program.kafka.all(&letters).await.len() == 2)
        .await;
    let letters = program.kafka.all(&letters).await;
    let cause = |letter: &Record| letter.headers.text("of-error-class").unwrap_or_default().to_owned();
    let mut causes: Vec<_> = letters.iter().map(cause).collect();
    causes.sort();
    assert_eq!(causes, ["data", "decode"]);
    program.end().await;
}
