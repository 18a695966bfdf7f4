//! An endpoint whose events or filter are changed, on real services: what was published before is told as it was chosen then.

use std::collections::BTreeSet;
use std::time::Duration;

use orderflow::admin::webhooks::{BackfillWanted, Change, Point, Registration};
use orderflow::event::{Event, Factory};

use crate::harness::eventually;
use crate::harness::program::TestProgram;
use crate::harness::receiver::{Answer, Receiver};
use crate::webhook_backfill::options;

const SOON: Duration = Duration::from_secs(60);
const NOW: i64 = 1_760_000_000_000;
const ORDERS: usize = 4;

/// Two events of every order; gives what an endpoint would see of them.
async fn publish(program: &TestProgram) -> [BTreeSet<(String, i64)>; 2] {
    let factory = Factory::new("shop", "it");
    let mut sent: [BTreeSet<(String, i64)>; 2] = Default::default();
    for order in (0..ORDERS).map(|number| format!("o-{number}")) {
        let shipped: Event = factory.order_shipped(&order, NOW, "DHL", "JD01").into();
        let completed: Event = factory.order_completed(&order, NOW).into();
        for (kind, event) in [shipped, completed].iter().enumerate() {
            sent[kind].insert((order.clone(), program.publish(event).await.offset));
        }
    }
    sent
}

fn arrived(receiver: &Receiver) -> BTreeSet<(String, i64)> {
    let place = |request: &crate::harness::receiver::Request| {
        let sequence = request.header("x-webhook-sequence").parse().expect("a number");
        (request.order_id(), sequence)
    };
    receiver.requests().iter().map(place).collect()
}

/// Invariant 1 (completion): nothing that was chosen when it was published is lost to a change.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_published_before_a_change_is_told_as_it_was_chosen_then() {
    let mut program = TestProgram::new("choices", options()).await;
    let receiver = Receiver::start(|_| Answer::status(200)).await;
    let registration = Registration { url: receiver.url(), ..Registration::default() };
    let registrar = program.registrar();
    let registered = registrar.register("shop", None, &registration).await.expect("it is allowed");
    let endpoint = registered.endpoint.id.as_str();
    program.start(&["webhook"]);
    registrar.pause("shop", None, endpoint).await.expect("it is there");

    let [shipped, completed] = publish(&program).await;
    let mut expected: BTreeSet<_> = shipped.union(&completed).cloned().collect();
    let narrowed = Change { events: Some(vec!["order.completed".to_owned()]), ..Change::default() };
    registrar.change("shop", None, endpoint, &narrowed).await.expect("it is allowed");
    let [_, all_completed] = publish(&program).await;
    expected.extend(all_completed.iter().cloned());
    let filter = Some(Some("$[?$.data.orderId == 'o-1']".to_owned()));
    let filtered = Change { filter, ..Change::default() };
    registrar.change("shop", None, endpoint, &filtered).await.expect("it is allowed");
    let of_one = |all: &BTreeSet<(String, i64)>| {
        let of = all.iter().filter(|(order, _)| order == "o-1");
        of.cloned().collect::<BTreeSet<_>>()
    };
    let [_, last] = publish(&program).await;
    expected.extend(of_one(&last));

    registrar.resume("shop", None, endpoint).await.expect("it is there");
    eventually("it got what it had chosen", SOON, async || arrived(&receiver).len() >= expected.len()).await;
    eventually("nothing is left", SOON, async || program.is_caught_up("webhook")).await;
    assert_eq!(arrived(&receiver), expected);

    // What is told again is chosen as it is now.
    receiver.forget();
    let wanted = BackfillWanted { from: Point::Time(0), until: None, rate: None, coalesce: false };
    let backfill = registrar.backfill(("shop", None), endpoint, &wanted, "me").await.expect("it begins").id;
    eventually("the backfill ends", SOON, async || {
        let shown = registrar.backfill_shown(("shop", None), endpoint, &backfill).await.expect("it is known");
        shown.state != "running"
    })
    .await;
    let now: BTreeSet<_> = [completed, all_completed, last].iter().flat_map(of_one).collect();
    assert_eq!(arrived(&receiver), now);
    program.end().await;
}
