//! Which group a process belongs to: the image by hash, a code host by what it runs, else the normalised path.
//!
//! Source: detection design, section 3.3. A group is the unit of correlation and baseline, whatever the process instances.

use crate::model::{
    ids::{EventId, GroupKey},
    names,
};
use base64::Engine as _;
use regex::Regex;
use std::{borrow::Cow, sync::LazyLock};

/// Path for comparison: lower case, `\`, without `\\?\`, with `%windir%` and `\SystemRoot\` spelled out.
pub fn comparable_path(path: &str) -> String {
    let path = path.trim().trim_matches('"').replace('/', "\\").to_lowercase();
    let path = path.strip_prefix("\\\\?\\").or_else(|| path.strip_prefix("\\??\\")).unwrap_or(&path);
    for prefix in ["\\systemroot\\", "%systemroot%\\", "%windir%\\"] {
        if let Some(rest) = path.strip_prefix(prefix) {
            return format!("c:\\windows\\{rest}");
        }
    }
    path.to_owned()
}

/// Last part of a path, as given.
pub fn base_name(path: &str) -> &str {
    path.rsplit(['\\', '/']).next().unwrap_or(path)
}

/// Folder of a comparable path, without the last `\`.
pub fn folder(path: &str) -> &str {
    path.rsplit_once('\\').map_or("", |(folder, _)| folder)
}

static VARIABLE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?x)\{?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\}? | \b[0-9a-f]{8,}\b | [0-9]{4,}")
        .expect("a constant pattern")
});
static PROFILE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^([a-z]:\\users\\)[^\\]+").expect("a constant pattern"));
static SCRIPT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"(?i)(?:"([^"]+\.(?:ps1|psm1|vbs|vbe|js|jse|wsf|hta|bat|cmd|py|jar|dll|ocx|sct|proj|csproj|xml))"|([^\s",]+\.(?:ps1|psm1|vbs|vbe|js|jse|wsf|hta|bat|cmd|py|jar|dll|ocx|sct|proj|csproj|xml)))"#)
        .expect("a constant pattern")
});
static SERVICE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?i)\s-s\s+(\w+)").expect("a constant pattern"));
static ENCODED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)\s[-/]e(?:nc?|nco\w*|c)?\s+([A-Za-z0-9+/=]{16,})").expect("a constant pattern"));

/// A comparable path whose profile name, GUIDs, long hex runs and digit runs are replaced, so that per-user and per-version
/// copies are one.
pub fn normalised_path(path: &str) -> String {
    let path = comparable_path(path);
    let path = PROFILE.replace(&path, "${1}*");
    VARIABLE.replace_all(&path, "#").into_owned()
}

/// What a code host runs: script, DLL or jar path, service name, hash of an encoded command, else `interactive`.
fn payload(command_line: &str) -> String {
    if let Some(found) = SERVICE.captures(command_line) {
        return format!("-s {}", found[1].to_lowercase());
    }
    if let Some(found) = ENCODED.captures(command_line) {
        let decoded = base64::engine::general_purpose::STANDARD.decode(&found[1]);
        let bytes = decoded.map_or_else(|_| Cow::Borrowed(found[1].as_bytes()), Cow::Owned);
        return format!("encoded {}", EventId::of_parts([bytes.as_ref()]).0.simple());
    }
    // The first word is the host itself; what follows may name a script.
    let arguments = match command_line.trim_start().strip_prefix('"') {
        Some(rest) => rest.split_once('"').map_or("", |(_, rest)| rest),
        None => command_line.trim_start().split_once(' ').map_or("", |(_, rest)| rest),
    };
    match SCRIPT.captures(arguments) {
        Some(found) => normalised_path(found.get(1).or_else(|| found.get(2)).map_or("", |m| m.as_str())),
        None if arguments.trim().is_empty() => "interactive".to_owned(),
        None => format!("command {}", EventId::of_parts([normalised_path(arguments).as_bytes()]).0.simple()),
    }
}

/// Words that name the group; equal words are one group. `None` without an image.
pub fn words(image: &str, command_line: Option<&str>, sha256: Option<&str>) -> Option<String> {
    let path = comparable_path(image);
    if path.is_empty() {
        return None;
    }
    let name = base_name(&path);
    if names::is_code_host(&path) {
        return Some(format!("{name} {}", payload(command_line.unwrap_or_default())));
    }
    Some(sha256.map_or_else(|| normalised_path(&path), |hash| format!("sha256 {hash}")))
}

/// Key of a group's words.
pub fn key(words: &str) -> GroupKey {
    GroupKey(EventId::of_parts([b"group".as_slice(), words.as_bytes()]).0.as_u64_pair().0.cast_signed())
}

/// Key of the group of a process.
pub fn group_of(image: &str, command_line: Option<&str>, sha256: Option<&str>) -> Option<GroupKey> {
    words(image, command_line, sha256).map(|w| key(&w))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn per_user_and_per_version_paths_are_one_group() {
        assert_eq!(
            normalised_path(r"C:\Users\kim\AppData\Local\Temp\{5770385F-C22A-43E0-BF4C-06F5698FFBD9}\setup-20240131.exe"),
            r"c:\users\*\appdata\local\temp\#\setup-#.exe"
        );
        assert_eq!(comparable_path(r"\SystemRoot\System32\smss.exe"), r"c:\windows\system32\smss.exe");
    }

    #[test]
    fn a_code_host_is_grouped_by_what_it_runs() {
        let ps = r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe";
        let daily = group_of(ps, Some(r"powershell.exe -File C:\Corp\daily.ps1 -Day 7"), Some("aa"));
        assert_eq!(daily, group_of(ps, Some(r"powershell.exe -NoProfile -File c:\corp\DAILY.ps1 -Day 8"), Some("bb")));
        assert_ne!(daily, group_of(ps, Some("powershell.exe"), Some("aa")));
        let svchost = |s: &str| group_of(r"C:\Windows\System32\svchost.exe", Some(&format!("svchost.exe -k netsvcs -p -s {s}")), None);
        assert_ne!(svchost("Schedule"), svchost("wuauserv"));
    }

    #[test]
    fn a_system_name_elsewhere_is_no_code_host() {
        let words = words(r"C:\ProgramData\Microsoft\svchost.exe", Some("svchost.exe"), Some("cafe"));
        assert_eq!(words.as_deref(), Some("sha256 cafe"));
    }
}
