//! Numbers for the metrics report: how fast people were, how right the engine was, what was loud. Counts detections by the wall
//! clock on which they were found.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

/// How fast people were, in seconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Speed {
    /// Detections of the span, without candidates and suppressed ones.
    pub found: i64,
    /// Somebody did something with them.
    pub acknowledged: i64,
    /// Half of these were faster.
    pub acknowledge_median: Option<f64>,
    /// Nine of ten were faster.
    pub acknowledge_p90: Option<f64>,
    /// Closed.
    pub closed: i64,
    /// See above.
    pub close_median: Option<f64>,
    /// See above.
    pub close_p90: Option<f64>,
    /// Found at any time and still open.
    pub backlog: i64,
    /// The oldest of these.
    pub oldest_open: Option<DateTime<Utc>>,
}

/// How fast people were since an instant.
pub async fn speed(conn: &mut PgConnection, since: DateTime<Utc>) -> sqlx::Result<Speed> {
    sqlx::query_as!(
        Speed,
        r#"-- store::report::speed
           with handled as (
             select d.host_id, d.detection_id, d.detected_at, d.status,
               min(j.at) filter (where j.actor <> 'engine') as acknowledged_at, max(j.at) filter (where j.action = 'closed') as closed_at
             from detection d left join detection_journal j using (host_id, detection_id)
             where d.detected_at >= $1 and d.verdict in ('alert', 'partial', 'early_warning') group by d.host_id, d.detection_id
           ), spans as (
             select extract(epoch from acknowledged_at - detected_at)::float8 as acknowledged,
               case when status = 'closed' then extract(epoch from closed_at - detected_at)::float8 end as closed
             from handled
           )
           select count(*) as "found!", count(acknowledged) as "acknowledged!", count(closed) as "closed!",
             percentile_cont(0.5) within group (order by acknowledged) as acknowledge_median,
             percentile_cont(0.9) within group (order by acknowledged) as acknowledge_p90,
             percentile_cont(0.5) within group (order by closed) as close_median, percentile_cont(0.9) within group (order by closed) as close_p90,
             (select count(*) from detection where status <> 'closed' and verdict in ('alert', 'partial', 'early_warning')) as "backlog!",
             (select min(detected_at) from detection where status <> 'closed' and verdict in ('alert', 'partial', 'early_warning')) as oldest_open
           from spans"#,
        since
    )
    .fetch_one(conn)
    .await
}

/// How often something was there, by a second word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// Analytic or evidence code.
    pub name: String,
    /// Verdict or disposition; `open` where nobody has decided.
    pub word: String,
    /// Detections.
    pub count: i64,
}

/// Verdicts of each analytic.
pub async fn verdicts(conn: &mut PgConnection, since: DateTime<Utc>) -> sqlx::Result<Vec<Count>> {
    sqlx::query_as!(
        Count,
        r#"-- store::report::verdicts
           select a ->> 'id' as "name!", a ->> 'verdict' as "word!", count(*) as "count!"
           from detection d, jsonb_array_elements(d.content -> 'analytics') as a
           where d.detected_at >= $1 group by 1, 2 order by 1, 3 desc, 2"#,
        since
    )
    .fetch_all(conn)
    .await
}

/// How detections with each evidence code were decided.
pub async fn decisions(conn: &mut PgConnection, since: DateTime<Utc>) -> sqlx::Result<Vec<Count>> {
    sqlx::query_as!(
        Count,
        r#"-- store::report::decisions
           select code as "name!", disposition as "word!", count(*) as "count!"
           from (
             select distinct d.host_id, d.detection_id, e ->> 'code' as code, coalesce(d.disposition, 'open') as disposition
             from detection d, jsonb_array_elements(d.content -> 'evidence') as e
             where d.detected_at >= $1 and d.verdict in ('alert', 'partial', 'early_warning')) as decided
           group by 1, 2 order by 1, 2"#,
        since
    )
    .fetch_all(conn)
    .await
}

/// What was loud: an image on a class of hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loud {
    /// Class of hosts, if people said one.
    pub class: Option<String>,
    /// Image.
    pub image: String,
    /// Detections, hidden ones included.
    pub count: i64,
    /// Hosts.
    pub hosts: i64,
    /// Decided as true positive.
    pub right: i64,
    /// Decided as anything but a true positive or a duplicate.
    pub wrong: i64,
    /// Hidden by an entry or a window.
    pub suppressed: i64,
}

/// The loudest images, those that were mostly not worth it first.
pub async fn loudest(conn: &mut PgConnection, since: DateTime<Utc>) -> sqlx::Result<Vec<Loud>> {
    sqlx::query_as!(
        Loud,
        r#"-- store::report::loudest
           select h.class, coalesce(d.content #>> '{process,image}', 'unknown image') as "image!", count(*) as "count!", count(distinct d.host_id) as "hosts!",
             count(*) filter (where d.disposition = 'true_positive') as "right!",
             count(*) filter (where d.disposition in ('benign_positive', 'false_positive_logic', 'false_positive_data', 'undetermined')) as "wrong!",
             count(*) filter (where d.verdict = 'suppressed') as "suppressed!"
           from detection d join host h using (host_id) where d.detected_at >= $1
           group by 1, 2 order by 6 desc, 3 desc, 2, 1 limit 20"#,
        since
    )
    .fetch_all(conn)
    .await
}

/// What an entry or window did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hidden {
    /// `AL-17`, `MW-2`.
    pub by: String,
    /// Detections it hid wholly.
    pub suppressed: i64,
    /// Detections where it covered something and they stayed.
    pub stayed: i64,
}

/// What entries and windows covered.
pub async fn hidden(conn: &mut PgConnection, since: DateTime<Utc>) -> sqlx::Result<Vec<Hidden>> {
    sqlx::query_as!(
        Hidden,
        r#"-- store::report::hidden
           select by as "by!", count(*) filter (where verdict = 'suppressed') as "suppressed!", count(*) filter (where verdict <> 'suppressed') as "stayed!"
           from (
             select distinct d.host_id, d.detection_id, d.verdict, e ->> 'suppressed_by' as by
             from detection d, jsonb_array_elements(d.content -> 'evidence') as e
             where d.detected_at >= $1 and e ->> 'suppressed_by' is not null) as covered
           group by 1 order by 2 desc, 1"#,
        since
    )
    .fetch_all(conn)
    .await
}

/// What one person decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Person {
    /// Account.
    pub name: String,
    /// Detections closed.
    pub closed: i64,
    /// Seconds from found to closed, half were faster.
    pub median: Option<f64>,
}

/// Who closed how much; for leads.
pub async fn people(conn: &mut PgConnection, since: DateTime<Utc>) -> sqlx::Result<Vec<Person>> {
    sqlx::query_as!(
        Person,
        r#"-- store::report::people
           select j.actor as "name!", count(*) as "closed!",
             percentile_cont(0.5) within group (order by extract(epoch from j.at - d.detected_at)::float8) as median
           from detection_journal j join detection d using (host_id, detection_id)
           where j.action = 'closed' and d.detected_at >= $1 group by j.actor order by 2 desc, 1"#,
        since
    )
    .fetch_all(conn)
    .await
}
