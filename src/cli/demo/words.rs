//! What the demo says: what runs here, where it is, and how to look further.

use std::fmt::Write as _;

use crate::embedded::demo::Demo;
use crate::embedded::ledger::Ledger;
use crate::embedded::partners::Behaviour;

/// Names the parts and where they are.
pub(super) fn intro(demo: &Demo, traffic: &str) -> String {
    let places = demo.places();
    let mut text = format!(
        "orderflow demo: everything in this one process, nothing installed, nothing kept.

  orders.events ─┬─► history       every event, in order              ─► SQLite
  (Kafka)        ├─► notification  conversations, who is told what    ─► notifications.outbound ─► delivery ─► mail, live socket
                 ├─► dispute       opened, given to a moderator       ─► orders.events
                 └─► webhook       signed requests, order kept        ─► three partners

  Kafka      {kafka:<39} any producer may write to orders.events
  Registry   {registry:<39} Confluent's API, with every schema
  API        {http:<39} /docs, /metrics, /health/events
  Mailbox    {smtp:<39} SMTP; keeps mails in memory, puts some off once
",
        kafka = places.kafka,
        registry = places.registry,
        http = places.http,
        smtp = places.smtp,
    );
    for (at, partner) in demo.partners().iter().enumerate() {
        let head = if at == 0 { "Partners" } else { "" };
        let behaviour = match partner.behaviour() {
            Behaviour::Healthy => "is healthy".to_owned(),
            Behaviour::FailsAtTimes { one_in, .. } => format!("fails one event in {one_in} at first"),
            Behaviour::DownFor(time) => format!("is down for the first {} s", time.as_secs()),
        };
        // Writing into a string doesn't fail.
        let _ = writeln!(text, "  {head:<10} {:<39} {} {behaviour}", partner.url(), partner.name());
    }
    let _ = write!(
        text,
        "
  Delays are shortened by topology/overlays/demo.yaml: {}.
  Traffic: {traffic}.",
        places.topology
    );
    if let Some(sample) = demo.sample() {
        let _ = write!(
            text,
            "\n\nThe story of order {} ({}), as it unfolds among the others:\n",
            sample.order_number, sample.order_id
        );
    }
    text
}

/// The ledger for people.
pub(super) fn ledger(ledger: &Ledger) -> String {
    let verdict = if ledger.balances() {
        "The ledger balances: nothing lost, nothing twice, every order's events in order."
    } else {
        "The ledger does NOT balance."
    };
    format!("\nAll settled.\n\n{}\n{verdict}", ledger.table())
}

/// How to look further while it runs.
pub(super) fn look_further(demo: &Demo) -> String {
    let places = demo.places();
    let (http, kafka) = (&places.http, &places.kafka);
    let order = demo.sample().map_or("o-1", |sample| sample.order_id.as_str());
    format!(
        "
Look further, in another terminal. The token is good for a day:

  export TOKEN={token}

  What happened to that order, newest first:
  curl -H \"Authorization: Bearer $TOKEN\" {http}/api/v1/orders/{order}/events

  Who is told by webhooks, and how the deliveries to the one that fails at times went:
  curl -H \"Authorization: Bearer $TOKEN\" {http}/api/webhooks
  curl -H \"Authorization: Bearer $TOKEN\" {http}/api/webhooks/{webhook}/deliveries

  Publish an event yourself:
  curl -X POST -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' -H 'Idempotency-Key: try-1' \\
       -d '{{\"orderId\":\"{order}\",\"eventType\":\"order.completed\"}}' {http}/api/order-events/handle

  What Prometheus would scrape, and every path there is:
  curl {http}/metrics
  {http}/docs

  The topic itself, with kcat or any other client:
  kcat -b {kafka} -t orders.events -C -o beginning

Serving until Ctrl-C.",
        token = places.token.expose(),
        webhook = places.webhook,
    )
}
