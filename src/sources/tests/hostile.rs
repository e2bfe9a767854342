//! Unknown, broken and hostile records: kept raw, repaired or refused, never a panic.

use super::*;
use crate::{
    model::event::{HostKey, Identity, TimeQuality},
    sources::LARGEST_RECORD,
};
use proptest::prelude::*;

/// 62: everything else is kept raw.
#[test]
fn case_62_unknown_documents_are_raw_only() {
    for document in [
        json!({"message": "hello"}),
        json!({"a": {"b": 1}}),
        json!({"event": "hello", "time": 1}),
        evtx(AUDIT, "Security", 4624, json!({"LogonType": 3})),
        evtx(SYSMON, "Application", 1, sysmon_1()),
    ] {
        let event = one_of(&document);
        assert_eq!(event.fact.table(), "other_event", "{document}");
    }
    let hello = one_of(&json!({"message": "hello"}));
    assert_eq!((hello.at, hello.time_quality, hello.host), (None, TimeQuality::Received, HostKey::None));
    assert!(matches!(hello.identity, Identity::Content { .. }));
    for bytes in [b"hello".as_slice(), b"", b"[1]", b"\"x\"", b"{\"a\":", b"<a/>"] {
        assert!(decode(&record_with(bytes, Defaults::default())).is_err(), "{}", bytes.escape_ascii());
    }
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(LARGEST_RECORD));
    assert_eq!(decode(&record_with(large.as_bytes(), Defaults::default())).unwrap_err().reason(), "too_large");
}

/// 20: repaired records are evaluated and flagged.
#[test]
fn a_repaired_record_keeps_its_command_line() {
    let clean = winlogbeat(SYSMON, SYSMON_LOG, "1", sysmon_1()).to_string();
    let broken = clean.replacen("\"RuleName\":\"-\"", "\"RuleName\":\"\\ud800\",\"x\":1e400", 1);
    assert_ne!(clean, broken);
    let event = decode(&record_with(broken.as_bytes(), Defaults::default())).unwrap().remove(0);
    assert_eq!(event.field_errors, ["(surrogate)", "(number)"]);
    assert_eq!(fact!(event, ProcessStart), expected_start());
    let twice = clean.replacen("\"CommandLine\":", "\"CommandLine\":\"first\",\"CommandLine\":", 1);
    let event = decode(&record_with(twice.as_bytes(), Defaults::default())).unwrap().remove(0);
    assert_eq!(event.field_errors, ["(key twice)"]);
    assert_eq!(fact!(event, ProcessStart).command_line.as_deref(), Some("first"));
}

/// A wrong value in one field makes that field null and is named.
#[test]
fn a_wrong_value_is_null_and_named() {
    let mut data = sysmon_1();
    data["ProcessId"] = json!("many");
    let event = one_of(&evtx(SYSMON, SYSMON_LOG, 1, data));
    assert_eq!(event.field_errors, ["ProcessId"]);
    assert_eq!(fact!(event, ProcessStart).pid, None);
}

/// Wrappers are opened three deep, not deeper.
#[test]
fn wrappers_are_opened_three_deep() {
    let mut document = evtx(SYSMON, SYSMON_LOG, 1, sysmon_1());
    for depth in 1..=6 {
        document = json!({"message": document.to_string()});
        let table = one_of(&document).fact.table();
        assert_eq!(table == "process_start", depth <= 3, "{depth}: {table}");
    }
}

fn fixtures() -> Vec<String> {
    vec![
        winlogbeat(SYSMON, SYSMON_LOG, "1", sysmon_1()).to_string(),
        evtx(SYSMON, SYSMON_LOG, 3, sysmon_1()).to_string(),
        nxlog(SYSMON, SYSMON_LOG, 22, sysmon_1()).to_string(),
        xml(SYSMON, SYSMON_LOG, 1, &sysmon_1()),
        metric("system.process", json!({"process": {"pid": 1}})).to_string(),
        json!({"event": xml(SYSMON, SYSMON_LOG, 1, &sysmon_1())}).to_string(),
        "1772442845.049 5006 192.168.0.5 TCP_TUNNEL/200 19763 CONNECT pool.example:443 - HIER_DIRECT/203.0.113.9 -".to_owned(),
        json!({"timestamp": "2026-03-02T09:14:05+0000", "event_type": "dns", "src_ip": "10.0.0.5", "dns": {"rrname": "a"}}).to_string(),
    ]
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        drop(decode(&record_with(&bytes, Defaults::default())));
    }

    #[test]
    fn mutated_records_are_decoded_or_refused_without_panic(
        which in 0usize..8, edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0usize..40), 1..6)
    ) {
        let mut bytes = fixtures()[which].clone().into_bytes();
        for (place, byte, cut) in edits {
            let place = place.index(bytes.len());
            bytes[place] = byte;
            let end = (place + cut).min(bytes.len());
            if cut > 20 && bytes.len() > 60 {
                bytes.drain(place..end);
            }
        }
        drop(decode(&record_with(&bytes, Defaults::default())));
    }

    /// Decoding is a function of the record: the same bytes give the same identity.
    #[test]
    fn the_same_content_has_the_same_identity(text in "[ -~]{0,40}", n: i64) {
        let a = one_of(&json!({"b": text, "a": {"x": n, "y": [1, null]}}));
        let spaced = format!("{{ \"a\" : {{\"y\":[1 , null],\"x\":{n}}} , \"b\":{} }}", Value::String(text));
        prop_assert_eq!(a.identity, one_text(&spaced).identity);
    }
}
