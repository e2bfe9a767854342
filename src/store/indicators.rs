//! Indicators: the addresses, networks and names of `DestinationIPList`.

use super::{
    audit::{self, Actor, Deed},
    marks,
};
use crate::model::{
    exceptions::Indicator,
    ids::as_text,
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

/// An indicator as it is stored and served.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stored {
    /// Its number.
    #[serde(serialize_with = "as_text")]
    pub id: i64,
    /// What was written, category and confidence filled in.
    #[serde(flatten)]
    pub body: Indicator,
    /// Author.
    pub created_by: String,
    /// Wall clock.
    pub created_at: DateTime<Utc>,
}

/// Which indicators to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this one.
    pub id: Option<i64>,
    /// Part of the value.
    pub q: Option<String>,
    /// Numbers below this one.
    pub before: Option<i64>,
    /// At most so many; absent = all.
    pub limit: Option<i64>,
}

/// Indicators, newest first.
pub async fn list(conn: &mut PgConnection, filter: &Filter) -> sqlx::Result<Vec<Stored>> {
    let rows = sqlx::query!(
        "select indicator_id, list, kind, category, value, port, confidence, source, first_seen, last_seen, expires_at, created_by, created_at
         from indicator
         where ($1::bigint is null or indicator_id = $1) and ($2::text is null or strpos(value, lower($2)) > 0)
           and ($3::bigint is null or indicator_id < $3)
         order by indicator_id desc limit $4",
        filter.id,
        filter.q,
        filter.before,
        filter.limit
    )
    .fetch_all(conn)
    .await?;
    let stored = rows.into_iter().map(|r| Stored {
        id: r.indicator_id,
        body: Indicator {
            list: r.list,
            kind: r.kind,
            category: Some(r.category),
            value: r.value,
            port: r.port,
            confidence: Some(r.confidence),
            source: r.source,
            first_seen: r.first_seen,
            last_seen: r.last_seen,
            expires_at: r.expires_at,
        },
        created_by: r.created_by,
        created_at: r.created_at,
    });
    Ok(stored.collect())
}

/// One indicator.
pub async fn find(conn: &mut PgConnection, id: i64) -> sqlx::Result<Option<Stored>> {
    Ok(list(conn, &Filter { id: Some(id), ..Filter::default() }).await?.pop())
}

/// All indicators, as the worker applies them.
pub async fn all(conn: &mut PgConnection) -> sqlx::Result<Vec<Indicator>> {
    Ok(list(conn, &Filter::default()).await?.into_iter().map(|s| s.body).collect())
}

async fn existing(conn: &mut PgConnection, body: &Indicator) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!(
        "select indicator_id from indicator where list = $1 and kind = $2 and value = $3 and coalesce(port, 0) = coalesce($4, 0)",
        body.list,
        body.kind,
        body.value,
        body.port
    )
    .fetch_optional(conn)
    .await
}

/// Stores a checked indicator. The error is the id of the one with the same list, kind, value and port.
pub async fn create(conn: &mut PgConnection, body: Indicator, by: &Actor, now: DateTime<Utc>) -> anyhow::Result<Result<Stored, i64>> {
    let inserted = sqlx::query_scalar!(
        "insert into indicator (list, kind, category, value, port, confidence, source, first_seen, last_seen, expires_at, created_by, created_at, marked_at)
         values ($1, $2, coalesce($3, 'pool'), $4, $5, coalesce($6, 'medium'), $7, $8, $9, $10, $11, $12, $12)
         on conflict do nothing returning indicator_id",
        body.list,
        body.kind,
        body.category,
        body.value,
        body.port,
        body.confidence,
        body.source,
        body.first_seen,
        body.last_seen,
        body.expires_at,
        by.name,
        now
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(id) = inserted else {
        return Ok(Err(existing(conn, &body).await?.unwrap_or_default()));
    };
    marks::met(conn, &body.kind, &body.value, now).await?;
    let stored = Stored { id, body: body.filled(), created_by: by.name.clone(), created_at: now };
    let deed = Deed { action: "indicator.create", object: &stored.body.value, before: None, after: Some(serde_json::to_value(&stored)?) };
    audit::append(conn, by, deed, now).await?;
    Ok(Ok(stored))
}

/// Replaces what an indicator says. The error is the id of another with the same list, kind, value and port.
pub async fn edit(conn: &mut PgConnection, before: &Stored, body: Indicator, by: &Actor, now: DateTime<Utc>) -> anyhow::Result<Result<Stored, i64>> {
    if let Some(other) = existing(conn, &body).await?.filter(|id| *id != before.id) {
        return Ok(Err(other));
    }
    sqlx::query!(
        "update indicator set list = $2, kind = $3, category = coalesce($4, 'pool'), value = $5, port = $6, confidence = coalesce($7, 'medium'),
           source = $8, first_seen = $9, last_seen = $10, expires_at = $11, marked_at = $12
         where indicator_id = $1",
        before.id,
        body.list,
        body.kind,
        body.category,
        body.value,
        body.port,
        body.confidence,
        body.source,
        body.first_seen,
        body.last_seen,
        body.expires_at,
        now
    )
    .execute(&mut *conn)
    .await?;
    marks::met(conn, &before.body.kind, &before.body.value, now).await?;
    marks::met(conn, &body.kind, &body.value, now).await?;
    let after = Stored { body: body.filled(), ..before.clone() };
    let deed = Deed {
        action: "indicator.edit",
        object: &before.body.value,
        before: Some(serde_json::to_value(before)?),
        after: Some(serde_json::to_value(&after)?),
    };
    audit::append(conn, by, deed, now).await?;
    Ok(Ok(after))
}

/// Takes an indicator off its list.
pub async fn remove(conn: &mut PgConnection, before: &Stored, by: &Actor, now: DateTime<Utc>) -> anyhow::Result<()> {
    sqlx::query!("delete from indicator where indicator_id = $1", before.id).execute(&mut *conn).await?;
    marks::met(conn, &before.body.kind, &before.body.value, now).await?;
    let deed = Deed { action: "indicator.remove", object: &before.body.value, before: Some(serde_json::to_value(before)?), after: None };
    audit::append(conn, by, deed, now).await?;
    Ok(())
}
