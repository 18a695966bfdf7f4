//! The ledger: what went in, what came of it, and whether the two agree.
//!
//! The numbers come from the store and from those outside (partners, mail server), never from the sender's
//! own counters, so that a fault of the sender can't hide itself. Pure: [`super::demo`] gathers, this judges.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

/// How notifications ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Notifications {
    /// Handed to their channel.
    pub sent: u64,
    /// Given up.
    pub failed: u64,
    /// Decided against, with the reason kept.
    pub suppressed: u64,
}

/// What became of disputes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Disputes {
    /// Opened.
    pub opened: u64,
    /// Escalated beyond the first stage.
    pub escalated: u64,
    /// Resolved.
    pub resolved: u64,
}

/// How webhooks were delivered. A delivery is one event at one partner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Webhooks {
    /// Answered with 2xx, as the attempt log has it.
    pub deliveries: u64,
    /// Of these, at the first attempt.
    pub first_try: u64,
    /// Of these, at a later attempt.
    pub after_retry: u64,
    /// Given up after the last attempt.
    pub exhausted: u64,
    /// Accepted by the partners, who verified the signature.
    pub verified_by_receiver: u64,
}

/// The sums of one run. The keys of its JSON form are a promise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ledger {
    /// Orders that began.
    pub orders: u64,
    /// Events in the history, those that the stages published included.
    pub events_in: u64,
    /// The same by type.
    pub events_by_type: BTreeMap<String, u64>,
    /// Messages in conversations.
    pub messages: u64,
    /// Notifications by how they ended.
    pub notifications: Notifications,
    /// Disputes by what became of them.
    pub disputes: Disputes,
    /// Webhook deliveries.
    pub webhooks: Webhooks,
    /// Distinct source records among the dead letters.
    pub dead_letters: u64,
    /// Effects that took place twice.
    pub duplicates: u64,
    /// Effects that came after a later one of their order because they were redriven. Nothing is redriven here.
    pub late: u64,
    /// Effects that had to take place and didn't.
    pub lost: u64,
    /// Effects of an order in another order than its events.
    pub order_violations: u64,
    /// From the first event to the last effect, milliseconds.
    pub elapsed_ms: u64,
}

impl Ledger {
    /// What doesn't agree, in words; empty when the ledger balances.
    pub fn complaints(&self) -> Vec<String> {
        let webhooks = &self.webhooks;
        let mut complaints = Vec::new();
        let mut unless = |fine: bool, complaint: String| {
            if !fine {
                complaints.push(complaint);
            }
        };
        unless(self.lost == 0, format!("{} effects are missing", self.lost));
        unless(self.duplicates == 0, format!("{} effects took place twice", self.duplicates));
        unless(self.order_violations == 0, format!("{} effects came out of order", self.order_violations));
        unless(
            webhooks.deliveries == webhooks.first_try + webhooks.after_retry,
            format!(
                "{} deliveries, but {} at the first try and {} after a retry",
                webhooks.deliveries, webhooks.first_try, webhooks.after_retry
            ),
        );
        unless(
            webhooks.deliveries == webhooks.verified_by_receiver,
            format!(
                "the attempt log has {} deliveries, the partners accepted {}",
                webhooks.deliveries, webhooks.verified_by_receiver
            ),
        );
        let by_type: u64 = self.events_by_type.values().sum();
        unless(self.events_in == by_type, format!("{} events, but {by_type} by type", self.events_in));
        unless(
            self.dead_letters <= webhooks.exhausted + self.notifications.failed,
            format!("{} dead letters, although every event was fit to be handled", self.dead_letters),
        );
        complaints
    }

    /// True when everything that had to happen happened once and in order.
    pub fn balances(&self) -> bool {
        self.complaints().is_empty()
    }

    /// The ledger for people.
    pub fn table(&self) -> String {
        let seconds = self.elapsed_ms as f64 / 1000.0;
        let Self { notifications, disputes, webhooks, .. } = self;
        let rows = [
            ("orders", self.orders.to_string()),
            ("events in the history", self.events_in.to_string()),
            ("conversation messages", self.messages.to_string()),
            (
                "notifications",
                format!(
                    "{} sent, {} failed, {} suppressed",
                    notifications.sent, notifications.failed, notifications.suppressed
                ),
            ),
            (
                "disputes",
                format!(
                    "{} opened, {} escalated, {} resolved",
                    disputes.opened, disputes.escalated, disputes.resolved
                ),
            ),
            (
                "webhooks delivered",
                format!(
                    "{} ({} at the first try, {} after a retry), {} given up",
                    webhooks.deliveries, webhooks.first_try, webhooks.after_retry, webhooks.exhausted
                ),
            ),
            ("verified by partners", webhooks.verified_by_receiver.to_string()),
            ("dead letters", self.dead_letters.to_string()),
            ("twice / lost / out of order", {
                format!("{} / {} / {}", self.duplicates, self.lost, self.order_violations)
            }),
            ("time", format!("{seconds:.1} s")),
        ];
        let mut table = String::new();
        for (name, value) in rows {
            // Writing into a string doesn't fail.
            let _ = writeln!(table, "  {name:<28} {value}");
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balanced() -> Ledger {
        Ledger {
            orders: 2,
            events_in: 5,
            events_by_type: BTreeMap::from([("order.created".to_owned(), 2), ("order.paid".to_owned(), 3)]),
            webhooks: Webhooks {
                deliveries: 10,
                first_try: 8,
                after_retry: 2,
                exhausted: 1,
                verified_by_receiver: 10,
            },
            dead_letters: 1,
            ..Ledger::default()
        }
    }

    #[test]
    fn a_ledger_balances_only_when_everything_agrees() {
        assert_eq!(balanced().complaints(), Vec::<String>::new());
        let spoil: [fn(&mut Ledger); 8] = [
            |ledger| ledger.lost = 1,
            |ledger| ledger.duplicates = 1,
            |ledger| ledger.order_violations = 1,
            |ledger| ledger.webhooks.first_try = 7,
            |ledger| ledger.webhooks.verified_by_receiver = 9,
            |ledger| ledger.webhooks.verified_by_receiver = 11,
            |ledger| ledger.events_in = 6,
            |ledger| ledger.dead_letters = 2,
        ];
        for (at, spoil) in spoil.iter().enumerate() {
            let mut ledger = balanced();
            spoil(&mut ledger);
            assert_eq!(ledger.complaints().len(), 1, "case {at}: {:?}", ledger.complaints());
            assert!(!ledger.balances());
        }
    }

    #[test]
    fn the_keys_are_those_that_are_promised() {
        let json = serde_json::to_value(balanced()).unwrap();
        let mut keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(
            keys,
            [
                "deadLetters",
                "disputes",
                "duplicates",
                "elapsedMs",
                "eventsByType",
                "eventsIn",
                "late",
                "lost",
                "messages",
                "notifications",
                "orderViolations",
                "orders",
                "webhooks"
            ]
        );
        assert_eq!(json["webhooks"]["verifiedByReceiver"], 10);
        assert_eq!(json["webhooks"]["afterRetry"], 2);
        assert_eq!(json["disputes"]["escalated"], 0);
        assert_eq!(json["notifications"]["suppressed"], 0);
    }
}
