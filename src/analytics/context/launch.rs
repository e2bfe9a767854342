//! Class L: what started the cluster's processes. Source: detection design, section 5, L.
//!
//! The chain is a process and its ancestors up to 4 hops, not through barriers; what launched the last of it counts too.

use super::super::case::{Artefact, Case, Instance, Item};
use crate::model::{
    code::{Code, Force},
    group::{base_name, comparable_path},
    names,
};
use chrono::TimeDelta;
use regex::Regex;
use std::sync::LazyLock;

/// Artefacts count however old, as long as they are kept (`ArtefactLookback`).
const LOOKBACK: TimeDelta = TimeDelta::days(45);
/// How far a launch record may be from the start it describes.
const LAUNCH: TimeDelta = TimeDelta::seconds(5);

/// Starts that make a respawn, and how soon each follows. Source: detection design, L.RESPAWN.
const RESPAWNS: usize = 5;
const RESPAWN_PAUSE: TimeDelta = TimeDelta::seconds(120);

static ENCODED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\s[-/–](?:e|ec|en|enc|enco|encod|encode|encoded|encodedc\w*)\s+[\x22']?[A-Za-z0-9+/=]{120,}").expect("a constant pattern")
});
static HIDDEN: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)\s[-/–]w(?:i|in|ind|indo|indow|indows\w*)?\s+(?:h\w*|1)\b").expect("a constant pattern"));
static UNGUARDED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\s[-/–](?:nop\w*|noprofile|ex\w*\s+(?:bypass|unrestricted)|ep\s+(?:bypass|unrestricted))").expect("a constant pattern")
});
static SCRIPT_FILE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#"(?i)["']?([a-z]:\\[^"'|;&]+?\.ps1)"#).expect("a constant pattern"));
static TASK_ARGUMENTS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?ix)(?: \s[-/–](?:e|ec|enc\w*)\s+[A-Za-z0-9+/=]{16,} | frombase64string | \s[-/–]w\w*\s+(?:hid\w*|h|1)\b | downloadstring | downloadfile
        | invoke-webrequest | \biwr\b | \biex\b | invoke-expression | urlcache | \bbypass\b | https?:// )")
        .expect("a constant pattern")
});

const INTERPRETERS: &[&str] = &[
    "cmd.exe", "powershell.exe", "pwsh.exe", "wscript.exe", "cscript.exe", "mshta.exe", "rundll32.exe", "regsvr32.exe", "msbuild.exe",
    "bash.exe", "python.exe", "cmd", "powershell", "pwsh", "wscript", "cscript", "mshta", "rundll32", "regsvr32",
];
const SERVERS: &[&str] = &[
    "w3wp.exe", "httpd.exe", "nginx.exe", "php-cgi.exe", "sqlservr.exe", "mysqld.exe", "postgres.exe", "oracle.exe", "mongod.exe",
    "umworkerprocess.exe", "umservice.exe", "ws_tomcatservice.exe", "exchangetransport.exe", "edgetransport.exe",
];
const SERVER_HELPERS: &[&str] = &["csc.exe", "vbc.exe", "conhost.exe", "werfault.exe", "cvtres.exe"];
/// What puts honest programs and their tasks in place.
const INSTALLERS: &[&str] = &["msiexec.exe", "trustedinstaller.exe", "tiworker.exe", "ccmexec.exe", "agentexecutor.exe"];
/// Programs that run another one as a service.
const WRAPPERS: &[&str] = &["nssm.exe", "winsw.exe", "winsw-x64.exe", "srvany.exe", "srvany-ng.exe", "shawl.exe", "servy.exe"];
/// WMI consumers that Windows ships.
const SHIPPED_CONSUMERS: &[&str] = &["scm event log consumer", "bvtconsumer", "nteventlogeventconsumer"];

pub(super) fn find(case: &Case, out: &mut Vec<Item>) {
    respawn(case, out);
    for process in case.own().filter(|p| p.image.is_some()) {
        let chain = case.chain(process);
        tasks(case, process, &chain, out);
        wmi(case, process, &chain, out);
        powershell(case, process, &chain, out);
        services(case, process, &chain, out);
        exploit(process, &chain, out);
        run_keys(case, process, &chain, out);
    }
}

fn life(code: Code, process: &Instance, summary: String, artefacts: &[&Artefact]) -> Item {
    let mut item = Item::for_life(code, process, summary);
    item.events.extend(artefacts.iter().filter_map(|a| a.event));
    item
}

