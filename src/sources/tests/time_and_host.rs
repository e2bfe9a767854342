//! Which time counts and whose event it is.

use super::*;
use crate::model::event::{HostKey, TimeQuality};

/// 38 to 42: which time counts.
#[test]
fn the_time_of_a_record_follows_its_sender() {
    let sent = |utc: &str, id: u32| {
        let mut data = sysmon_1();
        data["UtcTime"] = json!(utc);
        one_of(&evtx(SYSMON, SYSMON_LOG, id, data))
    };
    let lagged = sent("2026-02-24 18:50:05.000", 3);
    assert_eq!((at(&lagged).as_str(), lagged.time_quality), ("2026-03-02T09:14:05.100Z", TimeQuality::Lagged));
    let suspect = sent("2026-03-02 14:14:05.100", 1);
    assert_eq!((at(&suspect).as_str(), suspect.time_quality), ("2026-03-02T14:14:05.100Z", TimeQuality::ZoneSuspect));

    let task = |more: Value| {
        let mut document = nxlog(AUDIT, "Security", 4699, json!({"TaskName": "\\x"}));
        document["EventTime"] = json!("2026-03-02 05:14:05");
        document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        document
    };
    let relayed =
        one_of(&task(json!({"EventReceivedTime": "2026-03-02 05:14:07", "@timestamp": "2026-03-02T09:14:08.2Z"})));
    assert_eq!((at(&relayed).as_str(), relayed.time_quality), ("2026-03-02T09:14:05.000Z", TimeQuality::AssumedZone));
    let bare = one_of(&task(json!({})));
    assert_eq!((at(&bare).as_str(), bare.time_quality), ("2026-03-02T05:14:05.000Z", TimeQuality::AssumedUtc));
    let token = Defaults { utc_offset_minutes: Some(-240), ..Defaults::default() };
    let told = decode(&record_with(task(json!({})).to_string().as_bytes(), token)).unwrap().remove(0);
    assert_eq!((at(&told).as_str(), told.time_quality), ("2026-03-02T09:14:05.000Z", TimeQuality::AssumedZone));
    let stated = one_of(&task(json!({"EventTime": "2026-03-02T05:14:05.250000-04:00"})));
    assert_eq!((at(&stated).as_str(), stated.time_quality), ("2026-03-02T09:14:05.250Z", TimeQuality::Exact));

    let mut old = winlogbeat(AUDIT, "Security", "4689", json!({"ProcessId": "0x1"}));
    old["winlog"]["time_created"] = json!("1601-01-01T00:00:00Z");
    assert_eq!(at(&one_of(&old)), "2026-03-02T09:14:05.100Z");
    old["winlog"]["time_created"] = json!("9999-01-01T00:00:00Z");
    assert_eq!(try_all(&old).unwrap_err().reason(), "time_out_of_range");
    old["winlog"]["time_created"] = Value::Null;
    old["@timestamp"] = json!("2090-01-01T00:00:00Z");
    assert!(try_all(&old).is_ok());
    old["@timestamp"] = json!("soon");
    assert_eq!(try_all(&old).unwrap_err(), Reject::NoTime);
}

/// 60, 63: a collector lends neither id nor name; wrappers do not override the computer.
#[test]
fn a_collector_is_not_the_host() {
    let mut document = winlogbeat(SYSMON, SYSMON_LOG, "1", sysmon_1());
    document["agent"] = json!({"id": "wec", "name": "wec1"});
    document["host"] = json!({"name": "wec1", "id": "wec", "ip": ["192.0.2.99"]});
    let event = one_of(&document);
    assert_eq!(event.host, HostKey::Name("ws-0412.corp.example".into()));
    assert!(event.addresses.is_empty());
    let wrapped = json!({"host": "evil", "fields": {"host": "evil"}, "event": otel(SYSMON, SYSMON_LOG, 1, sysmon_1()), "host.name": "evil"});
    assert_eq!(one_of(&wrapped).host, HostKey::Name("ws-0412.corp.example".into()));
}

/// A host-bound token speaks for its hosts only, and cannot borrow another's id.
#[test]
fn a_bound_token_may_not_report_for_others() {
    let bound =
        |host: &str| Defaults { host: Some(host.into()), allowed_hosts: vec![host.into()], ..Defaults::default() };
    let bytes = winlogbeat(SYSMON, SYSMON_LOG, "1", sysmon_1()).to_string();
    let own = decode(&record_with(bytes.as_bytes(), bound("WS-0412"))).unwrap().remove(0);
    assert_eq!(own.host, HostKey::Name("ws-0412.corp.example".into()));
    let other = decode(&record_with(bytes.as_bytes(), bound("ws-0413"))).unwrap_err();
    assert_eq!(other, Reject::HostNotAllowed("ws-0412.corp.example".into()));
    let unnamed = json!({"@timestamp": "2026-03-02T09:19:05Z", "event": {"dataset": "system.cpu"}, "metricset": {"name": "cpu"}, "system": {"cpu": {"total": {"norm": {"pct": 0.5}}}}});
    let given = decode(&record_with(unnamed.to_string().as_bytes(), bound("ws-0412"))).unwrap().remove(0);
    assert_eq!(given.host, HostKey::Name("ws-0412".into()));
    assert_eq!(try_all(&unnamed).unwrap_err(), Reject::NoHost);
}
