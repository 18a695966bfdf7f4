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

  Kafka      {kafka:<32} any producer may write to orders.events
  Registry   {registry:<32} Confluent's API, with every schema
  API        {http:<32} /docs, /metrics, /health/events
  Mailbox    {smtp:<32} SMTP; keeps mails in memory, puts some off once
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
        let _ = writeln!(text, "  {head:<10} {:<32} {} {behaviour}", partner.url(), partner.name());
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
    let order = demo.sample().map_or("ORDER", |sample| sample.order_id.as_str());
    format!(
        "
Look further, in another terminal (the token is good for a day):

  export TOKEN={token}
  curl -H \"Authorization: Bearer $TOKEN\" {http}/api/v1/orders/{order}/events    what happened to that order
  curl -H \"Authorization: Bearer $TOKEN\" {http}/api/webhooks                       the partners' registrations
  curl {http}/metrics                                                           what Prometheus would scrape
  kcat -b {kafka} -t orders.events -C -o end                              the topic itself, if you have kcat

Serving until Ctrl-C.",
        token = places.token.expose(),
    )
}
