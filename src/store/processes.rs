//! Process instances and their lineage, with caps and a guard against cycles (interface design, section 8).

use crate::model::{
    group,
    ids::{GroupKey, HostId, ProcessId},
    names,
};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;

/// Levels walked up or down. Source: interface design, section 8.
pub const DEPTH: i32 = 32;
/// Rows of a first paint.
pub const ROWS: i64 = 200;
/// Children of one process in a first paint.
pub const CHILDREN: i64 = 20;
/// Children that come with one more request.
pub const MORE: i64 = 50;
/// Children are counted up to here.
pub const COUNTED: i64 = 10_000;

/// A place among the children of a process: they are in the order of their start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Start of the child before.
    pub started_at: DateTime<Utc>,
    /// Its key.
    pub own: i64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.started_at.timestamp_micros(), self.own)
    }
}

/// A text that is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a place among children: take the address from the page")]
pub struct BadPlace;

impl std::str::FromStr for Place {
    type Err = BadPlace;
    fn from_str(text: &str) -> Result<Self, BadPlace> {
        let (at, own) = text.split_once('.').ok_or(BadPlace)?;
        let started_at = at.parse().ok().and_then(DateTime::from_timestamp_micros).ok_or(BadPlace)?;
        Ok(Self { started_at, own: own.parse().map_err(|_| BadPlace)? })
    }
}

/// How much of a lineage is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Reach {
    /// Of each process.
    pub children: i64,
    /// Descendants in all.
    pub rows: i64,
    /// Children of the process itself come after this one.
    pub after: Option<Place>,
}

impl Default for Reach {
    fn default() -> Self {
        Self { children: CHILDREN, rows: ROWS, after: None }
    }
}

/// A process instance.
#[derive(Debug, Clone)]
pub struct Process {
    /// Public id.
    pub id: ProcessId,
    /// Start.
    pub started_at: DateTime<Utc>,
    /// End, if seen.
    pub ended_at: Option<DateTime<Utc>>,
    /// Latest event that names it.
    pub last_sign: DateTime<Utc>,
    /// A start event was seen.
    pub start_observed: bool,
    /// Entity id of the sensor.
    pub guid: Option<uuid::Uuid>,
    /// Process id.
    pub pid: Option<i64>,
    /// Path.
    pub image: Option<String>,
    /// Arguments and all.
    pub command_line: Option<String>,
    /// Version resource.
    pub original_file_name: Option<String>,
    /// Lower-case hex.
    pub sha256: Option<String>,
    /// Only if the signature is valid.
    pub signer: Option<String>,
    /// `valid`, `unsigned`, `invalid`.
    pub signature: Option<String>,
    /// `DOMAIN\name`.
    pub user_name: Option<String>,
    /// Integrity level.
    pub integrity: Option<String>,
    /// What the start event claims.
    pub parent_image: Option<String>,
    /// What the start event claims.
    pub parent_pid: Option<i64>,
    /// The parent's row.
    pub parent: Option<ProcessId>,
    /// Its group.
    pub group: GroupKey,
    /// Event of its start.
    pub event: Option<crate::model::ids::EventRef>,
    /// Steps from the one asked for: negative = ancestors.
    pub depth: i32,
    /// Children, in all.
    pub children: i64,
}

impl Process {
    /// What is odd about it, in words: shown, not scored.
    pub fn warnings(&self) -> Vec<String> {
        let image = self.image.as_deref().unwrap_or_default();
        let base = group::base_name(image);
        let mut odd = Vec::new();
        if names::is_misplaced_system_name(image) {
            odd.push("system name outside its folder".to_owned());
        }
        if self.signature.as_deref().is_some_and(|s| s != "valid") {
            odd.push(self.signature.clone().unwrap_or_default());
        }
        if let Some(original) = self.original_file_name.as_deref()
            && !base.is_empty()
            && !original.eq_ignore_ascii_case(base)
            && !original.to_lowercase().trim_end_matches(".mui").eq(&base.to_lowercase())
        {
            odd.push(format!("original name {original}"));
        }
        odd
    }
}

macro_rules! process {
    ($host:expr, $r:expr) => {
        Process {
            id: ProcessId { host: $host, own: $r.process_id },
            started_at: $r.started_at,
            ended_at: $r.ended_at,
            last_sign: $r.last_sign,
            start_observed: $r.start_observed,
            guid: $r.guid,
            pid: $r.pid,
            image: $r.image,
            command_line: $r.command_line,
            original_file_name: $r.original_file_name,
            sha256: $r.sha256,
            signer: $r.signer,
            signature: $r.signature,
            user_name: $r.user_name,
            integrity: $r.integrity,
            parent_image: $r.parent_image,
            parent_pid: $r.parent_pid,
            parent: $r.parent_process_id.map(|own| ProcessId { host: $host, own }),
            group: GroupKey($r.group_key),
            event: $r.event_at.zip($r.event_id).map(|(at, id)| crate::model::ids::EventRef {
                host: $host,
                at,
                id: crate::model::ids::EventId(id),
            }),
            depth: $r.depth,
            children: $r.children,
        }
    };
}

impl Process {
    /// Its place among its siblings.
    pub fn place(&self) -> Place {
        Place { started_at: self.started_at, own: self.id.own }
    }
}

