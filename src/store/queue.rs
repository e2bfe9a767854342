//! The queue: one filter, any order, keyset pages, groups. Its SQL is put together here, behind [`Filter`] and [`Order`]; every
//! identifier in it is a constant of this file, every value a bind parameter.

use crate::{
    model::{
        code::Class,
        detection::{ClassState, Severity, Status, Verdict},
        ids::{DetectionId, HostId},
    },
    store::detections::{COUNT_CAP, Filter, Snoozed},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, Postgres, QueryBuilder, Row as _, types::Json};
use std::{collections::BTreeMap, fmt, str::FromStr};

/// What the queue can be sorted by: word of the address, expressions compared in turn. Times are compared as microseconds.
const SORTS: &[(Sort, &str, &[(&str, &str)])] = &[
    (
        Sort::Severity,
        "severity",
        &[("d.severity_rank", "smallint"), ("d.score", "real"), ("d.last_seen", "timestamptz")],
    ),
    (Sort::Score, "score", &[("d.score", "real"), ("d.last_seen", "timestamptz")]),
    (Sort::Title, "title", &[("d.title", "text")]),
    (Sort::Host, "host", &[("h.name", "text")]),
    (Sort::First, "first", &[("d.first_seen", "timestamptz")]),
    (Sort::Last, "last", &[("d.last_seen", "timestamptz")]),
    (Sort::Found, "found", &[("d.detected_at", "timestamptz")]),
    (Sort::Owner, "owner", &[("coalesce(d.assignee, '')", "text")]),
];

/// A column to sort by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "named like the columns")]
pub enum Sort {
    #[default]
    Severity,
    Score,
    Title,
    Host,
    First,
    Last,
    Found,
    Owner,
}

impl Sort {
    fn row(self) -> &'static (Sort, &'static str, &'static [(&'static str, &'static str)]) {
        SORTS.iter().find(|(sort, ..)| *sort == self).unwrap_or(&SORTS[0])
    }

    /// Word of the address.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    fn expressions(self) -> &'static [(&'static str, &'static str)] {
        self.row().2
    }
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// Largest first.
    #[default]
    Down,
    /// Smallest first.
    Up,
}

/// An order: `severity` upwards, `-severity` downwards. Equal rows are in the order of their keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Order {
    /// Column.
    pub by: Sort,
    /// Way.
    pub direction: Direction,
}

impl Order {
    /// The same column the other way round.
    pub fn reversed(self) -> Self {
        let direction = if self.direction == Direction::Down { Direction::Up } else { Direction::Down };
        Self { direction, ..self }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.direction == Direction::Down { "-" } else { "" }, self.by.name())
    }
}

impl FromStr for Order {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let (direction, name) = text.strip_prefix('-').map_or((Direction::Up, text), |name| (Direction::Down, name));
        let by = SORTS.iter().find(|(_, word, _)| *word == name).ok_or(BadCursor)?.0;
        Ok(Self { by, direction })
    }
}

/// A value that rows are compared by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Part {
    Whole(i64),
    Real(f64),
    Text(String),
}

/// A place in an order: the values compared, then the key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cursor(Vec<Part>, i64, i64);

impl Cursor {
    /// Whether it is a place in this order: cursors come back from browsers.
    pub fn fits(&self, order: Order) -> bool {
        let expressions = order.by.expressions();
        expressions.len() == self.0.len()
            && expressions.iter().zip(&self.0).all(|((_, kind), part)| match (*kind, part) {
                ("smallint", Part::Whole(whole)) => i16::try_from(*whole).is_ok(),
                ("real", Part::Whole(_) | Part::Real(_)) => true,
                ("timestamptz", Part::Whole(whole)) => DateTime::from_timestamp_micros(*whole).is_some(),
                ("text", Part::Text(text)) => !text.contains('\0'),
                _ => false,
            })
    }
}

/// A text that is no cursor of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor: take `next_cursor` of the page before")]
pub struct BadCursor;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_vec(self).map_err(|_| fmt::Error)?;
        f.write_str(&URL_SAFE_NO_PAD.encode(json))
    }
}

