//! Class C beside what rules see on one event: a bare start with a miner's configuration file beside the image.

use super::super::case::{Case, Item};
use crate::model::{
    code::Code,
    group::{base_name, comparable_path, folder},
};
use chrono::TimeDelta;

/// Files that mining programs read when they get no arguments. Source: detection design, C.CFGBARE.
const CONFIGURATION: &[&str] = &["config.json", "pools.txt", "cpu.txt", "config.ini"];

pub(super) fn find(case: &Case, out: &mut Vec<Item>) {
    let Some(first) = case.own().filter(|p| p.start_observed).min_by_key(|p| p.started_at) else { return };
    for process in case.own().filter(|p| p.start_observed && is_bare(p.command_line.as_deref())) {
        let dir = folder(&process.path()).to_owned();
        let written = case.written.iter().find(|w| {
            let path = comparable_path(&w.path);
            CONFIGURATION.contains(&base_name(&path))
                && folder(&path) == dir
                && w.at <= first.started_at + TimeDelta::seconds(5)
                && w.at >= first.started_at - TimeDelta::hours(24)
        });
        if let Some(written) = written {
            let mut item = Item::for_life(Code::CCfgBare, process, format!("started without arguments after {} was written", written.path));
            item.events.push(written.event);
            out.push(item);
        }
    }
}

/// No word after the program.
pub(super) fn is_bare(command_line: Option<&str>) -> bool {
    let Some(line) = command_line.map(str::trim) else { return false };
    match line.strip_prefix('"') {
        Some(rest) => rest.split_once('"').is_some_and(|(_, after)| after.trim().is_empty()),
        None => line.to_lowercase().find(".exe").map_or(!line.contains(' '), |n| line.get(n + 4..).unwrap_or_default().trim().is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_start_has_the_program_alone() {
        for line in [r#""C:\Program Files\a b\x.exe""#, r"C:\a b\x.exe", "x.exe  ", "x"] {
            assert!(is_bare(Some(line)), "{line}");
        }
        for line in [r#""C:\a\x.exe" --svc"#, r"C:\a\x.exe -o y", "x y"] {
            assert!(!is_bare(Some(line)), "{line}");
        }
        assert!(!is_bare(None));
    }
}
