//! Who talks where: connections of a group, and destinations of the fleet.

use crate::model::ids::{HostId, ProcessId};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

/// One connection.
#[derive(Debug, Clone)]
pub struct Flow {
    /// Begin.
    pub started_at: DateTime<Utc>,
    /// End, where a source with durations saw it.
    pub ended_at: Option<DateTime<Utc>>,
    /// Process, if known.
    pub process: Option<ProcessId>,
    /// Name if known, else address.
    pub destination: String,
    /// Address.
    pub ip: Option<String>,
    /// Port.
    pub port: Option<i32>,
    /// Both directions.
    pub bytes: Option<i64>,
    /// Event behind it.
    pub event: crate::model::ids::EventRef,
}

impl Flow {
    /// How long it was held, where that is known.
    pub fn held(&self) -> Option<TimeDelta> {
        self.ended_at.map(|end| end - self.started_at)
    }
}

/// Connections of some groups in a span, by start, at most 500.
pub async fn of_groups(
    conn: &mut PgConnection,
    host: HostId,
    groups: &[i64],
    since: DateTime<Utc>,
    until: DateTime<Utc>,
) -> sqlx::Result<Vec<Flow>> {
    let rows = sqlx::query!(
        r#"select started_at, ended_at, process_id, destination, host(remote_ip) as ip, remote_port, event_at, event_id,
             case when bytes_out is null and bytes_in is null then null else coalesce(bytes_out, 0) + coalesce(bytes_in, 0) end as bytes
           from flow
           where host_id = $1 and group_key = any($2) and started_at < $4
             and (started_at >= $3 or ended_at >= $3 and started_at >= $3 - interval '7 days')
           order by started_at, flow_id limit 500"#,
        host.0,
        groups,
        since,
        until
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|r| Flow {
            started_at: r.started_at,
            ended_at: r.ended_at,
            process: r.process_id.map(|own| ProcessId { host, own }),
            destination: r.destination,
            ip: r.ip,
            port: r.remote_port,
            bytes: r.bytes,
            event: crate::model::ids::EventRef { host, at: r.event_at, id: crate::model::ids::EventId(r.event_id) },
        })
        .collect())
}

/// Which destinations.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Part of the name or address.
    pub q: Option<String>,
    /// Of this host.
    pub host: Option<String>,
    /// Port.
    pub port: Option<i32>,
    /// Most hosts that talk to it.
    pub rare: Option<i64>,
    /// Only what is on a list.
    pub listed: bool,
    /// Event time; a week before the latest event by default.
    pub since: Option<DateTime<Utc>>,
    /// Event time.
    pub until: Option<DateTime<Utc>>,
}

/// One far end of the fleet's external connections.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Destination {
    /// Name if known, else address.
    pub destination: String,
    /// An address seen for it.
    pub ip: Option<String>,
    /// Port.
    pub port: Option<i32>,
    /// First connection in the span.
    pub first_seen: DateTime<Utc>,
    /// Last sign of one.
    pub last_seen: DateTime<Utc>,
    /// Hosts that talked to it in the span.
    pub hosts: i64,
    /// One of them.
    pub example_host: String,
    /// Connections.
    pub connections: i64,
    /// Both directions; absent = no source counts bytes.
    pub bytes: Option<i64>,
    /// Longest connection in seconds, where durations are known.
    pub longest_seconds: Option<f64>,
    /// Share of the hosts that report, 0 to 1.
    pub prevalence: f64,
    /// Category of an indicator that matches.
    pub indicator: Option<String>,
}

impl Destination {
    /// Longest connection.
    pub fn longest(&self) -> Option<TimeDelta> {
        #[expect(clippy::cast_possible_truncation, reason = "seconds of a connection")]
        self.longest_seconds.map(|s| TimeDelta::seconds(s as i64))
    }
}

