//! How the demo's forwarders write: Winlogbeat 8 (raw `winlog.event_data`), Metricbeat `system`, Zeek JSON logs.
//!
//! Field sets follow what those programs send (wire formats, sections 2, 9, 12 and 13).

use super::fleet::Machine;
use crate::model::ids::EventId;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

/// One kind of Windows event: who writes it and under which numbers.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) channel: &'static str,
    provider: &'static str,
    provider_guid: &'static str,
    id: u32,
    version: u32,
    action: &'static str,
    logger: u32,
}

macro_rules! layouts {
    ($($provider:ident { $channel:literal, $name:literal, $guid:literal, $logger:literal; $($layout:ident = $id:literal v $version:literal $action:literal;)* })*) => {
        $($( pub(super) static $layout: Layout = Layout {
            channel: $channel, provider: $name, provider_guid: $guid, id: $id, version: $version, action: $action, logger: $logger,
        }; )*)*
    };
}

layouts! {
    SYSMON { "Microsoft-Windows-Sysmon/Operational", "Microsoft-Windows-Sysmon", "{5770385F-C22A-43E0-BF4C-06F5698FFBD9}", 3092;
        PROCESS_START = 1 v 5 "Process Create (rule: ProcessCreate)";
        CONNECTION = 3 v 5 "Network connection detected (rule: NetworkConnect)";
        PROCESS_STOP = 5 v 3 "Process terminated (rule: ProcessTerminate)";
        IMAGE_LOAD = 7 v 3 "Image loaded (rule: ImageLoad)";
        FILE_CREATE = 11 v 2 "File created (rule: FileCreate)";
        WMI_FILTER = 19 v 3 "WmiEventFilter activity detected (rule: WmiEvent)";
        WMI_CONSUMER = 20 v 3 "WmiEventConsumer activity detected (rule: WmiEvent)";
        WMI_BINDING = 21 v 3 "WmiEventConsumerToFilter activity detected (rule: WmiEvent)";
        DNS_QUERY = 22 v 5 "Dns query (rule: DnsQuery)";
    }
    SECURITY { "Security", "Microsoft-Windows-Security-Auditing", "{54849625-5478-4994-A5BA-3E3B0328C30D}", 4;
        TASK_CREATED = 4698 v 0 "Other Object Access Events";
    }
    TASKS { "Microsoft-Windows-TaskScheduler/Operational", "Microsoft-Windows-TaskScheduler", "{DE7B24EA-73C8-4A09-985D-5BDADCFA9017}", 1360;
        TASK_REGISTERED = 106 v 0 "Task registered";
        TASK_PROCESS = 129 v 0 "Created Task Process";
        TASK_ACTION = 200 v 1 "Action started";
    }
    SERVICES { "System", "Service Control Manager", "{555908D1-A6D7-4695-8E1E-26931D2012F4}", 696;
        SERVICE_INSTALLED = 7045 v 0 "None";
    }
    KERNEL { "System", "Microsoft-Windows-Kernel-General", "{A68CA8B7-004F-D7B6-A698-07E2DE0F1F5D}", 4;
        BOOT = 12 v 1 "None";
        SHUTDOWN = 13 v 1 "None";
    }
    POWERSHELL { "Microsoft-Windows-PowerShell/Operational", "Microsoft-Windows-PowerShell", "{A0C1853B-5C40-4B15-8766-3CF1C58F985A}", 5092;
        SCRIPT_BLOCK = 4104 v 1 "Execute a Remote Command";
    }
}

