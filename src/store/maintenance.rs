//! Maintenance windows: load that people announced, by event time. They never cover hard evidence.

use super::{
    audit::{self, Actor, Deed},
    marks::{self, Validity},
};
use crate::model::{
    exceptions::{self, Announced, Window},
    ids::as_text,
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, types::Json};

/// A window as it is stored and served.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stored {
    /// Its number.
    #[serde(serialize_with = "as_text")]
    pub id: i64,
    /// As evidence names it: `MW-3`.
    pub label: String,
    /// What was written.
    #[serde(flatten)]
    pub body: Window,
    /// Start of every occurrence, the first one first.
    pub starts: Vec<DateTime<Utc>>,
    /// Author.
    pub created_by: String,
    /// Wall clock.
    pub created_at: DateTime<Utc>,
}

/// Name of a window in evidence and on pages.
pub fn label(id: i64) -> String {
    format!("MW-{id}")
}

/// All windows; `id` asks for one.
async fn rows(conn: &mut PgConnection, id: Option<i64>) -> sqlx::Result<Vec<Stored>> {
    let rows = sqlx::query!(
        r#"select window_id, body as "body: Json<Window>", starts, created_by, created_at from maintenance_window
           where $1::bigint is null or window_id = $1 order by starts_at desc, window_id desc"#,
        id
    )
    .fetch_all(conn)
    .await?;
    let stored = rows.into_iter().map(|r| Stored {
        id: r.window_id,
        label: label(r.window_id),
        body: r.body.0,
        starts: r.starts,
        created_by: r.created_by,
        created_at: r.created_at,
    });
    Ok(stored.collect())
}

/// All windows, latest first.
pub async fn list(conn: &mut PgConnection) -> sqlx::Result<Vec<Stored>> {
    rows(conn, None).await
}

/// One window.
pub async fn find(conn: &mut PgConnection, id: i64) -> sqlx::Result<Option<Stored>> {
    Ok(rows(conn, Some(id)).await?.pop())
}

/// All windows, as the worker applies them.
pub async fn all(conn: &mut PgConnection) -> sqlx::Result<Vec<Announced>> {
    Ok(rows(conn, None).await?.into_iter().map(|s| Announced { id: s.id, body: s.body, starts: s.starts }).collect())
}

async fn mark(conn: &mut PgConnection, window: &Stored, now: DateTime<Utc>) -> sqlx::Result<()> {
    let announced = Announced { id: window.id, body: window.body.clone(), starts: window.starts.clone() };
    if let Some(reach) = announced.reach() {
        marks::in_scope(conn, &window.body.scope, Validity { since: Some(reach.since()), until: Some(reach.until()) }, now).await?;
    }
    Ok(())
}

async fn existing(conn: &mut PgConnection, digest: &[u8]) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!("select window_id from maintenance_window where digest = $1", digest).fetch_optional(conn).await
}

/// Stores a checked window. The error is the id of the equal one that is there already.
pub async fn create(conn: &mut PgConnection, body: Window, by: &Actor, now: DateTime<Utc>) -> anyhow::Result<Result<Stored, i64>> {
    let starts = body.starts()?;
    let digest = exceptions::digest(&body)?;
    let inserted = sqlx::query_scalar!(
        "insert into maintenance_window (body, digest, starts_at, ends_at, starts, created_by, created_at, marked_at)
         values ($1, $2, $3, $4, $5, $6, $7, $7)
         on conflict (digest) do nothing returning window_id",
        Json(&body) as _,
        digest,
        body.starts_at,
        body.ends_at,
        &starts,
        by.name,
        now
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(id) = inserted else {
        return Ok(Err(existing(conn, &digest).await?.unwrap_or_default()));
    };
    let stored = Stored { id, label: label(id), body, starts, created_by: by.name.clone(), created_at: now };
    mark(conn, &stored, now).await?;
    let deed = Deed { action: "maintenance.create", object: &stored.label, before: None, after: Some(serde_json::to_value(&stored)?) };
    audit::append(conn, by, deed, now).await?;
    Ok(Ok(stored))
}

/// Replaces what a window says. The error is the id of another that is equal.
pub async fn edit(conn: &mut PgConnection, before: &Stored, body: Window, by: &Actor, now: DateTime<Utc>) -> anyhow::Result<Result<Stored, i64>> {
    let starts = body.starts()?;
    let digest = exceptions::digest(&body)?;
    if let Some(other) = existing(conn, &digest).await?.filter(|id| *id != before.id) {
        return Ok(Err(other));
    }
    sqlx::query!(
        "update maintenance_window set body = $2, digest = $3, starts_at = $4, ends_at = $5, starts = $6, marked_at = $7 where window_id = $1",
        before.id,
        Json(&body) as _,
        digest,
        body.starts_at,
        body.ends_at,
        &starts,
        now
    )
    .execute(&mut *conn)
    .await?;
    let after = Stored { body, starts, ..before.clone() };
    mark(conn, before, now).await?;
    mark(conn, &after, now).await?;
    let deed = Deed {
        action: "maintenance.edit",
        object: &before.label,
        before: Some(serde_json::to_value(before)?),
        after: Some(serde_json::to_value(&after)?),
    };
    audit::append(conn, by, deed, now).await?;
    Ok(Ok(after))
}

/// Takes a window back; what it hid comes back.
pub async fn remove(conn: &mut PgConnection, before: &Stored, by: &Actor, now: DateTime<Utc>) -> anyhow::Result<()> {
    sqlx::query!("delete from maintenance_window where window_id = $1", before.id).execute(&mut *conn).await?;
    mark(conn, before, now).await?;
    let deed = Deed { action: "maintenance.remove", object: &before.label, before: Some(serde_json::to_value(before)?), after: None };
    audit::append(conn, by, deed, now).await?;
    Ok(())
}