/// External destinations in a span of event time: long-lived and rare first, at most `limit`.
pub async fn destinations(conn: &mut PgConnection, filter: &Filter, limit: i64) -> sqlx::Result<Vec<Destination>> {
    let until = match filter.until {
        Some(until) => Some(until),
        None => sqlx::query_scalar!("select max(last_seen) from host").fetch_one(&mut *conn).await?,
    };
    let Some(until) = until else { return Ok(Vec::new()) };
    let since = filter.since.unwrap_or(until - TimeDelta::days(7));
    let pattern = filter.q.as_ref().map(|q| format!("%{}%", q.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_").replace('*', "%")));
    sqlx::query_as!(
        Destination,
        r#"with reporting as (
             select greatest(count(*), 1) as hosts from host where kind = 'computer'
           ), seen as (
             select f.destination, f.remote_port as port, min(host(f.remote_ip)) as ip, min(f.started_at) as first_seen,
               max(coalesce(f.ended_at, f.started_at)) as last_seen, count(distinct f.host_id) as hosts, min(h.name) as example_host,
               count(*) as connections, sum(f.bytes_out)::bigint as bytes_out, sum(f.bytes_in)::bigint as bytes_in,
               extract(epoch from max(f.ended_at - f.started_at))::float8 as longest_seconds
             from flow f join host h using (host_id)
             where f.external and f.started_at >= $1 and f.started_at <= $2
               and ($3::text is null or f.destination ilike $3 or host(f.remote_ip) like $3)
               and ($4::text is null or h.name = $4 or split_part(h.name, '.', 1) = $4)
               and ($5::integer is null or f.remote_port = $5)
             group by f.destination, f.remote_port
           ), matched as (
             select s.*, (
               select i.category from indicator i
               where (i.port is null or i.port = s.port) and case i.kind
                 when 'ip' then i.value = s.ip
                 when 'cidr' then s.ip is not null and s.ip::inet <<= i.value::inet
                 else s.destination = i.value or right(s.destination, length(i.value) + 1) = '.' || i.value end
               order by i.category limit 1) as indicator
             from seen s
           )
           select m.destination as "destination!", m.ip, m.port, m.first_seen as "first_seen!", m.last_seen as "last_seen!",
             m.hosts as "hosts!", m.example_host as "example_host!", m.connections as "connections!",
             case when m.bytes_out is null and m.bytes_in is null then null else coalesce(m.bytes_out, 0) + coalesce(m.bytes_in, 0) end as bytes,
             m.longest_seconds, (m.hosts::float8 / r.hosts) as "prevalence!", m.indicator
           from matched m, reporting r
           where ($6::bigint is null or m.hosts <= $6) and (not $7 or m.indicator is not null)
           order by (m.indicator is not null) desc, coalesce(m.longest_seconds, 0) / m.hosts desc, m.hosts, m.destination, m.port
           limit $8"#,
        since,
        until,
        pattern,
        filter.host.as_ref().map(|h| h.to_lowercase()),
        filter.port,
        filter.rare,
        filter.listed,
        limit
    )
    .fetch_all(conn)
    .await
}

/// How far the fleet knows a thing (`image` or `destination`) up to a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// What was looked for.
    pub value: String,
    /// Hosts that had it in the 30 days before.
    pub hosts: i64,
    /// First day of all.
    pub first: Option<chrono::NaiveDate>,
}

/// Prevalence of values of one kind in the 30 days up to `at`.
pub async fn sightings(conn: &mut PgConnection, kind: &str, values: &[String], at: DateTime<Utc>) -> sqlx::Result<Vec<Sighting>> {
    sqlx::query_as!(
        Sighting,
        r#"select v.value as "value!", count(distinct s.host_id) filter (where s.day > $3::date - 30) as "hosts!", min(s.day) as first
           from unnest($2::text[]) v(value) left join fleet_sighting s on s.kind = $1 and s.value = v.value and s.day <= $3::date
           group by v.value order by v.value"#,
        kind,
        values,
        at.date_naive()
    )
    .fetch_all(conn)
    .await
}
