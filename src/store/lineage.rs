//! Ancestors and descendants of a process, as the API serves them.

use crate::model::ids::{HostId, ProcessId};
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

/// One process of a tree.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Node {
    /// Address of its page.
    pub id: ProcessId,
    /// Its parent, if that was seen.
    pub parent_id: Option<ProcessId>,
    /// Steps from the process asked for.
    pub depth: i32,
    /// Entity id of the sensor.
    pub guid: Option<Uuid>,
    /// Process id.
    pub pid: Option<i64>,
    /// Path.
    pub image: Option<String>,
    /// Arguments and all.
    pub command_line: Option<String>,
    /// `DOMAIN\name`.
    pub user: Option<String>,
    /// Lower-case hex.
    pub sha256: Option<String>,
    /// Event time.
    pub started_at: DateTime<Utc>,
    /// Event time; absent = not seen to end.
    pub ended_at: Option<DateTime<Utc>>,
}

/// A process with its relatives.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tree {
    /// The one asked for.
    pub process: Node,
    /// Parent first, at most 16.
    pub ancestors: Vec<Node>,
    /// By depth and start, at most 500 down to 8 steps.
    pub descendants: Vec<Node>,
    /// There are more descendants.
    pub truncated: bool,
}

const DESCENDANTS: usize = 500;

/// The tree around a process, if it is known.
pub async fn tree(conn: &mut PgConnection, id: ProcessId) -> sqlx::Result<Option<Tree>> {
    let rows = sqlx::query!(
        r#"with recursive up as (
             select process_id, parent_process_id, 0 as depth from process where host_id = $1 and process_id = $2
             union
             select p.process_id, p.parent_process_id, up.depth - 1 from up
             join process p on p.host_id = $1 and p.process_id = up.parent_process_id where up.depth > -16
           ), down as (
             select process_id, 0 as depth from process where host_id = $1 and process_id = $2
             union
             select p.process_id, down.depth + 1 from down
             join process p on p.host_id = $1 and p.parent_process_id = down.process_id where down.depth < 8
           ), kin as (
             select process_id, depth from up union select process_id, depth from down
           )
           select depth as "depth!", p.process_id, p.parent_process_id, p.guid, p.pid, p.image, p.command_line, p.user_name, p.sha256,
             p.started_at, p.ended_at
           from kin join process p using (process_id) where p.host_id = $1
           order by depth, p.started_at, p.process_id limit 600"#,
        id.host.0,
        id.own
    )
    .fetch_all(conn)
    .await?;
    let on_host = |own: i64| ProcessId { host: HostId(id.host.0), own };
    let (mut process, mut ancestors, mut descendants) = (None, Vec::new(), Vec::new());
    for row in rows {
        let depth = row.depth;
        let node = Node {
            id: on_host(row.process_id),
            parent_id: row.parent_process_id.map(on_host),
            depth,
            guid: row.guid,
            pid: row.pid,
            image: row.image,
            command_line: row.command_line,
            user: row.user_name,
            sha256: row.sha256,
            started_at: row.started_at,
            ended_at: row.ended_at,
        };
        match depth {
            0 => process = Some(node),
            ..0 => ancestors.push(node),
            _ => descendants.push(node),
        }
    }
    ancestors.reverse();
    let truncated = descendants.len() > DESCENDANTS;
    descendants.truncate(DESCENDANTS);
    Ok(process.map(|process| Tree { process, ancestors, descendants, truncated }))
}
