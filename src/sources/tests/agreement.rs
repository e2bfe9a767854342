//! What we read beside what others read from the same records: Winlogbeat's and Filebeat's own expected documents.
//!
//! Fields that both sides have must agree; where they do not, [`EXCEPTIONS`] says why.

use super::{fixtures::telemetry, *};
use crate::model::fact::{Connection, Fact};
use chrono::{DateTime, Utc};
use evtx::{EvtxParser, ParserSettings};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::{Path, PathBuf},
};

/// Where the other side means something else: part of the file's name, field, reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("panw_panos/pan_inc_threat", "source", PACKET),
    ("panw_panos/pan_inc_threat", "source port", PACKET),
    ("panw_panos/pan_inc_threat", "destination", PACKET),
    ("panw_panos/pan_inc_threat", "destination port", PACKET),
    ("suricata_eve/eve-6.0", "source", PACKET),
    ("suricata_eve/eve-6.0", "source port", PACKET),
    ("suricata_eve/eve-6.0", "destination", PACKET),
    ("suricata_eve/eve-6.0", "destination port", PACKET),
    ("suricata_eve/eve-metadata", "source", PACKET),
    ("suricata_eve/eve-metadata", "source port", PACKET),
    ("suricata_eve/eve-metadata", "destination", PACKET),
    ("suricata_eve/eve-metadata", "destination port", PACKET),
];
const PACKET: &str =
    "theirs is the direction of the packet that raised the alert, ours that of the connection; `both ends` agree";

/// Values of one record by field; several where order or number says nothing.
type Fields = BTreeMap<&'static str, BTreeSet<String>>;

fn put(fields: &mut Fields, name: &'static str, values: impl IntoIterator<Item = String>) {
    fields.entry(name).or_default().extend(values.into_iter().filter(|value| !value.is_empty()));
}

