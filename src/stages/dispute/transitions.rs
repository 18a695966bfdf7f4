//! How a dispute moves: a table of allowed transitions, and what each event asks for. Pure.
//!
//! Stage and status are two fields. A repeat is a no-op; an event that comes late fills in what it knows
//! without undoing what happened after it; an event about a dispute whose opening wasn't seen begins one with
//! gaps, which the opening fills in later.

use crate::crypto::Sealed;
use crate::store::disputes::Status::{Closed, Lost, NeedsResponse, Settled, UnderReview, Withdrawn, Won};
use crate::store::disputes::{Dispute, Funds, Load, Stage, Status};

/// Which status may follow which. What isn't here doesn't happen.
#[rustfmt::skip]
const ALLOWED: &[(Status, &[Status])] = &[
    (NeedsResponse, &[UnderReview, Won, Lost, Settled, Withdrawn, Closed]),
    (UnderReview,   &[NeedsResponse, Won, Lost, Settled, Withdrawn, Closed]),
    // Who lost may take it further, which opens it again; see `Change::Escalated`.
    (Won,           &[NeedsResponse, Closed]),
    (Lost,          &[NeedsResponse, Closed]),
    (Settled,       &[Closed]),
    (Withdrawn,     &[Closed]),
    (Closed,        &[]),
];

/// What an event says about a dispute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It was opened.
    Opened {
        /// By whom.
        opened_by: String,
        /// A short code.
        reason: String,
        /// What the party wrote.
        description: Option<Sealed>,
        /// What is disputed.
        amount: Option<(i64, String)>,
    },
    /// A moderator was given it.
    Assigned(String),
    /// A party said something: the moderator's turn.
    Evidence,
    /// It was taken to this stage: the parties' turn.
    Escalated(Stage),
    /// The money moved.
    Funds(Funds),
    /// It ended so.
    Ended(Status),
}

/// The dispute after `change`, which happened at `at_ms`; `None` when nothing changes.
pub fn apply(dispute: Option<&Dispute>, change: &Change, at_ms: i64) -> Option<Dispute> {
    let mut next = dispute.cloned().unwrap_or_else(|| unseen(at_ms));
    match change {
        Change::Opened { opened_by, reason, description, amount } => {
            next.opened_by.get_or_insert_with(|| opened_by.clone());
            next.reason.get_or_insert_with(|| reason.clone());
            next.description = next.description.or_else(|| description.clone());
            next.amount = next.amount.or_else(|| amount.clone());
            next.opened_at.get_or_insert(at_ms);
        }
        Change::Assigned(moderator) => next.moderator_id = Some(moderator.clone()),
        Change::Evidence => move_to(&mut next, UnderReview, at_ms),
        Change::Escalated(stage) => {
            if *stage > next.stage {
                next.stage = *stage;
                move_to(&mut next, NeedsResponse, at_ms);
            }
        }
        Change::Funds(funds) => next.funds = Some(*funds),
        Change::Ended(status) => move_to(&mut next, *status, at_ms),
    }
    (dispute != Some(&next)).then_some(next)
}

/// Who of `roster` gets the next dispute: who has least to do among those with room, else who has least to do.
/// The same roster gives the same answer; `None` only when it is empty.
pub fn assign(roster: &[Load]) -> Option<&str> {
    let key = |load: &&Load| (load.open >= load.capacity, load.open, load.user_id.clone());
    roster.iter().min_by_key(key).map(|load| load.user_id.as_str())
}

/// A dispute of which only a later event was seen.
fn unseen(at_ms: i64) -> Dispute {
    Dispute {
        stage: Stage::Inquiry,
        status: NeedsResponse,
        funds: None,
        opened_by: None,
        reason: None,
        description: None,
        amount: None,
        moderator_id: None,
        opened_at: None,
        status_at: at_ms,
    }
}

/// Moves on if the table allows it and nothing newer has spoken.
fn move_to(dispute: &mut Dispute, status: Status, at_ms: i64) {
    let allowed =
        ALLOWED.iter().find(|(from, _)| *from == dispute.status).is_some_and(|(_, to)| to.contains(&status));
    if allowed && at_ms >= dispute.status_at {
        dispute.status = status;
        dispute.status_at = at_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> Change {
        Change::Opened {
            opened_by: "u-1".to_owned(),
            reason: "not_received".to_owned(),
            description: None,
            amount: None,
        }
    }

    /// Applies changes at their times and gives stage, status and opener.
    fn after(changes: &[(i64, Change)]) -> (Stage, Status, Option<String>) {
        let mut dispute: Option<Dispute> = None;
        for (at_ms, change) in changes {
            if let Some(next) = apply(dispute.as_ref(), change, *at_ms) {
                dispute = Some(next);
            }
            let again = apply(dispute.as_ref(), change, *at_ms);
            assert_eq!(again, None, "{change:?} again changes nothing");
        }
        let dispute = dispute.expect("something happened");
        (dispute.stage, dispute.status, dispute.opened_by)
    }

    #[test]
    fn a_dispute_goes_its_way_and_its_end_is_its_end() {
        use Stage::{Chargeback, Inquiry};
        let opener = || Some("u-1".to_owned());
        let way = [
            (1, opened()),
            (2, Change::Evidence),
            (3, Change::Ended(Lost)),
            (4, Change::Escalated(Chargeback)),
            (5, Change::Ended(Won)),
            (6, Change::Ended(Closed)),
            (7, Change::Ended(Lost)),
        ];
        let expected = [
            (Inquiry, NeedsResponse),
            (Inquiry, UnderReview),
            (Inquiry, Lost),
            (Chargeback, NeedsResponse),
            (Chargeback, Won),
            (Chargeback, Closed),
            (Chargeback, Closed),
        ];
        for (length, (stage, status)) in expected.into_iter().enumerate() {
            assert_eq!(after(&way[..=length]), (stage, status, opener()));
        }
    }

    #[test]
    fn late_events_fill_gaps_and_undo_nothing() {
        let late_opening = [(9, Change::Ended(Won)), (1, opened())];
        assert_eq!(after(&late_opening), (Stage::Inquiry, Won, Some("u-1".to_owned())));
        let late_escalation =
            [(1, opened()), (9, Change::Ended(Won)), (5, Change::Escalated(Stage::Chargeback))];
        assert_eq!(after(&late_escalation).1, Won);
        let backwards = [
            (1, opened()),
            (2, Change::Escalated(Stage::Arbitration)),
            (3, Change::Escalated(Stage::Chargeback)),
        ];
        assert_eq!(after(&backwards).0, Stage::Arbitration);
    }

    #[test]
    fn nothing_follows_a_closed_dispute_and_every_status_has_its_row() {
        for status in Status::ALL {
            let row = ALLOWED.iter().find(|(from, _)| from == status);
            let (_, to) = row.expect("every status has a row");
            assert!(!to.contains(status));
            assert_eq!(to.is_empty(), *status == Closed);
        }
    }

    #[test]
    fn who_has_least_to_do_is_given_the_next_one() {
        let load = |user: &str, capacity, open| Load { user_id: user.to_owned(), capacity, open };
        assert_eq!(assign(&[]), None);
        assert_eq!(assign(&[load("b", 5, 1), load("a", 5, 1), load("c", 5, 2)]), Some("a"));
        assert_eq!(assign(&[load("a", 1, 1), load("b", 9, 5)]), Some("b"));
        assert_eq!(assign(&[load("a", 3, 3), load("b", 2, 2)]), Some("b"));
    }
}
