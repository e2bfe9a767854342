//! The load mix of the performance design, section 3: written from templates, a pure function of the event's number.
//!
//! 2,000 hosts; 35 % Sysmon 1, 25 % Sysmon 3, 10 % Sysmon 22, 10 % Sysmon 5, 20 % per-process CPU samples; 1 % of the events match a
//! rule and 1 % were sent before. Ids, hashes and command lines differ from event to event and do not compress.

use super::Route;
use chrono::{DateTime, TimeDelta, Utc};
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, any_value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
};
use prost::Message as _;
use serde_json::{Value, json};
use std::{io::Write as _, ops::Range};

/// Machines that report.
pub(super) const HOSTS: u64 = 2_000;
/// Events per second of event time: each host sends one.
const PER_SECOND: u64 = HOSTS;
/// How far back a repeated event lies.
const REPEATED_AFTER: u64 = 2_000;

/// What a template leaves open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    /// RFC 3339 to the millisecond.
    Time,
    /// The same as Sysmon writes it.
    Utc,
    /// Number of the host, four digits.
    Host,
    /// Record id of the log.
    Record,
    /// Digits that differ from event to event.
    Unique,
    /// Process entity id.
    Process,
    /// Entity id of the parent.
    Parent,
    /// SHA-256.
    Hash,
    /// Process id.
    Pid,
    /// Two octets of an address.
    Address,
    /// Two octets of the host's own address.
    Own,
    /// A port above 49151.
    Port,
    /// Part of the host, 0.00 to 0.09.
    Share,
    /// Processor milliseconds used.
    Used,
}

const SLOTS: &[(&str, Slot)] = &[
    ("@time@", Slot::Time), ("@utc@", Slot::Utc), ("@host@", Slot::Host), ("@record@", Slot::Record), ("@unique@", Slot::Unique),
    ("@process@", Slot::Process), ("@parent@", Slot::Parent), ("@hash@", Slot::Hash), ("@pid@", Slot::Pid), ("@address@", Slot::Address),
    ("@own@", Slot::Own), ("@port@", Slot::Port), ("@share@", Slot::Share), ("@used@", Slot::Used),
];

#[derive(Debug)]
struct Template {
    pieces: Vec<(String, Option<Slot>)>,
}

