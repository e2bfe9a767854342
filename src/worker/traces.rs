//! What rules saw on hosts with evidence that only counts beside it: tampering, alerts, drivers, foreign libraries, and who looked at
//! the processes. One query each for all hosts of a pass; which program a trace is linked to is judged in `analytics::context`.

use super::spans::Spans;
use crate::{
    analytics::case::{Dark, Memory, Trace, Watched},
    model::{
        code::{Class, Code},
        ids::{EventId, EventRef, HostId, ProcessGuid},
    },
};
use sqlx::PgConnection;
use std::collections::HashMap;

/// What is known of one host beside its evidence.
#[derive(Debug, Default)]
pub(super) struct Beside {
    pub(super) traces: Vec<Trace>,
    pub(super) watched: Vec<Watched>,
    pub(super) dark: Vec<Dark>,
    pub(super) memory: Vec<Memory>,
}

/// The same by host.
#[derive(Debug, Default)]
pub(super) struct Traces(HashMap<i64, Beside>);

impl Traces {
    /// Of one host; none if nothing is known.
    pub(super) fn of(&self, host: i64) -> Option<&Beside> {
        self.0.get(&host)
    }
}

/// Codes whose rules are linked to a program by judgement, not by the event's own process.
pub(super) fn linked() -> impl Iterator<Item = Code> {
    Code::ALL.iter().copied().filter(|c| c.class() == Class::A || *c == Code::MSideload)
}

/// Traces of the hosts that have evidence in the spans, up to 45 days before it.
pub(super) async fn load(db: &mut PgConnection, spans: &Spans, hashes: &[Vec<u8>]) -> anyhow::Result<Traces> {
    let mut out = Traces::default();
    hits(db, spans, hashes, &mut out).await?;
    watched(db, spans, &mut out).await?;
    dark(db, spans, &mut out).await?;
    memory(db, spans, &mut out).await?;
    Ok(out)
}

async fn hits(db: &mut PgConnection, spans: &Spans, hashes: &[Vec<u8>], out: &mut Traces) -> anyhow::Result<()> {
    let a = spans.arrays();
    let codes: Vec<&str> = linked().map(Code::name).collect();
    let rows = sqlx::query!(
        r#"-- worker::traces::hits: what current rules said, with the texts that tell what it is about
        with concerned as materialized (
          select e.host_id, min(e.first_seen) - interval '45 days' as since, max(greatest(e.last_seen, e.known_at)) + interval '1 hour' as until
          from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
          join evidence e on e.host_id = s.host_id and e.last_seen >= s.since - interval '1 hour' and e.first_seen < s.until + interval '1 hour'
          group by 1
        )
        select h.host_id, h.occurred_at, h.event_id as "event_id: EventId", h.rule_id, h.code, h.points, h.force, h.excerpt,
          h.guid as "guid: ProcessGuid", h.pid, s.user_name as "user_name?",
          concat_ws(E'\n', a.path, a.process, s.name, s.new_value, m.path, r.name, r.command, r.arguments, p.command_line, t.text, t.command_line) as "text!"
        from concerned c join rule_hit h on h.host_id = c.host_id and h.occurred_at >= c.since and h.occurred_at < c.until
        left join security_alert a on h.fact = 'security_alert' and (a.host_id, a.occurred_at, a.event_id) = (h.host_id, h.occurred_at, h.event_id)
        left join setting_change s on h.fact = 'setting_change' and (s.host_id, s.occurred_at, s.event_id) = (h.host_id, h.occurred_at, h.event_id)
        left join module_load m on h.fact = 'module_load' and (m.host_id, m.occurred_at, m.event_id) = (h.host_id, h.occurred_at, h.event_id)
        left join persistence r on h.fact = 'persistence' and (r.host_id, r.occurred_at, r.event_id) = (h.host_id, h.occurred_at, h.event_id)
        left join process_start p on h.fact = 'process_start' and (p.host_id, p.occurred_at, p.event_id) = (h.host_id, h.occurred_at, h.event_id)
        left join script t on h.fact = 'script' and (t.host_id, t.occurred_at, t.event_id) = (h.host_id, h.occurred_at, h.event_id)
        where h.code = any($4) and h.rule_hash = any($5)
        order by h.host_id, h.occurred_at, h.event_id, h.rule_id"#,
        &a.hosts,
        &a.since,
        &a.until,
        &codes as &[&str],
        hashes
    )
    .fetch_all(db)
    .await?;
    for r in rows {
        out.0.entry(r.host_id).or_default().traces.push(Trace {
            code: r.code.parse()?,
            points: f64::from(r.points),
            force: r.force.parse()?,
            rule: r.rule_id,
            at: r.occurred_at,
            guid: r.guid.map(|g| g.0.to_string()),
            pid: r.pid,
            user: r.user_name,
            text: r.text.to_lowercase(),
            excerpt: r.excerpt,
            event: EventRef { host: HostId(r.host_id), at: r.occurred_at, id: r.event_id },
        });
    }
    Ok(())
}

