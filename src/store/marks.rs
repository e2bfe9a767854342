//! Marks: "this host's bucket has something not yet evaluated". Insert-only; the worker deletes by key what it has evaluated.
//!
//! A change of configuration marks here what it may concern. One mark per detection or piece of evidence is enough: the worker
//! widens its spans itself.

use crate::{
    model::{exceptions::Scope, ids::HostId},
    time::bucket,
};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;

/// A number of its own for each batch: a mark set while a pass runs is not deleted by that pass.
pub(super) fn batch() -> i64 {
    rand::random::<i64>() & i64::MAX
}

/// Marks the buckets that hold these instants.
pub async fn add(conn: &mut PgConnection, marks: &[(HostId, DateTime<Utc>)], now: DateTime<Utc>) -> sqlx::Result<u64> {
    let (hosts, buckets): (Vec<i64>, Vec<DateTime<Utc>>) = marks.iter().map(|(host, at)| (host.0, bucket(*at))).unzip();
    let done = sqlx::query!(
        "insert into mark (host_id, bucket, batch_id, marked_at)
         select distinct host_id, bucket, $3::bigint, $4::timestamptz from unnest($1::bigint[], $2::timestamptz[]) as m (host_id, bucket)
         order by host_id, bucket",
        &hosts,
        &buckets,
        batch(),
        now
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// A stretch of event time with open ends, as exceptions have it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Validity {
    /// First instant inside.
    pub since: Option<DateTime<Utc>>,
    /// First instant after.
    pub until: Option<DateTime<Utc>>,
}

/// Marks where detections and evidence of these hosts begin and end, as far as they overlap the validity.
pub async fn affected(conn: &mut PgConnection, hosts: &[HostId], validity: Validity, now: DateTime<Utc>) -> sqlx::Result<u64> {
    let hosts: Vec<i64> = hosts.iter().map(|h| h.0).collect();
    let done = sqlx::query!(
        "with concerned as (
           select host_id, first_seen, last_seen from detection where host_id = any($1)
           union all
           select host_id, first_seen, last_seen from evidence where host_id = any($1)
         ), ends as (
           select host_id, unnest(array[first_seen, last_seen]) as at from concerned
           where last_seen >= coalesce($2, '-infinity'::timestamptz) and first_seen < coalesce($3, 'infinity'::timestamptz)
         )
         insert into mark (host_id, bucket, batch_id, marked_at)
         select distinct host_id, date_bin('5 minutes', at, '2000-01-01 00:00:00+00'), $4::bigint, $5::timestamptz from ends",
        &hosts,
        validity.since,
        validity.until,
        batch(),
        now
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// The same for all hosts of a scope.
pub async fn in_scope(conn: &mut PgConnection, scope: &Scope, validity: Validity, now: DateTime<Utc>) -> sqlx::Result<u64> {
    let hosts = super::hosts::in_scope(conn, scope).await?;
    affected(conn, &hosts, validity, now).await
}

/// Marks where hosts met an address, a network or a name (or one below it).
pub async fn met(conn: &mut PgConnection, kind: &str, value: &str, now: DateTime<Utc>) -> sqlx::Result<u64> {
    let network = (kind != "domain").then(|| value.parse::<sqlx::types::ipnetwork::IpNetwork>().ok()).flatten();
    let name = (kind == "domain").then_some(value);
    // `_` and `%` are no wildcards in a domain name.
    let below = name.map(|n| format!("%.{}", n.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")));
    let done = sqlx::query!(
        "with met as (
           select host_id, unnest(array[started_at, coalesce(ended_at, started_at)]) as at from flow
           where remote_ip <<= $1::inet or lower(remote_host) = $2 or lower(remote_host) like $3
           union all
           select host_id, occurred_at from dns_query
           where lower(query) = $2 or lower(query) like $3
              or exists (select from unnest(aliases) as a where lower(a) = $2 or lower(a) like $3)
              or exists (select from unnest(addresses) as a where a <<= $1::inet)
         )
         insert into mark (host_id, bucket, batch_id, marked_at)
         select distinct host_id, date_bin('5 minutes', at, '2000-01-01 00:00:00+00'), $4::bigint, $5::timestamptz from met",
        network,
        name,
        below,
        batch(),
        now
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
