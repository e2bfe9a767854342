//! Class M beside what rules see on one event: renamed and unsigned images. Source: detection design, section 5, M.

use super::super::case::{Case, Instance, Item, Trace};
use crate::model::{
    code::{Class, Code, Force},
    group::{base_name, comparable_path},
    names::{self, MANY_NAMES, copy_stem, stem},
};
use chrono::TimeDelta;
use std::collections::BTreeMap;

/// Programs made to use processors, by original name: their renaming matters. Source: BOINC and Folding@home file names.
const COMPUTE_TOOLS: &[&str] = &["boinc.exe", "boincmgr.exe", "fahcore", "fahclient.exe", "fah-client.exe", "primegrid"];

/// Points of a maker's name that nothing confirms or refutes; chosen: what an image in the same place gets without a name.
const UNPROVEN: f64 = 12.0;

pub(super) fn find(case: &Case, out: &mut Vec<Item>) {
    for process in case.instances.iter().filter(|i| case.distance(i.id).is_some()) {
        renamed(case, process, out);
        unsigned(case, process, out);
        fake_vendor(case, process, out);
        sideloaded(case, process, out);
        new_hash(case, process, out);
    }
    many_names(case, out);
}

/// System programs that host foreign code, and how they are never started: without arguments, by nobody at the desktop.
const HOLLOW: &[&str] = &["notepad.exe", "vbc.exe", "regasm.exe", "addinprocess.exe", "addinprocess32.exe", "installutil.exe", "nslookup.exe", "tracert.exe", "wuapp.exe"];

/// A system program in its place, started as it never is, busy and connected to what the fleet does not share.
pub(super) fn hollow(case: &Case, out: &mut Vec<Item>) {
    let busy = case.found.iter().any(|i| i.code.class() == Class::R && i.group == case.primary && i.points >= Class::R.minimum());
    for process in case.own().filter(|p| busy && p.start_observed) {
        let path = process.path();
        let in_place = names::in_system_folder(&path) || path.contains("\\windows\\microsoft.net\\framework");
        let parent = process.parent_image.as_deref().map(comparable_path).unwrap_or_default();
        let parent_name = base_name(&parent);
        let Some(line) = process.command_line.as_deref().filter(|_| in_place) else { continue };
        let desktop = matches!(parent_name, "explorer.exe" | "cmd.exe" | "powershell.exe" | "windowsterminal.exe");
        let wrong = match base_name(&path) {
            "svchost.exe" if !line.to_lowercase().contains(" -k") => "without -k",
            "svchost.exe" if !parent_name.is_empty() && parent_name != "services.exe" => "not by services.exe",
            "explorer.exe" if !matches!(parent_name, "" | "userinit.exe" | "explorer.exe" | "winlogon.exe" | "sihost.exe" | "svchost.exe") => "by a foreign parent",
            name if HOLLOW.contains(&name) && super::command::is_bare(Some(line)) && !desktop => "without arguments and not from the desktop",
            _ => continue,
        };
        let far = case.flows.iter().find(|f| f.process == Some(process.id) && f.external && f.outbound && !case.fleet.is_prevalent(&f.destination));
        if let Some(far) = far {
            let summary = format!("{} was started {wrong}, is busy and connected to {}", base_name(&path), far.destination);
            let mut item = Item::for_life(Code::MHollow, process, summary);
            item.known_at = far.started_at.max(process.started_at);
            item.events.push(far.event);
            out.push(item);
        }
    }
}

/// Version data names a maker that did not sign it, or imitates what people approved.
fn fake_vendor(case: &Case, process: &Instance, out: &mut Vec<Item>) {
    let Some(image) = process.image.as_deref().filter(|_| !names::in_system_folder(&process.path())) else { return };
    let company = process.company.as_deref().unwrap_or_default();
    let signer = process.signer.as_deref().unwrap_or_default();
    if names::is_trusted_vendor(company) {
        let rare_in_profile = || names::is_user_writable(image) && process.sha256.as_deref().is_some_and(|h| case.fleet.is_rare_image(h));
        let item = |says: &str| Item::for_life(Code::MFakeVendor, process, format!("{image} says it is made by {company}{says}"));
        match process.signature.as_deref() {
            Some("valid") if names::is_same_vendor(company, signer) => {}
            Some(_) => return out.push(item(", which did not sign it")),
            // Every program that a person installs for themselves looks so where signatures are not collected: no discriminator.
            None if rare_in_profile() => {
                return out.push(Item { points: UNPROVEN, force: Force::Plain, ..item("; its signature is not known, and few hosts have it") });
            }
            None => {}
        }
    }
    let name = process.name();
    let imitated = case.entries.iter().find(|e| {
        let m = &e.body.matches;
        let named = m.image.as_deref().is_some_and(|i| base_name(&comparable_path(i)) == name) || m.original_file_name.as_deref().is_some_and(|o| o.eq_ignore_ascii_case(&name));
        let other_hash = m.sha256.as_deref().is_none_or(|h| process.sha256.as_deref().is_some_and(|own| !own.eq_ignore_ascii_case(h)));
        let other_signer = m.signer.as_deref().is_none_or(|s| !s.eq_ignore_ascii_case(signer) && (process.signature.is_some() || process.sha256.is_some()));
        named && (m.sha256.is_some() || m.signer.is_some()) && other_hash && other_signer
    });
    if let Some(entry) = imitated {
        out.push(Item::for_life(Code::MFakeVendor, process, format!("{name} has the name of what AL-{} approves, with another hash and signer", entry.id)));
    }
}

