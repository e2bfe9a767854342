//! The event log about itself, and boots: what coverage is judged by.

use super::{Facts, Record, one, prefixed_account};
use crate::model::fact::SettingChange;

fn coverage(name: &str, new_value: Option<String>, user_name: Option<String>) -> Facts {
    one(SettingChange {
        kind: Some("coverage".to_owned()),
        name: Some(name.to_owned()),
        new_value,
        user_name,
        ..SettingChange::default()
    })
}

/// 1102 and 104 cleared, 6005 and 6006 log service, 6008 unexpected shutdown.
pub(super) fn event_log_facts(record: &Record<'_>) -> Facts {
    let v = &record.values;
    let by = || prefixed_account(v, "Subject");
    match record.event_id {
        1102 => coverage("log cleared", Some("Security".to_owned()), by()),
        104 => coverage("log cleared", v.string("Channel"), by()),
        6005 => coverage("boot", Some("event log started".to_owned()), None),
        6006 => coverage("shutdown", Some("event log stopped".to_owned()), None),
        6008 => coverage("shutdown", Some("unexpected".to_owned()), None),
        _ => Facts::new(),
    }
}

/// Kernel-General 12, 13.
pub(super) fn kernel_facts(record: &Record<'_>) -> Facts {
    match record.event_id {
        12 => coverage("boot", Some("system started".to_owned()), None),
        13 => coverage("shutdown", Some("system stopped".to_owned()), None),
        _ => Facts::new(),
    }
}
