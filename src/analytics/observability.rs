//! Which classes the host's telemetry can show around a case. Source: detection design, section 4.2.

use super::case::{Case, Coverage, UNATTRIBUTED};
use crate::model::code::Class;
use std::collections::BTreeMap;

/// Programs that run virtual machines: what a guest does, they do.
const VM_WORKERS: &[&str] = &["vmwp.exe", "vmmem", "vmmemwsl", "vmware-vmx.exe", "virtualboxvm.exe", "virtualboxheadless.exe", "qemu-system-x86_64.exe"];
/// Browsers: their command lines say nothing of what they run.
const BROWSERS: &[&str] = &["chrome.exe", "msedge.exe", "firefox.exe", "brave.exe", "opera.exe", "iexplore.exe"];

/// Whether the program runs virtual machines, whose connections no agent on the host attributes.
pub fn is_vm_worker(name: &str) -> bool {
    VM_WORKERS.contains(&name)
}

/// Whether it is a browser.
pub fn is_browser(name: &str) -> bool {
    BROWSERS.contains(&name)
}

/// Classes that cannot be observed, with the reason.
pub fn unobservable(case: &Case) -> BTreeMap<Class, String> {
    let c = &case.coverage;
    let mut out = BTreeMap::new();
    let mut blind = |class: Class, reason: &str| {
        out.insert(class, reason.to_owned());
    };
    if c.alive == 0 || c.cpu * 100 < c.alive * 80 {
        blind(Class::R, &format!("per-process CPU in {} of {} five-minute stretches", c.cpu, c.alive));
    }
    let primary = case.own().max_by_key(|p| (p.start_observed, std::cmp::Reverse(p.started_at)));
    let opaque = primary.is_some_and(|p| is_vm_worker(&p.name()) || is_browser(&p.name()));
    let seen = primary.is_some_and(|p| p.start_observed && p.command_line.is_some());
    if c.connections + c.flows == 0 {
        blind(Class::N, "no connections, flows or proxy records");
        blind(Class::P, "no connections, flows or proxy records");
    }
    if case.primary == UNATTRIBUTED {
        for class in [Class::C, Class::L, Class::M] {
            blind(class, "no process is known to do this");
        }
        return out;
    }
    if opaque {
        blind(Class::C, "the command line of virtual machines and browsers does not show what they run");
    } else if c.starts == 0 || c.with_command * 100 < c.starts * 95 || !seen {
        blind(Class::C, &commands(c, seen));
    }
    if c.starts == 0 || c.with_parent * 100 < c.starts * 95 {
        blind(Class::L, &format!("parent known for {} of {} process starts", c.with_parent, c.starts));
    }
    let described = primary.is_some_and(|p| p.image.is_some() && (p.original_file_name.is_some() || p.signature.is_some() || p.sha256.is_some()));
    if !described {
        blind(Class::M, "no original file name, signature or hash of the image");
    }
    out
}

fn commands(c: &Coverage, seen: bool) -> String {
    if c.starts > 0 && c.with_command * 100 >= c.starts * 95 && !seen {
        return "the start of the process was not seen with its command line".to_owned();
    }
    format!("command line for {} of {} process starts", c.with_command, c.starts)
}
