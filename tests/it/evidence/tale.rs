//! Raw telemetry of one invented host, said in verbs: what an agent, a CPU sampler and a network sensor send of it.

use crate::{
    harness::{TestApp, Who},
    story::{stamp, sysmon, windows},
};
use axum::http::{Method, StatusCode};
use chrono::{DateTime, TimeDelta, Utc};
use coalface::model::permission::Scope;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The host's own address.
pub(super) const ADDRESS: &str = "10.20.0.12";
/// A pool that people listed.
pub(super) const POOL: &str = "203.0.113.9";
pub(super) const MINER: &str = r"C:\ProgramData\upd\upd.exe";
pub(super) const MINER_PID: i64 = 4120;
const SERVICES: &str = r"C:\Windows\System32\services.exe";

/// A process as the agent names it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Program<'a> {
    pub(super) pid: i64,
    pub(super) image: &'a str,
    pub(super) line: &'a str,
    pub(super) parent: (i64, &'a str),
    pub(super) original: &'a str,
    pub(super) company: &'a str,
    pub(super) sha: &'a str,
}

impl Default for Program<'_> {
    fn default() -> Self {
        Self { pid: MINER_PID, image: MINER, line: MINER, parent: (700, SERVICES), original: "-", company: "-", sha: "ab12" }
    }
}

/// Events of the host, in whatever order they are told.
#[derive(Debug, Default)]
pub(super) struct Tale {
    events: Vec<Value>,
    records: u64,
}

/// Minutes after the tale begins.
pub(super) fn at(minutes: f64) -> DateTime<Utc> {
    let begin: DateTime<Utc> = "2026-03-02T00:00:00Z".parse().unwrap();
    begin + TimeDelta::seconds((minutes * 60.0) as i64)
}

fn guid(pid: i64) -> String {
    format!("{{5770385F-C22A-43E0-BF4C-{pid:012X}}}")
}

impl Tale {
    /// Any event of a Windows log.
    pub(super) fn event(&mut self, minute: f64, provider: &str, channel: &str, id: u32, data: Value) {
        self.records += 1;
        self.events.push(windows(self.records, at(minute), provider, channel, id, data));
    }

    pub(super) fn security(&mut self, minute: f64, id: u32, data: Value) {
        self.event(minute, "Microsoft-Windows-Security-Auditing", "Security", id, data);
    }

    pub(super) fn defender(&mut self, minute: f64, id: u32, data: Value) {
        let name = "Microsoft-Windows-Windows Defender";
        self.event(minute, name, &format!("{name}/Operational"), id, data);
    }

    pub(super) fn sysmon(&mut self, minute: f64, id: u32, data: Value) {
        self.records += 1;
        self.events.push(sysmon(self.records, at(minute), id, data));
    }

    /// The same, by a process.
    pub(super) fn sysmon_of(&mut self, minute: f64, id: u32, pid: i64, image: &str, mut data: Value) {
        data["ProcessGuid"] = json!(guid(pid));
        data["ProcessId"] = json!(pid.to_string());
        data["Image"] = json!(image);
        self.sysmon(minute, id, data);
    }

    pub(super) fn start(&mut self, minute: f64, p: Program<'_>) {
        let data = json!({"CommandLine": p.line, "OriginalFileName": p.original, "Company": p.company, "Product": "-", "Description": "-",
            "User": "NT AUTHORITY\\SYSTEM", "LogonId": "0x3e7", "Hashes": format!("SHA256={}", p.sha.repeat(16)), "ParentProcessGuid": guid(p.parent.0),
            "ParentProcessId": p.parent.0.to_string(), "ParentImage": p.parent.1, "ParentCommandLine": p.parent.1});
        self.sysmon_of(minute, 1, p.pid, p.image, data);
    }

    /// The start of a program on another host.
    pub(super) fn starts_elsewhere(&mut self, minute: f64, host: &str, p: Program<'_>) {
        self.start(minute, p);
        if let Some(event) = self.events.last_mut() {
            event["agent"] = json!({"id": format!("a-{host}"), "name": host, "type": "winlogbeat", "version": "8.17.0"});
            event["host"] = json!({"name": host, "id": format!("h-{host}")});
            event["winlog"]["computer_name"] = json!(format!("{host}.corp.example"));
        }
    }

    pub(super) fn stop(&mut self, minute: f64, pid: i64, image: &str) {
        self.sysmon_of(minute, 5, pid, image, json!({}));
    }

    /// Samples of a process, one a minute; share 0 to 1 of the host. Without `listed` the sampler names the process, but its load is 0.
    pub(super) fn load(&mut self, pid: i64, image: &str, minutes: std::ops::Range<i32>, share: f64, rss: u64) {
        for n in minutes {
            let at = at(f64::from(n) + 1.0);
            self.metric(at, "process", json!({"process": {"pid": pid, "name": image.rsplit('\\').next(), "executable": image, "command_line": image},
                "system": {"process": {"cpu": {"total": {"norm": {"pct": share}}}, "memory": {"rss": {"bytes": rss}}}}}));
        }
    }

