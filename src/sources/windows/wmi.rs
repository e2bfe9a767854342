//! WMI: event subscriptions (Sysmon 19 to 21, WMI-Activity 5861), and what providers and clients did (5857 to 5860).

use super::{Facts, Record, one};
use crate::model::fact::Persistence;
use crate::sources::{scalar, values::Values};

/// Sysmon 19 (filter), 20 (consumer), 21 (binding).
pub(super) fn sysmon_facts(v: &Values<'_>, event_id: u32) -> Facts {
    let clean = |name: &str| v.text(name).map(|text| unquoted(&text));
    let action = match v.text("Operation").as_deref() {
        Some("Deleted") => "delete",
        Some("Modified") => "update",
        _ => "create",
    };
    let base = Persistence { action: Some(action.to_owned()), by_user: v.account("User"), ..Persistence::default() };
    one(match event_id {
        19 => Persistence { kind: Some("wmi_filter".to_owned()), name: clean("Name"), detail: clean("Query"), ..base },
        20 => {
            let (command, arguments) = what_runs(clean("Destination"), v.text("Type").as_deref() == Some("Script"));
            Persistence { kind: Some("wmi_consumer".to_owned()), name: clean("Name"), command, arguments, ..base }
        }
        _ => Persistence {
            kind: Some("wmi_binding".to_owned()),
            name: clean("Consumer").map(|path| instance_name(&path)),
            detail: clean("Filter").map(|path| instance_name(&path)),
            ..base
        },
    })
}

/// Command and arguments, or the script as arguments.
fn what_runs(text: Option<String>, is_script: bool) -> (Option<String>, Option<String>) {
    match text {
        Some(script) if is_script => (None, Some(script)),
        Some(line) => {
            let (command, arguments) = scalar::split_command(&line);
            (Some(command), arguments)
        }
        None => (None, None),
    }
}

/// WMI-Activity 5857 to 5861.
pub(super) fn facts(record: &Record<'_>) -> Facts {
    match record.event_id {
        5857..=5860 => one(activity(record)),
        5861 => permanent_binding(record),
        _ => Facts::new(),
    }
}

/// First of these that is there: values of the event, or those that NXLog leaves in its text.
fn value_of(record: &Record<'_>, names: &[&str]) -> Option<String> {
    let v = &record.values;
    names.iter().find_map(|name| v.string(name)).or_else(|| {
        let message = v.message?;
        names.iter().find_map(|name| message_value(message, name)).map(str::to_owned)
    })
}

/// A provider that was loaded (5857), a call that failed (5858), a query that was registered (5859, 5860).
fn activity(record: &Record<'_>) -> Persistence {
    let text = |names: &[&str]| value_of(record, names);
    // NXLog's own `ProcessID` is the logger's.
    let pid = |names: &[&str]| text(names)?.parse().ok().filter(|pid: &i64| (1..=i64::from(u32::MAX)).contains(pid));
    let provider = || record.values.message?.split_once(" provider started").map(|(name, _)| name.to_owned());
    let base = Persistence { kind: Some("wmi_activity".to_owned()), ..Persistence::default() };
    match record.event_id {
        5857 => Persistence {
            name: record.values.string("ProviderName").or_else(provider),
            image: text(&["HostProcess"]),
            detail: text(&["ProviderPath"]),
            pid: if record.nxlog { record.logging_pid } else { pid(&["ProcessID"]) },
            ..base
        },
        5858 => Persistence {
            name: text(&["Operation"]),
            by_user: text(&["User"]).and_then(|user| scalar::account(&user)),
            detail: text(&["ResultCode"]),
            pid: pid(&["ClientProcessId"]),
            ..base
        },
        _ => Persistence {
            name: text(&["Query", "NotificationQuery"]),
            by_user: text(&["User", "UserName", "OwnerName"]).and_then(|user| scalar::account(&user)),
            detail: text(&["NamespaceName", "Namespace"]),
            pid: pid(&["Processid", "ClientProcessID", "HostProcessID"]),
            ..base
        },
    }
}