/// Ancestors (root first), the process itself, then descendants level by level: of each process the first children by start, as far
/// as the reach goes. Empty: no such process. Whoever is his own descendant is visited once.
pub async fn lineage(conn: &mut PgConnection, id: ProcessId, reach: Reach) -> sqlx::Result<Vec<Process>> {
    let rows = sqlx::query!(
        r#"-- store::processes::lineage: children by the index on (host, parent, start)
        with recursive up as (
             select process_id, parent_process_id, 0 as depth, array[process_id] as seen
             from process where host_id = $1 and process_id = $2
             union all
             select p.process_id, p.parent_process_id, u.depth - 1, u.seen || p.process_id
             from up u join process p on p.host_id = $1 and p.process_id = u.parent_process_id
             where u.depth > -$3::integer and p.process_id <> all (u.seen)
           ), down as (
             select process_id, 0 as depth, array[process_id] as seen from up where depth = 0
             union all
             select c.process_id, d.depth + 1, d.seen || c.process_id
             from down d cross join lateral (
               select p.process_id from process p
               where p.host_id = $1 and p.parent_process_id = d.process_id and p.process_id <> all (d.seen)
                 and (d.depth > 0 or $6::timestamptz is null or (p.started_at, p.process_id) > ($6, $7::bigint))
               order by p.started_at, p.process_id limit $5) c
             where d.depth < $3
           ), wanted as (
             select process_id, depth from up
             union all (select process_id, depth from down where depth > 0 limit $4)
           ), once as (
             select distinct on (process_id) process_id, depth from wanted order by process_id, depth
           )
           select p.process_id, p.started_at, p.ended_at, p.last_sign, p.start_observed, p.guid, p.pid, p.image, p.command_line,
             p.original_file_name, p.sha256, p.signer, p.signature, p.user_name, p.integrity, p.parent_image, p.parent_pid,
             p.parent_process_id, p.group_key, p.event_at, p.event_id, o.depth as "depth!",
             (select count(*) from (select from process c where c.host_id = $1 and c.parent_process_id = p.process_id limit $8) n) as "children!"
           from once o join process p on p.host_id = $1 and p.process_id = o.process_id
           order by o.depth, p.started_at, p.process_id"#,
        id.host.0,
        id.own,
        DEPTH,
        reach.rows,
        reach.children,
        reach.after.map(|place| place.started_at),
        reach.after.map(|place| place.own),
        COUNTED
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|r| process!(id.host, r)).collect())
}

/// Children of a process after a place, by start, at most [`MORE`], and whether there are more.
pub async fn children(conn: &mut PgConnection, id: ProcessId, after: Option<Place>) -> sqlx::Result<(Vec<Process>, bool)> {
    let mut rows = sqlx::query!(
        r#"-- store::processes::children
        select p.process_id, p.started_at, p.ended_at, p.last_sign, p.start_observed, p.guid, p.pid, p.image, p.command_line,
             p.original_file_name, p.sha256, p.signer, p.signature, p.user_name, p.integrity, p.parent_image, p.parent_pid,
             p.parent_process_id, p.group_key, p.event_at, p.event_id, 1 as "depth!",
             (select count(*) from (select from process c where c.host_id = $1 and c.parent_process_id = p.process_id limit $5) n) as "children!"
           from process p
           where p.host_id = $1 and p.parent_process_id = $2 and p.process_id <> $2
             and ($3::timestamptz is null or (p.started_at, p.process_id) > ($3, $4::bigint))
           order by p.started_at, p.process_id limit $6"#,
        id.host.0,
        id.own,
        after.map(|place| place.started_at),
        after.map(|place| place.own),
        COUNTED,
        MORE + 1
    )
    .fetch_all(conn)
    .await?;
    let most = usize::try_from(MORE).unwrap_or(usize::MAX);
    let more = rows.len() > most;
    rows.truncate(most);
    Ok((rows.into_iter().map(|r| process!(id.host, r)).collect(), more))
}

/// Instances of some groups that live in a span, by start, at most 100.
pub async fn of_groups(
    conn: &mut PgConnection,
    host: HostId,
    groups: &[i64],
    since: DateTime<Utc>,
    until: DateTime<Utc>,
) -> sqlx::Result<Vec<Process>> {
    let rows = sqlx::query!(
        r#"select process_id, started_at, ended_at, last_sign, start_observed, guid, pid, image, command_line, original_file_name, sha256,
             signer, signature, user_name, integrity, parent_image, parent_pid, parent_process_id, group_key, event_at, event_id,
             0 as "depth!", 0::bigint as "children!"
           from process
           where host_id = $1 and group_key = any($2) and started_at < $4 and coalesce(ended_at, last_sign) >= $3
           order by started_at, process_id limit 100"#,
        host.0,
        groups,
        since,
        until
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|r| process!(host, r)).collect())
}

/// How a group was launched, by evidence of class L: codes with their sentences.
pub async fn launchers(conn: &mut PgConnection, host: HostId, groups: &[i64], until: DateTime<Utc>) -> sqlx::Result<Vec<(i64, String, String)>> {
    let rows = sqlx::query!(
        r#"select distinct group_key, code, summary from evidence
           where host_id = $1 and group_key = any($2) and code like 'L.%' and first_seen <= $3 order by group_key, code limit 20"#,
        host.0,
        groups,
        until
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|r| (r.group_key, r.code, r.summary)).collect())
}
