//! Which steps of a detection's runbook somebody did, who and when. The steps are in `model::runbook`.

use super::audit::{self, Actor, Deed};
use crate::model::{
    ids::DetectionId,
    runbook::Step,
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;
use std::collections::HashMap;

/// Somebody did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tick {
    /// Account name, or `console:NAME`.
    pub by: String,
    /// Wall clock.
    pub at: DateTime<Utc>,
    /// What came of it.
    pub note: Option<String>,
}

/// The ticks of a detection, by step.
///
/// # Errors
/// Whatever the database says.
pub async fn ticks(conn: &mut PgConnection, id: DetectionId) -> sqlx::Result<HashMap<String, Tick>> {
    let rows = sqlx::query!(
        "-- store::runbook::ticks
        select step, ticked_by, ticked_at, note from runbook_tick where host_id = $1 and detection_id = $2",
        id.host.0,
        id.own
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|r| (r.step, Tick { by: r.ticked_by, at: r.ticked_at, note: r.note })).collect())
}

/// Ticks a step (`Some`, with a note or without) or takes the tick back, and writes it into the detection's history. The first to tick a step
/// keeps it until it is taken back; a new note replaces the old one.
///
/// # Errors
/// Whatever the database says.
pub async fn tick(
    conn: &mut PgConnection,
    id: DetectionId,
    step: &Step,
    done: Option<Option<&str>>,
    by: &Actor,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let changed = match done {
        Some(note) => sqlx::query!(
            "-- store::runbook::tick
            insert into runbook_tick (host_id, detection_id, step, ticked_by, ticked_at, note) values ($1, $2, $3, $4, $5, $6)
            on conflict (host_id, detection_id, step) do update set note = excluded.note
            where excluded.note is not null and runbook_tick.note is distinct from excluded.note",
            id.host.0,
            id.own,
            step.id,
            by.name,
            now,
            note
        )
        .execute(&mut *conn)
        .await?,
        None => sqlx::query!(
            "-- store::runbook::tick\ndelete from runbook_tick where host_id = $1 and detection_id = $2 and step = $3",
            id.host.0,
            id.own,
            step.id
        )
        .execute(&mut *conn)
        .await?,
    };
    if changed.rows_affected() == 0 {
        return Ok(());
    }
    let detail = match done {
        Some(Some(note)) => format!("done: {} ({note})", step.text),
        Some(None) => format!("done: {}", step.text),
        None => format!("not done: {}", step.text),
    };
    sqlx::query!(
        "-- store::runbook::tick
        insert into detection_journal (host_id, detection_id, at, actor, action, detail) values ($1, $2, $3, $4, 'runbook', $5)",
        id.host.0,
        id.own,
        now,
        by.name,
        detail
    )
    .execute(&mut *conn)
    .await?;
    let object = id.to_string();
    let after = json!({"step": step.id, "done": done.is_some(), "note": done.flatten()});
    audit::append(conn, by, Deed { action: "runbook.tick", object: &object, before: None, after: Some(after) }, now).await?;
    Ok(())
}