    /// Samples of the whole host, one a minute.
    pub(super) fn host_load(&mut self, minutes: std::ops::Range<i32>, share: f64) {
        for n in minutes {
            let at = at(f64::from(n) + 1.0);
            self.metric(at, "cpu", json!({"system": {"cpu": {"cores": 8, "total": {"norm": {"pct": share}, "pct": share * 8.0}}}}));
        }
    }

    /// Samples of a graphics engine, one a minute; percent.
    pub(super) fn engine(&mut self, pid: i64, engine: &str, minutes: std::ops::Range<i32>, percent: f64) {
        for n in minutes {
            let instance = format!("pid_{pid}_luid_0x00000000_0x0000C5F1_phys_0_eng_4_engtype_{engine}");
            let mut document = json!({"windows": {"perfmon": {"object": "GPU Engine", "instance": instance, "metrics": {"utilization_percentage": percent}}}});
            document["event"] = json!({"dataset": "windows.perfmon", "module": "windows"});
            self.metric(at(f64::from(n) + 1.0), "perfmon", document);
        }
    }

    fn metric(&mut self, at: DateTime<Utc>, name: &str, mut document: Value) {
        document["@timestamp"] = json!(stamp(at));
        document["agent"] = json!({"id": "m-1", "name": "ws-0412", "type": "metricbeat", "version": "8.17.0"});
        document["host"] = json!({"name": "ws-0412", "id": "h-0412", "ip": [ADDRESS]});
        if document.get("event").is_none() {
            document["event"] = json!({"dataset": format!("system.{name}"), "module": "system"});
        }
        document["metricset"] = json!({"name": name, "period": 60_000});
        self.events.push(document);
    }

    /// A connection as the agent sees it open.
    pub(super) fn connects(&mut self, minute: f64, pid: i64, image: &str, far: (&str, u16), local: u16) {
        self.sysmon_of(minute, 3, pid, image, json!({"User": "NT AUTHORITY\\SYSTEM", "Protocol": "tcp", "Initiated": "true", "SourceIp": ADDRESS,
            "SourcePort": local.to_string(), "DestinationIp": far.0, "DestinationPort": far.1.to_string()}));
    }

    /// A connection as the network sensor saw it end.
    pub(super) fn flow(&mut self, minute: f64, length: f64, far: (&str, u16), local: u16) {
        let start = at(minute);
        self.events.push(json!({"_path": "conn", "ts": start.timestamp(), "uid": format!("C{local}"), "id.orig_h": ADDRESS, "id.orig_p": local,
            "id.resp_h": far.0, "id.resp_p": far.1, "proto": "tcp", "duration": length * 60.0, "orig_bytes": 90_000, "resp_bytes": 210_000, "conn_state": "SF"}));
    }

    /// A miner as plain as they come: its command line, 90 % for an hour and a half, a listed pool; told so that everything is observable.
    pub(super) fn miner() -> Self {
        let mut tale = Self::default();
        tale.start(0.0, Program { line: r"C:\ProgramData\upd\upd.exe -o stratum+tcp://203.0.113.9:3333 -u kim --donate-level=1", ..Program::default() });
        tale.load(MINER_PID, MINER, 0..90, 0.9, 600_000_000);
        tale.connects(0.2, MINER_PID, MINER, (POOL, 3333), 50_123);
        tale.flow(0.2, 85.0, (POOL, 3333), 50_123);
        tale
    }

    /// What Coalface finds in it: verdict and codes of the only detection, or nothing.
    pub(super) async fn found(self) -> (String, BTreeSet<String>) {
        let detection = self.detection().await;
        let codes = detection["evidence"].as_array().into_iter().flatten().filter_map(|e| e["code"].as_str().map(str::to_owned)).collect();
        (detection["verdict"].as_str().unwrap_or("none").to_owned(), codes)
    }

    /// The only detection; null if there is none.
    pub(super) async fn detection(self) -> Value {
        let (app, _) = self.told().await;
        let list = app.get(Who::Program(Scope::Read), "/api/v1/detections?verdict=all").await.expect(StatusCode::OK).json();
        let items = list["items"].as_array().unwrap();
        assert!(items.len() < 2, "at most one detection, got {list:#}");
        items.first().cloned().unwrap_or_default()
    }

    /// The program after it heard everything, with the pool listed.
    pub(super) async fn told(self) -> (TestApp, usize) {
        let app = TestApp::new().await;
        let pool = json!({"list": "DestinationIPList", "kind": "ip", "category": "pool", "value": POOL, "confidence": "high", "source": "test"});
        app.api(Who::Program(Scope::Admin), Method::POST, "/api/v1/indicators", &pool).await.expect(StatusCode::CREATED);
        let receipt = app.send(&self.events).await;
        assert_eq!(receipt["quarantined"], 0, "{receipt}");
        let passes = app.settle().await;
        (app, passes)
    }
}

/// Fails unless the code is found in the first tale and not in the second.
pub(super) async fn tells_apart(code: &str, fires: Tale, silent: Tale) {
    let (_, codes) = fires.found().await;
    assert!(codes.contains(code), "{code} must fire, found {codes:?}");
    let (verdict, codes) = silent.found().await;
    assert!(!codes.contains(code), "{code} must not fire: {verdict} {codes:?}");
}
