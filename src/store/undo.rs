//! Taking decisions back: what one press of a button changed, kept as it was before, for ten minutes and as long as nobody else
//! touched the row. The inverse is an ordinary change: journal, audit row and marks come with it.

use crate::{
    model::ids::DetectionId,
    store::{
        audit::Actor,
        triage::{self, Applied, ChangeError, Triage},
    },
};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, types::Json};

/// How long a decision can be taken back. Source: interface design, section 7.3.
pub const LIFE: TimeDelta = TimeDelta::minutes(10);

/// A detection as a decision found it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kept {
    id: DetectionId,
    /// The version the decision made.
    version: i32,
    before: Triage,
}

impl Kept {
    /// What to keep of a change; nothing if it changed nothing.
    pub fn of(id: DetectionId, applied: &Applied) -> Option<Self> {
        let before = applied.before.clone()?;
        Some(Self { id, version: applied.version, before })
    }
}

/// Keeps what a decision changed and answers the number that takes it back.
pub async fn keep(
    conn: &mut PgConnection,
    actor: &str,
    said: &str,
    rows: &[Kept],
    now: DateTime<Utc>,
) -> sqlx::Result<i64> {
    sqlx::query!(
        "-- store::undo::keep: what is too old goes
        delete from triage_undo where at < $1",
        now - LIFE
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query_scalar!(
        "-- store::undo::keep
        insert into triage_undo (actor, at, said, rows) values ($1, $2, $3, $4) returning undo_id",
        actor,
        now,
        said,
        Json(rows) as _
    )
    .fetch_one(conn)
    .await
}

/// Takes a decision back: answers how many rows are as they were, and which somebody changed meanwhile. Nothing: it is too old, was
/// taken back already, or is not theirs.
///
/// # Errors
/// Whatever a change can fail with, but for a newer version.
pub async fn take_back(
    conn: &mut PgConnection,
    number: i64,
    by: &Actor,
    now: DateTime<Utc>,
) -> Result<Option<(usize, Vec<DetectionId>)>, ChangeError> {
    let rows = sqlx::query_scalar!(
        r#"-- store::undo::take_back
        delete from triage_undo where undo_id = $1 and actor = $2 and at >= $3 returning rows as "rows: Json<Vec<Kept>>""#,
        number,
        by.name,
        now - LIFE
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(Json(rows)) = rows else { return Ok(None) };
    let (mut done, mut changed) = (0, Vec::new());
    for kept in rows {
        match triage::change(conn, kept.id, Some(kept.version), &kept.before.restoring(), by, now).await {
            Ok(_) => done += 1,
            Err(ChangeError::Stale(_) | ChangeError::NotFound) => changed.push(kept.id),
            Err(other) => return Err(other),
        }
    }
    Ok(Some((done, changed)))
}