/// Whether the base name of the claimed parent is one of these, in Windows' own folders.
fn parent_is(process: &Instance, names_: &[&str]) -> bool {
    process.parent_image.as_deref().is_some_and(|p| {
        let path = comparable_path(p);
        names_.contains(&base_name(&path)) && (names::in_system_folder(&path) || !path.contains('\\'))
    })
}

/// Whether a task action, service path or consumer text starts this process.
fn resolves(command: Option<&str>, arguments: Option<&str>, process: &Instance) -> bool {
    let Some(command) = command else { return false };
    let path = process.path();
    let wanted = comparable_path(command);
    if wanted.is_empty() || path.is_empty() {
        return false;
    }
    let line = process.command_line.as_deref().unwrap_or_default().to_lowercase();
    let same_image = wanted == path || wanted.starts_with(&format!("{path} ")) || wanted.starts_with(&format!("{path}\" "));
    if same_image {
        return !names::is_code_host(&path) || arguments.is_none_or(|a| line.contains(a.trim().to_lowercase().as_str()));
    }
    // A bare name (`cmd.exe`, `powershell`) or a whole command line in one text.
    let bare = base_name(&path);
    let first = wanted.split_whitespace().next().unwrap_or_default();
    let first = base_name(first.trim_matches('"'));
    let same_name = first == bare || bare.strip_suffix(".exe") == Some(first);
    if !same_name {
        return wanted.contains(&path);
    }
    match arguments {
        Some(arguments) => line.contains(arguments.trim().to_lowercase().as_str()),
        None => !names::is_code_host(&path) || line.contains(wanted.trim()) || wanted.contains(line.trim()),
    }
}

/// The task that launched the process: by a launch record with its pid or path, else by the scheduler as parent.
fn tasks(case: &Case, process: &Instance, chain: &[&Instance], out: &mut Vec<Item>) {
    for member in chain {
        let by_record = case.artefacts.iter().find(|a| {
            a.kind == "task"
                && a.action == "launch"
                && (a.at - member.started_at).abs() <= LAUNCH
                && (a.pid.is_some() && a.pid == member.pid
                    || a.pid.is_none() && a.command.as_deref().is_some_and(|c| comparable_path(c) == member.path()))
        });
        let by_parent = parent_is(member, &["svchost.exe"])
            && member.parent_command_line.as_deref().is_some_and(|c| c.to_lowercase().contains("-s schedule"))
            || parent_is(member, &["taskeng.exe"]);
        if by_record.is_none() && !by_parent {
            continue;
        }
        let definition = case
            .artefacts
            .iter()
            .filter(|a| a.kind == "task" && matches!(a.action.as_str(), "create" | "update" | "enable"))
            .filter(|a| a.at <= member.started_at + LAUNCH && a.at >= member.started_at - LOOKBACK)
            .filter(|a| match by_record {
                Some(record) => a.name.eq_ignore_ascii_case(&record.name),
                None => resolves(a.command.as_deref(), a.arguments.as_deref(), member),
            })
            .max_by_key(|a| (a.command.is_some(), a.at));
        let name = by_record.or(definition).map_or("(unknown)", |a| a.name.as_str());
        let microsoft = name.to_lowercase().starts_with("\\microsoft\\");
        if microsoft && names::in_system_folder(&member.path()) && member.signature.as_deref().is_none_or(|s| s == "valid") {
            continue;
        }
        let proof: Vec<&Artefact> = by_record.into_iter().chain(definition).collect();
        out.push(life(Code::LTask, process, format!("started by scheduled task {name}"), &proof));
        let installed = case.written.iter().any(|w| {
            comparable_path(&w.path) == member.path()
                && w.writer.as_deref().is_some_and(|i| INSTALLERS.contains(&base_name(&comparable_path(i))))
        });
        let traits = definition.map(|d| suspicious_task(d, member, installed)).unwrap_or_default();
        if traits.iter().any(|t| t.1) || traits.len() >= 2 {
            let words: Vec<_> = traits.iter().map(|t| t.0).collect();
            out.push(life(Code::LTaskSusp, process, format!("started by scheduled task {name}: {}", words.join(", ")), &proof));
        }
        return;
    }
}

