//! Approved baselines: load that people expect of an image on a class of hosts. They lower a score, never suppress.

use super::{
    audit::{self, Actor, Deed},
    marks::{self, Validity},
};
use crate::model::{
    exceptions::{Baseline, Scope},
    ids::as_text,
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

/// A baseline as it is stored and served.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stored {
    /// Its number.
    #[serde(serialize_with = "as_text")]
    pub id: i64,
    /// What was written.
    #[serde(flatten)]
    pub body: Baseline,
    /// Author.
    pub created_by: String,
    /// Wall clock.
    pub created_at: DateTime<Utc>,
}

/// All baselines; `id` asks for one.
async fn rows(conn: &mut PgConnection, id: Option<i64>) -> sqlx::Result<Vec<Stored>> {
    let rows = sqlx::query!(
        r#"select baseline_id, image, host_class, cpu_share::float8 as "cpu_share!", note, created_by, created_at from baseline
           where $1::bigint is null or baseline_id = $1 order by host_class, image, baseline_id"#,
        id
    )
    .fetch_all(conn)
    .await?;
    let stored = rows.into_iter().map(|r| Stored {
        id: r.baseline_id,
        // Stored as `real`: one digit is what people write.
        body: Baseline { image: r.image, host_class: r.host_class, cpu_share: (r.cpu_share * 100.0).round() / 100.0, note: r.note },
        created_by: r.created_by,
        created_at: r.created_at,
    });
    Ok(stored.collect())
}

/// All baselines, by class and image.
pub async fn list(conn: &mut PgConnection) -> sqlx::Result<Vec<Stored>> {
    rows(conn, None).await
}

/// One baseline.
pub async fn find(conn: &mut PgConnection, id: i64) -> sqlx::Result<Option<Stored>> {
    Ok(rows(conn, Some(id)).await?.pop())
}

/// All baselines, as the worker applies them.
pub async fn all(conn: &mut PgConnection) -> sqlx::Result<Vec<Baseline>> {
    Ok(rows(conn, None).await?.into_iter().map(|s| s.body).collect())
}

async fn mark(conn: &mut PgConnection, host_class: &str, now: DateTime<Utc>) -> sqlx::Result<u64> {
    let scope = Scope { class: Some(host_class.to_owned()), ..Scope::default() };
    marks::in_scope(conn, &scope, Validity::default(), now).await
}

async fn existing(conn: &mut PgConnection, body: &Baseline) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!(
        "select baseline_id from baseline where lower(image) = lower($1) and lower(host_class) = lower($2)",
        body.image,
        body.host_class
    )
    .fetch_optional(conn)
    .await
}

/// Stores a baseline, in force at once for all event times. The error is the id of the one that has image and class already.
pub async fn create(conn: &mut PgConnection, body: Baseline, by: &Actor, now: DateTime<Utc>) -> anyhow::Result<Result<Stored, i64>> {
    let inserted = sqlx::query_scalar!(
        "insert into baseline (image, host_class, cpu_share, note, created_by, created_at, marked_at) values ($1, $2, $3, $4, $5, $6, $6)
         on conflict do nothing returning baseline_id",
        body.image.trim(),
        body.host_class.trim(),
        body.cpu_share as f32,
        body.note,
        by.name,
        now
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(id) = inserted else {
        return Ok(Err(existing(conn, &body).await?.unwrap_or_default()));
    };
    mark(conn, &body.host_class, now).await?;
    let stored = Stored { id, body, created_by: by.name.clone(), created_at: now };
    let deed = Deed { action: "baseline.create", object: &id.to_string(), before: None, after: Some(serde_json::to_value(&stored)?) };
    audit::append(conn, by, deed, now).await?;
    Ok(Ok(stored))
}

/// Replaces what a baseline says. The error is the id of another that has image and class already.
pub async fn edit(conn: &mut PgConnection, before: &Stored, body: Baseline, by: &Actor, now: DateTime<Utc>) -> anyhow::Result<Result<Stored, i64>> {
    if let Some(other) = existing(conn, &body).await?.filter(|id| *id != before.id) {
        return Ok(Err(other));
    }
    sqlx::query!(
        "update baseline set image = $2, host_class = $3, cpu_share = $4, note = $5, marked_at = $6 where baseline_id = $1",
        before.id,
        body.image,
        body.host_class,
        body.cpu_share as f32,
        body.note,
        now
    )
    .execute(&mut *conn)
    .await?;
    mark(conn, &before.body.host_class, now).await?;
    mark(conn, &body.host_class, now).await?;
    let after = Stored { body, ..before.clone() };
    let deed = Deed {
        action: "baseline.edit",
        object: &before.id.to_string(),
        before: Some(serde_json::to_value(before)?),
        after: Some(serde_json::to_value(&after)?),
    };
    audit::append(conn, by, deed, now).await?;
    Ok(Ok(after))
}

/// Takes a baseline back.
pub async fn remove(conn: &mut PgConnection, before: &Stored, by: &Actor, now: DateTime<Utc>) -> anyhow::Result<()> {
    sqlx::query!("delete from baseline where baseline_id = $1", before.id).execute(&mut *conn).await?;
    mark(conn, &before.body.host_class, now).await?;
    let deed = Deed { action: "baseline.remove", object: &before.id.to_string(), before: Some(serde_json::to_value(before)?), after: None };
    audit::append(conn, by, deed, now).await?;
    Ok(())
}
