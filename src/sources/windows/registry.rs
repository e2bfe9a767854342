//! Registry changes: Run values and service images start programs, Defender exclusions weaken, the rest are settings.

use super::{Facts, one};
use crate::model::fact::{Fact, Persistence, SettingChange};
use crate::model::ids::ProcessGuid;
use crate::sources::{scalar, values::Values};

/// One change, whoever reported it.
struct Change {
    path: String,
    action: &'static str,
    old_value: Option<String>,
    new_value: Option<String>,
    guid: Option<ProcessGuid>,
    pid: Option<i64>,
    image: Option<String>,
    user: Option<String>,
}

/// Sysmon 12, 13, 14.
pub(super) fn sysmon_facts(v: &Values<'_>) -> Facts {
    let Some(path) = v.text("TargetObject") else { return Facts::new() };
    let kind = v.text("EventType").unwrap_or_default();
    let action = match kind.as_ref() {
        "CreateKey" | "CreateValue" => "create",
        "DeleteKey" | "DeleteValue" => "delete",
        _ => "update",
    };
    let path = full_path(&v.text("NewName").unwrap_or(path));
    facts(Change {
        path,
        action,
        old_value: None,
        new_value: v.string("Details"),
        guid: v.guid("ProcessGuid"),
        pid: v.pid("ProcessId"),
        image: v.string("Image"),
        user: v.account("User"),
    })
}

/// Security 4657.
pub(super) fn security_facts(v: &Values<'_>) -> Facts {
    let Some(key) = v.text("ObjectName") else { return Facts::new() };
    let path = match v.text("ObjectValueName") {
        Some(value) => format!("{}\\{value}", full_path(&key)),
        None => full_path(&key),
    };
    let action = match v.find("OperationType").as_deref().and_then(|o| o.as_str()) {
        Some("%%1904") => "create",
        Some("%%1906") => "delete",
        _ => "update",
    };
    facts(Change {
        path,
        action,
        old_value: v.string("OldValue"),
        new_value: v.string("NewValue"),
        guid: None,
        pid: v.pid("ProcessId"),
        image: v.string("ProcessName"),
        user: super::prefixed_account(v, "Subject"),
    })
}

/// `HKLM\..`, `HKU\<sid>\..`.
fn full_path(path: &str) -> String {
    for (long, short) in [
        (r"\REGISTRY\MACHINE", "HKLM"),
        (r"\REGISTRY\USER", "HKU"),
        ("HKEY_LOCAL_MACHINE", "HKLM"),
        ("HKEY_USERS", "HKU"),
    ] {
        if let Some((head, rest)) = path.split_at_checked(long.len())
            && head.eq_ignore_ascii_case(long)
        {
            return format!("{short}{rest}");
        }
    }
    path.to_owned()
}

fn facts(change: Change) -> Facts {
    let lower = change.path.to_lowercase();
    let is_value = |key: &str| lower.rsplit_once('\\').is_some_and(|(parent, _)| parent.ends_with(key));
    let run = [r"\currentversion\run", r"\currentversion\runonce", r"\policies\explorer\run"].into_iter().any(is_value)
        || [r"\winlogon\shell", r"\winlogon\userinit"].iter().any(|value| lower.ends_with(value));
    if run {
        // Creating the key itself starts nothing.
        return one(persistence("run_key", change.path.clone(), change));
    }
    if let Some((_, rest)) = lower.split_once(r"\services\")
        && let Some(service) = rest.strip_suffix(r"\imagepath").filter(|name| !name.contains('\\'))
    {
        let name = change.path.rsplit('\\').nth(1).unwrap_or(service).to_owned();
        return one(persistence("service", name, change));
    }
    let defender = lower.contains(r"\windows defender\");
    if defender && (lower.contains(r"\exclusions\") || lower.contains("disable")) {
        return one(setting("av_config", change));
    }
    one(setting("registry", change))
}

fn persistence(kind: &str, name: String, change: Change) -> Fact {
    let (command, arguments) = match change.new_value.as_deref().map(scalar::split_command) {
        Some((command, arguments)) => (Some(command), arguments),
        None => (None, None),
    };
    Persistence {
        kind: Some(kind.to_owned()),
        action: Some(change.action.to_owned()),
        name: Some(name),
        command,
        arguments,
        by_user: change.user,
        guid: change.guid,
        pid: change.pid,
        image: change.image,
        ..Persistence::default()
    }
    .into()
}

fn setting(kind: &str, change: Change) -> Fact {
    SettingChange {
        kind: Some(kind.to_owned()),
        name: Some(change.path),
        old_value: change.old_value,
        new_value: change.new_value.or_else(|| Some(change.action.to_owned())),
        guid: change.guid,
        pid: change.pid,
        image: change.image,
        user_name: change.user,
    }
    .into()
}