impl Template {
    fn new(document: &Value) -> Self {
        // Numbers are written as text in the templates and lose their quotes here.
        let mut text = document.to_string();
        for bare in ["@record@", "@share@", "@used@"] {
            text = text.replace(&format!("\"{bare}\""), bare);
        }
        let mut pieces = Vec::new();
        let mut rest = text.as_str();
        while let Some((at, (mark, slot))) = SLOTS.iter().filter_map(|s| rest.find(s.0).map(|at| (at, *s))).min_by_key(|(at, _)| *at) {
            pieces.push((rest[..at].to_owned(), Some(slot)));
            rest = &rest[at + mark.len()..];
        }
        pieces.push((rest.to_owned(), None));
        Self { pieces }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Start,
    Connection,
    Query,
    Stop,
    Sample,
}

/// Spreads a number over 64 bits (the finaliser of splitmix64).
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

fn kind(n: u64) -> Kind {
    match mix(n) % 100 {
        0..35 => Kind::Start,
        35..60 => Kind::Connection,
        60..70 => Kind::Query,
        70..80 => Kind::Stop,
        _ => Kind::Sample,
    }
}

/// Which event is sent as number `n`: 1 % are copies of an earlier one.
fn content(n: u64) -> u64 {
    if n >= REPEATED_AFTER && (mix(n) >> 32).is_multiple_of(100) { n - REPEATED_AFTER } else { n }
}

/// The process that event `n` is about: the one that starts in it, else one that started a little earlier.
fn process_of(n: u64) -> u64 {
    (0..8).map(|step| n.saturating_sub(step * 97)).find(|p| kind(*p) == Kind::Start).unwrap_or(n)
}

/// Writes events of the load.
#[derive(Debug)]
pub(super) struct Load {
    since: DateTime<Utc>,
    starts: Vec<Template>,
    miner: Template,
    connections: Vec<Template>,
    query: Template,
    stop: Template,
    samples: Vec<Template>,
}

const PROGRAMS: &[(&str, &str, &str, &str)] = &[
    (r"C:\Program Files\Google\Chrome\Application\chrome.exe", "Google LLC", "Google Chrome", "--type=renderer --lang=en-US --renderer-client-id=@unique@"),
    (r"C:\Windows\System32\svchost.exe", "Microsoft Corporation", "Microsoft® Windows® Operating System", "-k netsvcs -p -s Service@unique@"),
    (r"C:\Windows\System32\conhost.exe", "Microsoft Corporation", "Microsoft® Windows® Operating System", r"\??\C:\Windows\system32\conhost.exe 0x@unique@"),
    (r"C:\Program Files\Git\cmd\git.exe", "The Git Development Community", "Git", "fetch --prune origin topic/@unique@"),
    (r"C:\Users\user@host@\AppData\Local\Temp\setup-@unique@.exe", "Contoso Tools", "Contoso Setup", "/quiet /norestart /log setup-@unique@.log"),
    (r"C:\Program Files\Corp\Agent\collector.exe", "Corp IT", "Collector", r"--inventory C:\ProgramData\Corp\@unique@.json"),
];

fn sysmon(id: u32, data: Value) -> Template {
    let mut values = json!({ "RuleName": "-", "UtcTime": "@utc@", "ProcessGuid": "{@process@}", "ProcessId": "@pid@", "User": r"CORP\user@host@" });
    if let (Value::Object(values), Value::Object(data)) = (&mut values, data) {
        values.extend(data);
    }
    Template::new(&json!({
        "@timestamp": "@time@",
        "event": { "code": id.to_string(), "provider": "Microsoft-Windows-Sysmon" },
        "host": { "name": "bench-@host@" },
        "agent": { "id": "5a1e0000-0000-4000-8000-00000000@host@", "type": "winlogbeat" },
        "winlog": {
            "channel": "Microsoft-Windows-Sysmon/Operational", "computer_name": "bench-@host@.corp.example", "event_id": id.to_string(),
            "record_id": "@record@", "provider_name": "Microsoft-Windows-Sysmon", "event_data": values,
        },
    }))
}

fn start(image: &str, company: &str, product: &str, arguments: &str) -> Template {
    let name = image.rsplit('\\').next().unwrap_or(image);
    sysmon(1, json!({
        "Image": image, "FileVersion": "10.0.22621.3958", "Description": product, "Product": product, "Company": company, "OriginalFileName": name,
        "CommandLine": format!("\"{image}\" {arguments}"), "CurrentDirectory": r"C:\Windows\System32\", "IntegrityLevel": "Medium",
        "LogonId": "0x4a1f2", "TerminalSessionId": "1", "Hashes": "SHA256=@hash@", "ParentProcessGuid": "{@parent@}", "ParentProcessId": "4120",
        "ParentImage": r"C:\Windows\explorer.exe", "ParentCommandLine": r"C:\Windows\Explorer.EXE",
    }))
}

impl Load {
    /// A load whose first event happens at `since`.
    pub(super) fn new(since: DateTime<Utc>) -> Self {
        let images = PROGRAMS.iter().map(|p| p.0);
        Self {
            since,
            starts: PROGRAMS.iter().map(|(image, company, product, arguments)| start(image, company, product, arguments)).collect(),
            miner: start(r"C:\ProgramData\Tools\worker.exe", "-", "-", "-o pool-@unique@.example:3333 -u worker@unique@ --donate-level=1"),
            connections: images.clone().map(|image| sysmon(3, json!({
                "Image": image, "Protocol": "tcp", "Initiated": "true", "SourceIp": "10.1.@own@", "SourcePort": "@port@",
                "DestinationIp": "198.18.@address@", "DestinationHostname": "-", "DestinationPort": "443",
            }))).collect(),
            query: sysmon(22, json!({
                "Image": PROGRAMS[0].0, "QueryName": "name-@unique@.example", "QueryStatus": "0", "QueryResults": "::ffff:198.18.@address@;",
            })),
            stop: sysmon(5, json!({ "Image": PROGRAMS[0].0 })),
            samples: images.map(|image| Template::new(&json!({
                "@timestamp": "@time@",
                "event": { "dataset": "system.process", "module": "system" },
                "metricset": { "name": "process", "period": 60_000 },
                "host": { "name": "bench-@host@" },
                "agent": { "id": "6b2f0000-0000-4000-8000-00000000@host@", "type": "metricbeat", "version": "8.17.0" },
                "process": { "pid": 4120, "name": image.rsplit('\\').next(), "executable": image, "command_line": format!("\"{image}\""), "parent": { "pid": 696 } },
                "user": { "name": r"CORP\user@host@" },
                "system": { "process": {
                    "cpu": { "start_time": "2026-01-05T06:30:00.000Z", "total": { "value": "@used@", "pct": "@share@", "norm": { "pct": "@share@" } } },
                    "memory": { "rss": { "bytes": 268_435_456 } }, "state": "running",
                } },
            }))).collect(),
        }
    }

