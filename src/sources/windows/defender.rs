//! Microsoft Defender: what it found (1116 to 1119), what was switched off (5001, 5007, 5010, 5012); firewall rules.

use super::{Facts, Record, one};
use crate::model::fact::{SecurityAlert, SettingChange};
use crate::sources::scalar;

pub(super) fn facts(record: &Record<'_>) -> Facts {
    let v = &record.values;
    let setting = |name: Option<String>, old_value: Option<String>, new_value: Option<String>| {
        one(SettingChange {
            kind: Some("av_config".to_owned()),
            name,
            old_value,
            new_value,
            ..SettingChange::default()
        })
    };
    let off = |what: &str| setting(Some(what.to_owned()), None, Some("off".to_owned()));
    match record.event_id {
        1116..=1119 => one(alert(record)),
        5001 => off("real-time protection"),
        5010 => off("scanning for malware"),
        5012 => off("scanning for viruses"),
        5007 => {
            let (old, new) = (v.loose("Old Value"), v.loose("New Value"));
            // `HKLM\..\Exclusions\Paths\C:\x = 0x0`: the name is what stands before the last ` = `.
            let key = new
                .as_deref()
                .or(old.as_deref())
                .map(|text| text.rsplit_once(" = ").map_or(text, |(key, _)| key).to_owned());
            setting(key, old, new)
        }
        _ => Facts::new(),
    }
}

fn alert(record: &Record<'_>) -> SecurityAlert {
    let v = &record.values;
    let path = v.loose("Path").map(|path| {
        let first = path.split(';').map(str::trim).find(|p| p.starts_with("file:_")).unwrap_or(&path).to_owned();
        first.strip_prefix("file:_").unwrap_or(&first).to_owned()
    });
    SecurityAlert {
        detection_id: v.loose("Detection ID").map(|id| id.trim_matches(['{', '}']).to_lowercase()),
        threat: v.loose("Threat Name"),
        severity: v.loose("Severity Name"),
        category: v.loose("Category Name"),
        path,
        process: v.loose("Process Name").filter(|name| name != "Unknown"),
        user_name: v.loose("Detection User").and_then(|user| scalar::account(&user)),
        action: v
            .loose("Action Name")
            .or_else(|| Some(if record.event_id == 1116 { "found" } else { "acted" }.to_owned())),
    }
}

/// 2004: a rule was added.
pub(super) fn firewall_facts(record: &Record<'_>) -> Facts {
    let v = &record.values;
    if record.event_id != 2004 {
        return Facts::new();
    }
    one(SettingChange {
        kind: Some("firewall_rule".to_owned()),
        name: v.string("RuleName"),
        new_value: v.string("ApplicationPath"),
        image: v.string("ModifyingApplication"),
        user_name: v.account("ModifyingUser"),
        ..SettingChange::default()
    })
}
