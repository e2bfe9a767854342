//! An agent that works hard, in raw telemetry: an unsigned program in ProgramData, started as SYSTEM by a scheduled task, that holds a
//! connection to a far server. No name or option of it is a miner's, so nothing it does is hard evidence. Invented names.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

/// One run of the agent on one host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Agent {
    pub(crate) host: &'static str,
    /// Last part of the host's address, and of its pids.
    pub(crate) number: u8,
    pub(crate) start: &'static str,
    pub(crate) minutes: i64,
    /// Of all processors, 0 to 1.
    pub(crate) share: f64,
    /// Part of it that is missing every other five minutes; 0 = even.
    pub(crate) swing: f64,
}

pub(crate) const IMAGE: &str = r"C:\ProgramData\Acme\crunch.exe";
pub(crate) const SERVER: &str = "203.0.113.77";

impl Agent {
    fn at(&self) -> DateTime<Utc> {
        self.start.parse().unwrap()
    }

    fn stamp(at: DateTime<Utc>) -> String {
        at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
    }

    fn pid(&self) -> u32 {
        4000 + u32::from(self.number)
    }

    /// As Winlogbeat 8 sends it.
    fn windows(&self, record: i64, at: DateTime<Utc>, provider: &str, channel: &str, id: u32, data: Value) -> Value {
        json!({
            "@timestamp": Self::stamp(at), "agent": {"id": format!("a-{}", self.host), "name": self.host, "type": "winlogbeat", "version": "8.17.0"},
            "host": {"name": self.host, "id": format!("h-{}", self.host)}, "event": {"code": id.to_string(), "kind": "event", "provider": provider},
            "winlog": {"provider_name": provider, "channel": channel, "event_id": id.to_string(), "record_id": record,
                "computer_name": format!("{}.corp.example", self.host), "time_created": Self::stamp(at), "api": "wineventlog", "event_data": data}
        })
    }

    fn sysmon(&self, record: i64, at: DateTime<Utc>, id: u32, mut data: Value) -> Value {
        data["UtcTime"] = json!(at.format("%Y-%m-%d %H:%M:%S%.3f").to_string());
        self.windows(record, at, "Microsoft-Windows-Sysmon", "Microsoft-Windows-Sysmon/Operational", id, data)
    }

    fn metrics(&self, at: DateTime<Utc>, set: &str, rest: Value) -> Value {
        let mut event = json!({
            "@timestamp": Self::stamp(at), "agent": {"id": format!("m-{}", self.host), "name": self.host, "type": "metricbeat", "version": "8.17.0"},
            "host": {"name": self.host, "id": format!("h-{}", self.host), "ip": [format!("10.20.0.{}", self.number)]},
            "event": {"dataset": format!("system.{set}"), "module": "system"}, "metricset": {"name": set, "period": 30_000}
        });
        event.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        event
    }

    /// Task, start and connection.
    pub(crate) fn beginning(&self) -> Vec<Value> {
        let (t, record, pid) = (self.at(), self.at().timestamp(), self.pid().to_string());
        let guid = format!("{{5770385F-C22A-43E0-BF4C-{:012X}}}", record + i64::from(self.number));
        let task = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-16\"?><Task><Triggers><BootTrigger/></Triggers><Principals><Principal id=\"Author\">\
             <UserId>S-1-5-18</UserId></Principal></Principals><Actions><Exec><Command>{IMAGE}</Command></Exec></Actions></Task>"
        );
        vec![
            self.windows(record, t - TimeDelta::minutes(5), "Microsoft-Windows-Security-Auditing", "Security", 4698, json!({
                "SubjectUserName": "kim", "SubjectDomainName": "CORP", "TaskName": "\\AcmeCrunch", "TaskContent": task})),
            self.sysmon(record + 1, t, 1, json!({"ProcessGuid": guid, "ProcessId": pid, "Image": IMAGE, "CommandLine": format!("{IMAGE} /work"),
                "OriginalFileName": "crunch.exe", "User": "NT AUTHORITY\\SYSTEM", "Hashes": format!("SHA256={}", "7a1c".repeat(16)),
                "ParentProcessId": "1360", "ParentImage": r"C:\Windows\System32\svchost.exe",
                "ParentCommandLine": r"C:\Windows\system32\svchost.exe -k netsvcs -p -s Schedule"})),
            self.windows(record + 2, t, "Microsoft-Windows-TaskScheduler", "Microsoft-Windows-TaskScheduler/Operational", 129,
                json!({"TaskName": "\\AcmeCrunch", "Path": IMAGE, "ProcessID": pid, "Priority": "16384"})),
            self.sysmon(record + 3, t + TimeDelta::seconds(5), 3, json!({"ProcessGuid": guid, "ProcessId": pid, "Image": IMAGE, "User": "NT AUTHORITY\\SYSTEM",
                "Protocol": "tcp", "Initiated": "true", "SourceIp": format!("10.20.0.{}", self.number), "SourcePort": "50123",
                "DestinationIp": SERVER, "DestinationPort": "8443"})),
            json!({"_path": "conn", "ts": (t + TimeDelta::seconds(5)).timestamp(), "uid": format!("C{record}{}", self.number),
                "id.orig_h": format!("10.20.0.{}", self.number), "id.orig_p": 50123, "id.resp_h": SERVER, "id.resp_p": 8443, "proto": "tcp",
                "duration": (self.minutes * 60 - 10) as f64, "orig_bytes": 90_000, "resp_bytes": 210_000, "conn_state": "SF"}),
        ]
    }

    /// Samples of the minutes `from..until` after the start, two a minute.
    pub(crate) fn load(&self, from: i64, until: i64) -> Vec<Value> {
        let mut events = Vec::new();
        for n in from * 2..until * 2 {
            let at = self.at() + TimeDelta::seconds(30 * n + 30);
            let share_of = |n: i64| if n / 10 % 2 == 0 { self.share } else { self.share * (1.0 - self.swing) };
            let share = share_of(n);
            let value = (0..=n).map(|n| share_of(n) * 8.0 * 30_000.0).sum::<f64>() as i64;
            events.push(self.metrics(at, "process", json!({
                "process": {"pid": self.pid(), "name": "crunch.exe", "executable": IMAGE, "command_line": IMAGE, "parent": {"pid": 1360}},
                "system": {"process": {"cpu": {"start_time": Self::stamp(self.at()),
                    "total": {"norm": {"pct": share}, "pct": share * 8.0, "value": value}}, "memory": {"rss": {"bytes": 900_000_000_u64}}}}
            })));
            if n % 10 == 0 {
                events.push(self.metrics(at, "cpu", json!({"system": {"cpu": {"cores": 8, "total": {"norm": {"pct": share}, "pct": share * 8.0}}}})));
            }
        }
        events
    }

    /// Everything.
    pub(crate) fn whole(&self) -> Vec<Value> {
        [self.beginning(), self.load(0, self.minutes)].concat()
    }
}
