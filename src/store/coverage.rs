//! What hosts sent lately, for the judgement in `model::coverage`.

use crate::model::coverage::Seen;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

/// One host with what it sent in the 24 hours before its latest event.
#[derive(Debug, Clone)]
pub struct HostSeen {
    /// Computer name.
    pub name: String,
    /// Class, if people said one.
    pub class: Option<String>,
    /// Tier, if people said one.
    pub tier: Option<i16>,
    /// Counts.
    pub seen: Seen,
}

/// Which hosts.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Exactly this name.
    pub name: Option<String>,
    /// Class.
    pub class: Option<String>,
    /// Names after this one.
    pub after: Option<String>,
    /// At most so many.
    pub limit: i64,
}

/// Hosts by name. Uses the key of `host_bucket`: one range of 288 rows per host.
pub async fn hosts(conn: &mut PgConnection, filter: &Filter) -> sqlx::Result<Vec<HostSeen>> {
    let rows = sqlx::query!(
        r#"with listed as (
             select host_id, name, class, tier, first_seen, last_seen from host
             where kind = 'computer' and ($1::text is null or name = $1) and ($2::text is null or class = $2)
               and ($3::text is null or name > $3)
             order by name, host_id limit $4
           )
           select l.name, l.class, l.tier, l.first_seen, l.last_seen,
             count(b.bucket) as "alive!",
             count(b.bucket) filter (where b.cpu_samples > 0) as "with_cpu!",
             max(b.bucket) filter (where b.cpu_samples > 0) as cpu_at,
             count(b.host_share) as "with_host_cpu!",
             coalesce(sum(b.starts), 0) as "starts!",
             max(b.bucket) filter (where b.starts > 0) as starts_at,
             coalesce(sum(b.starts_with_command), 0) as "starts_with_command!",
             coalesce(sum(b.starts_with_parent), 0) as "starts_with_parent!",
             coalesce(sum(b.starts_with_metadata), 0) as "starts_with_metadata!",
             coalesce(sum(b.connections), 0) as "connections!",
             coalesce(sum(b.flows), 0) as "flows!",
             max(b.bucket) filter (where b.connections + b.flows > 0) as network_at,
             coalesce(sum(b.dns), 0) as "dns!",
             coalesce(sum(b.scripts), 0) as "scripts!",
             coalesce(sum(b.tasks), 0) as "tasks!"
           from listed l
           left join host_bucket b on b.host_id = l.host_id and b.bucket > l.last_seen - interval '24 hours' and b.bucket <= l.last_seen
             and b.events > 0
           group by l.host_id, l.name, l.class, l.tier, l.first_seen, l.last_seen
           order by l.name, l.host_id"#,
        filter.name,
        filter.class,
        filter.after,
        filter.limit
    )
    .fetch_all(conn)
    .await?;
    let hosts = rows.into_iter().map(|r| HostSeen {
        name: r.name,
        class: r.class,
        tier: r.tier,
        seen: Seen {
            first_seen: r.first_seen,
            last_seen: r.last_seen,
            alive: r.alive,
            with_cpu: r.with_cpu,
            cpu_at: r.cpu_at,
            with_host_cpu: r.with_host_cpu,
            starts: r.starts,
            starts_at: r.starts_at,
            starts_with_command: r.starts_with_command,
            starts_with_parent: r.starts_with_parent,
            starts_with_metadata: r.starts_with_metadata,
            connections: r.connections,
            flows: r.flows,
            network_at: r.network_at,
            dns: r.dns,
            scripts: r.scripts,
            tasks: r.tasks,
        },
    });
    Ok(hosts.collect())
}

/// Evidence of a host that no detection rests on yet.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trace {
    /// Group it is true for.
    #[serde(skip)]
    pub group_key: i64,
    /// Catalogue code.
    pub code: String,
    /// Points of the variant.
    pub points: f64,
    /// Whether it is hard.
    pub hard: bool,
    /// One sentence.
    pub summary: String,
    /// Event time.
    pub first_seen: DateTime<Utc>,
    /// Event time.
    pub last_seen: DateTime<Utc>,
}

/// Evidence of a host since an instant, most points first.
pub async fn traces(conn: &mut PgConnection, host_id: i64, since: DateTime<Utc>) -> sqlx::Result<Vec<Trace>> {
    sqlx::query_as!(
        Trace,
        r#"select group_key, code, points::float8 as "points!", force = 'hard' as "hard!", summary, first_seen, last_seen from evidence
           where host_id = $1 and last_seen >= $2 order by points desc, code, first_seen limit 200"#,
        host_id,
        since
    )
    .fetch_all(conn)
    .await
}
