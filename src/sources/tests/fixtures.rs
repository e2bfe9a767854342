//! Real and documented records of other projects, read from the shared telemetry folder where it is present.

use super::*;
use crate::model::{event::Defaults, fact::Fact};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The telemetry folder, or none with a message.
#[expect(clippy::disallowed_methods, reason = "the folder of a test is no setting of the program")]
pub(super) fn telemetry() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/telemetry");
    let folder = PathBuf::from(std::env::var_os("COALFACE_TELEMETRY").unwrap_or_else(|| beside.into()));
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: {} is absent (COALFACE_TELEMETRY names another folder)", folder.display());
    None
}

fn record(bytes: &[u8]) -> RawRecord {
    RawRecord { bytes: bytes.to_vec().into(), client_id: None, defaults: Arc::new(Defaults::default()) }
}

fn events(bytes: &[u8]) -> Vec<Event> {
    decode(&record(bytes)).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(bytes))).into_vec()
}

/// The document of a sample file, as a sender would have sent it.
fn sample(folder: &Path, name: &str) -> Value {
    let text = std::fs::read_to_string(folder.join("samples").join(format!("{name}.json"))).unwrap();
    let mut file: Value = serde_json::from_str(&text).unwrap();
    file["document"].take()
}

fn sample_events(folder: &Path, name: &str) -> Vec<Event> {
    match sample(folder, name) {
        Value::String(text) => events(text.as_bytes()),
        document => events(document.to_string().as_bytes()),
    }
}

/// Lines of a `.gz` or of the one file inside a `.zip`.
fn lines(path: &Path) -> Vec<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).unwrap();
    if path.extension().is_some_and(|e| e == "zip") {
        let mut archive = zip::ZipArchive::new(file).unwrap();
        for n in 0..archive.len() {
            archive.by_index(n).unwrap().read_to_string(&mut text).unwrap();
        }
    } else {
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    }
    text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

/// The table a sample must land in, by the event its name says.
fn expected_table(name: &str) -> &'static str {
    let event = name.split_once('_').map_or(name, |(_, rest)| rest);
    let event = event.trim_start_matches("raw_").trim_start_matches("winlogbeat_").trim_start_matches("after_ingest_");
    let event = event.trim_start_matches("old_");
    match event {
        e if e.starts_with("Sysmon_1_") => "process_start",
        e if e.starts_with("Security_5156") => "connection",
        "Sysmon_1" | "Security_4688" => "process_start",
        "Sysmon_5" | "Security_4689" => "process_stop",
        "Sysmon_3" | "Security_5157" => "connection",
        "Sysmon_22" => "dns_query",
        "Sysmon_6" | "Sysmon_7" => "module_load",
        "Sysmon_8" | "Sysmon_10" | "Sysmon_25" => "process_tamper",
        "Sysmon_11" | "Sysmon_23" => "file_write",
        "Sysmon_19" | "Sysmon_20" | "Sysmon_21" | "System_7045" | "WMIActivity_5861" | "WMI_5861_user_data" => {
            "persistence"
        }
        e if e.starts_with("Security_469") || e.starts_with("Security_470") && e < "Security_4703" => "persistence",
        e if e.starts_with("TaskScheduler_") => "persistence",
        "Security_4672" | "Security_4703" | "Security_4704" | "Security_4717" | "Security_4657" | "Defender_5007"
        | "Firewall_2004" | "Eventlog_1102" | "Sysmon_12" => "setting_change",
        e if e.starts_with("WMIActivity_58") => "persistence",
        "Defender_1116" | "Defender_1117" => "security_alert",
        "PowerShell_4104" | "PowerShell_4103" | "PowerShellClassic_400" | "PowerShellClassic_800" => "script",
        "system_process" | "system_process_windows" => "cpu_sample",
        "system_cpu" => "host_sample",
        _ => "other_event",
    }
}

#[test]
fn every_sample_decodes_to_the_kind_its_name_says() {
    let Some(folder) = telemetry() else { return };
    let shapes = ["winlogbeat_raw_", "evtx_", "nxlog_", "flat_", "ecs_", "metricbeat_", "wazuh_", "xml_", "fluentbit_"];
    let mut wrong = Vec::new();
    let mut seen = 0;
    for entry in std::fs::read_dir(folder.join("samples")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let name = name.trim_end_matches(".json");
        if !shapes.iter().any(|shape| name.starts_with(shape)) || name == "winlogbeat_raw_bulk_body" {
            continue;
        }
        seen += 1;
        let expected = match name {
            n if n.starts_with("wazuh_") || n.starts_with("fluentbit_") => "process_start",
            "nxlog_PowerShellClassic_400" | "nxlog_PowerShellClassic_800" => "other_event",
            // Without a host name; or by the value that was set.
            "metricbeat_system_cpu" | "metricbeat_system_process" | "evtx_Sysmon_13" | "nxlog_Sysmon_13" => continue,
            n => expected_table(n),
        };
        let found = sample_events(&folder, name);
        if found[0].fact.table() != expected {
            wrong.push(format!("{name}: {} instead of {expected}", found[0].fact.table()));
        }
        if let Fact::ProcessStart(start) = &found[0].fact {
            let complete = start.image.is_some() && start.started_at.is_some();
            if !complete || (start.pid.is_none() && name != "nxlog_Sysmon_1_without_ProcessId") {
                wrong.push(format!("{name}: {start:?}"));
            }
        }
        if !found[0].field_errors.is_empty() {
            wrong.push(format!("{name}: {:?}", found[0].field_errors));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 90, "{seen}");
}

/// Counts by `event_counts.tsv`: Sysmon 1 and Security 4688 of every file are process starts, no record is refused.
#[test]
fn the_files_hold_as_many_process_starts_as_counted() {
    let Some(folder) = telemetry() else { return };
    let mut expected: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for line in std::fs::read_to_string(folder.join("event_counts.tsv")).unwrap().lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [file, provider, id, count] = columns[..] else { panic!("{line}") };
        let count: usize = count.parse().unwrap();
        let start =
            (provider.ends_with("Sysmon") && id == "1") || (provider.ends_with("Security-Auditing") && id == "4688");
        let entry = expected.entry(file.to_owned()).or_default();
        entry.0 += if start { count } else { 0 };
        entry.1 += count;
    }
    let mut files = 0;
    for (file, (starts, all)) in expected {
        let readable = [".gz", ".zip"].iter().any(|e| file.ends_with(e)) && !file.contains("zeek");
        if !readable {
            continue;
        }
        files += 1;
        let (mut found, mut seen) = (0, 0);
        for line in lines(&folder.join(&file)) {
            let events = decode(&record(line.as_bytes())).unwrap_or_else(|e| panic!("{file}: {e}: {line}"));
            seen += 1;
            found += events.iter().filter(|e| matches!(e.fact, Fact::ProcessStart(_))).count();
        }
        assert_eq!((found, seen), (starts, all), "{file}");
    }
    assert!(files > 100, "{files}");
}