async fn watched(db: &mut PgConnection, spans: &Spans, out: &mut Traces) -> sqlx::Result<()> {
    let a = spans.arrays();
    let rows = sqlx::query!(
        r#"-- worker::traces::watched: when somebody looked at the processes
        with concerned as materialized (
          select e.host_id, min(e.first_seen) - interval '14 days' as since, max(e.last_seen) + interval '1 hour' as until
          from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
          join evidence e on e.host_id = s.host_id and e.last_seen >= s.since - interval '1 hour' and e.first_seen < s.until + interval '1 hour'
          group by 1
        )
        select p.host_id, p.started_at, coalesce(p.ended_at, p.last_sign) as "ended_at!", p.image_name as "name!", p.event_at, p.event_id as "event_id: EventId"
        from concerned c join process p on p.host_id = c.host_id and p.started_at >= c.since and p.started_at < c.until
        where p.image_name in ('taskmgr.exe', 'procexp.exe', 'procexp64.exe', 'procmon.exe', 'procmon64.exe', 'perfmon.exe', 'resmon.exe')
        order by p.host_id, p.started_at, p.process_id"#,
        &a.hosts,
        &a.since,
        &a.until
    )
    .fetch_all(db)
    .await?;
    for r in rows {
        let event = r.event_at.zip(r.event_id).map(|(at, id)| EventRef { host: HostId(r.host_id), at, id });
        out.0.entry(r.host_id).or_default().watched.push(Watched { since: r.started_at, until: r.ended_at, by: r.name, event });
    }
    Ok(())
}

/// When hosts with load said nothing of processes and scripts for an hour in which, at their own pace, they would have said a dozen
/// things, while something else of them went on.
async fn dark(db: &mut PgConnection, spans: &Spans, out: &mut Traces) -> sqlx::Result<()> {
    let a = spans.arrays();
    let rows = sqlx::query!(
        r#"-- worker::traces::dark
        with load as materialized (
          select distinct e.host_id, date_bin('5 minutes', e.first_seen, 'epoch') as at
          from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
          join evidence e on e.host_id = s.host_id and e.last_seen >= s.since - interval '1 hour' and e.first_seen < s.until + interval '1 hour'
          where e.code like 'R.%'
        ),
        bucket as (
          select l.host_id, l.at, b.bucket, b.starts + b.scripts as seen, 12 * avg(b.starts + b.scripts) over (partition by l.host_id, l.at) as hourly
          from load l join host_bucket b on b.host_id = l.host_id and b.bucket >= l.at - interval '24 hours' and b.bucket < l.at + interval '4 hours'
          where b.events > 0
        ),
        island as (
          -- silent buckets in an unbroken row have one difference of place and time
          select *, bucket - row_number() over (partition by host_id, at order by bucket) * interval '5 minutes' as n from bucket where seen = 0
        )
        select distinct host_id as "host_id!", min(bucket) as "since!", max(bucket) + interval '5 minutes' as "until!", hourly::float8 as "hourly!"
        from island group by host_id, at, n, hourly
        having count(*) >= 12 and hourly >= 12 and min(bucket) <= at + interval '1 hour' and max(bucket) >= at - interval '1 hour'
        order by 1, 2"#,
        &a.hosts,
        &a.since,
        &a.until
    )
    .fetch_all(db)
    .await?;
    for r in rows {
        out.0.entry(r.host_id).or_default().dark.push(Dark { since: r.since, until: r.until, hourly: r.hourly });
    }
    Ok(())
}

/// How much memory the busiest process of each run had in its first hour, and whether that stayed within 5 percent.
async fn memory(db: &mut PgConnection, spans: &Spans, out: &mut Traces) -> sqlx::Result<()> {
    let a = spans.arrays();
    let rows = sqlx::query!(
        r#"-- worker::traces::memory
        select e.host_id, e.process_id as "process!", e.first_seen as "since!", avg(c.rss_bytes)::float8 as "bytes!", max(c.occurred_at) as "until!"
        from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
        join evidence e on e.host_id = s.host_id and e.last_seen >= s.since - interval '1 hour' and e.first_seen < s.until + interval '1 hour'
        join process p on p.host_id = e.host_id and p.process_id = e.process_id
        join cpu_sample c on c.host_id = e.host_id and c.pid = p.pid
          and c.occurred_at >= e.first_seen + interval '5 minutes' and c.occurred_at < e.first_seen + interval '70 minutes'
        where e.code in ('R.PERSISTENT', 'R.THROTTLED') and c.rss_bytes > 0
        group by 1, 2, 3
        having max(c.rss_bytes) <= 1.05 * avg(c.rss_bytes) and min(c.rss_bytes) >= 0.95 * avg(c.rss_bytes)
          and max(c.occurred_at) - min(c.occurred_at) >= interval '60 minutes'
        order by 1, 2, 3"#,
        &a.hosts,
        &a.since,
        &a.until
    )
    .fetch_all(db)
    .await?;
    for r in rows {
        out.0.entry(r.host_id).or_default().memory.push(Memory { process: r.process, since: r.since, until: r.until, bytes: r.bytes });
    }
    Ok(())
}