impl FromStr for Cursor {
    type Err = BadCursor;
    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| BadCursor)?;
        serde_json::from_slice(&json).map_err(|_| BadCursor)
    }
}

/// Adds `from .. where ..`: everything a filter says but the place and the limit.
pub(super) fn narrow(sql: &mut QueryBuilder<Postgres>, filter: &Filter) {
    sql.push(" from detection d join host h using (host_id) where true");
    if !filter.statuses.is_empty() {
        // said as the index of open detections says it
        if !filter.statuses.contains(&Status::Closed) {
            sql.push(" and d.status <> 'closed'");
        }
        sql.push(" and d.status = any(").push_bind(words(&filter.statuses)).push(")");
    }
    if let Some(host) = &filter.host {
        sql.push(" and lower(").push_bind(host.clone()).push(") in (h.name, split_part(h.name, '.', 1))");
    }
    if !filter.analytics.is_empty() {
        sql.push(" and d.analytics && ").push_bind(words(&filter.analytics));
    }
    if !filter.verdicts.is_empty() {
        sql.push(" and d.verdict = any(").push_bind(words(&filter.verdicts)).push(")");
    }
    if !filter.severities.is_empty() {
        sql.push(" and d.severity = any(").push_bind(words(&filter.severities)).push(")");
    }
    if !filter.owners.is_empty() {
        sql.push(" and coalesce(d.assignee, '') = any(").push_bind(filter.owners.clone()).push(")");
    }
    if let Some(since) = filter.since {
        sql.push(" and d.last_seen >= ").push_bind(since);
    }
    if let Some(until) = filter.until {
        sql.push(" and d.first_seen < ").push_bind(until);
    }
    match filter.snoozed {
        Snoozed::Either => {}
        Snoozed::Awake(now) => {
            sql.push(" and (d.status = 'closed' or d.snoozed_until is null or d.snoozed_until <= ")
                .push_bind(now)
                .push(")");
        }
        Snoozed::Asleep(now) => {
            sql.push(" and d.snoozed_until > ").push_bind(now);
        }
    }
    filter.terms.push(sql);
}

/// Adds the place where a page begins, and the order.
pub(super) fn paged(sql: &mut QueryBuilder<Postgres>, filter: &Filter, limit: i64) {
    let expressions = filter.order.by.expressions();
    let (sign, way) = if filter.order.direction == Direction::Down { ("<", "desc") } else { (">", "asc") };
    if let Some(Cursor(parts, host, own)) = &filter.after {
        let columns = expressions.iter().map(|(sql, _)| *sql).collect::<Vec<_>>().join(", ");
        let values = |sql: &mut QueryBuilder<Postgres>| {
            for (n, (_, kind)) in expressions.iter().enumerate() {
                sql.push(if n > 0 { ", " } else { "" });
                match parts.get(n) {
                    Some(Part::Whole(whole)) if *kind == "timestamptz" => {
                        sql.push_bind(DateTime::from_timestamp_micros(*whole))
                    }
                    // JSON writes 88.0 as 88: the column decides the type, since one text of SQL is prepared once for all values
                    #[expect(clippy::cast_precision_loss, reason = "a score, at most a few hundred")]
                    Some(Part::Whole(whole)) if *kind == "real" => sql.push_bind(*whole as f64),
                    Some(Part::Whole(whole)) => sql.push_bind(*whole),
                    Some(Part::Real(real)) => sql.push_bind(*real),
                    Some(Part::Text(text)) => sql.push_bind(text.clone()),
                    None => sql.push("null"),
                };
                sql.push("::").push(*kind);
            }
        };
        // the first half is what an index can seek; keys decide between equals
        sql.push(format!(" and ({columns}) {sign}= ("));
        values(sql);
        sql.push(format!(") and (({columns}) {sign} ("));
        values(sql);
        sql.push(") or (d.host_id, d.detection_id) > (").push_bind(*host).push(", ").push_bind(*own).push("))");
    }
    let order = expressions.iter().map(|(sql, _)| format!("{sql} {way}")).collect::<Vec<_>>().join(", ");
    sql.push(format!(" order by {order}, d.host_id, d.detection_id limit ")).push_bind(limit);
}

