//! Disputes and the roster of moderators.
//!
//! A dispute is stored as a whole: the dispute stage reads it, decides by its table of transitions, and puts
//! it back. Nothing here knows which transition is allowed.

use super::conversations::OrderKey;
use super::text_enum::text_enum;
use super::{Database, Row, StoreError, Transaction};
use crate::crypto::Sealed;

text_enum! {
    /// How far a dispute has been taken.
    Stage {
        /// The party asks.
        Inquiry = "inquiry",
        /// The party's bank takes the money back.
        Chargeback = "chargeback",
        /// The bank's last offer before the card network decides.
        PreArbitration = "pre_arbitration",
        /// The card network decides.
        Arbitration = "arbitration",
    }
}

text_enum! {
    /// Whose turn it is, or how it ended (as the seller sees it).
    Status {
        /// The parties have to say something.
        NeedsResponse = "needs_response",
        /// The moderator has to decide.
        UnderReview = "under_review",
        /// Decided for the seller.
        Won = "won",
        /// Decided for the buyer.
        Lost = "lost",
        /// Both gave way.
        Settled = "settled",
        /// Taken back by who opened it.
        Withdrawn = "withdrawn",
        /// Nothing more is to be done.
        Closed = "closed",
    }
}

impl Status {
    /// Whether somebody still has to act.
    pub const fn is_open(self) -> bool {
        match self {
            Self::NeedsResponse | Self::UnderReview => true,
            Self::Won | Self::Lost | Self::Settled | Self::Withdrawn | Self::Closed => false,
        }
    }
}

text_enum! {
    /// Where the disputed money is.
    Funds {
        /// Held back.
        Held = "held",
        /// Given to the seller.
        Released = "released",
        /// Given back to the buyer.
        Refunded = "refunded",
    }
}

/// A dispute as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispute {
    /// How far it was taken.
    pub stage: Stage,
    /// Whose turn it is, or how it ended.
    pub status: Status,
    /// Where the money is, once said.
    pub funds: Option<Funds>,
    /// Who opened it; unknown until its opening was seen.
    pub opened_by: Option<String>,
    /// A short code.
    pub reason: Option<String>,
    /// What the party wrote, sealed for `opened_by`.
    pub description: Option<Sealed>,
    /// What is disputed: smallest units and ISO 4217 code.
    pub amount: Option<(i64, String)>,
    /// Who mediates.
    pub moderator_id: Option<String>,
    /// When it was opened, epoch milliseconds; unknown until its opening was seen.
    pub opened_at: Option<i64>,
    /// When the event that gave it its status happened, epoch milliseconds.
    pub status_at: i64,
}

/// A moderator who may be given a dispute, and how much they have to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// The moderator.
    pub user_id: String,
    /// How many open disputes they should have at most.
    pub capacity: i64,
    /// How many they have.
    pub open: i64,
}

/// Disputes for ledgers, over all tenants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub opened: i64,
    /// Those taken beyond the inquiry.
    pub escalated: i64,
    /// Those that ended.
    pub resolved: i64,
}

/// The dispute, as the transaction sees it.
///
/// # Errors
/// As the database says; so for all below.
pub async fn find_in(
    tx: &mut Transaction,
    key: &OrderKey,
    dispute_id: &str,
) -> Result<Option<Dispute>, StoreError> {
    let row = tx
        .row(
            "SELECT * FROM disputes WHERE tenant_id = $1 AND order_id = $2 AND dispute_id = $3",
            &[key.tenant.as_str().into(), key.order.as_str().into(), dispute_id.into()],
        )
        .await?;
    row.as_ref().map(dispute).transpose()
}