fn permanent_binding(record: &Record<'_>) -> Facts {
    let text = |names: &[&str]| value_of(record, names);
    let consumer = text(&["CONSUMER", "Consumer"]);
    let filter = text(&["ESS", "Eventfilter"]).map(|filter| match filter.split_once(" (refer to") {
        Some((name, _)) => name.to_owned(),
        None => filter,
    });
    if consumer.is_none() && filter.is_none() {
        return Facts::new();
    }
    let cause = text(&["PossibleCause"]).unwrap_or_default();
    let script = property(&cause, "ScriptText");
    let (command, arguments) =
        match property(&cause, "CommandLineTemplate").or_else(|| property(&cause, "ExecutablePath")) {
            Some(line) => what_runs(Some(line), false),
            None => what_runs(script, true),
        };
    one(Persistence {
        kind: Some("wmi_binding".to_owned()),
        action: Some("create".to_owned()),
        name: consumer.map(|c| c.split_once('=').map_or(c.clone(), |(_, name)| unquoted(name))),
        command,
        arguments,
        triggers: property(&cause, "Query"),
        detail: filter,
        by_user: None,
        ..Persistence::default()
    })
}

/// `Key = value; Key = value`, some with a comma or after a sentence; `PossibleCause` takes the rest.
fn message_value<'m>(message: &'m str, name: &str) -> Option<&'m str> {
    let key = format!("{name} ");
    let after = message.match_indices(&key).find_map(|(at, _)| {
        let before = message.get(..at)?.trim_end();
        let begins = before.is_empty() || before.ends_with([';', '.', ',']);
        message.get(at..)?.strip_prefix(&key)?.strip_prefix("= ").filter(|_| begins)
    })?;
    let value = match name {
        "PossibleCause" => after,
        "ClientProcessID" => after.split([',', ';']).next().unwrap_or(after),
        _ => after.split_once("; ").map_or(after, |(value, _)| value),
    };
    let value = value.trim();
    (!scalar::is_null(value)).then_some(value)
}

/// A string property of an instance in MOF text: `Name = "..";` with `\"` and `\\` escaped.
fn property(mof: &str, name: &str) -> Option<String> {
    let mut rest = mof;
    while let Some((before, after)) = rest.split_once(name) {
        rest = after;
        // `Query` is no part of `QueryLanguage` or `MyQuery`.
        let whole = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        if whole
            && let Some(value) = after.trim_start().strip_prefix('=').and_then(|v| v.trim_start().strip_prefix('"'))
        {
            let mut escaped = false;
            let end = value.char_indices().find(|(_, c)| match (escaped, c) {
                (true, _) => {
                    escaped = false;
                    false
                }
                (false, '\\') => {
                    escaped = true;
                    false
                }
                (false, c) => *c == '"',
            });
            let inner = end.and_then(|(at, _)| value.get(..at)).unwrap_or(value);
            return Some(unescaped(inner)).filter(|text| !scalar::is_null(text));
        }
    }
    None
}

/// Without blanks and quotes around, escapes undone once.
fn unquoted(text: &str) -> String {
    let text = text.trim();
    match text.strip_prefix('"') {
        Some(inner) => unescaped(inner.strip_suffix('"').unwrap_or(inner)),
        None => text.to_owned(),
    }
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some('t') => out.push('\t'),
                Some(plain) => out.push(plain),
                None => out.push('\\'),
            },
            (c, false) => out.push(c),
        }
    }
    out
}

/// Name of an instance path: ` "\\.\root\subscription:__EventFilter.Name=\"Updater\""`.
fn instance_name(path: &str) -> String {
    match path.split_once(".Name=") {
        Some((_, name)) => unquoted(name),
        None => path.trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Section 15, case 51.
    #[test]
    fn sysmons_quotes_and_escapes_are_undone_once() {
        assert_eq!(unquoted(r#" "c:\\Windows\\System32\\cmd.exe""#), r"c:\Windows\System32\cmd.exe");
        let path = unquoted(r#" "\\\\.\\root\\subscription:__EventFilter.Name=\"Updater\"""#);
        assert_eq!(instance_name(&path), "Updater");
    }

    #[test]
    fn properties_of_mof_text_are_found_by_their_whole_name() {
        let mof = "instance of __EventFilter\n{\n\tQuery = \"select * from X where A = \\\"b\\\"\";\n\tQueryLanguage = \"WQL\";\n};\n\
                   Perm. Consumer: \ninstance of CommandLineEventConsumer\n{\n\tCommandLineTemplate = \"C:\\\\a b.exe -o x\";\n};";
        assert_eq!(property(mof, "Query").as_deref(), Some(r#"select * from X where A = "b""#));
        assert_eq!(property(mof, "CommandLineTemplate").as_deref(), Some(r"C:\a b.exe -o x"));
        assert_eq!(property(mof, "ScriptText"), None);
    }
}