/// A signed program with a library that is not its maker's.
fn sideloaded(case: &Case, process: &Instance, out: &mut Vec<Item>) {
    if process.signature.as_deref() != Some("valid") {
        return;
    }
    let of = |t: &&Trace| {
        t.code == Code::MSideload
            && match &t.guid {
                Some(guid) => process.guid.as_ref() == Some(guid),
                None => t.pid.is_some() && t.pid == process.pid && t.at >= process.started_at && process.ended_at.is_none_or(|end| t.at <= end),
            }
    };
    if let Some(trace) = case.traces.iter().find(of) {
        let mut item = Item::for_life(Code::MSideload, process, format!("{}, validly signed, loaded {}", process.name(), trace.excerpt));
        (item.points, item.force, item.rule) = (trace.points, trace.force, Some(trace.rule.clone()));
        item.known_at = trace.at.max(process.started_at);
        item.events = vec![trace.event];
        out.push(item);
    }
}

/// First met within the week by a fleet that is known for two, and still rare.
fn new_hash(case: &Case, process: &Instance, out: &mut Vec<Item>) {
    let Some(hash) = process.sha256.as_deref() else { return };
    let day = process.started_at.date_naive();
    let Some(since) = case.fleet.images.get(hash).and_then(|p| p.since) else { return };
    let young = since <= day && day - since <= TimeDelta::days(7);
    let known = case.fleet.since.is_some_and(|fleet| day - fleet >= TimeDelta::days(14));
    if young && known && case.fleet.is_rare_image(hash) {
        out.push(Item::for_life(Code::MNewHash, process, format!("the fleet first met this image on {since}")));
    }
}

/// One unsigned image under at least two names on this host, or three on the fleet.
fn many_names(case: &Case, out: &mut Vec<Item>) {
    let mut first: BTreeMap<&str, (&Instance, String)> = BTreeMap::new();
    for process in case.own().filter(|p| matches!(p.signature.as_deref(), Some("unsigned" | "invalid"))) {
        let (Some(hash), name) = (process.sha256.as_deref(), copy_stem(&process.name())) else { continue };
        if let Some(known) = case.fleet.images.get(hash).filter(|p| p.names >= MANY_NAMES) {
            let summary = format!("the same unsigned image ran under {} names on {} hosts in 30 days", known.names, known.hosts);
            out.push(Item::for_life(Code::MMultiName, process, summary));
            return;
        }
        match first.get(hash) {
            Some((before, other)) if *other != name => {
                let summary = format!("the same unsigned image ran as {} and {}", before.name(), process.name());
                let mut item = Item::for_life(Code::MMultiName, process, summary);
                item.events.extend(before.event);
                out.push(item);
                return;
            }
            Some(_) => {}
            None => drop(first.insert(hash, (process, name))),
        }
    }
}

fn renamed(case: &Case, process: &Instance, out: &mut Vec<Item>) {
    let (Some(original), name) = (process.original_file_name.as_deref(), process.name()) else { return };
    if name.is_empty() || stem(original).is_empty() || stem(original) == stem(&name) {
        return;
    }
    let is_tool = names::SYSTEM_NAMES.contains(&original.to_lowercase().as_str())
        || COMPUTE_TOOLS.iter().any(|t| original.to_lowercase().starts_with(t));
    let unsigned_and_rare = process.signature.as_deref() != Some("valid") && process.sha256.as_deref().is_some_and(|h| case.fleet.is_rare_image(h));
    let windows_own = names::in_system_folder(&process.path()) && process.signature.as_deref().is_none_or(|s| s == "valid");
    // Version data of many honest programs differs from the file name; a signed or widespread one is no disguise.
    if (is_tool && !windows_own) || (unsigned_and_rare && process.signature.is_some()) {
        out.push(Item::for_life(Code::MOfn, process, format!("{name} was named {original} by its maker")));
    }
}

fn unsigned(case: &Case, process: &Instance, out: &mut Vec<Item>) {
    let Some(image) = process.image.as_deref().filter(|i| names::is_user_writable(i)) else { return };
    let known_unsigned = matches!(process.signature.as_deref(), Some("unsigned" | "invalid"));
    let rare = process.sha256.as_deref().is_some_and(|h| case.fleet.is_rare_image(h));
    let nameless = process.company.as_deref().is_none_or(|c| c.trim().is_empty() || c == "-" || !names::is_trusted_vendor(c));
    if known_unsigned || process.signature.is_none() && rare && nameless {
        let how = if known_unsigned { "unsigned" } else { "signature not known, on few hosts" };
        out.push(Item::for_life(Code::MUnsignedWritable, process, format!("{image} is {how} and lies where users may write")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_suffixes_and_mui_are_no_renaming() {
        for (original, name) in [("NOTEPAD.EXE.MUI", "notepad.exe"), ("python", "python3.11.exe"), ("tool.exe", "tool-2.1.exe")] {
            assert_eq!(stem(original), stem(name), "{original} {name}");
        }
        assert_ne!(stem("boinc.exe"), stem("helper.exe"));
    }
}
