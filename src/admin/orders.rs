//! Asks the owners of partitions for something, and waits for what they say.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Operator;
use crate::clock::Clock;
use crate::store::orders::{self, Kind, State, StoredOrder};
use crate::store::{Database, StoreError};

/// How often the answer is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Answered {
    /// The partition whose owner was asked.
    pub partition: i32,
    /// It was carried out.
    pub done: bool,
    /// No member answered in time, and the order was taken back.
    pub unanswered: bool,
    /// What the owner said.
    pub answer: String,
}

/// Somebody who asks owners.
#[derive(Debug)]
pub(super) struct Desk<'a> {
    pub(super) db: &'a Database,
    pub(super) clock: &'a Clock,
    pub(super) by: &'a Operator,
    /// How long to wait for answers.
    pub(super) patience: Duration,
}

impl Desk<'_> {
    /// Asks for `kind` with one argument per partition; the audit has `action`.
    pub(super) async fn ask(
        &self,
        stage: &str,
        kind: Kind,
        action: &str,
        arguments: &[(i32, String)],
    ) -> Result<Vec<Answered>, StoreError> {
        let asked: Vec<StoredOrder> = arguments
            .iter()
            .map(|(partition, argument)| StoredOrder {
                id: Uuid::now_v7().to_string(),
                stage: stage.to_owned(),
                partition: *partition,
                kind,
                argument: argument.clone(),
                state: State::Open,
                answer: None,
            })
            .collect();
        let detail: Vec<_> = asked
            .iter()
            .map(|order| json!({ "order": order.id, "partition": order.partition, "argument": order.argument }))
            .collect();
        let audited = self.by.entry(self.clock, action, stage, &json!({ "orders": detail }));
        orders::ask(self.db, &asked, &audited).await?;
        let deadline = tokio::time::Instant::now() + self.patience;
        let mut answered = Vec::new();
        for order in asked {
            answered.push(self.answer(&order, deadline).await?);
        }
        Ok(answered)
    }

    async fn answer(
        &self,
        order: &StoredOrder,
        deadline: tokio::time::Instant,
    ) -> Result<Answered, StoreError> {
        loop {
            let known = orders::find(self.db, &order.id).await?;
            let (state, words) = known.map_or((State::Withdrawn, None), |known| (known.state, known.answer));
            if state != State::Open {
                return Ok(Answered {
                    partition: order.partition,
                    done: state == State::Done,
                    unanswered: state == State::Withdrawn,
                    answer: words.unwrap_or_default(),
                });
            }
            if tokio::time::Instant::now() >= deadline {
                let words = "no running member owns the partition";
                // Answered at the last moment after all: then that counts.
                orders::settle(self.db, &order.id, State::Withdrawn, words, self.clock.now_ms()).await?;
                continue;
            }
            self.clock.sleep(LOOK_AGAIN).await;
        }
    }
}