/// Stores the dispute as it is now.
pub async fn put(
    tx: &mut Transaction,
    key: &OrderKey,
    dispute_id: &str,
    dispute: &Dispute,
) -> Result<(), StoreError> {
    let (amount, currency) = match &dispute.amount {
        Some((amount, currency)) => (Some(*amount), Some(currency.as_str())),
        None => (None, None),
    };
    tx.execute(
        "INSERT INTO disputes (tenant_id, order_id, dispute_id, stage, status, is_open, funds, opened_by, reason,
             description, amount_minor, currency, moderator_id, opened_at, status_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
         ON CONFLICT (tenant_id, order_id, dispute_id) DO UPDATE SET
             stage = excluded.stage, status = excluded.status, is_open = excluded.is_open,
             funds = excluded.funds, opened_by = excluded.opened_by, reason = excluded.reason,
             description = excluded.description, amount_minor = excluded.amount_minor,
             currency = excluded.currency, moderator_id = excluded.moderator_id,
             opened_at = excluded.opened_at, status_at = excluded.status_at",
        &[
            key.tenant.as_str().into(),
            key.order.as_str().into(),
            dispute_id.into(),
            dispute.stage.as_str().into(),
            dispute.status.as_str().into(),
            dispute.status.is_open().into(),
            dispute.funds.map(Funds::as_str).into(),
            dispute.opened_by.as_deref().into(),
            dispute.reason.as_deref().into(),
            dispute.description.as_ref().map(|sealed| sealed.as_bytes().to_vec()).into(),
            amount.into(),
            currency.into(),
            dispute.moderator_id.as_deref().into(),
            dispute.opened_at.into(),
            dispute.status_at.into(),
        ],
    )
    .await?;
    Ok(())
}

/// The disputes of an order with their ids, oldest first.
pub async fn of_order(db: &Database, key: &OrderKey) -> Result<Vec<(String, Dispute)>, StoreError> {
    let rows = db
        .rows(
            "SELECT * FROM disputes WHERE tenant_id = $1 AND order_id = $2 ORDER BY status_at, dispute_id",
            &[key.tenant.as_str().into(), key.order.as_str().into()],
        )
        .await?;
    rows.iter().map(|row| Ok((row.text("dispute_id")?, dispute(row)?))).collect()
}

const OPEN_BY_STAGE: &str = "SELECT stage, COUNT(*) AS n FROM disputes WHERE is_open = 1 GROUP BY stage";

/// How many disputes are open, by stage, over all tenants.
pub async fn open_by_stage(db: &Database) -> Result<Vec<(Stage, i64)>, StoreError> {
    numbers(&db.rows(OPEN_BY_STAGE, &[]).await?)
}

/// The same, as the transaction sees it.
pub async fn open_by_stage_in(tx: &mut Transaction) -> Result<Vec<(Stage, i64)>, StoreError> {
    numbers(&tx.rows(OPEN_BY_STAGE, &[]).await?)
}

fn numbers(rows: &[Row]) -> Result<Vec<(Stage, i64)>, StoreError> {
    rows.iter().map(|row| Ok((Stage::read(row, "stage")?, row.int("n")?))).collect()
}

/// Disputes opened, escalated and ended, over all tenants: for ledgers.
pub async fn count(db: &Database) -> Result<Counts, StoreError> {
    let mut counts = Counts::default();
    let rows =
        db.rows("SELECT stage, is_open, COUNT(*) AS n FROM disputes GROUP BY stage, is_open", &[]).await?;
    for row in rows {
        let n = row.int("n")?;
        counts.opened += n;
        counts.escalated += if Stage::read(&row, "stage")? > Stage::Inquiry { n } else { 0 };
        counts.resolved += if row.flag("is_open")? { 0 } else { n };
    }
    Ok(counts)
}

/// Puts `user_id` on the tenant's roster unless they are on it.
pub async fn enlist(
    tx: &mut Transaction,
    tenant: &str,
    user_id: &str,
    capacity: i64,
) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO moderators (tenant_id, user_id, active, capacity) VALUES ($1, $2, 1, $3)
         ON CONFLICT (tenant_id, user_id) DO NOTHING",
        &[tenant.into(), user_id.into(), capacity.into()],
    )
    .await?;
    Ok(())
}

/// Whether anybody was ever put on the tenant's roster.
pub async fn has_roster_in(tx: &mut Transaction, tenant: &str) -> Result<bool, StoreError> {
    let row = tx.row("SELECT user_id FROM moderators WHERE tenant_id = $1 LIMIT 1", &[tenant.into()]).await?;
    Ok(row.is_some())
}

