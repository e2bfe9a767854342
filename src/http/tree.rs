//! The lineage of a process as rows of a nested list: ancestors, the process, its descendants, and labelled logical rows for what
//! launched it, since `svchost.exe` hides the answer.

use crate::{
    model::ids::ProcessId,
    store::processes::{DEPTH, Place, Process, ROWS},
};
use chrono::TimeDelta;
use std::collections::{BTreeMap, HashSet};

/// A task, WMI consumer, service or script between parent and child.
#[derive(Debug, Clone)]
pub(crate) struct Launcher {
    /// `task`, `WMI`, `service` ..
    pub(crate) kind: String,
    /// Its name or what is known of it.
    pub(crate) text: String,
}

/// A row; the template opens and closes lists as told.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) node: Node,
    /// A list of children follows.
    pub(crate) opens: bool,
    /// Lists that end after it.
    pub(crate) closes: usize,
}

/// What a row shows.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    /// A process; `focus` = the one asked for.
    Process {
        /// Boxed: much larger than the rest.
        process: Box<Process>,
        focus: bool,
        parent: &'static str,
        lived: Option<TimeDelta>,
    },
    /// What started the rows below.
    Launcher(Launcher),
    /// Children not drawn: those after a place, or siblings of the line that leads to the process.
    More { id: ProcessId, count: i64, after: Option<Place>, siblings: bool },
    /// Ends a walk that came back.
    Cycle(ProcessId),
}

/// Rows of a lineage as [`crate::store::processes::lineage`] returns it.
pub(crate) fn rows(lineage: &[Process], focus: ProcessId, launchers: &[Launcher]) -> Vec<Row> {
    let by_id: BTreeMap<i64, &Process> = lineage.iter().map(|p| (p.id.own, p)).collect();
    let mut children: BTreeMap<i64, Vec<&Process>> = BTreeMap::new();
    for process in lineage {
        if let Some(parent) = process.parent.filter(|p| by_id.contains_key(&p.own)) {
            children.entry(parent.own).or_default().push(process);
        }
    }
    let Some(root) = lineage.first() else { return Vec::new() };
    let mut walk = Walk { focus, launchers, children, seen: HashSet::new(), out: Vec::new() };
    walk.down(root, 0);
    walk.out
}

struct Walk<'a> {
    focus: ProcessId,
    launchers: &'a [Launcher],
    children: BTreeMap<i64, Vec<&'a Process>>,
    seen: HashSet<i64>,
    out: Vec<Row>,
}

impl<'a> Walk<'a> {
    fn down(&mut self, process: &'a Process, level: i32) {
        let is_focus = process.id == self.focus;
        if !self.seen.insert(process.id.own) {
            self.out.push(Row { node: Node::Cycle(process.id), opens: false, closes: 0 });
            return;
        }
        let logical = if is_focus { self.launchers.len() } else { 0 };
        for launcher in self.launchers.iter().take(logical) {
            self.out.push(Row { node: Node::Launcher(launcher.clone()), opens: true, closes: 0 });
        }
        let children = self.children.get(&process.id.own).cloned().unwrap_or_default();
        let shown = if level > DEPTH * 2 { &[] } else { children.as_slice() };
        let more = process.children - i64::try_from(shown.len()).unwrap_or(0);
        self.out.push(Row {
            node: Node::Process {
                process: Box::new(process.clone()),
                focus: is_focus,
                parent: parentage(process),
                lived: process.ended_at.map(|end| end - process.started_at),
            },
            opens: !shown.is_empty() || more > 0,
            closes: 0,
        });
        for child in shown.iter().copied() {
            self.down(child, level + 1);
        }
        if more > 0 {
            let siblings = process.depth < 0;
            let after = shown.last().filter(|_| !siblings).map(|last| last.place());
            let count = if after.is_some() { process.children } else { more };
            self.out.push(Row { node: Node::More { id: process.id, count, after, siblings }, opens: false, closes: 0 });
        }
        let ends = usize::from(!shown.is_empty() || more > 0) + logical;
        if let Some(last) = self.out.last_mut() {
            last.closes += ends;
        }
    }
}

