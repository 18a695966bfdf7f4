//! What people must have got: disputes with a moderator, conversations, messages, notifications, mails.

use std::collections::{HashMap, HashSet};

use super::{Findings, Published, Witnesses};
use crate::embedded::mailbox::Mailbox;
use crate::embedded::traffic::Expected;
use crate::store::overview::{self, OrderKey};
use crate::store::{Database, StoreError};

/// Compares all of it with what was published.
pub(super) async fn compare(
    of: &Witnesses<'_>,
    published: &Published,
    findings: &mut Findings,
) -> Result<(), StoreError> {
    compare_disputes(of.db, published, findings).await?;
    compare_conversations(of.db, published, findings).await?;
    compare_messages(of.db, published, findings).await?;
    compare_notices(of.db, published, findings).await?;
    compare_mails(of, published, findings).await
}

async fn compare_disputes(
    db: &Database,
    published: &Published,
    findings: &mut Findings,
) -> Result<(), StoreError> {
    let known = overview::disputes(db).await?;
    let known = known.into_iter().map(|known| ((known.tenant, known.id), (known.is_open, known.moderator)));
    let found: HashMap<_, _> = known.collect();
    for (tenant, orders) in &published.expectation.tenants {
        for dispute in orders.values().flat_map(|expected| &expected.disputes) {
            match found.get(&(tenant.clone(), dispute.id.clone())) {
                None => findings.lost(|| format!("dispute {} was not opened", dispute.id)),
                Some((true, _)) if dispute.resolved => {
                    findings.lost(|| format!("dispute {} was resolved and is still open", dispute.id));
                }
                Some((_, None)) => findings.lost(|| format!("dispute {} has no moderator", dispute.id)),
                Some(_) => {}
            }
        }
    }
    Ok(())
}

/// Every order that was created has its conversation, with a buyer, a seller and something said.
async fn compare_conversations(
    db: &Database,
    published: &Published,
    findings: &mut Findings,
) -> Result<(), StoreError> {
    let complete: HashSet<OrderKey> = overview::conversations(db).await?.into_iter().collect();
    for (tenant, orders) in &published.expectation.tenants {
        for order in orders.keys() {
            if !complete.contains(&(tenant.clone(), order.clone())) {
                findings.lost(|| format!("{order}: no conversation of buyer and seller with a message"));
            }
        }
    }
    Ok(())
}

/// Every event that must leave a message left one, and none that tells nothing new did. Messages about events
/// that the program itself adds are left out.
async fn compare_messages(
    db: &Database,
    published: &Published,
    findings: &mut Findings,
) -> Result<(), StoreError> {
    let found = by_order(overview::messages(db).await?);
    for (order, expected, found) in orders(published, &found) {
        let wanted: HashSet<&String> = expected.messages.iter().collect();
        once_each(order, "message about", &wanted, expected, found, |id| id, findings);
    }
    Ok(())
}

/// Buyer and seller were told what they must be told, by each channel once.
async fn compare_notices(
    db: &Database,
    published: &Published,
    findings: &mut Findings,
) -> Result<(), StoreError> {
    type Notice = (String, String, String);
    let found: HashMap<_, Vec<Notice>> = by_order(overview::notices(db).await?);
    for (order, expected, found) in orders(published, &found) {
        let wanted: Vec<Notice> = expected
            .notices
            .iter()
            .map(|notice| (notice.event_id.clone(), notice.recipient.clone(), notice.channel.clone()))
            .collect();
        let wanted: HashSet<&Notice> = wanted.iter().collect();
        once_each(order, "notification about", &wanted, expected, found, |notice| &notice.0, findings);
    }
    Ok(())
}

/// What was found, by tenant and order.
fn by_order<T>(all: Vec<(OrderKey, T)>) -> HashMap<OrderKey, Vec<T>> {
    let mut found: HashMap<OrderKey, Vec<T>> = HashMap::new();
    for (order, one) in all {
        found.entry(order).or_default().push(one);
    }
    found
}

/// Each published order with what was found for it.
fn orders<'a, T>(
    published: &'a Published,
    found: &'a HashMap<OrderKey, Vec<T>>,
) -> impl Iterator<Item = (&'a str, &'a Expected, &'a [T])> {
    published.expectation.tenants.iter().flat_map(move |(tenant, orders)| {
        orders.iter().map(move |(order, expected)| {
            let found = found.get(&(tenant.clone(), order.clone())).map_or(&[][..], Vec::as_slice);
            (order.as_str(), expected, found)
        })
    })
}

/// Of what concerns published events, everything wanted was found once and nothing else was found.
fn once_each<T: Eq + std::hash::Hash + std::fmt::Debug>(
    order: &str,
    what: &str,
    wanted: &HashSet<&T>,
    expected: &Expected,
    found: &[T],
    event_of: impl Fn(&T) -> &String,
    findings: &mut Findings,
) {
    let published: HashSet<&String> = expected.history.iter().map(|told| &told.id).collect();
    let mut seen = HashSet::new();
    for one in found.iter().filter(|one| published.contains(event_of(one))) {
        if !seen.insert(one) || !wanted.contains(one) {
            findings.duplicate(|| format!("{order}: one {what} {one:?} too many"));
        }
    }
    for one in wanted.iter().filter(|one| !seen.contains(*one)) {
        findings.lost(|| format!("{order}: no {what} {one:?}"));
    }
}

/// Every order's buyer got a mail that names the order, every mail that counts as sent arrived, none twice.
async fn compare_mails(
    of: &Witnesses<'_>,
    published: &Published,
    findings: &mut Findings,
) -> Result<(), StoreError> {
    let sent = overview::mails(of.db).await?;
    let arrived: HashSet<String> =
        of.mailbox.letters().mails.iter().map(|mail| mail.message_id.clone()).collect();
    for (order, id) in sent {
        if !arrived.contains(id.trim_matches(['<', '>'])) {
            findings.lost(|| format!("{order}: mail {id} counts as sent and did not arrive"));
        }
    }
    compare_confirmations(of.mailbox, published, findings);
    Ok(())
}

/// Every order's buyer got a mail that names the order, and nobody got a mail twice.
fn compare_confirmations(mailbox: &Mailbox, published: &Published, findings: &mut Findings) {
    let letters = mailbox.letters();
    let mut got: HashSet<(&str, &str)> = HashSet::new();
    for mail in &letters.mails {
        for address in &mail.to {
            got.extend(mail.subject.split(' ').map(|word| (address.as_str(), word)));
        }
    }
    for (address, number) in &published.confirmations {
        if !got.contains(&(address.as_str(), number.to_string().as_str())) {
            findings.lost(|| format!("order {number}: no mail to its buyer"));
        }
    }
    findings.duplicates += letters.duplicates;
    if letters.duplicates > 0 {
        findings.say(|| format!("{} mails came twice", letters.duplicates));
    }
}