/// The cursor of a row, as a column `place`.
pub(super) fn place(order: Order) -> String {
    let part = |(sql, kind): &(&str, &str)| match *kind {
        "timestamptz" => format!("(extract(epoch from {sql}) * 1000000)::bigint"),
        "text" => format!("{sql}::text"),
        _ => (*sql).to_owned(),
    };
    let parts = order.by.expressions().iter().map(part).collect::<Vec<_>>().join(", ");
    format!("jsonb_build_array(jsonb_build_array({parts}), d.host_id, d.detection_id) as place")
}

fn words<T: ToString>(list: &[T]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

pub(super) fn read<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(text: &str) -> sqlx::Result<T> {
    text.parse().map_err(|e| sqlx::Error::Decode(Box::new(e)))
}

/// A row of the queue: what it shows, and no more.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "columns of a page")]
pub struct Line {
    pub id: DetectionId,
    pub version: i32,
    pub title: String,
    pub severity: Severity,
    pub verdict: Verdict,
    pub status: Status,
    pub disposition: Option<String>,
    pub assignee: Option<String>,
    pub score: f32,
    pub first_seen: DateTime<Utc>,
    pub last_seen: DateTime<Utc>,
    pub detected_at: DateTime<Utc>,
    pub snoozed_until: Option<DateTime<Utc>>,
    pub campaign: Option<String>,
    pub recurred: Recurred,
    pub host: String,
    pub tier: Option<i16>,
    pub image: Option<String>,
    /// Its first characters.
    pub command: Option<String>,
    /// Entry or window that covers it.
    pub covered_by: Option<String>,
    pub classes: BTreeMap<Class, ClassState>,
}

/// Whether the same was closed as a true positive before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "says itself")]
pub enum Recurred {
    Yes,
    No,
}

/// One page of the queue, and where the next one begins.
pub async fn lines(conn: &mut PgConnection, filter: &Filter) -> sqlx::Result<(Vec<Line>, Option<Cursor>)> {
    let mut sql = QueryBuilder::new(
        "-- store::queue::lines\nselect d.host_id, d.detection_id, d.version, d.title, d.severity, d.verdict, d.status, d.disposition, d.assignee,
         d.score, d.first_seen, d.last_seen, d.detected_at, d.snoozed_until, d.campaign, d.recurrence_of is not null as recurred, h.name, h.tier,
         d.content->'process'->>'image' as image, left(d.content->'process'->>'command_line', 200) as command,
         jsonb_path_query_first(d.content, '$.evidence[*].suppressed_by ? (@ != null)')#>>'{}' as covered_by,
         d.content->'classes' as classes, ",
    );
    sql.push(place(filter.order));
    narrow(&mut sql, filter);
    paged(&mut sql, filter, filter.limit + 1);
    let mut rows = sql.build().fetch_all(conn).await?;
    let limit = usize::try_from(filter.limit).unwrap_or(0);
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next =
        rows.last().filter(|_| more).map(|row| row.try_get::<Json<Cursor>, _>("place")).transpose()?.map(|json| json.0);
    let lines = rows.iter().map(|row| {
        Ok(Line {
            id: DetectionId { host: HostId(row.try_get("host_id")?), own: row.try_get("detection_id")? },
            version: row.try_get("version")?,
            title: row.try_get("title")?,
            severity: read(row.try_get("severity")?)?,
            verdict: read(row.try_get("verdict")?)?,
            status: read(row.try_get("status")?)?,
            disposition: row.try_get("disposition")?,
            assignee: row.try_get("assignee")?,
            score: row.try_get("score")?,
            first_seen: row.try_get("first_seen")?,
            last_seen: row.try_get("last_seen")?,
            detected_at: row.try_get("detected_at")?,
            snoozed_until: row.try_get("snoozed_until")?,
            campaign: row.try_get("campaign")?,
            recurred: if row.try_get("recurred")? { Recurred::Yes } else { Recurred::No },
            host: row.try_get("name")?,
            tier: row.try_get("tier")?,
            image: row.try_get("image")?,
            command: row.try_get("command")?,
            covered_by: row.try_get("covered_by")?,
            classes: row.try_get::<Json<_>, _>("classes")?.0,
        })
    });
    Ok((lines.collect::<sqlx::Result<_>>()?, next))
}

/// How many match a filter, up to [`COUNT_CAP`]; the page does not matter.
pub async fn count(conn: &mut PgConnection, filter: &Filter) -> sqlx::Result<i64> {
    let mut sql = QueryBuilder::new("-- store::queue::count\nselect count(*) from (select");
    narrow(&mut sql, filter);
    sql.push(" limit ").push_bind(COUNT_CAP).push(") matching");
    sql.build_query_scalar().fetch_one(conn).await
}

/// Ids and versions of what matches, in order, at most `most`.
pub async fn ids(conn: &mut PgConnection, filter: &Filter, most: i64) -> sqlx::Result<Vec<(DetectionId, i32)>> {
    let mut sql = QueryBuilder::new("-- store::queue::ids\nselect d.host_id, d.detection_id, d.version");
    narrow(&mut sql, filter);
    paged(&mut sql, filter, most);
    let rows: Vec<(i64, i64, i32)> = sql.build_query_as().fetch_all(conn).await?;
    Ok(rows.into_iter().map(|(host, own, version)| (DetectionId { host: HostId(host), own }, version)).collect())
}

/// The detections before and after one, in the order of a filter that need not show it.
pub async fn neighbours(
    conn: &mut PgConnection,
    filter: &Filter,
    id: DetectionId,
) -> sqlx::Result<(Option<DetectionId>, Option<DetectionId>)> {
    let mut sql = QueryBuilder::new("-- store::queue::neighbours: where it is\nselect ");
    sql.push(place(filter.order))
        .push(" from detection d join host h using (host_id) where d.host_id = ")
        .push_bind(id.host.0);
    sql.push(" and d.detection_id = ").push_bind(id.own);
    let Some(Json(place)) = sql.build_query_scalar::<Json<Cursor>>().fetch_optional(&mut *conn).await? else {
        return Ok((None, None));
    };
    let mut around = [None, None];
    for (side, order) in around.iter_mut().zip([filter.order.reversed(), filter.order]) {
        let filter = Filter { order, after: Some(place.clone()), ..filter.clone() };
        *side = ids(conn, &filter, 2).await?.into_iter().map(|(other, _)| other).find(|other| *other != id);
    }
    Ok(around.into())
}

/// What the queue can be grouped by: word of the address, expression, field of the filter that opens a group.
pub const GROUPS: [(&str, &str, &str); 4] = [
    ("host", "h.name", "host"),
    ("image", "d.content->'process'->>'sha256'", "hash"),
    ("campaign", "d.campaign", "campaign"),
    ("analytic", "d.analytics[1]", "analytic"),
];

/// Detections with something in common.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Group {
    /// What they have in common; none = nothing of the kind.
    pub key: Option<String>,
    /// How many match.
    pub detections: i64,
    /// On how many hosts.
    pub hosts: i64,
    /// Worst of them, in the words of the queue.
    pub severity: i16,
    /// Highest.
    pub score: f32,
    /// First evidence.
    pub first_seen: DateTime<Utc>,
    /// Last evidence.
    pub last_seen: DateTime<Utc>,
    /// One of the titles.
    pub example: String,
    /// Image names among them, at most three.
    pub images: Vec<String>,
    /// How earlier ones were decided: `46 benign_positive`.
    #[sqlx(skip)]
    pub past: Vec<(String, i64)>,
}

