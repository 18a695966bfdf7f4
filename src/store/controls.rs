//! What operators wish of stages: paused or not, and orders for the owners of partitions.

use super::audit::{self, Entry};
use super::{Database, Row, StoreError};

/// A stage's state, as the last change left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// The stage.
    pub stage: String,
    /// Whether nothing new is to be started.
    pub paused: bool,
    /// Why.
    pub reason: String,
    /// Who changed it last.
    pub changed_by: String,
    /// When, epoch milliseconds.
    pub changed_at_ms: i64,
    /// Grows with every change.
    pub version: i64,
}

/// Every stage that was ever paused or resumed.
///
/// # Errors
/// As the database says.
pub async fn all(db: &Database) -> Result<Vec<Control>, StoreError> {
    let rows = db
        .rows(
            "SELECT stage, paused, reason, changed_by, changed_at, version FROM stage_controls ORDER BY stage",
            &[],
        )
        .await?;
    rows.iter().map(control).collect()
}

/// Pauses or resumes the stage that `audited` names, and writes that down. Answers false, and changes nothing, when it is
/// so already.
///
/// # Errors
/// As the database says.
pub async fn set_paused(db: &Database, paused: bool, audited: &Entry) -> Result<bool, StoreError> {
    let mut tx = db.begin().await?;
    let statement = match paused {
        true => {
            "INSERT INTO stage_controls (stage, paused, reason, changed_by, changed_at, version)
             VALUES ($1, $2, $3, $4, $5, 1)
             ON CONFLICT (stage) DO UPDATE SET paused = excluded.paused, reason = excluded.reason,
                 changed_by = excluded.changed_by, changed_at = excluded.changed_at,
                 version = stage_controls.version + 1
             WHERE stage_controls.paused <> excluded.paused"
        }
        // A stage that was never paused runs.
        false => {
            "UPDATE stage_controls SET paused = $2, reason = $3, changed_by = $4, changed_at = $5,
                 version = version + 1
             WHERE stage = $1 AND paused <> $2"
        }
    };
    let changed = tx
        .execute(
            statement,
            &[
                audited.stage.as_str().into(),
                paused.into(),
                audited.reason.as_str().into(),
                audited.actor.as_str().into(),
                audited.at_ms.into(),
            ],
        )
        .await?;
    if changed == 1 {
        audit::write(&mut tx, audited).await?;
    }
    tx.commit().await?;
    Ok(changed == 1)
}

fn control(row: &Row) -> Result<Control, StoreError> {
    Ok(Control {
        stage: row.text("stage")?,
        paused: row.flag("paused")?,
        reason: row.text("reason")?,
        changed_by: row.text("changed_by")?,
        changed_at_ms: row.int("changed_at")?,
        version: row.int("version")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::each_engine;

    fn entry(number: i64, action: &str) -> Entry {
        Entry {
            id: format!("00000000-0000-7000-8000-{number:012}"),
            at_ms: number,
            actor: "ann".to_owned(),
            action: action.to_owned(),
            stage: "webhook".to_owned(),
            reason: format!("reason {number}"),
            detail: "{}".to_owned(),
        }
    }

    #[tokio::test]
    async fn every_change_is_written_down_and_a_repeat_changes_nothing() {
        each_engine(async |db| {
            assert_eq!(all(&db).await.unwrap(), []);
            assert!(!set_paused(&db, false, &entry(0, "stage.resume")).await.unwrap());
            assert!(set_paused(&db, true, &entry(1, "stage.pause")).await.unwrap());
            assert!(!set_paused(&db, true, &entry(2, "stage.pause")).await.unwrap());
            assert!(set_paused(&db, false, &entry(3, "stage.resume")).await.unwrap());
            let expected = Control {
                stage: "webhook".to_owned(),
                paused: false,
                reason: "reason 3".to_owned(),
                changed_by: "ann".to_owned(),
                changed_at_ms: 3,
                version: 2,
            };
            assert_eq!(all(&db).await.unwrap(), [expected]);
            let audited = audit::newest(&db, Some("webhook"), None, 10).await.unwrap();
            assert_eq!(audited, [entry(3, "stage.resume"), entry(1, "stage.pause")]);
            let older = audit::newest(&db, None, Some(&audited[0].id), 10).await.unwrap();
            assert_eq!(older, [entry(1, "stage.pause")]);
            assert_eq!(audit::newest(&db, Some("history"), None, 10).await.unwrap(), []);
        })
        .await;
    }
}