/// How the parent of a process is known: never guessed silently.
fn parentage(process: &Process) -> &'static str {
    match (&process.parent, &process.parent_image) {
        (Some(_), _) if process.start_observed => "parent seen",
        (Some(_), _) => "parent inferred",
        (None, Some(_)) => "parent claimed, not seen",
        (None, None) => "parent unknown",
    }
}

/// `services.exe > svchost.exe > xmrig.exe`: the names from the root to the process.
pub(crate) fn chain(lineage: &[Process]) -> Vec<(String, ProcessId)> {
    lineage
        .iter()
        .filter(|p| p.depth <= 0)
        .map(|p| (p.image.as_deref().map_or_else(|| "unknown".to_owned(), |i| crate::model::group::base_name(i).to_owned()), p.id))
        .collect()
}

/// Children of a process as rows, and what comes after them.
pub(crate) fn children(id: ProcessId, list: Vec<Process>, more: bool) -> Vec<Row> {
    let last = list.last().filter(|_| more).map(Process::place);
    let mut out = Vec::new();
    for process in list {
        let (own, below) = (process.id, process.children);
        let lived = process.ended_at.map(|end| end - process.started_at);
        let node = Node::Process { parent: parentage(&process), process: Box::new(process), focus: false, lived };
        out.push(Row { node, opens: below > 0, closes: 0 });
        if below > 0 {
            out.push(Row { node: Node::More { id: own, count: below, after: None, siblings: false }, opens: false, closes: 1 });
        }
    }
    if last.is_some() {
        out.push(Row { node: Node::More { id, count: 0, after: last, siblings: false }, opens: false, closes: 0 });
    }
    out
}

/// Whether the walk met a limit.
pub(crate) fn is_capped(lineage: &[Process]) -> bool {
    i64::try_from(lineage.len()).unwrap_or(i64::MAX) > ROWS || lineage.iter().any(|p| p.depth.abs() >= DEPTH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::{GroupKey, HostId};
    use chrono::DateTime;

    fn process(own: i64, parent: Option<i64>, depth: i32, children: i64) -> Process {
        let id = |own| ProcessId { host: HostId(1), own };
        let at = DateTime::UNIX_EPOCH;
        Process {
            id: id(own), started_at: at, ended_at: None, last_sign: at, start_observed: true, pid: None, image: None,
            command_line: None, original_file_name: None, sha256: None, signer: None, signature: None, user_name: None,
            guid: None, integrity: None, parent_image: None, parent_pid: None, parent: parent.map(id), group: GroupKey(0), event: None,
            depth, children,
        }
    }

    /// Draws as the template does, and checks that lists are balanced.
    fn drawn(rows: &[Row]) -> String {
        let mut text = String::new();
        for row in rows {
            match &row.node {
                Node::Process { process, .. } => text += &process.id.own.to_string(),
                Node::Launcher(l) => text += &l.kind,
                Node::More { count, .. } => text.push_str(&["+", &count.to_string()].concat()),
                Node::Cycle(_) => text += "cycle",
            }
            text += if row.opens { "(" } else { " " };
            text += &")".repeat(row.closes);
        }
        assert_eq!(text.matches('(').count(), text.matches(')').count(), "{text}");
        text
    }

    #[test]
    fn launchers_stand_between_parent_and_child_and_the_rest_is_counted() {
        let lineage = [process(1, None, -1, 5), process(2, Some(1), 0, 2), process(3, Some(2), 1, 0), process(4, Some(2), 1, 0)];
        let task = [Launcher { kind: "task".to_owned(), text: String::new() }];
        assert_eq!(drawn(&rows(&lineage, lineage[1].id, &task)), "1(task(2(3 4 ))+4 )");
    }

    #[test]
    fn a_cycle_ends() {
        let lineage = [process(1, Some(2), -1, 1), process(2, Some(1), 0, 1)];
        assert_eq!(drawn(&rows(&lineage, lineage[1].id, &[])), "1(2(cycle ))");
    }
}
