//! Hosts as the list and the page of a host show them: what they sent in the last day of their own event time.

use crate::model::ids::{HostId, ProcessId};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;

/// Which hosts.
#[derive(Debug, Clone, Default)]
pub struct HostFilter {
    /// Part of the name.
    pub q: Option<String>,
    /// Class.
    pub class: Option<String>,
    /// One of its tags.
    pub tag: Option<String>,
    /// 1 to 4.
    pub tier: Option<i16>,
    /// Names after this one.
    pub after: Option<String>,
}

/// A row of the list.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "columns of a row")]
pub struct HostRow {
    /// Name.
    pub name: String,
    /// 1 to 4.
    pub tier: Option<i16>,
    /// What it does.
    pub role: Option<String>,
    /// Class for baselines.
    pub class: Option<String>,
    /// Labels.
    pub tags: Vec<String>,
    /// Latest event time.
    pub last_seen: Option<DateTime<Utc>>,
    /// Open detections of the queue's verdicts.
    pub open: i64,
    /// What its telemetry of the last day could show.
    pub sees_load: bool,
    /// Command lines.
    pub sees_commands: bool,
    /// Connections with a process.
    pub sees_network: bool,
    /// How long connections last.
    pub sees_durations: bool,
    /// Scheduled tasks or scripts.
    pub sees_launches: bool,
}

/// Hosts by name.
pub async fn hosts(conn: &mut PgConnection, filter: &HostFilter, limit: i64) -> sqlx::Result<Vec<HostRow>> {
    sqlx::query_as!(
        HostRow,
        r#"with page as (
             select host_id, name, tier, role, class, tags, last_seen from host
             where kind <> 'none' and ($1::text is null or strpos(name, lower($1)) > 0) and ($2::text is null or class = $2)
               and ($3::text is null or $3 = any(tags)) and ($4::smallint is null or tier = $4) and ($5::text is null or name > $5)
             order by name, host_id limit $6
           )
           select p.name as "name!", p.tier, p.role, p.class, p.tags as "tags!", p.last_seen,
             (select count(*) from detection d where d.host_id = p.host_id and d.status <> 'closed'
                and d.verdict in ('alert', 'partial', 'early_warning')) as "open!",
             coalesce(b.load, false) as "sees_load!", coalesce(b.commands, false) as "sees_commands!",
             coalesce(b.network, false) as "sees_network!", coalesce(b.durations, false) as "sees_durations!",
             coalesce(b.launches, false) as "sees_launches!"
           from page p left join lateral (
             select bool_or(cpu_samples > 0) as load, bool_or(starts_with_command > 0) as commands, bool_or(connections > 0) as network,
               bool_or(flows > 0) as durations, bool_or(tasks > 0 or scripts > 0) as launches
             from host_bucket b where b.host_id = p.host_id and b.bucket > p.last_seen - interval '1 day' and b.bucket <= p.last_seen
           ) b on true
           order by p.name, p.host_id"#,
        filter.q,
        filter.class,
        filter.tag,
        filter.tier,
        filter.after,
        limit
    )
    .fetch_all(conn)
    .await
}

/// What a host sent in the last day of its event time, in five-minute buckets.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    /// Buckets with anything.
    pub buckets: i64,
    /// Events.
    pub events: i64,
    /// Buckets with samples of processes.
    pub load: i64,
    /// Process starts, and those with a command line, a parent, and version data.
    pub starts: i64,
    /// See `starts`.
    pub commands: i64,
    /// See `starts`.
    pub parents: i64,
    /// See `starts`.
    pub metadata: i64,
    /// Connections with a process.
    pub connections: i64,
    /// Connections with a duration.
    pub durations: i64,
    /// Names looked up.
    pub dns: i64,
    /// Script texts.
    pub scripts: i64,
    /// Scheduled tasks.
    pub tasks: i64,
}

impl Coverage {
    /// Kind of telemetry, how much of it came, and what stays invisible without.
    pub fn lines(&self) -> [(&'static str, i64, &'static str); 9] {
        [
            ("CPU of processes, five-minute buckets", self.load, "R: load cannot be judged"),
            ("Process starts", self.starts, "C, L, M: nothing about what runs"),
            ("… with command line", self.commands, "C: command lines"),
            ("… with parent", self.parents, "L: who started it"),
            ("… with version data", self.metadata, "M: renamed binaries"),
            ("Connections with a process", self.connections, "N: who talks to a pool"),
            ("Connections with a duration", self.durations, "P: held connections"),
            ("Names looked up", self.dns, "N: pool names"),
            ("Scripts and scheduled tasks", self.scripts + self.tasks, "L: what launched it"),
        ]
    }
}

/// Coverage of a host; `None` before its first event.
pub async fn coverage(conn: &mut PgConnection, host: HostId) -> sqlx::Result<Option<Coverage>> {
    sqlx::query_as!(
        Coverage,
        r#"select count(*) as "buckets!", coalesce(sum(b.events), 0) as "events!", count(*) filter (where b.cpu_samples > 0) as "load!",
             coalesce(sum(b.starts), 0) as "starts!", coalesce(sum(b.starts_with_command), 0) as "commands!",
             coalesce(sum(b.starts_with_parent), 0) as "parents!", coalesce(sum(b.starts_with_metadata), 0) as "metadata!",
             coalesce(sum(b.connections), 0) as "connections!", coalesce(sum(b.flows), 0) as "durations!", coalesce(sum(b.dns), 0) as "dns!",
             coalesce(sum(b.scripts), 0) as "scripts!", coalesce(sum(b.tasks), 0) as "tasks!"
           from host h join host_bucket b on b.host_id = h.host_id and b.bucket > h.last_seen - interval '1 day' and b.bucket <= h.last_seen
           where h.host_id = $1 having count(*) > 0"#,
        host.0
    )
    .fetch_optional(conn)
    .await
}

/// A group that was busy.
#[derive(Debug, Clone)]
pub struct Busy {
    /// An instance of it.
    pub process: Option<ProcessId>,
    /// Its path.
    pub image: Option<String>,
    /// Mean percent of the host where it was sampled.
    pub share: f32,
    /// Highest mean of a bucket.
    pub peak: f32,
    /// Hours it was sampled.
    pub hours: f64,
}

/// Busiest groups of the last day, by processor time.
pub async fn busiest(conn: &mut PgConnection, host: HostId) -> sqlx::Result<Vec<Busy>> {
    let rows = sqlx::query!(
        r#"select max(c.process_id) as process_id, (select max(p.image) from process p where p.host_id = $1 and p.process_id = max(c.process_id)) as image,
             avg(c.share)::real as "share!", max(c.share)::real as "peak!", (sum(c.covered_seconds) / 3600)::float8 as "hours!"
           from host h join cpu_bucket c on c.host_id = h.host_id and c.bucket > h.last_seen - interval '1 day' and c.bucket <= h.last_seen
           where h.host_id = $1 and c.share is not null
           group by c.group_key order by sum(c.share * c.covered_seconds) desc limit 8"#,
        host.0
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|r| Busy { process: r.process_id.map(|own| ProcessId { host, own }), image: r.image, share: r.share, peak: r.peak, hours: r.hours })
        .collect())
}
