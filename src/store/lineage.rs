//! Ancestors and descendants of a process, as the API serves them; the walk is [`processes::lineage`].

use crate::{
    model::ids::ProcessId,
    store::processes::{self, Process, Reach},
};
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
    /// Parent first, at most 32.
    pub ancestors: Vec<Node>,
    /// By depth and start, at most 500 down to 32 steps.
    pub descendants: Vec<Node>,
    /// There are more descendants.
    pub truncated: bool,
}

const DESCENDANTS: usize = 500;

impl From<Process> for Node {
    fn from(p: Process) -> Self {
        Self {
            id: p.id,
            parent_id: p.parent,
            depth: p.depth,
            guid: p.guid,
            pid: p.pid,
            image: p.image,
            command_line: p.command_line,
            user: p.user_name,
            sha256: p.sha256,
            started_at: p.started_at,
            ended_at: p.ended_at,
        }
    }
}

/// The tree around a process, if it is known.
pub async fn tree(conn: &mut PgConnection, id: ProcessId) -> sqlx::Result<Option<Tree>> {
    let most = i64::try_from(DESCENDANTS).unwrap_or(i64::MAX) + 1;
    let (mut process, mut ancestors, mut descendants) = (None, Vec::new(), Vec::new());
    for node in processes::lineage(conn, id, Reach { children: most, rows: most, after: None }).await?.into_iter().map(Node::from) {
        match node.depth {
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
