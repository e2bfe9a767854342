//! The pitfalls of wire formats, section 15, one test each, by their numbers.
//!
//! Elsewhere: 1 to 19 and 21 are about protocols (`tests/it/wire`); 53 and 64 need the database (`tests/it/samples`); 47, 58, 61,
//! 68 to 71 are questions of putting facts together (`worker::derive`), here it is shown that decoding leaves them what they need.

use super::*;
use crate::model::{
    event::{HostKey, TimeQuality},
    fact::{Connection, Persistence},
};
use std::net::IpAddr;

const TASKS: &str = "Microsoft-Windows-TaskScheduler";
const TASKS_LOG: &str = "Microsoft-Windows-TaskScheduler/Operational";
const WMI: &str = "Microsoft-Windows-WMI-Activity";
const WMI_LOG: &str = "Microsoft-Windows-WMI-Activity/Operational";
const SHELL: &str = "Microsoft-Windows-PowerShell";
const SHELL_LOG: &str = "Microsoft-Windows-PowerShell/Operational";
const DEFENDER: &str = "Microsoft-Windows-Windows Defender";
const DEFENDER_LOG: &str = "Microsoft-Windows-Windows Defender/Operational";

fn with(mut document: Value, key: &str, value: Value) -> Value {
    document[key] = value;
    document
}

fn start(document: &Value) -> ProcessStart {
    fact!(one_of(document), ProcessStart)
}