/// The tenant's roster: those who are active, with what they have to do.
pub async fn loads_in(tx: &mut Transaction, tenant: &str) -> Result<Vec<Load>, StoreError> {
    let rows = tx
        .rows(
            "SELECT user_id, capacity,
                 (SELECT COUNT(*) FROM disputes WHERE disputes.tenant_id = moderators.tenant_id
                     AND disputes.moderator_id = moderators.user_id AND disputes.is_open = 1) AS open_disputes
             FROM moderators WHERE tenant_id = $1 AND active = 1 ORDER BY user_id",
            &[tenant.into()],
        )
        .await?;
    let load = |row: &Row| {
        Ok(Load {
            user_id: row.text("user_id")?,
            capacity: row.int("capacity")?,
            open: row.int("open_disputes")?,
        })
    };
    rows.iter().map(load).collect()
}

fn dispute(row: &Row) -> Result<Dispute, StoreError> {
    let funds = match row.opt_text("funds")? {
        Some(_) => Some(Funds::read(row, "funds")?),
        None => None,
    };
    let amount = match (row.opt_int("amount_minor")?, row.opt_text("currency")?) {
        (Some(amount), Some(currency)) => Some((amount, currency)),
        (None, _) | (_, None) => None,
    };
    Ok(Dispute {
        stage: Stage::read(row, "stage")?,
        status: Status::read(row, "status")?,
        funds,
        opened_by: row.opt_text("opened_by")?,
        reason: row.opt_text("reason")?,
        description: row.opt_sealed("description")?,
        amount,
        moderator_id: row.opt_text("moderator_id")?,
        opened_at: row.opt_int("opened_at")?,
        status_at: row.int("status_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::each_engine;

    fn opened(moderator: Option<&str>, status: Status) -> Dispute {
        Dispute {
            stage: Stage::Inquiry,
            status,
            funds: None,
            opened_by: Some("u-1".to_owned()),
            reason: Some("not_received".to_owned()),
            description: Some(Sealed::from_bytes(vec![9])),
            amount: Some((500, "JPY".to_owned())),
            moderator_id: moderator.map(str::to_owned),
            opened_at: Some(10),
            status_at: 10,
        }
    }

    #[tokio::test]
    async fn a_dispute_comes_back_as_it_was_put_and_only_in_its_tenant() {
        each_engine(async |db| {
            let key = OrderKey::new("shop", "o-1");
            let first = opened(None, Status::NeedsResponse);
            let then = Dispute {
                stage: Stage::Chargeback,
                status: Status::Lost,
                funds: Some(Funds::Refunded),
                description: None,
                amount: None,
                ..first.clone()
            };
            let mut tx = db.begin().await.unwrap();
            for each in [&first, &then] {
                put(&mut tx, &key, "d-1", each).await.unwrap();
                assert_eq!(find_in(&mut tx, &key, "d-1").await.unwrap().as_ref(), Some(each));
            }
            assert_eq!(find_in(&mut tx, &OrderKey::new("other", "o-1"), "d-1").await.unwrap(), None);
            tx.commit().await.unwrap();
            assert_eq!(of_order(&db, &key).await.unwrap(), [("d-1".to_owned(), then)]);
            assert_eq!(count(&db).await.unwrap(), Counts { opened: 1, escalated: 1, resolved: 1 });
        })
        .await;
    }

    #[tokio::test]
    async fn a_roster_knows_what_each_moderator_has_to_do_in_its_tenant() {
        each_engine(async |db| {
            let mut tx = db.begin().await.unwrap();
            for (tenant, user) in [("a", "m-1"), ("a", "m-2"), ("b", "m-1")] {
                enlist(&mut tx, tenant, user, 5).await.unwrap();
            }
            enlist(&mut tx, "a", "m-1", 99).await.unwrap();
            for (tenant, order, status) in [
                ("a", "o-1", Status::NeedsResponse),
                ("a", "o-2", Status::UnderReview),
                ("a", "o-3", Status::Closed),
                ("b", "o-1", Status::Won),
            ] {
                let key = OrderKey::new(tenant, order);
                put(&mut tx, &key, "d", &opened(Some("m-1"), status)).await.unwrap();
            }
            let load = |user: &str, open| Load { user_id: user.to_owned(), capacity: 5, open };
            assert_eq!(loads_in(&mut tx, "a").await.unwrap(), [load("m-1", 2), load("m-2", 0)]);
            assert_eq!(loads_in(&mut tx, "b").await.unwrap(), [load("m-1", 0)]);
            assert_eq!(open_by_stage_in(&mut tx).await.unwrap(), [(Stage::Inquiry, 2)]);
            tx.commit().await.unwrap();
        })
        .await;
    }
}
