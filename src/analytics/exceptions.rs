//! What people allowed, applied to evidence: entries, windows, and what voids them. Source: detection design, section 9.2 and 9.3.
//!
//! Evidence is always stored and scored twice. A hard item that no matching entry names makes every matching entry void.

use super::{
    case::{Case, Instance, Item},
    context,
};
use crate::model::{
    code::{Class, Code},
    exceptions::{Entry, GRACE, Subject, wildcard},
};

/// What entries and windows did to the case.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    /// Names of entries and windows that cover something.
    pub names: Vec<String>,
    /// Entry and the hard code that voids it.
    pub voided: Vec<(String, Code)>,
}

/// Sets `suppressed_by` on what entries and windows cover.
pub fn apply(case: &Case, items: &mut [Item]) -> Applied {
    let mut applied = Applied::default();
    let matching: Vec<&Entry> = case.entries.iter().filter(|e| matches(case, e, items)).collect();
    let unnamed = items
        .iter()
        .filter(|i| i.is_hard())
        .find(|i| !matching.iter().any(|e| holds(e, i) && e.body.covers_code(i.code, true)))
        .map(|i| i.code);
    for entry in &matching {
        let name = format!("AL-{}", entry.id);
        if let Some(code) = unnamed {
            applied.voided.push((name, code));
            continue;
        }
        let mut covers = false;
        for item in items.iter_mut().filter(|i| i.code.class() != Class::B && i.suppressed_by.is_none()) {
            if holds(entry, item) && entry.body.covers_code(item.code, item.force == crate::model::code::Force::Hard) {
                item.suppressed_by = Some(name.clone());
                covers = true;
            }
        }
        if covers {
            applied.names.push(name);
        }
    }
    windows(case, items, &mut applied);
    applied
}

/// Entries cover event time before their expiry, from `valid_from`.
fn holds(entry: &Entry, item: &Item) -> bool {
    item.known_at < entry.expires_at && entry.body.valid_from.is_none_or(|from| item.last_seen >= from)
}

fn matches(case: &Case, entry: &Entry, items: &[Item]) -> bool {
    let root = context::launch_root(case, items);
    let destinations: Vec<String> = case
        .flows
        .iter()
        .filter(|f| f.process.is_some_and(|p| case.distance(p).is_some()))
        .flat_map(|f| [Some(f.destination.clone()), f.remote_ip.map(|ip| ip.to_string()), f.remote_host.clone()].into_iter().flatten())
        .collect();
    let destinations: Vec<&str> = destinations.iter().map(String::as_str).collect();
    entry.body.scope.holds(&case.host.name, case.host.class.as_deref(), &case.host.tags)
        && case.own().any(|p| entry.body.matches(&subject(p, root.as_deref(), &destinations)))
}

fn subject<'a>(p: &'a Instance, launch_root: Option<&'a str>, destinations: &'a [&'a str]) -> Subject<'a> {
    Subject {
        sha256: p.sha256.as_deref(),
        signer: p.signer.as_deref(),
        image: p.image.as_deref(),
        original_file_name: p.original_file_name.as_deref(),
        command_line: p.command_line.as_deref(),
        parent_image: p.parent_image.as_deref(),
        launch_root,
        user: p.user.as_deref(),
        destinations,
    }
}

/// A run that lies wholly in an occurrence of a window is suppressed; a hard item of the episode voids the window. One that outlives it
/// counts from its beginning.
fn windows(case: &Case, items: &mut [Item], applied: &mut Applied) {
    let hard = items.iter().find(|i| i.is_hard() && i.suppressed_by.is_none()).map(|i| i.code);
    for (id, window) in &case.windows {
        let name = format!("MW-{id}");
        let meant = window.images.is_empty()
            || case.own().any(|p| p.image.as_deref().is_some_and(|image| window.images.iter().any(|w| wildcard(w, image))));
        if !meant || !window.scope.holds(&case.host.name, case.host.class.as_deref(), &case.host.tags) {
            continue;
        }
        let mut covered = items
            .iter_mut()
            .filter(|i| i.code.class() == Class::R && i.code != Code::RDuty && i.first_seen >= window.starts_at && i.last_seen <= window.ends_at + GRACE)
            .peekable();
        if covered.peek().is_none() {
            continue;
        }
        if let Some(code) = hard {
            if !applied.voided.contains(&(name.clone(), code)) {
                applied.voided.push((name, code));
            }
            continue;
        }
        for item in covered.filter(|i| i.suppressed_by.is_none()) {
            item.suppressed_by = Some(name.clone());
        }
        if !applied.names.contains(&name) {
            applied.names.push(name);
        }
    }
}
