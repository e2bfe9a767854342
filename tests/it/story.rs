//! A short attack in raw telemetry, for tests: a renamed miner in ProgramData, started at boot by a scheduled task, on a host
//! that an agent, a CPU sampler and a network sensor watch. Invented names, documentation addresses.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

/// When the miner starts.
pub(crate) const START: &str = "2026-03-02T04:00:00Z";
/// The host's name in its events.
pub(crate) const HOST: &str = "WS-0412.corp.example";
pub(crate) const IMAGE: &str = r"C:\ProgramData\Microsoft\svchost.exe";
/// Unlisted, and no other host of the fleet ever used it.
pub(crate) const POOL: &str = "203.0.113.9";
const GUID: &str = "{5770385F-C22A-43E0-BF4C-06F5698F0001}";

fn start() -> DateTime<Utc> {
    START.parse().unwrap()
}

pub(crate) fn stamp(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// A Windows event as Winlogbeat 8 sends it.
pub(crate) fn windows(record: u64, at: DateTime<Utc>, provider: &str, channel: &str, id: u32, data: Value) -> Value {
    json!({
        "@timestamp": stamp(at), "agent": {"id": "a-1", "name": "ws-0412", "type": "winlogbeat", "version": "8.17.0"},
        "host": {"name": "ws-0412", "id": "h-0412"}, "event": {"code": id.to_string(), "kind": "event", "provider": provider},
        "winlog": {"provider_name": provider, "channel": channel, "event_id": id.to_string(), "record_id": record, "computer_name": HOST,
            "time_created": stamp(at), "api": "wineventlog", "event_data": data}
    })
}

pub(crate) fn sysmon(record: u64, at: DateTime<Utc>, id: u32, mut data: Value) -> Value {
    data["UtcTime"] = json!(at.format("%Y-%m-%d %H:%M:%S%.3f").to_string());
    windows(record, at, "Microsoft-Windows-Sysmon", "Microsoft-Windows-Sysmon/Operational", id, data)
}

/// The miner's image is replaced while it runs.
pub(crate) fn replaced(record: u64, minute: i64) -> Value {
    let data = json!({"ProcessGuid": GUID, "ProcessId": "4120", "Image": IMAGE, "Type": "Image is replaced", "User": "NT AUTHORITY\\SYSTEM"});
    sysmon(record, start() + TimeDelta::minutes(minute), 25, data)
}

/// The whole story, in the order it happened.
pub(crate) fn renamed_miner() -> Vec<Value> {
    let t = start();
    let minute = TimeDelta::minutes(1);
    let task = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-16\"?><Task><RegistrationInfo><URI>\\OneDriveSync</URI></RegistrationInfo><Triggers><BootTrigger/></Triggers>\
         <Principals><Principal id=\"Author\"><UserId>S-1-5-18</UserId></Principal></Principals>\
         <Actions><Exec><Command>{IMAGE}</Command></Exec></Actions></Task>"
    );
    let sha = "9f2c".repeat(16);
    let mut events = vec![
        windows(10, t - minute * 9, "Microsoft-Windows-Security-Auditing", "Security", 4698, json!({
            "SubjectUserSid": "S-1-5-21-1-2-3-1001", "SubjectUserName": "kim", "SubjectDomainName": "CORP", "SubjectLogonId": "0x2c9e7",
            "TaskName": "\\OneDriveSync", "TaskContent": task})),
        sysmon(11, t - minute * 10, 11, json!({"ProcessGuid": "{5770385F-C22A-43E0-BF4C-06F5698F0009}", "ProcessId": "900",
            "Image": r"C:\Users\kim\Downloads\setup.exe", "TargetFilename": r"C:\ProgramData\Microsoft\config.json"})),
        sysmon(12, t, 1, json!({"ProcessGuid": GUID, "ProcessId": "4120", "Image": IMAGE, "CommandLine": IMAGE, "OriginalFileName": "xmrig.exe",
            "Company": "www.xmrig.com", "Product": "XMRig", "Description": "XMRig miner", "User": "NT AUTHORITY\\SYSTEM", "LogonId": "0x3e7",
            "Hashes": format!("SHA256={sha}"), "ParentProcessGuid": "{5770385F-C22A-43E0-BF4C-06F5698F0002}", "ParentProcessId": "1360",
            "ParentImage": r"C:\Windows\System32\svchost.exe", "ParentCommandLine": r"C:\Windows\system32\svchost.exe -k netsvcs -p -s Schedule"})),
        windows(13, t, "Microsoft-Windows-TaskScheduler", "Microsoft-Windows-TaskScheduler/Operational", 129,
            json!({"TaskName": "\\OneDriveSync", "Path": IMAGE, "ProcessID": "4120", "Priority": "16384"})),
        sysmon(14, t + TimeDelta::seconds(5), 3, json!({"ProcessGuid": GUID, "ProcessId": "4120", "Image": IMAGE, "User": "NT AUTHORITY\\SYSTEM",
            "Protocol": "tcp", "Initiated": "true", "SourceIp": "10.20.0.12", "SourcePort": "50123", "DestinationIp": POOL, "DestinationPort": "3333"})),
        json!({"_path": "conn", "ts": (t + TimeDelta::seconds(5)).timestamp(), "uid": "C1", "id.orig_h": "10.20.0.12", "id.orig_p": 50123, "id.resp_h": POOL,
            "id.resp_p": 3333, "proto": "tcp", "duration": 5100.0, "orig_bytes": 90_000, "resp_bytes": 210_000, "conn_state": "SF"}),
    ];
    for n in 0..180 {
        let at = t + TimeDelta::seconds(30 * n + 30);
        events.push(json!({
            "@timestamp": stamp(at), "agent": {"id": "m-1", "name": "ws-0412", "type": "metricbeat", "version": "8.17.0"},
            "host": {"name": "ws-0412", "id": "h-0412", "ip": ["10.20.0.12"]}, "event": {"dataset": "system.process", "module": "system"},
            "metricset": {"name": "process", "period": 30_000},
            "process": {"pid": 4120, "name": "svchost.exe", "executable": IMAGE, "command_line": IMAGE, "parent": {"pid": 1360}},
            "system": {"process": {"cpu": {"start_time": stamp(t), "total": {"norm": {"pct": 0.95}, "pct": 7.6, "value": (n + 1) * 228_000}},
                "memory": {"rss": {"bytes": 2_400_000_000_u64}}}}
        }));
        if n % 10 == 0 {
            events.push(json!({
                "@timestamp": stamp(at), "agent": {"id": "m-1", "name": "ws-0412", "type": "metricbeat", "version": "8.17.0"},
                "host": {"name": "ws-0412", "id": "h-0412", "ip": ["10.20.0.12"]}, "event": {"dataset": "system.cpu", "module": "system"},
                "metricset": {"name": "cpu", "period": 30_000}, "system": {"cpu": {"cores": 8, "total": {"norm": {"pct": 0.97}, "pct": 7.76}}}
            }));
        }
    }
    events
}
