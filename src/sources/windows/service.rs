//! Services: System 7045, Security 4697; service states and start types as coverage.

use super::{Facts, Record, one, prefixed_account};
use crate::model::fact::{Persistence, SettingChange};
use crate::sources::scalar;

pub(super) fn facts(record: &Record<'_>) -> Facts {
    let v = &record.values;
    let coverage = |old_value, new_value| {
        one(SettingChange {
            kind: Some("coverage".to_owned()),
            name: v.string("param1"),
            old_value,
            new_value,
            ..SettingChange::default()
        })
    };
    match record.event_id {
        7045 => one(installed_7045(record)),
        7036 => coverage(None, v.string("param2")),
        7040 => coverage(v.string("param2"), v.string("param3")),
        _ => Facts::new(),
    }
}

fn installed_7045(record: &Record<'_>) -> Persistence {
    // NXLog's own `AccountName` hides the service account: it is the installer.
    let run_as = record.values.account("AccountName").filter(|_| !record.nxlog);
    Persistence { run_as, by_user: record.logging_user.clone(), ..installed(record, "ImagePath", "StartType") }
}

pub(super) fn installed_4697(record: &Record<'_>) -> Persistence {
    Persistence {
        run_as: record.values.account("ServiceAccount"),
        by_user: prefixed_account(&record.values, "Subject"),
        ..installed(record, "ServiceFileName", "ServiceStartType")
    }
}

/// What both say. `detail` is the service type, `triggers` the start type.
fn installed(record: &Record<'_>, image_path: &str, start: &str) -> Persistence {
    let v = &record.values;
    let (command, arguments) = match v.text(image_path).as_deref().map(scalar::split_command) {
        Some((command, arguments)) => (Some(command), arguments),
        None => (None, None),
    };
    let detail = v.text("ServiceType").map(|kind| match kind.as_ref() {
        "0x1" | "1" => "kernel mode driver".to_owned(),
        "0x10" | "16" | "0x20" | "32" => "user mode service".to_owned(),
        _ => kind.into_owned(),
    });
    let triggers = v.text(start).map(|start| match start.as_ref() {
        "0" => "boot start".to_owned(),
        "1" => "system start".to_owned(),
        "2" => "auto start".to_owned(),
        "3" => "demand start".to_owned(),
        "4" => "disabled".to_owned(),
        _ => start.into_owned(),
    });
    Persistence {
        kind: Some("service".to_owned()),
        action: Some("create".to_owned()),
        name: v.string("ServiceName"),
        command,
        arguments,
        triggers,
        detail,
        ..Persistence::default()
    }
}