/// Traits of a task; `true` = one of them is enough.
fn suspicious_task(task: &Artefact, launched: &Instance, installed: bool) -> Vec<(&'static str, bool)> {
    let mut traits = Vec::new();
    let command = task.command.as_deref().unwrap_or_default();
    let path = comparable_path(command);
    let interpreter = INTERPRETERS.contains(&base_name(&path));
    let arguments = task.arguments.as_deref().unwrap_or_default();
    if interpreter && TASK_ARGUMENTS.is_match(&format!(" {arguments}")) {
        traits.push(("interpreter with hidden, encoded or downloading arguments", true));
    }
    if task.hidden {
        traits.push(("hidden", true));
    }
    if imitates(&task.name, launched) {
        traits.push(("name imitates a vendor that did not sign the action", true));
    }
    if names::is_user_writable(command) && launched.signature.as_deref() != Some("valid") {
        traits.push(("action in a user-writable folder, not validly signed", false));
    }
    let account = task.run_as.as_deref().unwrap_or_default().to_uppercase();
    let privileged = matches!(account.as_str(), "S-1-5-18" | "SYSTEM" | "NT AUTHORITY\\SYSTEM") || task.run_level.as_deref() == Some("highest");
    let maker = task.image.as_deref().map(|i| base_name(&comparable_path(i)).to_owned()).unwrap_or_default();
    if privileged && !installed && !INSTALLERS.contains(&maker.as_str()) {
        traits.push(("runs as SYSTEM or with highest rights", false));
    }
    if is_random(base_name(&task.name)) {
        traits.push(("random name", false));
    }
    if repeats(task.triggers.as_deref().unwrap_or_default()) {
        traits.push(("repeats every 30 min or less, or at boot and logon", false));
    }
    if matches!(maker.as_str(), "wscript.exe" | "cscript.exe" | "mshta.exe" | "winword.exe" | "excel.exe" | "outlook.exe")
        || SERVERS.contains(&maker.as_str())
    {
        traits.push(("created by a script host, Office or server process", false));
    }
    traits
}

/// Vendors whose names tasks borrow, with what their signers are called.
const VENDOR_WORDS: &[(&str, &str)] = &[
    ("microsoft", "microsoft"), ("windows", "microsoft"), ("onedrive", "microsoft"), ("office", "microsoft"), ("edge", "microsoft"),
    ("defender", "microsoft"), ("google", "google"), ("chrome", "google"), ("adobe", "adobe"), ("intel", "intel"), ("nvidia", "nvidia"),
    ("mozilla", "mozilla"), ("firefox", "mozilla"), ("oracle", "oracle"), ("java", "oracle"), ("dropbox", "dropbox"),
];

fn imitates(name: &str, launched: &Instance) -> bool {
    let name = name.to_lowercase();
    let signer = launched.signer.as_deref().unwrap_or_default().to_lowercase();
    let words = || name.split(|c: char| !c.is_ascii_alphabetic());
    VENDOR_WORDS.iter().any(|(word, owner)| {
        words().any(|w| w.strip_prefix(word).is_some())
            && !signer.contains(owner)
            // A Windows binary whose signature is not known is the vendor's own.
            && !(launched.signature.is_none() && names::in_system_folder(&launched.path()))
            && !(launched.signature.is_none() && launched.company.as_deref().is_some_and(|c| c.to_lowercase().contains(owner)))
    })
}

/// At least 8 letters or digits with 3.5 bit each. Source: detection design, L.TASK_SUSP.
fn is_random(name: &str) -> bool {
    let text: Vec<char> = name.chars().filter(char::is_ascii_alphanumeric).collect();
    if text.len() < 8 || text.len() != name.chars().count() || !text.iter().any(char::is_ascii_digit) {
        return false;
    }
    let n = text.len() as f64;
    let mut counts = std::collections::BTreeMap::new();
    for c in &text {
        *counts.entry(*c).or_insert(0u32) += 1;
    }
    -counts.values().map(|c| f64::from(*c) / n).map(|p| p * p.log2()).sum::<f64>() >= 3.5
}

fn repeats(triggers: &str) -> bool {
    let short = triggers.split(['/', ',']).any(|part| {
        part.strip_prefix("PT").and_then(|t| t.strip_suffix('M')).and_then(|m| m.parse::<u32>().ok()).is_some_and(|m| m <= 30)
    });
    short || triggers.contains("BootTrigger") && triggers.contains("LogonTrigger")
}

