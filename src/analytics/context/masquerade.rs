//! Class M beside what rules see on one event: renamed and unsigned images. Source: detection design, section 5, M.

use super::super::case::{Case, Instance, Item};
use crate::model::{code::Code, group::base_name, names};

/// Programs made to use processors, by original name: their renaming matters. Source: BOINC and Folding@home file names.
const COMPUTE_TOOLS: &[&str] = &["boinc.exe", "boincmgr.exe", "fahcore", "fahclient.exe", "fah-client.exe", "primegrid"];

pub(super) fn find(case: &Case, out: &mut Vec<Item>) {
    for process in case.instances.iter().filter(|i| case.distance(i.id).is_some()) {
        renamed(case, process, out);
        unsigned(case, process, out);
    }
}

fn stem(name: &str) -> String {
    let name = base_name(name).trim().to_lowercase();
    let name = name.strip_suffix(".mui").unwrap_or(&name);
    let name = name.strip_suffix(".exe").or_else(|| name.strip_suffix(".dll")).unwrap_or(name);
    name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '_')).to_owned()
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
