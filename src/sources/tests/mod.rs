//! The pitfalls of wire formats, section 15, with invented documents, and what real records of others must decode to.
//!
//! Numbers in the tests' comments are those of the cases.
#![expect(clippy::needless_pass_by_value, reason = "documents are written in place")]

mod agreement;
mod fixtures;
mod hostile;
mod pitfalls;
mod sensors;
mod time_and_host;
mod windows;

use super::{Event, RawRecord, Reject, decode};
use crate::model::{event::Defaults, fact::ProcessStart};
use serde_json::{Value, json};
use smallvec::SmallVec;
use std::sync::Arc;

macro_rules! fact {
    ($event:expr, $kind:ident) => {
        match $event.fact {
            crate::model::fact::Fact::$kind(fact) => *fact,
            other => panic!("{other:?}"),
        }
    };
}
use fact;

pub(super) fn record_with(bytes: &[u8], defaults: Defaults) -> RawRecord {
    RawRecord { bytes: bytes.to_vec().into(), client_id: None, defaults: Arc::new(defaults) }
}

pub(super) fn try_all(document: &Value) -> Result<SmallVec<[Event; 1]>, Reject> {
    decode(&record_with(document.to_string().as_bytes(), Defaults::default()))
}

pub(super) fn one_of(document: &Value) -> Event {
    try_all(document).unwrap().remove(0)
}

pub(super) fn one_text(text: &str) -> Event {
    decode(&record_with(text.as_bytes(), Defaults::default())).unwrap().remove(0)
}

pub(super) fn at(event: &Event) -> String {
    event.at.unwrap().format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

pub(super) const SYSMON: &str = "Microsoft-Windows-Sysmon";
pub(super) const SYSMON_LOG: &str = "Microsoft-Windows-Sysmon/Operational";
pub(super) const AUDIT: &str = "Microsoft-Windows-Security-Auditing";
pub(super) const IMAGE: &str = r"C:\Users\Public\Libraries\svchost.exe";
pub(super) const GUID: &str = "{5f0e1d2c-4a98-69a5-1704-000000000300}";

pub(super) fn sysmon_1() -> Value {
    json!({
        "RuleName": "-", "UtcTime": "2026-03-02 09:14:05.095", "ProcessGuid": GUID, "ProcessId": "4120", "Image": IMAGE,
        "OriginalFileName": "xmrig.exe", "Company": "www.xmrig.example", "Product": "XMRig", "Description": "-",
        "CommandLine": r"C:\Users\Public\Libraries\svchost.exe -o pool.example:3333 ", "User": r"CORP\j.doe", "LogonId": "0x2c9e7",
        "TerminalSessionId": "1", "IntegrityLevel": "High",
        "Hashes": format!("IMPHASH={},SHA256={}", "0".repeat(32), "AB".repeat(32)),
        "ParentProcessGuid": "{00000000-0000-0000-0000-000000000000}", "ParentProcessId": "1232",
        "ParentImage": r"C:\Windows\System32\svchost.exe", "ParentCommandLine": "svchost.exe -k netsvcs -p -s Schedule",
    })
}

pub(super) fn winlogbeat(provider: &str, channel: &str, id: &str, data: Value) -> Value {
    json!({
        "@timestamp": "2026-03-02T09:14:05.100Z", "agent": {"id": "a1", "name": "ws-0412"}, "host": {"name": "ws-0412", "id": "h1", "ip": ["192.0.2.12", "fe80::1"]},
        "winlog": {"channel": channel, "computer_name": "WS-0412.corp.example", "provider_name": provider, "event_id": id, "record_id": 5512,
            "process": {"pid": 3520}, "user": {"identifier": "S-1-5-18", "name": "SYSTEM", "domain": "NT AUTHORITY"}, "event_data": data},
    })
}

pub(super) fn evtx(provider: &str, channel: &str, id: u32, data: Value) -> Value {
    json!({"Event": {
        "System": {"Provider": {"#attributes": {"Name": provider}}, "EventID": id, "Channel": channel, "Computer": "WS-0412.corp.example", "EventRecordID": 5512,
            "TimeCreated": {"#attributes": {"SystemTime": "2026-03-02T09:14:05.100000Z"}}, "Execution": {"#attributes": {"ProcessID": 3520}}},
        "EventData": data,
    }})
}

pub(super) fn nxlog(provider: &str, channel: &str, id: u32, data: Value) -> Value {
    let mut document = json!({
        "EventTime": "2026-03-02 09:14:05", "EventReceivedTime": "2026-03-02 09:14:06", "SourceModuleType": "im_msvistalog", "SourceName": provider,
        "Channel": channel, "EventID": id, "RecordNumber": 5512, "Hostname": "WS-0412.corp.example", "host": "collector.corp.example",
        "ExecutionProcessID": 3520, "UserID": "S-1-5-18", "AccountName": "SYSTEM", "Domain": "NT AUTHORITY",
    });
    document.as_object_mut().unwrap().extend(data.as_object().unwrap().clone());
    document
}

pub(super) fn without(mut document: Value, key: &str) -> Value {
    document.as_object_mut().unwrap().remove(key);
    document
}

pub(super) fn xml(provider: &str, channel: &str, id: u32, data: &Value) -> String {
    let value = |value: &Value| quick_xml::escape::escape(value.as_str().unwrap()).into_owned();
    let data = data.as_object().unwrap().iter();
    let values: Vec<String> = data.map(|(name, v)| format!("<Data Name='{name}'>{}</Data>", value(v))).collect();
    let values = values.concat();
    format!(
        "<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'><System><Provider Name='{provider}'/><EventID>{id}</EventID>\
         <TimeCreated SystemTime='2026-03-02T09:14:05.1000000Z'/><EventRecordID>5512</EventRecordID><Execution ProcessID='3520' ThreadID='1'/>\
         <Channel>{channel}</Channel><Computer>WS-0412.corp.example</Computer><Security UserID='S-1-5-18'/></System><EventData>{values}</EventData></Event>"
    )
}

pub(super) fn otel(provider: &str, channel: &str, id: u32, data: Value) -> Value {
    json!({"event_id": {"id": id, "qualifiers": 0}, "provider": {"name": provider}, "system_time": "2026-03-02T09:14:05.1000000Z",
        "computer": "WS-0412.corp.example", "channel": channel, "record_id": 5512, "execution": {"process_id": 3520},
        "security": {"user_id": "S-1-5-18"}, "event_data": data})
}

pub(super) fn expected_start() -> ProcessStart {
    fact!(one_of(&winlogbeat(SYSMON, SYSMON_LOG, "1", sysmon_1())), ProcessStart)
}

pub(super) fn metric(dataset: &str, more: Value) -> Value {
    let mut document = json!({"@timestamp": "2026-03-02T09:19:05.000Z", "agent": {"id": "m1", "name": "ws-0412"}, "event": {"dataset": dataset},
        "metricset": {"period": 10000}, "host": {"name": "ws-0412", "id": "h1"}});
    document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    document
}