    fn template(&self, n: u64) -> &Template {
        let pick = |templates: &'_ [Template]| mix(n ^ 0x5eed) as usize % templates.len();
        match kind(n) {
            // One start in 35 is one event in a hundred.
            Kind::Start if (mix(n) >> 40).is_multiple_of(35) => &self.miner,
            Kind::Start => &self.starts[pick(&self.starts)],
            Kind::Connection => &self.connections[pick(&self.connections)],
            Kind::Query => &self.query,
            Kind::Stop => &self.stop,
            Kind::Sample => &self.samples[pick(&self.samples)],
        }
    }

    /// Appends event `n` as one line.
    pub(super) fn write(&self, n: u64, clock: &mut Stamp, out: &mut Vec<u8>) {
        let n = content(n);
        let process = process_of(n);
        clock.set(self.since, n);
        let (own, place) = (mix(n ^ 0xfeed), mix(process ^ 0xbeef));
        for (text, slot) in &self.template(n).pieces {
            out.extend_from_slice(text.as_bytes());
            let Some(slot) = slot else { continue };
            match slot {
                Slot::Time => {
                    out.extend_from_slice(&clock.text[..10]);
                    out.push(b'T');
                    out.extend_from_slice(&clock.text[11..]);
                    out.push(b'Z');
                }
                Slot::Utc => out.extend_from_slice(&clock.text),
                Slot::Host => decimal(out, place % HOSTS, 4),
                Slot::Record => decimal(out, n + 1, 1),
                Slot::Unique => hex(out, own, 8),
                Slot::Process => guid(out, process),
                Slot::Parent => guid(out, process >> 5),
                Slot::Hash => (0..4).for_each(|part| hex(out, mix(own + part), 16)),
                Slot::Pid => decimal(out, 4 * (1 + place % 16_000), 1),
                Slot::Address | Slot::Own => {
                    let value = if *slot == Slot::Own { place % HOSTS } else { own };
                    decimal(out, value % 256, 1);
                    out.push(b'.');
                    decimal(out, (value >> 8) % 256, 1);
                }
                Slot::Port => decimal(out, 49_152 + own % 16_000, 1),
                Slot::Share => {
                    out.extend_from_slice(b"0.0");
                    decimal(out, own % 1_000, 3);
                }
                Slot::Used => decimal(out, 60_000 + n / PER_SECOND * 40, 1),
            }
        }
        out.push(b'\n');
    }

    /// The body of one request with these events.
    pub(super) fn body(&self, events: Range<u64>, route: Route) -> Vec<u8> {
        if route == Route::Otlp {
            return self.otlp(events);
        }
        let mut clock = Stamp::default();
        let mut out = Vec::with_capacity((events.end - events.start) as usize * 1_024);
        for n in events {
            if route == Route::Bulk {
                out.extend_from_slice(b"{\"create\":{\"_index\":\"bench\"}}\n");
            }
            if route == Route::Hec {
                out.extend_from_slice(b"{\"event\":");
            }
            self.write(n, &mut clock, &mut out);
            if route == Route::Hec {
                out.extend_from_slice(b"}");
            }
        }
        out
    }
}

impl Load {
    fn otlp(&self, events: Range<u64>) -> Vec<u8> {
        let mut clock = Stamp::default();
        let record = |n| {
            let mut line = Vec::with_capacity(1_024);
            self.write(n, &mut clock, &mut line);
            let text = String::from_utf8_lossy(line.trim_ascii()).into_owned();
            LogRecord { body: Some(AnyValue { value: Some(any_value::Value::StringValue(text)) }), ..LogRecord::default() }
        };
        let scope_logs = vec![ScopeLogs { log_records: events.map(record).collect(), ..ScopeLogs::default() }];
        let resource_logs = vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }];
        ExportLogsServiceRequest { resource_logs }.encode_to_vec()
    }
}

/// Time of an event as text; the part to the second is kept from one event to the next.
#[derive(Debug, Default)]
pub(super) struct Stamp {
    second: Option<u64>,
    text: Vec<u8>,
}

impl Stamp {
    fn set(&mut self, since: DateTime<Utc>, n: u64) {
        let second = n / PER_SECOND;
        if self.second != Some(second) {
            self.second = Some(second);
            let at = since + TimeDelta::seconds(second.cast_signed());
            self.text = at.format("%Y-%m-%d %H:%M:%S.000").to_string().into_bytes();
        }
        self.text.truncate(20);
        decimal(&mut self.text, n % PER_SECOND * 1_000 / PER_SECOND, 3);
    }
}

fn decimal(out: &mut Vec<u8>, value: u64, width: usize) {
    write!(out, "{value:0width$}").expect("writing to a Vec cannot fail");
}

