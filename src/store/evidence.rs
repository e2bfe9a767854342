//! Evidence that finders found: replaced per span, so that the table equals what the facts say, in whatever order they came.

use crate::model::{
    code::{Code, Force},
    ids::{EventRef, HostId},
};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;

/// One code true for one group over one stretch of event time.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The host.
    pub host: HostId,
    /// The group; 0 = not attributed to a process.
    pub group: i64,
    /// What was found.
    pub code: Code,
    /// Destination, rule and process or the like; empty where the code needs none.
    pub subject: String,
    /// Start of what it describes.
    pub first_seen: DateTime<Utc>,
    /// End of what it describes.
    pub last_seen: DateTime<Utc>,
    /// When its rule was first satisfied, event time.
    pub known_at: DateTime<Utc>,
    /// Points of the variant.
    pub points: f64,
    /// Force of the variant.
    pub force: Force,
    /// The owning process, if one.
    pub process: Option<i64>,
    /// One sentence with value and threshold.
    pub summary: String,
    /// Rule that matched, if one did.
    pub rule: Option<String>,
    /// Raw events that prove it.
    pub events: Vec<EventRef>,
}

/// Which stored rows a finder speaks for: those of its codes that lie in the spans by this measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// `[first_seen, last_seen]` shares an instant with a span.
    Overlap,
    /// `first_seen` lies in a span.
    First,
    /// `known_at` lies in a span.
    Known,
}

/// Makes the rows of `codes` in the domain equal to `found`.
///
/// # Errors
/// Whatever the database says.
pub async fn replace(
    db: &mut PgConnection,
    codes: &[&str],
    domain: Domain,
    spans: (&[i64], &[DateTime<Utc>], &[DateTime<Utc>]),
    found: &[&Found],
) -> sqlx::Result<()> {
    macro_rules! column { ($f:expr) => { found.iter().map($f).collect::<Vec<_>>() } }
    let hosts = column!(|f| f.host.0);
    let groups = column!(|f| f.group);
    let names = column!(|f| f.code.name());
    let subjects = column!(|f| f.subject.as_str());
    let first = column!(|f| f.first_seen);
    sqlx::query!(
        "-- store::evidence::replace: what is no longer found
        delete from evidence e
        using unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
        where e.host_id = s.host_id and e.code = any($4)
          and case $5::text
            when 'overlap' then e.first_seen < s.until and e.last_seen >= s.since
            when 'first' then e.first_seen >= s.since and e.first_seen < s.until
            else e.known_at >= s.since and e.known_at < s.until end
          and not exists (
            select from unnest($6::bigint[], $7::bigint[], $8::text[], $9::text[], $10::timestamptz[]) as k (host_id, group_key, code, subject, first_seen)
            where k.host_id = e.host_id and k.group_key = e.group_key and k.code = e.code and k.subject = e.subject and k.first_seen = e.first_seen)",
        spans.0,
        spans.1,
        spans.2,
        codes as &[&str],
        match domain {
            Domain::Overlap => "overlap",
            Domain::First => "first",
            Domain::Known => "known",
        },
        &hosts,
        &groups,
        &names as &[&str],
        &subjects as &[&str],
        &first
    )
    .execute(&mut *db)
    .await?;
    // `events` is a list per row: joined with blanks, since unnest takes no ragged arrays.
    let events: Vec<String> =
        column!(|f| f.events.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    sqlx::query!(
        "-- store::evidence::replace: what is found
        insert into evidence (host_id, group_key, code, subject, first_seen, last_seen, known_at, points, force, process_id, summary, rule, events)
        with found as (
          select host_id, group_key, code, subject, first_seen, last_seen, known_at, points, force, process_id, summary, rule,
            string_to_array(events, ' ') as events
          from unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::timestamptz[], $8::real[],
            $9::text[], $10::bigint[], $11::text[], $12::text[], $13::text[])
            as f (host_id, group_key, code, subject, first_seen, last_seen, known_at, points, force, process_id, summary, rule, events)
        ), all_found as (
          select * from found
          union all
          -- A rule that spoke of a process before the spans under evaluation is not forgotten because it speaks of it again.
          select e.host_id, e.group_key, e.code, e.subject, e.first_seen, e.last_seen, e.known_at, e.points, e.force, e.process_id, e.summary,
            e.rule, e.events
          from (select distinct host_id, group_key, code, subject, first_seen from found) f
          join evidence e using (host_id, group_key, code, subject, first_seen)
          where $14 and not exists (
            select from unnest($15::bigint[], $16::timestamptz[], $17::timestamptz[]) as s (host_id, since, until)
            where e.host_id = s.host_id and e.known_at >= s.since and e.known_at < s.until)
        )
        select distinct on (host_id, group_key, code, subject, first_seen) host_id, group_key, code, subject, first_seen,
          max(last_seen) over (partition by host_id, group_key, code, subject, first_seen), known_at, points, force, process_id, summary, rule, events
        from all_found
        order by host_id, group_key, code, subject, first_seen, known_at, last_seen desc, events
        on conflict (host_id, group_key, code, subject, first_seen) do update set
          last_seen = excluded.last_seen, known_at = excluded.known_at, points = excluded.points, force = excluded.force,
          process_id = excluded.process_id, summary = excluded.summary, rule = excluded.rule, events = excluded.events
        where (evidence.last_seen, evidence.known_at, evidence.points, evidence.process_id, evidence.summary, evidence.events)
          is distinct from (excluded.last_seen, excluded.known_at, excluded.points, excluded.process_id, excluded.summary, excluded.events)",
        &hosts,
        &groups,
        &names as &[&str],
        &subjects as &[&str],
        &first,
        &column!(|f| f.last_seen),
        &column!(|f| f.known_at),
        &column!(|f| f.points as f32),
        &column!(|f| f.force.as_str()) as &[&str],
        &column!(|f| f.process) as &[Option<i64>],
        &column!(|f| f.summary.as_str()) as &[&str],
        &column!(|f| f.rule.as_deref()) as &[Option<&str>],
        &events,
        matches!(domain, Domain::Known),
        spans.0,
        spans.1,
        spans.2
    )
    .execute(db)
    .await?;
    Ok(())
}