fn milliseconds(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// One spelling for what is compared without case.
fn lower(text: &str) -> String {
    text.trim().to_lowercase()
}

/// One end of a connection.
type End = (Option<IpAddr>, Option<i64>);

fn ends(fields: &mut Fields, source: End, destination: End) {
    let text = |(ip, port): End| Some(format!("{} {}", ip?, port?));
    put(fields, "source", source.0.map(|ip| ip.to_string()));
    put(fields, "source port", source.1.map(|port| port.to_string()));
    put(fields, "destination", destination.0.map(|ip| ip.to_string()));
    put(fields, "destination port", destination.1.map(|port| port.to_string()));
    put(fields, "both ends", text(source).zip(text(destination)).map(<[String; 2]>::from).into_iter().flatten());
}

fn connection(fields: &mut Fields, c: &Connection) {
    let (local, remote) = ((c.local_ip, c.local_port), (c.remote_ip, c.remote_port));
    if c.direction.as_deref() == Some("inbound") {
        ends(fields, remote, local);
    } else {
        ends(fields, local, remote);
    }
    put(fields, "server name", c.remote_host.clone());
    put(fields, "transport", c.protocol.clone());
    put(fields, "time", c.ended_at.map(milliseconds));
}

fn ours(events: &[Event]) -> Fields {
    let mut all = Fields::new();
    for event in events {
        let f = &mut all;
        put(f, "time", event.at.map(milliseconds));
        let (_, pid, image) = event.fact.subject();
        put(f, "process id", pid.map(|pid| pid.to_string()));
        put(f, "executable", image.map(lower));
        let user = match &event.fact {
            Fact::ProcessStart(p) => {
                put(f, "command line", p.command_line.as_deref().map(str::trim).map(str::to_owned));
                put(f, "parent id", p.parent_pid.map(|pid| pid.to_string()));
                put(f, "parent executable", p.parent_image.as_deref().map(lower));
                put(f, "parent command line", p.parent_command_line.as_deref().map(str::trim).map(str::to_owned));
                put(f, "sha256", p.sha256.clone());
                put(f, "original file name", p.original_file_name.clone());
                p.user_name.as_deref()
            }
            Fact::Connection(c) => {
                connection(f, c);
                None
            }
            Fact::DnsQuery(d) => {
                put(f, "question", d.query.clone());
                put(f, "addresses", d.addresses.iter().flatten().map(ToString::to_string));
                put(f, "aliases", d.aliases.iter().flatten().cloned());
                None
            }
            Fact::Script(s) => {
                put(f, "command line", s.command_line.as_deref().map(str::trim).map(str::to_owned));
                put(f, "script path", s.path.clone());
                s.user_name.as_deref()
            }
            Fact::Persistence(p) => {
                if p.kind.as_deref() == Some("service") {
                    put(f, "service", p.name.clone());
                }
                p.by_user.as_deref()
            }
            Fact::SettingChange(s) => {
                if s.kind.as_deref() == Some("registry") {
                    put(f, "registry path", s.name.clone());
                }
                None
            }
            _ => None,
        };
        put(f, "user", user.map(lower));
    }
    all
}

/// The same of an expected document, in Elastic's field names; nested or dotted.
fn theirs(document: &Value) -> Fields {
    fn flat(prefix: &str, value: &Value, out: &mut BTreeMap<String, Vec<String>>) {
        match value {
            Value::Object(members) => {
                for (key, value) in members {
                    flat(&if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") }, value, out);
                }
            }
            Value::Array(elements) => elements.iter().for_each(|value| flat(prefix, value, out)),
            Value::String(text) => out.entry(prefix.to_owned()).or_default().push(text.clone()),
            Value::Null => {}
            other => out.entry(prefix.to_owned()).or_default().push(other.to_string()),
        }
    }
    let mut plain = BTreeMap::new();
    flat("", document, &mut plain);
    let all = |path: &str| plain.get(path).cloned().unwrap_or_default();
    let one = |path: &str| all(path).into_iter().next();
    let time =
        |path: &str| one(path).and_then(|t| DateTime::parse_from_rfc3339(&t).ok()).map(|t| milliseconds(t.to_utc()));
    let account = |name: &str, domain: &str| {
        one(name).map(|name| lower(&one(domain).map_or(name.clone(), |domain| format!("{domain}\\{name}"))))
    };
    let end = |side: &str| -> End {
        let part = |name: &str| one(&format!("{side}.{name}"));
        (part("ip").and_then(|ip| ip.parse().ok()), part("port").and_then(|port| port.parse().ok()))
    };
    let mut f = Fields::new();
    put(&mut f, "time", ["@timestamp", "event.start", "event.end"].into_iter().filter_map(time));
    put(&mut f, "process id", one("process.pid"));
    put(&mut f, "executable", one("process.executable").as_deref().map(lower));
    put(&mut f, "command line", one("process.command_line").map(|line| line.trim().to_owned()));
    put(&mut f, "parent id", one("process.parent.pid"));
    put(&mut f, "parent executable", one("process.parent.executable").as_deref().map(lower));
    put(&mut f, "parent command line", one("process.parent.command_line").map(|line| line.trim().to_owned()));
    put(&mut f, "sha256", one("process.hash.sha256"));
    put(&mut f, "original file name", one("process.pe.original_file_name"));
    put(&mut f, "user", account("user.name", "user.domain"));
    ends(&mut f, end("source"), end("destination"));
    put(
        &mut f,
        "server name",
        one("url.domain").or_else(|| one("destination.domain")).or_else(|| one("tls.client.server_name")),
    );
    put(&mut f, "transport", one("network.transport"));
    put(&mut f, "question", one("dns.question.name").as_deref().map(lower));
    let (addresses, aliases): (Vec<_>, Vec<_>) =
        all("dns.answers.data").into_iter().partition(|data| data.parse::<IpAddr>().is_ok());
    put(&mut f, "addresses", addresses.into_iter().chain(all("dns.resolved_ip")));
    put(&mut f, "aliases", aliases.iter().map(|name| lower(name)));
    put(&mut f, "script path", one("file.path"));
    put(&mut f, "service", one("service.name"));
    put(&mut f, "registry path", one("registry.path"));
    f
}

/// A value is the same if it is among ours; a time of whole seconds is compared as such.
fn agree(name: &str, ours: &BTreeSet<String>, theirs: &BTreeSet<String>) -> bool {
    match name {
        "time" => theirs.iter().any(|t| {
            ours.contains(t) || t.strip_suffix("000Z").is_some_and(|second| ours.iter().any(|o| o.starts_with(second)))
        }),
        _ => ours == theirs,
    }
}

#[derive(Default)]
struct Table {
    /// Agreed and compared, by source and field.
    counts: BTreeMap<(String, &'static str), (usize, usize)>,
    wrong: Vec<String>,
    /// Exceptions without which something would differ.
    needed: BTreeSet<usize>,
    records: usize,
}

impl Table {
    fn compare(&mut self, file: &Path, line: usize, events: &[Event], expected: &Value) {
        self.records += 1;
        let label = file.components().rev().take(2).collect::<Vec<_>>();
        let label = label.iter().rev().map(|c| c.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/");
        let (ours, theirs) = (ours(events), theirs(expected));
        for (name, theirs) in theirs.iter().filter(|(_, values)| !values.is_empty()) {
            let Some(ours) = ours.get(name).filter(|values| !values.is_empty()) else { continue };
            if let Some(n) = EXCEPTIONS.iter().position(|(part, field, _)| label.contains(part) && field == name) {
                self.needed.extend((!agree(name, ours, theirs)).then_some(n));
                continue;
            }
            let counted = self.counts.entry((label.clone(), name)).or_default();
            counted.1 += 1;
            if agree(name, ours, theirs) {
                counted.0 += 1;
            } else {
                self.wrong.push(format!("{label}:{line} {name}: ours {ours:?}, theirs {theirs:?}"));
            }
        }
    }

    fn print(&self) {
        let mut by_field: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for ((_, field), (agreed, all)) in &self.counts {
            let sum = by_field.entry(field).or_default();
            *sum = (sum.0 + agreed, sum.1 + all);
        }
        println!("{} records\n{:22} {:>7} {:>8}", self.records, "field", "agreed", "compared");
        for (field, (agreed, all)) in by_field {
            println!("{field:22} {agreed:>7} {all:>8}");
        }
        for (part, field, reason) in EXCEPTIONS {
            println!("exception: {part} {field}: {reason}");
        }
    }
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn expected(path: &Path, more: &str) -> Vec<Value> {
    let path = format!("{}{more}", path.display());
    match serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap() {
        Value::Array(documents) => documents,
        one => vec![one],
    }
}

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Whose zone the tester's collector was in.
fn zone_of(document: &Value) -> Option<i32> {
    let zone = document["event.timezone"].as_str()?;
    let (hours, minutes) = (zone.get(1..3)?.parse::<i32>().ok()?, zone.get(zone.len() - 2..)?.parse::<i32>().ok()?);
    Some(if zone.starts_with('-') { -1 } else { 1 } * (hours * 60 + minutes))
}

#[test]
fn what_others_expect_of_their_fixtures_is_what_we_read() {
    let Some(folder) = telemetry() else { return };
    let mut table = Table::default();
    for path in files(&folder.join("winlogbeat_golden"), ".evtx") {
        let golden = expected(&path, ".golden.json");
        let mut parser = EvtxParser::from_path(&path).unwrap().with_configuration(ParserSettings::new().indent(false));
        let records: Vec<String> = parser.records_json().map(|record| record.unwrap().data).collect();
        assert_eq!(records.len(), golden.len(), "{}", path.display());
        for (n, (record, golden)) in records.iter().zip(&golden).enumerate() {
            let events = decode(&record_with(record.as_bytes(), Defaults::default())).unwrap();
            table.compare(&path, n + 1, &events, golden);
            // Their document as somebody's input is the same event.
            let again = decode(&record_with(golden.to_string().as_bytes(), Defaults::default())).unwrap();
            table.compare(&path.with_extension("ecs"), n + 1, &again, golden);
        }
    }
    for path in files(&folder.join("filebeat_network"), ".log") {
        let expected = expected(&path, "-expected.json");
        for (n, text) in lines(&path).iter().enumerate() {
            // Filebeat drops a line it cannot read; most documents say which they are of.
            let original = |d: &&Value| d["event.original"].as_str().is_some_and(|original| original.trim() == *text);
            let Some(expected) =
                expected.iter().find(original).or_else(|| expected.get(n).filter(|d| d["event.original"].is_null()))
            else {
                println!("no expected document: {}:{}", path.display(), n + 1);
                continue;
            };
            let defaults = Defaults { utc_offset_minutes: zone_of(expected), ..Defaults::default() };
            let events = decode(&record_with(text.as_bytes(), defaults.clone()))
                .unwrap_or_else(|e| panic!("{}:{}: {e}", path.display(), n + 1));
            table.compare(&path, n + 1, &events, expected);
            let again = decode(&record_with(expected.to_string().as_bytes(), defaults)).unwrap();
            table.compare(&path.with_extension("ecs"), n + 1, &again, expected);
        }
    }
    for path in files(&folder.join("osquery"), ".log") {
        let expected = expected(&path, "-expected.json");
        for (n, (text, expected)) in lines(&path).iter().zip(&expected).enumerate() {
            let events = decode(&record_with(text.as_bytes(), Defaults::default())).unwrap();
            table.compare(&path, n + 1, &events, expected);
        }
    }
    table.print();
    assert!(table.wrong.is_empty(), "{} differ:\n{}", table.wrong.len(), table.wrong.join("\n"));
    assert_eq!(table.needed.len(), EXCEPTIONS.len(), "an exception that nothing needs");
    assert!(table.records > 500, "{}", table.records);
}
