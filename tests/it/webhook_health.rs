//! How endpoints fare, on real services: their owners are told once, by an event and a mail, when one begins to fail, is
//! disabled, or works again.

use std::time::Duration;

use orderflow::admin::webhooks::Registration;
use orderflow::event::{AvroRecord, OutboundNotification, WebhookAttempt, WebhookEndpointChanged};
use orderflow::runtime::OutRecord;
use orderflow::stages::StageOptions;
use orderflow::stages::webhook::WebhookOptions;
use orderflow::store::webhooks::{self as endpoints, EndpointState};

use crate::harness::eventually;
use crate::harness::program::TestProgram;

const SOON: Duration = Duration::from_secs(60);
const HOUR: i64 = 3_600_000;
const NOW: i64 = 1_760_000_000_000;

fn receipt(endpoint: &str, hour: i64, order: usize, outcome: &str) -> WebhookAttempt {
    let event = uuid::Uuid::from_u128(u128::from(hour.unsigned_abs()) * 1_000 + order as u128);
    WebhookAttempt {
        attempt_id: format!("{endpoint}-{hour}-{order}-{outcome}"),
        tenant_id: "shop".to_owned(),
        endpoint_id: endpoint.to_owned(),
        webhook_id: format!("evt_{event}"),
        event_id: event.to_string(),
        event_type: "order.paid".to_owned(),
        order_id: format!("o-{order}"),
        attempt: 1,
        outcome: outcome.to_owned(),
        error: (outcome != "delivered").then(|| "answered 500".to_owned()),
        attempted_at: NOW + hour * HOUR,
        ..WebhookAttempt::default()
    }
}

async fn read<R: AvroRecord>(program: &TestProgram, topic: &str) -> Vec<R> {
    let mut all = Vec::new();
    for record in program.kafka.all(&program.topic(topic)).await {
        let payload = record.payload.expect("a value");
        all.push(program.parts.codec.decode_record::<R>(&payload).await.expect("it is one"));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_is_told_once_that_an_endpoint_fails_works_again_or_is_disabled() {
    let webhook = WebhookOptions { allow_http: true, ..WebhookOptions::default() };
    let mut program = TestProgram::new("health", StageOptions { webhook, ..StageOptions::default() }).await;
    program.start(&["attempts"]);
    let register = async |contact: Option<&str>| {
        let registration = Registration {
            url: "http://partner.example/hooks".to_owned(),
            contact: contact.map(str::to_owned),
            ..Registration::default()
        };
        let registered = program.registrar().register("shop", None, &registration).await;
        registered.expect("it is allowed").endpoint.id
    };
    let (ours, quiet) = (register(Some("ops@partner.example")).await, register(None).await);
    let topic = program.topic("webhooks.attempts");
    let send = async |receipt: WebhookAttempt| {
        let payload = program.parts.codec.encode_record(&topic, &receipt).await.expect("it fits");
        let record = OutRecord::keyed(topic.as_str(), receipt.order_id.clone(), payload);
        program.parts.env.producer.send(record).await.expect("acknowledged");
    };
    // Over all partitions, as orders are; each told twice, as after a crash.
    for hour in [0, 1, 2, 3] {
        for order in [1, 2, 3, 4, 1] {
            send(receipt(&ours, hour, order, "failed")).await;
        }
    }
    let changes = async |id: &str| {
        let mut all: Vec<_> = read::<WebhookEndpointChanged>(&program, "webhooks.endpoints").await;
        all.retain(|change| change.endpoint_id == id);
        all.into_iter().map(|change| change.change).collect::<Vec<_>>()
    };
    eventually("it fails", SOON, async || changes(&ours).await == ["failing"]).await;
    send(receipt(&ours, 4, 1, "delivered")).await;
    eventually("it works again", SOON, async || changes(&ours).await == ["failing", "recovered"]).await;

    for hour in [5, 60, 5 + 120] {
        send(receipt(&ours, hour, 1, "refused")).await;
        send(receipt(&quiet, hour, 1, "failed")).await;
    }
    let expected = ["failing", "recovered", "failing", "disabled"];
    eventually("it is disabled", SOON, async || changes(&ours).await == expected).await;
    eventually("so is the other", SOON, async || changes(&quiet).await == ["failing", "disabled"]).await;
    let endpoint = endpoints::find(&program.parts.db, "shop", &ours, None).await.expect("the store answers");
    let state = endpoint.expect("it is there").state;
    assert!(
        matches!(&state, EndpointState::Disabled(why) if why.contains("5days") && why.contains("answered 500")),
        "{state:?}"
    );
    let mails: Vec<OutboundNotification> = read(&program, "notifications.outbound").await;
    let told: Vec<_> = mails.iter().map(|mail| mail.template.as_str()).collect();
    assert_eq!(told, ["webhook.failing", "webhook.recovered", "webhook.failing", "webhook.disabled"]);
    assert!(mails.iter().all(|mail| mail.address.as_deref() == Some("ops@partner.example")));
    assert!(mails.iter().all(|mail| mail.text.contains("http://partner.example/hooks")));

    // A new start: what it did before is forgotten.
    program.registrar().resume("shop", None, &ours).await.expect("it is there");
    for hour in [130, 131] {
        send(receipt(&ours, hour, 1, "failed")).await;
    }
    eventually("it fails anew", SOON, async || changes(&ours).await.len() == 5).await;
    assert_eq!(changes(&ours).await.last().map(String::as_str), Some("failing"));
    let endpoint = endpoints::find(&program.parts.db, "shop", &ours, None).await.expect("the store answers");
    assert_eq!(endpoint.expect("it is there").state, EndpointState::Enabled);
    program.end().await;
}