fn wmi(case: &Case, process: &Instance, chain: &[&Instance], out: &mut Vec<Item>) {
    let started = chain.iter().find(|m| parent_is(m, &["wmiprvse.exe", "scrcons.exe"]));
    if let Some(member) = started {
        out.push(life(Code::LWmi, process, format!("{} was started through WMI", member.name()), &[]));
    }
    let by_scrcons = chain.iter().any(|m| parent_is(m, &["scrcons.exe"]));
    let consumer = case
        .artefacts
        .iter()
        .filter(|a| matches!(a.kind.as_str(), "wmi_consumer" | "wmi_binding") && a.action != "delete")
        .filter(|a| !SHIPPED_CONSUMERS.contains(&a.name.to_lowercase().as_str()))
        .filter(|a| a.at <= process.started_at + LAUNCH && a.at >= process.started_at - LOOKBACK)
        .find(|a| {
            by_scrcons && a.command.as_deref().or(a.arguments.as_deref()).is_some()
                || chain.iter().any(|m| {
                    // A barrier above the chain may be the provider itself: the consumer's text must lead to a member.
                    let line = m.command_line.as_deref().unwrap_or_default().trim().to_lowercase();
                    let text = format!("{} {}", a.command.as_deref().unwrap_or_default(), a.arguments.as_deref().unwrap_or_default()).to_lowercase();
                    !names::is_code_host(&m.path()) && m.path().contains('\\') && text.contains(&m.path())
                        || line.len() >= 12 && text.contains(&line)
                })
        });
    if by_scrcons || consumer.is_some() {
        let name = consumer.map_or_else(|| "scrcons.exe".to_owned(), |c| format!("consumer {}", c.name));
        out.push(life(Code::LWmiSub, process, format!("started by a WMI event subscription ({name})"), &consumer.into_iter().collect::<Vec<_>>()));
    }
}

fn powershell(case: &Case, process: &Instance, chain: &[&Instance], out: &mut Vec<Item>) {
    let is_powershell = |p: &&&Instance| matches!(p.name().as_str(), "powershell.exe" | "pwsh.exe");
    if let Some(parent) = chain.iter().skip(1).find(is_powershell) {
        out.push(life(Code::LPs, process, format!("started by {}", parent.name()), &[]));
    }
    for shell in chain.iter().filter(is_powershell) {
        let line = format!(" {}", shell.command_line.as_deref().unwrap_or_default());
        let script = SCRIPT_FILE.captures(&line).is_some_and(|c| names::is_user_writable(&c[1]));
        let code = case
            .found
            .iter()
            .find(|i| i.process == Some(shell.id) && matches!(i.code, Code::CCradle | Code::CSblock))
            .map(|i| format!("PowerShell with {}", i.code));
        let why = if ENCODED.is_match(&line) {
            Some("PowerShell with a long encoded command".to_owned())
        } else if HIDDEN.is_match(&line) && (UNGUARDED.is_match(&line) || script) {
            Some("hidden PowerShell without profile or policy, or with a script from a user-writable folder".to_owned())
        } else {
            code
        };
        if let Some(why) = why {
            let mut item = life(Code::LPsSusp, process, format!("started by {why} (pid {})", shell.pid.unwrap_or_default()), &[]);
            item.force = Force::Weak;
            item.events.extend(shell.event);
            out.push(item);
            return;
        }
    }
}

fn services(case: &Case, process: &Instance, chain: &[&Instance], out: &mut Vec<Item>) {
    let Some(member) = chain.iter().find(|m| parent_is(m, &["services.exe"])) else { return };
    out.push(life(Code::LSvc, process, format!("{} was started as a service", member.name()), &[]));
    let service = case
        .artefacts
        .iter()
        .filter(|a| a.kind == "service" && a.action != "delete" && a.at <= member.started_at + LAUNCH && a.at >= member.started_at - LOOKBACK)
        .find(|a| resolves(a.command.as_deref(), None, member));
    // A wrapper's own path says nothing: what it starts counts.
    let wrapped = WRAPPERS.contains(&member.name().as_str()) && member.id != process.id
        && process.image.as_deref().is_some_and(names::is_user_writable) && process.signature.as_deref() != Some("valid");
    if wrapped {
        let summary = format!("started by service wrapper {} from a user-writable folder", member.name());
        out.push(life(Code::LSvcSusp, process, summary, &service.into_iter().collect::<Vec<_>>()));
        return;
    }
    let Some(service) = service else { return };
    let command = service.command.as_deref().unwrap_or_default();
    let path = comparable_path(command);
    let program = path.split(".exe").next().map(|p| format!("{}.exe", p.trim_matches('"'))).unwrap_or_default();
    let interpreter = INTERPRETERS.contains(&base_name(&program));
    if (names::is_user_writable(&program) && member.signature.as_deref() != Some("valid")) || interpreter {
        let why = if interpreter { "runs an interpreter" } else { "runs from a user-writable folder" };
        out.push(life(Code::LSvcSusp, process, format!("started by service {} that {why}", service.name), &[service]));
    }
}