/// Groups of what matches, worst first, at most 100. `by` is an index of [`GROUPS`].
pub async fn groups(conn: &mut PgConnection, filter: &Filter, by: usize) -> sqlx::Result<Vec<Group>> {
    let (_, key, _) = GROUPS.get(by).copied().unwrap_or(GROUPS[0]);
    let mut sql = QueryBuilder::new(format!(
        "-- store::queue::groups\nselect {key} as key, count(*) as detections, count(distinct d.host_id) as hosts, max(d.severity_rank) as severity,
         max(d.score) as score, min(d.first_seen) as first_seen, max(d.last_seen) as last_seen, min(d.title) as example,
         coalesce((array_agg(distinct regexp_replace(d.content->'process'->>'image', '^.*\\\\', '')) filter (where d.content->'process'->>'image' is not null))[1:3],
           '{{}}') as images"
    ));
    narrow(&mut sql, filter);
    sql.push(" group by 1 order by severity desc, score desc, detections desc, key limit 100");
    let mut groups: Vec<Group> = sql.build_query_as().fetch_all(&mut *conn).await?;
    let keys: Vec<String> = groups.iter().filter_map(|g| g.key.clone()).collect();
    let mut sql = QueryBuilder::new(format!(
        "-- store::queue::groups: how earlier ones were decided\nselect {key}, d.disposition, count(*)
         from detection d join host h using (host_id) where d.status = 'closed' and {key} = any("
    ));
    sql.push_bind(keys).push(") group by 1, 2 order by 3 desc, 2");
    let past: Vec<(String, String, i64)> = sql.build_query_as().fetch_all(conn).await?;
    for (key, disposition, n) in past {
        if let Some(group) = groups.iter_mut().find(|g| g.key.as_ref() == Some(&key)) {
            group.past.push((disposition, n));
        }
    }
    Ok(groups)
}

/// A snapshot of the database for [`arrived`]: what it shows is on the page.
pub async fn snapshot(conn: &mut PgConnection) -> sqlx::Result<String> {
    sqlx::query_scalar!(
        r#"-- store::queue::snapshot
        select pg_current_snapshot()::text as "snapshot!""#
    )
    .fetch_one(conn)
    .await
}

/// How long a pass may take from its clock to its commit. Chosen: far more than any does; a restored database is older.
const LONGEST_PASS: chrono::TimeDelta = chrono::TimeDelta::minutes(15);

/// How many detections match that were committed after a page's snapshot, up to 100. Exact whatever order passes commit in.
pub async fn arrived(
    conn: &mut PgConnection,
    filter: &Filter,
    snapshot: &str,
    made_at: DateTime<Utc>,
) -> sqlx::Result<i64> {
    let mut sql = QueryBuilder::new("-- store::queue::arrived\nselect count(*) from (select");
    narrow(&mut sql, filter);
    sql.push(" and d.detected_at > ").push_bind(made_at - LONGEST_PASS);
    sql.push(" and not pg_visible_in_snapshot(d.made_in, ")
        .push_bind(snapshot.to_owned())
        .push("::pg_snapshot) limit 100) new");
    sql.build_query_scalar().fetch_one(conn).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_prints_and_parses(rank: i16, score: i16, at: i64, host: i64, own: i64, text in "\\PC{0,20}") {
            let cursor = Cursor(vec![Part::Whole(rank.into()), Part::Real(f64::from(score) + 0.5), Part::Whole(at), Part::Text(text)], host, own);
            prop_assert_eq!(cursor.to_string().parse::<Cursor>(), Ok(cursor));
        }

        #[test]
        fn anything_else_is_refused(text in "\\PC{0,40}") {
            prop_assert!(text.parse::<Cursor>().is_err());
        }
    }

    #[test]
    fn orders_print_and_parse() {
        for (sort, name, _) in SORTS {
            for direction in [Direction::Up, Direction::Down] {
                let order = Order { by: *sort, direction };
                assert_eq!(order.to_string().parse::<Order>(), Ok(order), "{name}");
            }
        }
        assert_eq!(Order::default().to_string(), "-severity");
        assert!("--score".parse::<Order>().is_err());
    }
}