fn ip(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

fn filtered(more: Value) -> Value {
    let mut data = json!({"Application": r"\device\harddiskvolume4\windows\system32\x.exe", "Direction": "%%14593", "SourceAddress": "10.0.0.5",
        "SourcePort": "50000", "DestAddress": "203.0.113.9", "DestPort": "3333", "Protocol": "6"});
    data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    data
}

#[test]
fn case_20_broken_text_is_repaired_and_evaluated() {
    let clean = winlogbeat(SYSMON, SYSMON_LOG, "1", sysmon_1()).to_string();
    let deep = format!("\"x\":{}1{},", "[".repeat(10_000), "]".repeat(10_000));
    for (broken, note) in [
        (clean.replacen("\"RuleName\":\"-\"", "\"RuleName\":\"\\u0000\"", 1), "(nul)"),
        (clean.replacen("\"RuleName\":\"-\"", "\"RuleName\":\"\\ud800\"", 1), "(surrogate)"),
        (clean.replacen("\"RuleName\":\"-\"", "\"RuleName\":1e400", 1), "(number)"),
        (clean.replacen("\"RuleName\":", "\"ProcessId\":\"4120\",\"RuleName\":", 1), "(key twice)"),
        (clean.replacen('{', &format!("{{{deep}"), 1), "(depth)"),
    ] {
        let event = one_text(&broken);
        assert!(event.field_errors.iter().any(|error| error == note), "{note}: {:?}", event.field_errors);
        assert_eq!(fact!(event, ProcessStart), expected_start(), "{note}");
    }
    let mut invalid = clean.into_bytes();
    let place = invalid.windows(8).position(|w| w == b"RuleName").unwrap();
    invalid[place] = 0xFF;
    let event = decode(&record_with(&invalid, Defaults::default())).unwrap().remove(0);
    assert_eq!(fact!(event, ProcessStart), expected_start());
}

#[test]
fn case_23_a_number_and_its_text_are_the_same_event() {
    let text = winlogbeat(SYSMON, SYSMON_LOG, "1", sysmon_1());
    let mut number = text.clone();
    number["winlog"]["event_id"] = json!(1);
    number["winlog"]["record_id"] = json!("5512");
    number["winlog"]["event_data"]["ProcessId"] = json!(4120);
    let (a, b) = (one_of(&text), one_of(&number));
    assert_eq!(a.identity, b.identity);
    assert_eq!(fact!(a, ProcessStart), fact!(b, ProcessStart));
}

#[test]
fn case_25_a_guid_is_the_same_in_either_spelling_and_zeros_are_none() {
    let guid = |text: &str| start(&evtx(SYSMON, SYSMON_LOG, 1, with(sysmon_1(), "ProcessGuid", json!(text)))).guid;
    assert_eq!(guid("5F0E1D2C-4A98-69A5-1704-000000000300"), guid(GUID));
    assert!(guid(GUID).is_some());
    assert_eq!(guid("{00000000-0000-0000-0000-000000000000}"), None);
}

#[test]
fn case_26_the_user_is_the_processes_never_the_loggers() {
    let raw = start(&winlogbeat(SYSMON, SYSMON_LOG, "1", sysmon_1()));
    let ecs = json!({"@timestamp": "2026-03-02T09:14:05.095Z", "host": {"name": "WS-0412.corp.example"}, "event": {"code": "1", "category": ["process"], "type": ["start"]},
        "user": {"id": "S-1-5-18", "name": "j.doe", "domain": "CORP"},
        "process": {"entity_id": GUID, "pid": 4120, "executable": IMAGE, "command_line": r"C:\Users\Public\Libraries\svchost.exe -o pool.example:3333 ",
            "hash": {"sha256": "ab".repeat(32)}, "pe": {"original_file_name": "xmrig.exe", "company": "www.xmrig.example", "product": "XMRig"},
            "parent": {"pid": 1232, "executable": r"C:\Windows\System32\svchost.exe", "command_line": "svchost.exe -k netsvcs -p -s Schedule"}},
        "winlog": {"channel": SYSMON_LOG, "computer_name": "WS-0412.corp.example", "provider_name": SYSMON, "event_id": "1", "record_id": 5512,
            "user": {"identifier": "S-1-5-18"}, "event_data": {"LogonId": "0x2c9e7", "TerminalSessionId": "1", "IntegrityLevel": "High"}}});
    let ecs = start(&ecs);
    assert_eq!(ecs, raw);
    assert_eq!(raw.user_name.as_deref(), Some(r"CORP\j.doe"));
}

#[test]
fn case_29_a_filtering_event_of_old_nxlog_has_no_process_id() {
    let old = without(nxlog(AUDIT, "Security", 5156, filtered(json!({"ProcessID": 4}))), "ExecutionProcessID");
    assert_eq!(fact!(one_of(&old), Connection).pid, None);
    let flat = filtered(json!({"ProcessID": "3108", "SourceName": AUDIT, "Channel": "Security", "EventID": 5156,
        "TimeCreated": "2026-03-02T09:14:05.1Z", "Hostname": "ws-0412"}));
    assert_eq!(fact!(one_of(&flat), Connection).pid, Some(3108));
}

#[test]
fn case_32_the_relay_is_not_the_host() {
    assert_eq!(one_of(&nxlog(SYSMON, SYSMON_LOG, 1, sysmon_1())).host, HostKey::Name("ws-0412.corp.example".into()));
}

#[test]
fn case_34_a_zone_behind_a_blank_is_read() {
    let document = json!({"ProviderName": AUDIT, "EventID": 4689, "TimeCreated": "2026-03-02 04:14:05 -0500", "EventRecordID": 7, "Channel": "Security",
        "Computer": "ws-0412", "EventData": {"ProcessId": "0x1"}});
    let event = one_of(&document);
    assert_eq!((at(&event).as_str(), event.time_quality), ("2026-03-02T09:14:05.000Z", TimeQuality::Second));
}

#[test]
fn case_35_every_generation_of_the_otel_receiver_says_the_same() {
    let pairs: Vec<Value> =
        sysmon_1().as_object().unwrap().iter().map(|(name, value)| json!({ name: value })).collect();
    let bodies = [
        otel(SYSMON, SYSMON_LOG, 1, sysmon_1()),
        otel(SYSMON, SYSMON_LOG, 1, json!({"data": pairs, "name": "", "binary": ""})),
        json!({"body": xml(SYSMON, SYSMON_LOG, 1, &sysmon_1())}),
        json!({"log.record.original": xml(SYSMON, SYSMON_LOG, 1, &sysmon_1())}),
    ];
    for body in bodies {
        assert_eq!(start(&body), expected_start(), "{body}");
    }
    // The newest numbers what has no name.
    let shell = otel(
        "PowerShell",
        "Windows PowerShell",
        400,
        json!({"Data1": "Available", "Data2": "\tHostApplication=powershell -nop\n\tEngineVersion=5.1"}),
    );
    assert_eq!(fact!(one_of(&shell), Script).command_line.as_deref(), Some("powershell -nop"));
}

#[test]
fn case_37_telegraf_fields_are_the_events_and_the_timestamp_is_not() {
    let event = one_of(
        &json!({"name": "win_eventlog", "tags": {"host": "WS-0412", "Channel": SYSMON_LOG, "Computer": "WS-0412.corp.example", "EventID": "1", "Source": SYSMON},
        "fields": {"TimeCreated": "2026-03-02T09:14:05.1034567Z", "EventRecordID": 5512, "ProcessID": 3520, "Data_Image": IMAGE, "Data_ProcessId": "4120"},
        "timestamp": 1_772_442_840}),
    );
    assert_eq!(at(&event), "2026-03-02T09:14:05.103Z");
    let start = fact!(event, ProcessStart);
    assert_eq!((start.image.as_deref(), start.pid), (Some(IMAGE), Some(4120)));
}

fn sysmon_at(utc: &str, id: u32, created: &str) -> (String, TimeQuality) {
    let mut document = evtx(SYSMON, SYSMON_LOG, id, with(sysmon_1(), "UtcTime", json!(utc)));
    document["Event"]["System"]["TimeCreated"]["#attributes"]["SystemTime"] = json!(created);
    let event = one_of(&document);
    (at(&event), event.time_quality)
}

#[test]
fn case_38_utc_time_is_when_it_happened() {
    let read = sysmon_at("2026-03-02 09:14:05.095", 1, "2026-03-02T09:14:05.100Z");
    assert_eq!(read, ("2026-03-02T09:14:05.095Z".to_owned(), TimeQuality::Exact));
}

#[test]
fn case_39_utc_time_of_a_machine_that_slept_is_not_believed() {
    let read = sysmon_at("2026-02-24 18:50:05.000", 3, "2026-03-02T09:14:05.100Z");
    assert_eq!(read, ("2026-03-02T09:14:05.100Z".to_owned(), TimeQuality::Lagged));
}

#[test]
fn case_40_a_mislabelled_zone_is_suspected() {
    let read = sysmon_at("2026-03-02 14:14:05.000", 1, "2026-03-02T09:14:05.000Z");
    assert_eq!(read, ("2026-03-02T14:14:05.000Z".to_owned(), TimeQuality::ZoneSuspect));
}

#[test]
fn case_41_nxlog_without_a_zone_is_placed_by_relay_token_or_as_utc() {
    let task = |more: Value| {
        let mut document = nxlog(AUDIT, "Security", 4699, json!({"TaskName": "\\x"}));
        document["EventTime"] = json!("2026-03-02 05:14:05");
        document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        document
    };
    let relayed =
        one_of(&task(json!({"EventReceivedTime": "2026-03-02 05:14:07", "@timestamp": "2026-03-02T09:14:08.2Z"})));
    assert_eq!(at(&relayed), "2026-03-02T09:14:05.000Z");
    let token = Defaults { utc_offset_minutes: Some(-240), ..Defaults::default() };
    let told = decode(&record_with(task(json!({})).to_string().as_bytes(), token)).unwrap().remove(0);
    assert_eq!((at(&told), told.time_quality), (at(&relayed), TimeQuality::AssumedZone));
    assert_eq!(one_of(&task(json!({}))).time_quality, TimeQuality::AssumedUtc);
}

#[test]
fn case_42_an_absent_time_is_passed_over_and_an_impossible_one_refused() {
    let created = |time: &str| {
        let mut document = winlogbeat(AUDIT, "Security", "4689", json!({"ProcessId": "0x1"}));
        document["winlog"]["time_created"] = json!(time);
        try_all(&document)
    };
    assert_eq!(at(&created("1601-01-01T00:00:00Z").unwrap()[0]), "2026-03-02T09:14:05.100Z");
    assert_eq!(created("9999-01-01T00:00:00Z").unwrap_err().reason(), "time_out_of_range");
    assert_eq!(at(&created("2026-03-03T09:14:05Z").unwrap()[0]), "2026-03-03T09:14:05.000Z");
}

#[test]
fn case_44_the_target_account_counts_unless_it_is_empty() {
    let created = |more: Value| {
        let mut data = json!({"SubjectUserSid": "S-1-5-20", "SubjectUserName": "WS-0412$", "SubjectDomainName": "CORP", "SubjectLogonId": "0x3e4",
            "TargetUserName": "-", "TargetLogonId": "0x0", "NewProcessId": "0x7d8", "NewProcessName": IMAGE});
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        start(&evtx(AUDIT, "Security", 4688, data)).user_name
    };
    assert_eq!(created(json!({})).as_deref(), Some(r"NT AUTHORITY\NETWORK SERVICE"));
    assert_eq!(
        created(json!({"TargetUserName": "HOST$", "TargetLogonId": "0x3e4"})).as_deref(),
        Some(r"NT AUTHORITY\NETWORK SERVICE")
    );
    assert_eq!(
        created(json!({"TargetUserName": "kim", "TargetDomainName": "CORP", "TargetLogonId": "0x99"})).as_deref(),
        Some(r"CORP\kim")
    );
}

#[test]
fn case_46_words_for_nothing_are_nothing() {
    let name = |value: Value| {
        start(&evtx(SYSMON, SYSMON_LOG, 1, with(sysmon_1(), "OriginalFileName", value))).original_file_name
    };
    for nothing in ["-", "?", "", "N/A", "(null)", "%%1234"] {
        assert_eq!(name(json!(nothing)), None, "{nothing}");
    }
    assert_eq!(start(&evtx(SYSMON, SYSMON_LOG, 1, without(sysmon_1(), "OriginalFileName"))).original_file_name, None);
    assert_eq!(name(json!("NOTEPAD.EXE")).as_deref(), Some("NOTEPAD.EXE"));
}

#[test]
fn case_47_a_device_path_keeps_its_tail_and_its_process_id() {
    let seen = fact!(one_of(&evtx(AUDIT, "Security", 5156, filtered(json!({"ProcessID": "4120"})))), Connection);
    assert!(seen.pid == Some(4120) && seen.image.is_some_and(|image| image.ends_with(r"\windows\system32\x.exe")));
}

#[test]
fn case_48_the_remote_end_follows_direction_and_transport() {
    let seen = |more: Value| fact!(one_of(&evtx(AUDIT, "Security", 5156, filtered(more))), Connection);
    let remote = |c: &Connection| (c.remote_ip, c.remote_port);
    assert_eq!(remote(&seen(json!({}))), (ip("203.0.113.9"), Some(3333)));
    assert_eq!(remote(&seen(json!({"Direction": "%%14592"}))), (ip("10.0.0.5"), Some(50_000)));
    assert_eq!(seen(json!({"Protocol": "17"})).direction.as_deref(), Some("unknown"));
}

#[test]
fn case_49_answers_of_sysmon_22_are_told_apart_and_a_failure_has_none() {
    let asked = |data: Value| fact!(one_of(&evtx(SYSMON, SYSMON_LOG, 22, data)), DnsQuery);
    let found = asked(json!({"UtcTime": "2026-03-02 09:14:05.095", "QueryName": "a.example", "QueryStatus": "0",
        "QueryResults": "type:  5 a.example.net;::ffff:192.0.2.7;"}));
    assert_eq!(found.aliases, Some(vec!["a.example.net".to_owned()]));
    assert_eq!(found.addresses.unwrap(), ip("192.0.2.7").into_iter().collect::<Vec<_>>());
    let none = asked(json!({"QueryName": "b.example", "QueryStatus": "9003", "QueryResults": "-"}));
    assert_eq!((none.status.as_deref(), none.addresses, none.aliases), (Some("9003"), Some(vec![]), Some(vec![])));
    // Long answers are cut short by the sensor.
    let cut = asked(
        json!({"QueryName": "c.example", "QueryStatus": "0", "QueryResults": "type:  5 d.example;192.0.2.7;192.0"}),
    );
    assert_eq!((cut.addresses.unwrap().len(), cut.aliases.unwrap().len()), (1, 1));
}

#[test]
fn case_50_a_task_is_read_from_whichever_content_it_has() {
    let task = |id: u32, name: &str, xml: &str| {
        try_all(&evtx(AUDIT, "Security", id, json!({"TaskName": r"\Sync", name: xml}))).unwrap()
    };
    let two = task(
        4702,
        "TaskContentNew",
        "<Task><Actions><Exec><Command>a.exe</Command></Exec><Exec><Command>b.exe</Command></Exec></Actions></Task>",
    );
    assert_eq!(two.len(), 2);
    let handler = fact!(
        task(4698, "TaskContent", "<Task><Actions><ComHandler><ClassId>{1}</ClassId></ComHandler></Actions></Task>")
            .remove(0),
        Persistence
    );
    assert_eq!(handler.com_class.as_deref(), Some("{1}"));
    let broken = task(4698, "TaskContent", "<Task><Command>c.exe</Command>").remove(0);
    assert_eq!(broken.field_errors, ["TaskContent"]);
    assert_eq!(fact!(broken, Persistence).command.as_deref(), Some("c.exe"));
    let deleted = fact!(task(4699, "Other", "").remove(0), Persistence);
    assert_eq!((deleted.name.as_deref(), deleted.command), (Some(r"\Sync"), None));
}

#[test]
fn case_51_a_consumer_is_unquoted_once() {
    let data = json!({"UtcTime": "2026-03-02 09:14:05.095", "Operation": "Created", "User": r"CORP\kim", "Name": " \"Updater\"", "Type": "Command Line",
        "Destination": r#" "c:\\Windows\\System32\\cmd.exe""#});
    let consumer = fact!(one_of(&evtx(SYSMON, SYSMON_LOG, 20, data)), Persistence);
    assert_eq!(
        (consumer.name.as_deref(), consumer.command.as_deref()),
        (Some("Updater"), Some(r"c:\Windows\System32\cmd.exe"))
    );
}

#[test]
fn case_54_a_list_of_privileges_is_read_in_every_form() {
    let set = |id: u32, data: Value| fact!(one_of(&evtx(AUDIT, "Security", id, data)), SettingChange);
    let lines = set(
        4703,
        json!({"EnabledPrivilegeList": "SeLockMemoryPrivilege\r\n\t\t\tSeDebugPrivilege", "DisabledPrivilegeList": "-"}),
    );
    let array =
        set(4704, json!({"PrivilegeList": ["SeLockMemoryPrivilege", "SeDebugPrivilege"], "TargetSid": "S-1-5-21-1"}));
    assert_eq!((&lines.name, lines.new_value.as_deref()), (&array.name, Some("enabled")));
    assert_eq!(array.name.as_deref(), Some("SeLockMemoryPrivilege,SeDebugPrivilege"));
    let off = set(4703, json!({"EnabledPrivilegeList": "-", "DisabledPrivilegeList": "SeLockMemoryPrivilege"}));
    assert_eq!(off.new_value.as_deref(), Some("disabled"));
    let right = set(4717, json!({"AccessGranted": "SeServiceLogonRight", "TargetSid": "S-1-5-21-1"}));
    assert_eq!((right.name.as_deref(), right.user_name.as_deref()), (Some("SeServiceLogonRight"), Some("S-1-5-21-1")));
    assert_eq!(set(4718, json!({"AccessRemoved": "SeServiceLogonRight"})).new_value.as_deref(), Some("removed"));
    assert_eq!(set(4672, json!({"PrivilegeList": "SeLockMemoryPrivilege"})).new_value.as_deref(), Some("logon"));
}

#[test]
fn case_55_found_and_acted_share_their_id_and_an_exclusion_is_known() {
    let defender = |id: u32, data: Value| one_of(&evtx(DEFENDER, DEFENDER_LOG, id, data));
    let alert = |id, key: &str| {
        fact!(defender(id, json!({key: "{5A}", "Threat Name": "Trojan:Win32/X"})), SecurityAlert).detection_id
    };
    assert_eq!(alert(1116, "Detection ID"), alert(1117, "DetectionID"));
    let value = r"HKLM\SOFTWARE\Microsoft\Windows Defender\Exclusions\Paths\C:\x = 0x0";
    let exclusion = fact!(defender(5007, json!({"Old Value": "", "New Value": value})), SettingChange);
    assert_eq!((exclusion.kind.as_deref(), exclusion.new_value.as_deref()), (Some("av_config"), Some(value)));
    assert_eq!(fact!(defender(5001, json!({})), SettingChange).new_value.as_deref(), Some("off"));
}

#[test]
fn case_57_a_signature_that_is_not_valid_names_no_signer() {
    let data = json!({"UtcTime": "2026-03-02 09:14:05.095", "Image": IMAGE, "ImageLoaded": IMAGE, "Signed": "true", "Signature": "Corp", "SignatureStatus": "Expired"});
    let module = fact!(one_of(&evtx(SYSMON, SYSMON_LOG, 7, data)), ModuleLoad);
    assert_eq!((module.signer, module.signature.as_deref()), (None, Some("invalid")));
}

#[test]
fn case_58_both_reports_of_a_service_say_the_same_of_it() {
    let system = fact!(
        one_of(&evtx(
            "Service Control Manager",
            "System",
            7045,
            json!({"ServiceName": "Sync", "ImagePath": r"C:\x.exe -k", "ServiceType": "user mode service",
            "StartType": "auto start", "AccountName": "LocalSystem"})
        )),
        Persistence
    );
    let audit = fact!(
        one_of(&evtx(
            AUDIT,
            "Security",
            4697,
            json!({"ServiceName": "Sync", "ServiceFileName": r"C:\x.exe -k", "ServiceType": "0x10", "ServiceStartType": "2",
            "ServiceAccount": "LocalSystem", "SubjectUserName": "kim", "SubjectDomainName": "CORP"})
        )),
        Persistence
    );
    assert_eq!(audit.by_user.as_deref(), Some(r"CORP\kim"));
    assert_eq!(Persistence { by_user: None, ..audit }, system);
}

#[test]
fn case_59_control_characters_stay() {
    let event = one_of(&evtx(SYSMON, SYSMON_LOG, 1, with(sysmon_1(), "CommandLine", json!("x\u{1}y"))));
    assert!(event.field_errors.is_empty());
    assert_eq!(fact!(event, ProcessStart).command_line.as_deref(), Some("x\u{1}y"));
}

#[test]
fn case_60_a_collector_is_not_the_host() {
    let mut document = winlogbeat(SYSMON, SYSMON_LOG, "1", sysmon_1());
    document["agent"] = json!({"id": "wec", "name": "wec1"});
    document["host"] = json!({"name": "wec1", "id": "wec"});
    document["winlog"]["computer_name"] = json!("ws-0412.corp");
    assert_eq!(one_of(&document).host, HostKey::Name("ws-0412.corp".into()));
}

#[test]
fn case_61_short_and_full_names_are_kept_as_stated() {
    let mut document = evtx(SYSMON, SYSMON_LOG, 1, sysmon_1());
    document["Event"]["System"]["Computer"] = json!("WS-0412");
    assert_eq!(one_of(&document).host, HostKey::Name("ws-0412".into()));
}

#[test]
fn case_63_no_wrapper_overrides_the_computer() {
    let inner = otel(SYSMON, SYSMON_LOG, 1, sysmon_1());
    let wrapped = json!({"host": "evil", "fields": {"host": "evil"}, "host.name": "evil", "event": inner});
    assert_eq!(one_of(&wrapped).host, HostKey::Name("ws-0412.corp.example".into()));
}

#[test]
fn case_64_one_process_on_all_processors_is_a_hundred_percent() {
    let process = |total: Value| {
        let document = metric(
            "system.process",
            json!({"process": {"pid": 4120}, "system": {"cpu": {"cores": 4}, "process": {"cpu": {"total": total}}}}),
        );
        fact!(one_of(&document), CpuSample)
    };
    assert_eq!(process(json!({"norm": {"pct": 1.0}})).share, Some(100.0));
    assert_eq!(process(json!({"pct": 4.0})).share, Some(100.0));
    let counter = json!({"name": "win_proc", "tags": {"host": "ws-0412", "instance": "x", "objectname": "Process"},
        "fields": {"Percent_Processor_Time": 400.0, "ID_Process": 4120}, "timestamp": 1_772_443_145});
    let counter = fact!(one_of(&counter), CpuSample);
    assert_eq!((counter.share, counter.cores, counter.raw_value), (None, Some(4.0), Some(400.0)));
}

#[test]
fn case_65_procstat_without_counters_is_raw_only() {
    let sample = json!({"name": "procstat", "tags": {"host": "ws-0412", "process_name": "x.exe"}, "fields": {"pid": 4120, "cpu_usage": 100.0}, "timestamp": 1_772_443_145});
    let sample = fact!(one_of(&sample), CpuSample);
    assert_eq!((sample.share, sample.cores, sample.cpu_seconds, sample.raw_value), (None, None, None, Some(100.0)));
}

#[test]
fn case_66_utilization_is_read_by_the_version_of_its_receiver() {
    let sample = |version: &str| {
        let point = |value: f64| json!({"timeUnixNano": "1772443145000000000", "asDouble": value});
        let metrics =
            json!([{"name": "process.cpu.utilization", "gauge": {"dataPoints": [point(0.95), point(0.002)]}}]);
        let resource = json!({"attributes": [{"key": "host.name", "value": {"stringValue": "ws-0412"}}, {"key": "process.pid", "value": {"intValue": "4120"}}]});
        fact!(
            one_of(
                &json!({"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"scope": {"version": version}, "metrics": metrics}]}]})
            ),
            CpuSample
        )
    };
    let (new, old, between) = (sample("0.128.0"), sample("0.90.0"), sample("0.110.0"));
    assert!((new.share.unwrap() - 95.2).abs() < 1e-6 && new.cores.is_none());
    // 23.8 percent of a host with four processors.
    assert!(old.share.is_none() && (old.cores.unwrap() - 0.952).abs() < 1e-6);
    assert!(between.share.is_none() && between.cores.is_none() && between.raw_value.is_some());
}

#[test]
fn case_67_an_instance_that_moves_is_one_process_and_totals_are_none() {
    let counter = |instance: &str, pid: i64| {
        one_of(&json!({"name": "win_proc", "tags": {"host": "ws-0412", "instance": instance, "objectname": "Process"},
            "fields": {"Percent_Processor_Time": 10.0, "ID_Process": pid, "Elapsed_Time": 300}, "timestamp": 1_772_443_145}))
    };
    assert_eq!(fact!(counter("svchost#7", 4120), CpuSample), fact!(counter("svchost#6", 4120), CpuSample));
    for (name, pid) in [("_Total", 0), ("Idle", 0), ("_Total", 4120)] {
        assert_eq!(counter(name, pid).fact.table(), "other_event");
    }
}

#[test]
fn case_68_a_sample_carries_the_start_that_tells_reused_ids_apart() {
    let sample = |start: &str| {
        let document = metric(
            "system.process",
            json!({"process": {"pid": 4120, "cpu": {"start_time": start}}, "system": {"process": {"cpu": {"total": {"value": 5}}}}}),
        );
        fact!(one_of(&document), CpuSample).started_at
    };
    assert!(sample("2026-03-02T09:00:00.000Z").unwrap() < sample("2026-03-02T09:10:00.000Z").unwrap());
}

#[test]
fn case_71_a_first_sample_without_a_percentage_has_no_share() {
    let document = metric(
        "system.process",
        json!({"process": {"pid": 4120}, "system": {"process": {"cpu": {"total": {"value": 12}}}}}),
    );
    let first = fact!(one_of(&document), CpuSample);
    assert_eq!((first.share, first.raw_value, first.cpu_seconds), (None, None, Some(0.012)));
}

#[test]
fn case_72_a_gpu_engine_is_the_same_from_every_collector() {
    const INSTANCE: &str = "pid_4120_luid_0x00000000_0x0000BEEF_phys_0_eng_1_engtype_Compute_0";
    let telegraf = json!({"name": "win_gpu", "tags": {"host": "ws-0412", "instance": INSTANCE, "objectname": "GPU Engine"},
        "fields": {"Utilization_Percentage": 97.2}, "timestamp": 1_772_443_145});
    let perfmon = metric(
        "windows.perfmon",
        json!({"windows": {"perfmon": {"object": "GPU Engine", "instance": INSTANCE, "metrics": {"utilization_percentage": 97.2}}}}),
    );
    let point = json!({"timeUnixNano": "1772443145000000000", "asDouble": 97.2, "attributes": [{"key": "instance", "value": {"stringValue": INSTANCE}}]});
    let otel = json!({"resourceMetrics": [{"resource": {"attributes": [{"key": "host.name", "value": {"stringValue": "ws-0412"}}]},
        "scopeMetrics": [{"metrics": [{"name": r"\GPU Engine(*)\Utilization Percentage", "gauge": {"dataPoints": [point]}}]}]}]});
    for document in [telegraf, perfmon, otel] {
        let sample = fact!(one_of(&document), CpuSample);
        assert_eq!((sample.pid, sample.gpu_share), (Some(4120), Some(97.2)), "{document}");
        assert_eq!(sample.gpu_engine.as_deref(), INSTANCE.strip_prefix("pid_4120_"));
    }
    // Cards are the host's, whoever uses them.
    let card = json!({"name": "nvidia_smi", "tags": {"host": "ws-0412", "index": "0"}, "fields": {"utilization_gpu": 97}, "timestamp": 1_772_443_145});
    assert_eq!(fact!(one_of(&card), HostSample).gpu_share, Some(97.0));
}

#[test]
fn case_73_perfmons_percent_is_percent() {
    let document = metric(
        "windows.perfmon",
        json!({"windows": {"perfmon": {"object": "Processor Information", "instance": "_Total",
        "metrics": {"processor": {"time": {"total": {"pct": 6.31}}}}}}}),
    );
    assert_eq!(fact!(one_of(&document), HostSample).share, Some(6.31));
}

#[test]
fn case_74_a_zeek_flow_of_a_table_is_that_of_json() {
    let mut header = crate::sources::Header::default();
    let table = "#separator \\x09\n#path\tconn\n#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tservice\tduration\torig_bytes\tresp_bytes\tconn_state\n\
        1772442845.250000\tC1\t10.0.0.5\t50000\t203.0.113.9\t3333\ttcp\tssl\t60.5\t100\t200\tSF";
    let rows: Vec<_> = table.lines().filter_map(|line| header.place(line.to_owned().into())).collect();
    let json = json!({"_path": "conn", "ts": 1_772_442_845.25, "uid": "C1", "id.orig_h": "10.0.0.5", "id.orig_p": 50000, "id.resp_h": "203.0.113.9", "id.resp_p": 3333,
        "proto": "tcp", "service": "ssl", "duration": 60.5, "orig_bytes": 100, "resp_bytes": 200, "conn_state": "SF"});
    let (a, b) = (one_text(std::str::from_utf8(&rows[0]).unwrap()), one_of(&json));
    assert_eq!((rows.len(), &a.host), (1, &b.host));
    assert_eq!(fact!(a, Connection), fact!(b, Connection));
}

/// Section 13: firewalls, as they are and in a collector's `message`.
#[test]
fn a_firewalls_session_is_its_internal_ends() {
    let fortigate = r#"<189>date=2026-03-02 time=09:15:05 devname="fw" logid="0000000013" type="traffic" subtype="forward" tz="+0000" srcip=192.168.0.5 srcport=50000 dstip=203.0.113.9 dstport=3333 proto=6 action="close" duration=60 sentbyte=100 rcvdbyte=200 app="Stratum.Mining""#;
    let panos = r#"Mar  2 09:15:06 fw-1 1,2026/03/02 09:15:06,0123,TRAFFIC,end,2049,2026/03/02 09:15:06,192.168.0.5,203.0.113.9,0.0.0.0,0.0.0.0,"rule, one",,,stratum,vsys1,trust,untrust,a,b,fwd,2026/03/02 09:15:06,1,1,50000,3333,0,0,0x0,tcp,allow,300,100,200,9,2026/03/02 09:14:05,60,any,0,1,0x0"#;
    let wrapped = json!({"@timestamp": "2026-03-02T09:15:09Z", "host": {"name": "collector"}, "message": panos});
    for event in [one_text(fortigate), one_text(panos), one_of(&wrapped)] {
        assert_eq!(
            (&event.host, at(&event).as_str()),
            (&HostKey::Address([192, 168, 0, 5].into()), "2026-03-02T09:14:05.000Z")
        );
        let flow = fact!(event, Connection);
        assert_eq!(
            (flow.kind.as_deref(), flow.protocol.as_deref(), flow.allowed),
            (Some("flow"), Some("tcp"), Some(true))
        );
        assert_eq!(
            (flow.remote_ip, flow.remote_port, flow.bytes_out, flow.bytes_in),
            (ip("203.0.113.9"), Some(3333), Some(100), Some(200))
        );
        assert_eq!((flow.ended_at.unwrap() - flow.started_at.unwrap()).num_seconds(), 60);
        assert!(flow.application.unwrap().contains("stratum"));
    }
    let denied = one_text(&fortigate.replace("close", "deny").replace(" tz=\"+0000\"", ""));
    assert_eq!(denied.time_quality, TimeQuality::AssumedUtc);
    assert_eq!(fact!(denied, Connection).allowed, Some(false));
    let web = one_text(
        &fortigate.replace("traffic", "utm").replace(" duration=60", r#" hostname="pool.example" virus="CoinMiner.X""#),
    );
    assert_eq!(fact!(web, Connection).remote_host.as_deref(), Some("pool.example"));
    let own =
        one_text(r#"<189>date=2026-03-02 time=09:15:05 logid="0100032001" type="event" subtype="system" msg="login""#);
    assert_eq!(own.fact.table(), "other_event");
}

/// Section 11: what WMI, the scheduler and the resolver say beside the kinds above.
#[test]
fn activity_is_kept_with_who_and_what() {
    let by_nxlog =
        |id: u32, message: &str| fact!(one_of(&nxlog(WMI, WMI_LOG, id, json!({"Message": message}))), Persistence);
    let call = by_nxlog(
        5858,
        r"Id = {0}; ClientMachine = WS; User = NT AUTHORITY\SYSTEM; ClientProcessId = 3960; Component = Unknown; Operation = Start IWbemServices::ExecMethod - x : Win32_Process::Create; ResultCode = 0x80041032; PossibleCause = Unknown",
    );
    assert_eq!(
        (call.kind.as_deref(), call.pid, call.by_user.as_deref()),
        (Some("wmi_activity"), Some(3960), Some(r"NT AUTHORITY\SYSTEM"))
    );
    assert!(call.name.unwrap().ends_with("Win32_Process::Create"));
    let query = by_nxlog(
        5860,
        r"Namespace = ROOT\CIMV2; NotificationQuery = SELECT * FROM X; UserName = CORP\kim; ClientProcessID = 8408, ClientMachine = WS; PossibleCause = Temporary",
    );
    assert_eq!((query.name.as_deref(), query.pid), (Some("SELECT * FROM X"), Some(8408)));
    let provider = by_nxlog(
        5857,
        r"CIMWin32 provider started with result code 0x0. HostProcess = wmiprvse.exe; ProcessID = 4864; ProviderPath = %systemroot%\x.dll",
    );
    assert_eq!((provider.name.as_deref(), provider.image.as_deref()), (Some("CIMWin32"), Some("wmiprvse.exe")));
    let mut by_evtx = evtx(WMI, WMI_LOG, 5860, json!(null));
    by_evtx["Event"]["UserData"] = json!({"Operation_TemporaryEssStarted": {"NamespaceName": "ROOT\\CIMV2", "Query": "SELECT * FROM X", "User": "CORP\\kim", "Processid": 8408, "ClientMachine": "WS"}});
    assert_eq!(fact!(one_of(&by_evtx), Persistence), query);

    let task = |id: u32, data: Value| fact!(one_of(&evtx(TASKS, TASKS_LOG, id, data)), Persistence);
    let begun = task(100, json!({"TaskName": r"\Sync", "UserContext": r"CORP\kim"}));
    assert_eq!(
        (begun.action.as_deref(), begun.by_user.as_deref(), begun.pid),
        (Some("launch"), Some(r"CORP\kim"), None)
    );
    assert_eq!(task(102, json!({"TaskName": r"\Sync"})).action.as_deref(), Some("end"));
    assert_eq!(task(110, json!({"TaskName": r"\Sync"})).action.as_deref(), Some("launch"));

    let asked = evtx(
        "Microsoft-Windows-DNS-Client",
        "Microsoft-Windows-DNS-Client/Operational",
        3008,
        json!({"QueryName": "pool.example", "QueryType": "1", "QueryStatus": "0", "QueryResults": "203.0.113.9;"}),
    );
    assert_eq!(fact!(one_of(&asked), DnsQuery).addresses.unwrap(), ip("203.0.113.9").into_iter().collect::<Vec<_>>());
    let shell = evtx(
        "PowerShell",
        "Windows PowerShell",
        403,
        json!({"Data": {"#text": ["Stopped", "\tHostApplication=powershell -nop -w hidden\n"]}}),
    );
    assert_eq!(fact!(one_of(&shell), Script).command_line.as_deref(), Some("powershell -nop -w hidden"));
    let part = evtx(
        SHELL,
        SHELL_LOG,
        4104,
        json!({"MessageNumber": 2, "MessageTotal": 3, "ScriptBlockText": "x", "ScriptBlockId": "b"}),
    );
    let part = fact!(one_of(&part), Script);
    assert_eq!((part.part, part.parts, part.pid), (Some(2), Some(3), Some(3520)));
}

/// Section 7: rows of osquery's tables that are no process samples.
#[test]
fn osquery_rows_of_every_table_are_known_by_their_columns() {
    let row = |columns: Value| {
        one_of(
            &json!({"name": "q", "hostIdentifier": "ws-0412", "unixTime": "1772443145", "action": "added", "columns": columns}),
        )
    };
    let begun = row(
        json!({"type": "ProcessStart", "pid": "4120", "ppid": "1232", "path": IMAGE, "cmdline": "x -o a", "username": "CORP\\kim", "datetime": "2026-03-02T09:14:05Z", "mandatory_label": "S-1-16-12288"}),
    );
    assert_eq!(at(&begun), "2026-03-02T09:14:05.000Z");
    let begun = fact!(begun, ProcessStart);
    assert_eq!((begun.pid, begun.parent_pid, begun.integrity.as_deref()), (Some(4120), Some(1232), Some("high")));
    assert_eq!(
        row(json!({"type": "ProcessStop", "pid": "4120", "ppid": "1232", "path": IMAGE})).fact.table(),
        "process_stop"
    );
    let asked = fact!(
        row(json!({"name": "pool.example", "response": "203.0.113.9;", "pid": "4120", "path": IMAGE, "status": "0"})),
        DnsQuery
    );
    assert_eq!((asked.pid, asked.addresses.map(|a| a.len())), (Some(4120), Some(1)));
    let consumer = fact!(
        row(
            json!({"name": "Updater", "command_line_template": r"C:\x.exe -o a", "executable_path": "", "relative_path": "x"})
        ),
        Persistence
    );
    assert_eq!((consumer.command.as_deref(), consumer.kind.as_deref()), (Some(r"C:\x.exe"), Some("wmi_consumer")));
    let task = fact!(
        row(
            json!({"name": "Sync", "action": r"C:\x.exe -o a", "path": r"\Sync", "hidden": "1", "next_run_time": "-1"})
        ),
        Persistence
    );
    assert_eq!(
        (task.name.as_deref(), task.command.as_deref(), task.hidden),
        (Some(r"\Sync"), Some(r"C:\x.exe"), Some(true))
    );
    let module = fact!(
        row(json!({"path": IMAGE, "subject_name": "Corp", "result": "trusted", "original_program_name": "x.exe"})),
        ModuleLoad
    );
    assert_eq!((module.signer.as_deref(), module.signature.as_deref()), (Some("Corp"), Some("valid")));
}