fn exploit(process: &Instance, chain: &[&Instance], out: &mut Vec<Item>) {
    let server = |path: &str| {
        let name = base_name(path);
        SERVERS.contains(&name) || name.starts_with("tomcat") || matches!(name, "java.exe" | "javaw.exe") && (path.contains("tomcat") || path.contains("weblogic") || path.contains("server"))
    };
    if SERVER_HELPERS.contains(&process.name().as_str()) {
        return;
    }
    let by_ancestor = chain.iter().skip(1).map(|m| m.path()).find(|p| server(p));
    let by_claim = chain.iter().filter_map(|m| m.parent_image.as_deref().map(comparable_path)).find(|p| server(p));
    if let Some(path) = by_ancestor.or(by_claim) {
        out.push(life(Code::LExploit, process, format!("started by server process {}", base_name(&path)), &[]));
    }
}

/// At least five starts of the group within an hour, each soon after the previous end.
fn respawn(case: &Case, out: &mut Vec<Item>) {
    let mut lives: Vec<&Instance> = case.own().filter(|p| p.start_observed).collect();
    lives.sort_by_key(|p| (p.started_at, p.id));
    let follows = |pair: &[&Instance]| match pair {
        [before, after] => before.ended_at.is_some_and(|end| after.started_at >= end - LAUNCH && after.started_at - end <= RESPAWN_PAUSE),
        _ => false,
    };
    let quick = |run: &&[&Instance]| {
        run.windows(2).all(follows) && run.first().zip(run.last()).is_some_and(|(first, last)| last.started_at - first.started_at <= TimeDelta::hours(1))
    };
    let mut runs = lives.windows(RESPAWNS).filter(quick);
    let Some(first) = runs.next() else { return };
    let last = runs.next_back().unwrap_or(first);
    if let (Some(begin), Some(known), Some(end)) = (first.first(), first.last(), last.last()) {
        let summary = format!("{RESPAWNS} starts within an hour, each at most {} s after the end before", RESPAWN_PAUSE.num_seconds());
        let mut item = Item::new(Code::LRespawn, begin, begin.started_at, end.life_end(), summary);
        item.known_at = known.started_at;
        item.events = first.iter().filter_map(|p| p.event).collect();
        out.push(item);
    }
}

fn run_keys(case: &Case, process: &Instance, chain: &[&Instance], out: &mut Vec<Item>) {
    let value = case.artefacts.iter().filter(|a| a.kind == "run_key" && a.action != "delete").find(|a| {
        a.at <= process.started_at + LAUNCH
            && a.at >= process.started_at - LOOKBACK
            && chain.iter().any(|m| resolves(a.command.as_deref(), a.arguments.as_deref(), m))
    });
    if let Some(value) = value {
        out.push(life(Code::LRunKey, process, format!("started by Run value {}", value.name), &[value]));
    }
}

/// The launch root of a case in words: task, service, consumer or Run value.
pub(in crate::analytics) fn root(case: &Case, items: &[Item]) -> Option<String> {
    let best = items.iter().filter(|i| i.code.class() == crate::model::code::Class::L).max_by(|a, b| a.points.total_cmp(&b.points))?;
    let artefact = case.artefacts.iter().find(|a| a.event.is_some_and(|e| best.events.contains(&e)));
    Some(artefact.map_or_else(|| best.summary.clone(), |a| a.name.clone()))
}


#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_names_have_digits_and_entropy() {
        assert!(is_random("k3j9x2qz7wb5"));
        assert!(!is_random("OneDriveSync"));
        assert!(!is_random("Update1"));
    }

    #[test]
    fn short_repetition_is_a_trait() {
        assert!(repeats("TimeTrigger/PT10M"));
        assert!(repeats("BootTrigger,LogonTrigger"));
        assert!(!repeats("CalendarTrigger/PT12H"));
    }

    #[test]
    fn powershell_switches_are_read_in_their_short_forms() {
        assert!(HIDDEN.is_match(" powershell.exe -NoP -w hidden -enc x"));
        assert!(HIDDEN.is_match(" powershell -WindowStyle Hidden"));
        assert!(UNGUARDED.is_match(" powershell -ep bypass"));
        assert!(ENCODED.is_match(&format!(" powershell -EncodedCommand {}", "A".repeat(130))));
        assert!(!ENCODED.is_match(" powershell -EncodedCommand AAAA"));
    }
}