fn hex(out: &mut Vec<u8>, value: u64, digits: u32) {
    out.extend((0..digits).rev().map(|n| b"0123456789ABCDEF"[(value >> (4 * n) & 15) as usize]));
}

fn guid(out: &mut Vec<u8>, process: u64) {
    let (high, low) = (mix(process ^ 0xaaaa), mix(process ^ 0x5555));
    for (n, (value, digits)) in [(high >> 32, 8), (high >> 16, 4), (high, 4), (low >> 48, 4), (low, 12)].into_iter().enumerate() {
        if n > 0 {
            out.push(b'-');
        }
        hex(out, value, digits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::event::RawRecord, sources};
    use std::{
        collections::{HashMap, HashSet},
        sync::Arc,
    };

    fn lines(events: Range<u64>) -> Vec<String> {
        let load = Load::new(DateTime::from_timestamp(1_770_000_000, 0).unwrap());
        let body = String::from_utf8(load.body(events, Route::Native)).unwrap();
        body.lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_mix_is_that_of_the_design() {
        let lines = lines(10_000..30_000);
        let bytes: usize = lines.iter().map(String::len).sum();
        let mean = bytes / lines.len();
        assert!((800..=900).contains(&mean), "{mean} bytes an event");
        let (mut kinds, mut hosts, mut rules) = (HashMap::<String, usize>::new(), HashSet::new(), 0);
        for line in &lines {
            let document: Value = serde_json::from_str(line).unwrap();
            let kind = document["winlog"]["event_id"].as_str().unwrap_or("sample");
            *kinds.entry(kind.to_owned()).or_default() += 1;
            hosts.insert(document["host"]["name"].as_str().unwrap().to_owned());
            rules += usize::from(line.contains("--donate-level"));
        }
        for (kind, percent) in [("1", 35.0), ("3", 25.0), ("22", 10.0), ("5", 10.0), ("sample", 20.0)] {
            let found = kinds[kind] as f64 / 200.0;
            assert!((found - percent).abs() < 1.5, "{kind}: {found} %");
        }
        // 20,000 events are about 7,000 processes on 2,000 hosts: 3 % of the hosts have none by chance.
        assert!(hosts.len() as u64 > HOSTS * 95 / 100, "{} hosts", hosts.len());
        assert!((120..280).contains(&rules), "{rules} match a rule");
        let distinct = lines.iter().collect::<HashSet<_>>().len();
        assert!((150..250).contains(&(lines.len() - distinct)), "{} repeated", lines.len() - distinct);
    }

    #[test]
    fn a_stop_is_about_a_process_that_started_on_the_same_host() {
        let lines = lines(0..5_000);
        let documents: Vec<Value> = lines.iter().map(|l| serde_json::from_str(l).unwrap()).collect();
        let field = |d: &Value, name: &str| d["winlog"]["event_data"][name].as_str().map(str::to_owned);
        let of = |id: &'static str| documents.iter().filter(move |d| d["winlog"]["event_id"] == id);
        let started: HashMap<_, _> = of("1").map(|d| (field(d, "ProcessGuid"), d["host"]["name"].clone())).collect();
        let known = of("5").filter(|d| started.get(&field(d, "ProcessGuid")) == Some(&d["host"]["name"])).count();
        assert!(known * 10 > of("5").count() * 8, "{known} of {}", of("5").count());
    }

    #[test]
    fn a_bulk_body_has_an_action_before_each_event() {
        let load = Load::new(DateTime::UNIX_EPOCH);
        assert_eq!(load.body(5..9, Route::Bulk).split(|b| *b == b'\n').filter(|l| l.starts_with(b"{\"create\"")).count(), 4);
    }

    #[test]
    fn an_otlp_body_holds_the_same_events() {
        let load = Load::new(DateTime::from_timestamp(1_770_000_000, 0).unwrap());
        let body = bytes::Bytes::from(load.body(0..200, Route::Otlp));
        let pieces = sources::split_protobuf(&body, sources::Signal::Logs).unwrap();
        assert_eq!((pieces.records.len(), pieces.refused.len()), (200, 0));
        let kinds = |records: &mut dyn Iterator<Item = bytes::Bytes>| -> Vec<usize> {
            let record = |bytes| RawRecord { bytes, client_id: None, defaults: Arc::default() };
            records.map(|bytes| sources::decode(&record(bytes)).unwrap()[0].fact.table_index()).collect()
        };
        let native = bytes::Bytes::from(load.body(0..200, Route::Native));
        assert_eq!(kinds(&mut pieces.records.into_iter()), kinds(&mut crate::intake::split::records(&native)));
    }
}
