//! Security log: processes, connections, tasks, services, registry, privileges.

use super::{Ends, Facts, Record, one, prefixed_account, registry, service, taskscheduler};
use crate::model::fact::{Connection, Fact, ProcessStart, ProcessStop, SettingChange};
use crate::sources::{json::Json, scalar};
use chrono::{DateTime, Utc};

pub(super) fn facts(record: &Record<'_>, at: Option<DateTime<Utc>>) -> Facts {
    match record.event_id {
        4688 => one(process_start(record, at)),
        4689 => one(process_stop(record, at)),
        4697 => one(service::installed_4697(record)),
        4698..=4702 => taskscheduler::security_facts(record),
        4672 => privileges(record, "PrivilegeList", "logon").into_iter().collect(),
        4703 => [("EnabledPrivilegeList", "enabled"), ("DisabledPrivilegeList", "disabled")]
            .into_iter()
            .filter_map(|(list, state)| privileges(record, list, state))
            .collect(),
        4704 => privileges(record, "PrivilegeList", "assigned").into_iter().collect(),
        4705 => privileges(record, "PrivilegeList", "removed").into_iter().collect(),
        4717 => privileges(record, "AccessGranted", "assigned").into_iter().collect(),
        4718 => ["AccessRemoved", "AccessGranted"]
            .into_iter()
            .find_map(|list| privileges(record, list, "removed"))
            .into_iter()
            .collect(),
        4657 => registry::security_facts(&record.values),
        5156 => one(connection(record, at, true)),
        5157 => one(connection(record, at, false)),
        _ => Facts::new(),
    }
}

fn process_start(record: &Record<'_>, at: Option<DateTime<Utc>>) -> ProcessStart {
    let v = &record.values;
    let image = v.string("NewProcessName");
    let command_line = v.string("CommandLine");
    // Target is filled only where it differs from Subject.
    let target = v.has("TargetUserName") && v.text("TargetLogonId").is_none_or(|id| id != "0x0");
    ProcessStart {
        pid: v.pid("NewProcessId"),
        started_at: at,
        user_name: prefixed_account(v, if target { "Target" } else { "Subject" }),
        integrity: v.text("MandatoryLabel").and_then(|t| scalar::integrity(&t)).map(str::to_owned),
        // `ProcessId` is the creator here; an ECS `process.pid` would be the new process.
        parent_pid: v.own_pid("ProcessId").or_else(|| v.pid("ParentProcessId")).filter(|pid| *pid > 0),
        parent_image: v.string("ParentProcessName"),
        image,
        command_line,
        ..ProcessStart::default()
    }
}

fn process_stop(record: &Record<'_>, at: Option<DateTime<Utc>>) -> ProcessStop {
    let v = &record.values;
    ProcessStop { guid: None, pid: v.pid("ProcessId"), image: v.string("ProcessName"), ended_at: at }
}

fn connection(record: &Record<'_>, at: Option<DateTime<Utc>>, allowed: bool) -> Connection {
    let v = &record.values;
    // NXLog writes the subject as `ProcessId`; its `ProcessID` is the logger.
    let pid = if record.nxlog { v.pid("ProcessId") } else { v.pid("ProcessID").or_else(|| v.pid("ProcessId")) };
    let mut connection = Connection {
        kind: Some("socket".to_owned()),
        pid,
        image: v.string("Application"),
        started_at: at,
        allowed: Some(allowed),
        ..Connection::default()
    };
    // `%%14592` is a word for nothing to `text`, so read it as it stands.
    let outbound = v.find("Direction").and_then(|d| match d.as_str()?.trim() {
        "%%14593" | "Outbound" | "outbound" => Some(true),
        "%%14592" | "Inbound" | "inbound" => Some(false),
        _ => None,
    });
    let ends = Ends {
        source: (v.ip("SourceAddress").or_else(|| v.ip("SourceIp")), v.pid("SourcePort")),
        destination: (
            v.ip("DestAddress").or_else(|| v.ip("DestinationIp")),
            v.pid("DestPort").or_else(|| v.pid("DestinationPort")),
        ),
    };
    ends.apply(v.text("Protocol").and_then(|p| scalar::protocol(&p)), outbound, &record.addresses, &mut connection);
    connection
}

/// A list of privileges or logon rights, granted, removed or used. A list without any says nothing.
fn privileges(record: &Record<'_>, list: &str, state: &str) -> Option<Fact> {
    let v = &record.values;
    let text = match v.find(list)?.as_ref() {
        Json::Array(elements) => elements.iter().filter_map(scalar::text).collect::<Vec<_>>().join(" "),
        other => scalar::text(other).unwrap_or_default().into_owned(),
    };
    let names: Vec<&str> =
        text.split([' ', '\t', '\r', '\n', ',', ';']).filter(|name| !scalar::is_null(name)).collect();
    if names.is_empty() {
        return None;
    }
    let change = SettingChange {
        kind: Some("privilege".to_owned()),
        name: Some(names.join(",")),
        new_value: Some(state.to_owned()),
        pid: v.pid("ProcessId"),
        image: v.string("ProcessName"),
        user_name: v
            .account("TargetSid")
            .or_else(|| prefixed_account(v, "Target"))
            .or_else(|| prefixed_account(v, "Subject")),
        ..SettingChange::default()
    };
    Some(change.into())
}