/// Names and values of an event's data.
pub(super) type Data = Vec<(&'static str, String)>;

/// Data of plain texts.
pub(super) fn texts<const N: usize>(pairs: [(&'static str, &str); N]) -> Data {
    pairs.map(|(name, value)| (name, value.to_owned())).to_vec()
}

/// An id that belongs to the machine, whatever the seed.
fn stable_id(machine: &Machine, what: &str) -> String {
    EventId::of_parts([b"demo".as_slice(), what.as_bytes(), machine.name.as_bytes()]).0.to_string()
}

fn millis(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The head of every document of one machine, written once: most documents are samples, and there are many.
#[derive(Debug)]
pub(super) struct Sender {
    machine: &'static Machine,
    host: String,
    winlogbeat: String,
    metricbeat: String,
}

impl Sender {
    pub(super) fn new(machine: &'static Machine) -> Self {
        let agent = |beat: &str| json!({ "id": stable_id(machine, beat), "name": machine.name, "type": beat, "version": "8.17.0" }).to_string();
        let os = json!({ "family": "windows", "type": "windows" });
        let host = json!({ "name": machine.name, "id": stable_id(machine, "host"), "ip": [machine.ip], "os": os }).to_string();
        Self { machine, host, winlogbeat: agent("winlogbeat"), metricbeat: agent("metricbeat") }
    }

    /// A Winlogbeat document; `logger` is the process that wrote the event where that matters.
    pub(super) fn windows_event(&self, layout: &Layout, at: DateTime<Utc>, record: u64, data: &Data, logger: Option<u32>) -> String {
        let values: serde_json::Map<String, Value> = data.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
        let winlog = json!({
            "api": "wineventlog", "channel": layout.channel, "computer_name": format!("{}.corp.example", self.machine.name.to_uppercase()),
            "event_id": layout.id.to_string(), "record_id": record, "version": layout.version, "opcode": "Info", "task": layout.action,
            "provider_name": layout.provider, "provider_guid": layout.provider_guid,
            "process": { "pid": logger.unwrap_or(layout.logger), "thread": { "id": 4412 } },
            "event_data": values,
        });
        let event = json!({ "action": layout.action, "code": layout.id.to_string(), "kind": "event", "provider": layout.provider });
        format!(
            r#"{{"@timestamp":"{}","event":{event},"host":{},"agent":{},"ecs":{{"version":"8.0.0"}},"log":{{"level":"information"}},"winlog":{winlog}}}"#,
            millis(at), self.host, self.winlogbeat
        )
    }

    fn metric(&self, at: DateTime<Utc>, metricset: &str, more: std::fmt::Arguments<'_>) -> String {
        format!(
            r#"{{"@timestamp":"{}","event":{{"dataset":"system.{metricset}","module":"system","duration":115000}},"metricset":{{"name":"{metricset}","period":60000}},"service":{{"type":"system"}},"host":{},"agent":{},"ecs":{{"version":"8.0.0"}},{more}}}"#,
            millis(at), self.host, self.metricbeat
        )
    }

    /// A `system.process` document.
    pub(super) fn process_sample(&self, at: DateTime<Utc>, p: &ProcessSample<'_>) -> String {
        let quoted = |text: &str| Value::from(text).to_string();
        let used = p.used_ms;
        let total = p.share.map_or_else(
            || format!(r#"{{"value":{used}}}"#),
            |share| format!(r#"{{"value":{used},"pct":{:.4},"norm":{{"pct":{share:.4}}}}}"#, share * f64::from(self.machine.cores)),
        );
        let name = p.image.rsplit('\\').next().unwrap_or(p.image);
        self.metric(at, "process", format_args!(
            r#""process":{{"pid":{},"name":"{name}","executable":{},"command_line":{},"parent":{{"pid":{}}},"state":"running"}},"user":{{"name":{}}},"system":{{"process":{{"cpu":{{"start_time":"{}","total":{total}}},"memory":{{"rss":{{"bytes":{}}}}},"state":"running","num_threads":12}}}}"#,
            p.pid, quoted(p.image), quoted(p.command_line), p.parent_pid, quoted(p.user), millis(p.start), p.rss_bytes
        ))
    }

    /// A `system.cpu` document; `share` is the part of the whole host, 0 to 1.
    pub(super) fn host_sample(&self, at: DateTime<Utc>, share: f64) -> String {
        let cores = self.machine.cores;
        let both = |part: f64| format!(r#"{{"norm":{{"pct":{part:.4}}},"pct":{:.4}}}"#, part * f64::from(cores));
        self.metric(at, "cpu", format_args!(
            r#""system":{{"cpu":{{"cores":{cores},"total":{},"user":{},"system":{},"idle":{}}}}}"#,
            both(share), both(share * 0.8), both(share * 0.2), both(1.0 - share)
        ))
    }
}

/// What Metricbeat knows of one process at one time.
#[derive(Debug)]
pub(super) struct ProcessSample<'a> {
    pub(super) pid: u32,
    pub(super) parent_pid: u32,
    pub(super) image: &'a str,
    pub(super) command_line: &'a str,
    pub(super) user: &'a str,
    pub(super) start: DateTime<Utc>,
    /// Part of the whole host, 0 to 1; absent in a process's first sample.
    pub(super) share: Option<f64>,
    /// Processor time since its start.
    pub(super) used_ms: u64,
    pub(super) rss_bytes: u64,
}

/// One connection as a sensor at the egress sees it.
#[derive(Debug)]
pub(super) struct Flow<'a> {
    pub(super) uid: String,
    pub(super) start: DateTime<Utc>,
    pub(super) seconds: f64,
    pub(super) from: (&'a str, u16),
    pub(super) to: (&'a str, u16),
    pub(super) udp: bool,
    pub(super) bytes: (u64, u64),
    /// Still open: an interim record of a long connection.
    pub(super) open: bool,
}

fn zeek(path: &str, at: DateTime<Utc>, f: &Flow<'_>, more: Value) -> String {
    let mut document = json!({
        "_path": path, "ts": at.timestamp_micros() as f64 / 1e6, "uid": f.uid, "id.orig_h": f.from.0, "id.orig_p": f.from.1, "id.resp_h": f.to.0, "id.resp_p": f.to.1,
    });
    if let (Value::Object(document), Value::Object(more)) = (&mut document, more) {
        document.extend(more);
    }
    document.to_string()
}

/// A line of `conn.log`, or of `conn_long.log` while it is open.
pub(super) fn zeek_conn(f: &Flow<'_>) -> String {
    let path = if f.open { "conn_long" } else { "conn" };
    zeek(path, f.start, f, json!({
        "proto": if f.udp { "udp" } else { "tcp" }, "duration": f.seconds, "orig_bytes": f.bytes.0, "resp_bytes": f.bytes.1,
        "conn_state": if f.open { "S1" } else { "SF" }, "local_orig": true, "local_resp": f.to.0.starts_with("10."), "missed_bytes": 0,
        "orig_pkts": f.bytes.0 / 400 + 3, "resp_pkts": f.bytes.1 / 700 + 3,
    }))
}

/// A line of `ssl.log`.
pub(super) fn zeek_ssl(f: &Flow<'_>, server_name: &str) -> String {
    let at = f.start + chrono::TimeDelta::milliseconds(40);
    zeek("ssl", at, f, json!({
        "version": "TLSv13", "cipher": "TLS_AES_256_GCM_SHA384", "curve": "x25519", "server_name": server_name, "resumed": false, "established": true,
    }))
}
