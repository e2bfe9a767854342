//! Windows events: one record by every way, and what each event's values mean.

use super::*;
use crate::model::{
    event::{HostKey, TimeQuality},
    fact::{Connection, Fact, Persistence, Script, SettingChange},
    ids::{EventId, ProcessGuid},
};

/// 26, 45, 46: pid, user, hashes and nulls of a Sysmon 1, with the blank at the end of the command line kept.
#[test]
fn a_process_start_is_read_whole() {
    let event = one_of(&winlogbeat(SYSMON, SYSMON_LOG, "1", sysmon_1()));
    assert_eq!(event.host, HostKey::Agent { id: "h1".into(), name: Some("ws-0412.corp.example".into()) });
    assert_eq!(event.addresses.as_slice(), ["192.0.2.12".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!((at(&event).as_str(), event.time_quality), ("2026-03-02T09:14:05.095Z", TimeQuality::Exact));
    assert!(event.field_errors.is_empty(), "{:?}", event.field_errors);
    let start = fact!(event, ProcessStart);
    assert_eq!((start.pid, start.parent_pid, start.session), (Some(4120), Some(1232), Some(1)));
    assert_eq!(start.guid, ProcessGuid::parse(GUID));
    assert_eq!(start.parent_guid, None);
    assert_eq!(start.user_name.as_deref(), Some(r"CORP\j.doe"));
    assert_eq!(start.integrity.as_deref(), Some("high"));
    assert_eq!(start.sha256, Some("ab".repeat(32)));
    assert_eq!(start.description, None);
    assert!(start.command_line.is_some_and(|c| c.ends_with(":3333 ")));
}

/// 23, 25, 27: one record, whatever carried it, is one event.
#[test]
fn case_27_one_record_by_every_way_is_one_event() {
    let typed = {
        let mut data = sysmon_1();
        data["ProcessId"] = json!(4120);
        data["TerminalSessionId"] = json!(1);
        data["ProcessGuid"] = json!("5F0E1D2C-4A98-69A5-1704-000000000300");
        data
    };
    let pairs: Vec<Value> =
        sysmon_1().as_object().unwrap().iter().map(|(name, value)| json!({ name: value })).collect();
    let body = otel(SYSMON, SYSMON_LOG, 1, sysmon_1());
    let text = xml(SYSMON, SYSMON_LOG, 1, &sysmon_1());
    let mut numbered = winlogbeat(SYSMON, SYSMON_LOG, "1", sysmon_1());
    numbered["winlog"]["record_id"] = json!("5512");
    let ways = [
        one_of(&winlogbeat(SYSMON, SYSMON_LOG, "1", sysmon_1())),
        one_of(&numbered),
        one_of(&evtx(SYSMON, SYSMON_LOG, 1, typed)),
        one_of(&nxlog(SYSMON, SYSMON_LOG, 1, sysmon_1())),
        one_of(&body),
        one_of(&otel(SYSMON, SYSMON_LOG, 1, json!({ "data": pairs, "name": "", "binary": "" }))),
        one_text(&text),
        one_of(&json!({"time": "1772442845.1", "host": "other", "sourcetype": "XmlWinEventLog", "event": text})),
        one_of(&json!({"time": 1_772_442_845.1, "host": "other", "event": body})),
        one_of(&json!({"_source": winlogbeat(SYSMON, SYSMON_LOG, "1", sysmon_1())})),
        one_of(&json!({"message": evtx(SYSMON, SYSMON_LOG, 1, sysmon_1()).to_string()})),
    ];
    let received = ways[0].at.unwrap();
    let id = EventId::of(&ways[0], ways[0].stamp(received));
    for (n, event) in ways.into_iter().enumerate() {
        assert_eq!(EventId::of(&event, event.stamp(received)), id, "{n}: {:?}", event.identity);
        assert_eq!(fact!(event, ProcessStart), expected_start(), "{n}");
    }
}

/// 26: values that an ingest pipeline moved to ECS fields.
#[test]
fn processed_winlogbeat_gives_the_same_process() {
    let start = expected_start();
    let document = json!({
        "@timestamp": "2026-03-02T09:14:05.095Z", "host": {"name": "ws-0412"}, "event": {"code": "1", "category": ["process"], "type": ["start"]},
        "process": {"entity_id": GUID, "pid": 4120, "executable": IMAGE, "command_line": start.command_line, "hash": {"sha256": "ab".repeat(32)},
            "pe": {"original_file_name": "xmrig.exe", "company": "www.xmrig.example", "product": "XMRig"},
            "parent": {"pid": 1232, "executable": start.parent_image, "command_line": start.parent_command_line}},
        "user": {"domain": "CORP", "name": "j.doe", "id": "S-1-5-18"},
        "winlog": {"channel": SYSMON_LOG, "computer_name": "ws-0412.corp.example", "event_id": "1", "record_id": 5512, "provider_name": SYSMON,
            "event_data": {"IntegrityLevel": "High", "LogonId": "0x2c9e7", "TerminalSessionId": "1"}, "user": {"identifier": "S-1-5-18"}},
    });
    assert_eq!(fact!(one_of(&document), ProcessStart), start);
    let mut dotted = document.clone();
    let process = dotted.as_object_mut().unwrap().remove("process").unwrap();
    dotted["process.pid"] = process["pid"].clone();
    for key in ["entity_id", "executable", "command_line", "hash", "pe", "parent"] {
        dotted[format!("process.{key}")] = process[key].clone();
    }
    assert_eq!(fact!(one_of(&dotted), ProcessStart), start);
}

/// 24: Security ids are hexadecimal; `ProcessId` of a 4688 is the creator.
#[test]
fn case_24_a_4688_names_the_new_process_and_its_creator() {
    let data = json!({"SubjectUserSid": "S-1-5-20", "SubjectUserName": "WS-0412$", "SubjectDomainName": "CORP", "SubjectLogonId": "0x3e4",
        "NewProcessId": "0x7d8", "NewProcessName": IMAGE, "ProcessId": "0x2b8", "CommandLine": "", "MandatoryLabel": "S-1-16-16384",
        "TargetUserSid": "S-1-0-0", "TargetUserName": "-", "TargetDomainName": "-", "TargetLogonId": "0x0", "ParentProcessName": r"C:\x.exe"});
    let start = fact!(one_of(&evtx(AUDIT, "Security", 4688, data.clone())), ProcessStart);
    assert_eq!((start.pid, start.parent_pid), (Some(2008), Some(696)));
    assert_eq!(start.user_name.as_deref(), Some(r"NT AUTHORITY\NETWORK SERVICE"));
    assert_eq!((start.command_line, start.integrity.as_deref()), (None, Some("system")));
    let mut other = data;
    other["TargetUserName"] = json!("j.doe");
    other["TargetDomainName"] = json!("CORP");
    other["TargetLogonId"] = json!("0x4c323");
    let start = fact!(one_of(&evtx(AUDIT, "Security", 4688, other)), ProcessStart);
    assert_eq!(start.user_name.as_deref(), Some(r"CORP\j.doe"));
    let stop = fact!(
        one_of(&evtx(AUDIT, "Security", 4689, json!({"ProcessId": "0x1570", "ProcessName": IMAGE}))),
        ProcessStop
    );
    assert_eq!(stop.pid, Some(5488));
}

/// 22: `EventID` as number, text or object.
#[test]
fn case_22_an_event_id_is_read_in_every_form() {
    for id in [json!(7045), json!("7045"), json!({"#text": 7045, "#attributes": {"Qualifiers": 16384}})] {
        let mut document = evtx(
            "Service Control Manager",
            "System",
            0,
            json!({"ServiceName": "x", "ImagePath": r#""C:\a b.exe" -k"#}),
        );
        document["Event"]["System"]["EventID"] = id;
        let service = fact!(one_of(&document), Persistence);
        assert_eq!((service.command.as_deref(), service.arguments.as_deref()), (Some(r"C:\a b.exe"), Some("-k")));
    }
}

/// 28: NXLog loses the subject's `ProcessId`; the text has it, the logger's id is not it.
#[test]
fn case_28_nxlog_without_a_pid_reads_it_from_its_text_or_leaves_it() {
    let lost = without(sysmon_1(), "ProcessId");
    let start = fact!(one_of(&nxlog(SYSMON, SYSMON_LOG, 1, lost.clone())), ProcessStart);
    assert_eq!((start.pid, start.guid), (None, ProcessGuid::parse(GUID)));
    let mut told = lost;
    told["Message"] = json!("Process Create:\r\nProcessGuid: {x}\r\nProcessId: 4120\r\nParentProcessId: 1");
    assert_eq!(fact!(one_of(&nxlog(SYSMON, SYSMON_LOG, 1, told)), ProcessStart).pid, Some(4120));
    // In other shapes the text is localised and can be wrong.
    let mut document = winlogbeat(SYSMON, SYSMON_LOG, "1", without(sysmon_1(), "ProcessId"));
    document["message"] = json!("Process Create:\nProcessId: 0");
    assert_eq!(fact!(one_of(&document), ProcessStart).pid, None);
}

/// 29, 48: whose `ProcessID` it is depends on the sender.
#[test]
fn a_5156_knows_its_process_unless_the_sender_hides_it() {
    let data = json!({"Application": r"\device\harddiskvolume4\windows\system32\x.exe", "Direction": "%%14593", "SourceAddress": "10.0.0.5", "SourcePort": "50000",
        "DestAddress": "203.0.113.9", "DestPort": "3333", "Protocol": "6"});
    let with = |key: &str, value: Value| {
        let mut data = data.clone();
        data[key] = value;
        data
    };
    let old = without(nxlog(AUDIT, "Security", 5156, with("ProcessID", json!(4))), "ExecutionProcessID");
    assert_eq!(fact!(one_of(&old), Connection).pid, None);
    assert_eq!(
        fact!(one_of(&nxlog(AUDIT, "Security", 5156, with("ProcessId", json!("3188")))), Connection).pid,
        Some(3188)
    );
    let mut flat = with("ProcessID", json!("3108"));
    flat.as_object_mut().unwrap().extend(json!({"SourceName": AUDIT, "Channel": "Security", "EventID": 5156, "TimeCreated": "2026-03-02T09:14:05.1Z", "Hostname": "ws-0412"}).as_object().unwrap().clone());
    let event = one_of(&flat);
    assert_eq!(event.addresses.as_slice(), ["10.0.0.5".parse::<std::net::IpAddr>().unwrap()]);
    let connection = fact!(event, Connection);
    assert_eq!(
        (connection.pid, connection.direction.as_deref(), connection.remote_port),
        (Some(3108), Some("outbound"), Some(3333))
    );
    let inbound: Connection =
        fact!(one_of(&evtx(AUDIT, "Security", 5157, with("Direction", json!("%%14592")))), Connection);
    assert_eq!((inbound.remote_ip, inbound.allowed), ("10.0.0.5".parse().ok(), Some(false)));
    let udp: Connection = fact!(one_of(&evtx(AUDIT, "Security", 5156, with("Protocol", json!(17)))), Connection);
    assert_eq!((udp.direction.as_deref(), udp.protocol.as_deref()), (Some("unknown"), Some("udp")));
}

/// 30: fields that collide with NXLog's own.
#[test]
fn case_30_nxlogs_own_fields_are_not_the_events() {
    let task = nxlog(
        "Microsoft-Windows-TaskScheduler",
        "Microsoft-Windows-TaskScheduler/Operational",
        129,
        json!({"TaskName": r"\Sync", "Path": "x.exe", "Message": "Task Scheduler launch task \"\\Sync\" , instance \"x.exe\"  with process ID 7780."}),
    );
    let task = fact!(one_of(&task), Persistence);
    assert_eq!(
        (task.action.as_deref(), task.pid, task.command.as_deref()),
        (Some("launch"), Some(7780), Some("x.exe"))
    );
    let service = nxlog(
        "Service Control Manager",
        "System",
        7045,
        json!({"ServiceName": "s", "ImagePath": "x.exe", "AccountName": "j.doe", "Domain": "CORP"}),
    );
    let service = fact!(one_of(&service), Persistence);
    assert_eq!((service.run_as, service.by_user.as_deref()), (None, Some(r"CORP\j.doe")));
}

/// 31, 32: NXLog escapes once; `host` is the relay.
#[test]
fn case_31_nxlog_texts_are_unescaped_once() {
    for (sent, read) in [("x 1&gt; a.txt 2&gt;&amp;1", "x 1> a.txt 2>&1"), ("x 1> a.txt 2>&1", "x 1> a.txt 2>&1")] {
        let mut data = sysmon_1();
        data["CommandLine"] = json!(sent);
        let event = one_of(&nxlog(SYSMON, SYSMON_LOG, 1, data.clone()));
        assert_eq!(event.host, HostKey::Name("ws-0412.corp.example".into()));
        assert_eq!(fact!(event, ProcessStart).command_line.as_deref(), Some(read));
        assert_eq!(
            fact!(one_of(&winlogbeat(SYSMON, SYSMON_LOG, "1", data)), ProcessStart).command_line.as_deref(),
            Some(sent)
        );
    }
}

/// 33, 34: nameless values by their number; a time with its zone apart.
#[test]
fn case_33_fluent_bit_values_get_their_names() {
    let inserts = |count: usize| -> Vec<Value> {
        let all = [
            "S-1-5-18",
            "WS-0412$",
            "CORP",
            "0x3e7",
            "0x1018",
            IMAGE,
            "%%1936",
            "0x4d0",
            "x.exe -o a",
            "S-1-0-0",
            "-",
            "-",
            "0x0",
            r"C:\p.exe",
            "S-1-16-16384",
        ];
        all.iter().take(count).map(|v| json!(v)).collect()
    };
    let document = |count| {
        json!({"ProviderName": AUDIT, "EventID": 4688, "TimeCreated": "2026-03-02 04:14:05 -0500", "EventRecordID": 7, "ProcessID": 4,
        "Channel": "Security", "Computer": "ws-0412", "StringInserts": inserts(count)})
    };
    let event = one_of(&document(15));
    assert_eq!((at(&event).as_str(), event.time_quality), ("2026-03-02T09:14:05.000Z", TimeQuality::Second));
    let start = fact!(event, ProcessStart);
    assert_eq!(
        (start.pid, start.parent_pid, start.command_line.as_deref()),
        (Some(4120), Some(1232), Some("x.exe -o a"))
    );
    assert_eq!(one_of(&document(14)).fact.table(), "other_event");
}

/// 36: Wazuh's spelling.
#[test]
fn case_36_wazuh_backslashes_are_single() {
    let document = json!({"timestamp": "2026-03-02T09:14:06.001+0000", "data": {"win": {"system": {"providerName": SYSMON, "eventID": "1", "systemTime": "2026-03-02T09:14:05.1034567Z",
        "eventRecordID": "5512", "channel": SYSMON_LOG, "computer": "ws-0412"}, "eventdata": {"processId": "4120", "image": r"C:\\Users\\x.exe", "processGuid": GUID}}}});
    let start = fact!(one_of(&document), ProcessStart);
    assert_eq!((start.image.as_deref(), start.pid), (Some(r"C:\Users\x.exe"), Some(4120)));
}

/// 50: all actions of a task; a deleted task has a name only.
#[test]
fn a_task_with_two_actions_is_two_facts_with_two_identities() {
    let content = r#"<?xml version="1.0" encoding="UTF-16"?><Task><Actions><Exec><Command>a.exe</Command></Exec><Exec><Command>b.exe</Command><Arguments>-x</Arguments></Exec></Actions></Task>"#;
    let events = try_all(&evtx(AUDIT, "Security", 4702, json!({"TaskName": r"\Sync", "TaskContentNew": content, "SubjectUserName": "j.doe", "SubjectDomainName": "CORP"}))).unwrap();
    let commands: Vec<_> = events
        .iter()
        .map(|e| match &e.fact {
            Fact::Persistence(p) => p.command.clone().unwrap(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(commands, ["a.exe", "b.exe"]);
    assert_ne!(events[0].identity, events[1].identity);
    let deleted: Persistence =
        fact!(one_of(&evtx(AUDIT, "Security", 4699, json!({"TaskName": r"\Sync"}))), Persistence);
    assert_eq!((deleted.action.as_deref(), deleted.command), (Some("delete"), None));
    let broken = one_of(&evtx(
        AUDIT,
        "Security",
        4698,
        json!({"TaskName": r"\Sync", "TaskContent": "<Task><Command>c.exe</Command>"}),
    ));
    assert_eq!(broken.field_errors, ["TaskContent"]);
    assert_eq!(fact!(broken, Persistence).command.as_deref(), Some("c.exe"));
}

/// 52: a binding by `UserData`, Winlogbeat's `user_data` and NXLog's text; without values it is raw only.
#[test]
fn case_52_a_wmi_binding_is_the_same_from_every_sender() {
    const WMI: &str = "Microsoft-Windows-WMI-Activity";
    const LOG: &str = "Microsoft-Windows-WMI-Activity/Operational";
    let cause = "Binding EventFilter: \ninstance of __EventFilter\n{\n\tName = \"Updater\";\n\tQuery = \"select * from X\";\n};\nPerm. Consumer: \n\
                 instance of CommandLineEventConsumer\n{\n\tCommandLineTemplate = \"C:\\\\Users\\\\Public\\\\x.exe -o a\";\n};\n";
    let data = json!({"Namespace": "//./root/subscription", "ESS": "Updater", "CONSUMER": "CommandLineEventConsumer=\"Updater\"", "PossibleCause": cause});
    let mut by_evtx = evtx(WMI, LOG, 5861, json!(null));
    by_evtx["Event"]["UserData"] = json!({"Operation_ESStoConsumerBinding": data});
    let mut by_winlogbeat = winlogbeat(WMI, LOG, "5861", json!({}));
    by_winlogbeat["winlog"]["user_data"] = data;
    let text = format!(
        "Namespace = //./root/subscription; Eventfilter = Updater (refer to its activate eventid:5859); Consumer = CommandLineEventConsumer=\"Updater\"; PossibleCause = {cause}"
    );
    let by_nxlog = nxlog(WMI, LOG, 5861, json!({"Message": text}));
    let wanted = Persistence {
        kind: Some("wmi_binding".into()),
        action: Some("create".into()),
        name: Some("Updater".into()),
        command: Some(r"C:\Users\Public\x.exe".into()),
        arguments: Some("-o a".into()),
        triggers: Some("select * from X".into()),
        detail: Some("Updater".into()),
        ..Persistence::default()
    };
    for document in [by_evtx, by_winlogbeat, by_nxlog] {
        assert_eq!(fact!(one_of(&document), Persistence), wanted);
    }
    assert_eq!(one_of(&otel(WMI, LOG, 5861, json!({}))).fact.table(), "other_event");
}

/// 53: parts keep their number; here the logging process is the subject.
#[test]
fn script_blocks_carry_their_part_and_the_logging_pid() {
    let data = json!({"MessageNumber": "2", "MessageTotal": "3", "ScriptBlockText": "iex x", "ScriptBlockId": "b1", "Path": ""});
    let script: Script = fact!(
        one_of(&winlogbeat("Microsoft-Windows-PowerShell", "Microsoft-Windows-PowerShell/Operational", "4104", data)),
        Script
    );
    assert_eq!((script.pid, script.part, script.parts, script.path), (Some(3520), Some(2), Some(3), None));
}

/// 54, 55, 57: privileges, Defender, signatures.
#[test]
fn settings_alerts_and_signatures_are_read() {
    let list = "SeLockMemoryPrivilege\r\n\t\t\tSeLoadDriverPrivilege";
    let privilege: SettingChange = fact!(
        one_of(&evtx(AUDIT, "Security", 4703, json!({"EnabledPrivilegeList": list, "ProcessId": "0xb74"}))),
        SettingChange
    );
    assert_eq!(
        (privilege.name.as_deref(), privilege.pid),
        (Some("SeLockMemoryPrivilege,SeLoadDriverPrivilege"), Some(2932))
    );
    let defender = |id: u32, data: Value| {
        one_of(&evtx("Microsoft-Windows-Windows Defender", "Microsoft-Windows-Windows Defender/Operational", id, data))
    };
    let alert = fact!(
        defender(
            1116,
            json!({"Detection ID": "{5A}", "Threat Name": "Trojan:Win32/X", "Path": r"file:_C:\x.exe", "Severity Name": "Severe"})
        ),
        SecurityAlert
    );
    assert_eq!((alert.detection_id.as_deref(), alert.path.as_deref()), (Some("5a"), Some(r"C:\x.exe")));
    let exclusion = fact!(
        defender(
            5007,
            json!({"Old Value": "", "New Value": r"HKLM\SOFTWARE\Microsoft\Windows Defender\Exclusions\Paths\C:\x = 0x0"})
        ),
        SettingChange
    );
    assert_eq!(exclusion.name.as_deref(), Some(r"HKLM\SOFTWARE\Microsoft\Windows Defender\Exclusions\Paths\C:\x"));
    let module = |signed: &str, status: &str| {
        fact!(
            one_of(&evtx(
                SYSMON,
                SYSMON_LOG,
                7,
                json!({"Image": IMAGE, "ImageLoaded": IMAGE, "Signed": signed, "Signature": "Corp", "SignatureStatus": status})
            )),
            ModuleLoad
        )
    };
    assert_eq!(
        (module("true", "Expired").signer, module("true", "Expired").signature.as_deref()),
        (None, Some("invalid"))
    );
    assert_eq!(module("true", "Valid").signer.as_deref(), Some("Corp"));
    assert_eq!(module("false", "Unavailable").signature.as_deref(), Some("unsigned"));
}

/// 56: Sysmon 10 spells its GUIDs differently.
#[test]
fn case_56_process_access_has_both_ends() {
    let data = json!({"SourceProcessGUID": GUID, "SourceProcessId": 1, "SourceImage": "a", "TargetProcessGUID": "{5f0e1d2c-4a98-69a5-1704-000000000301}", "TargetProcessId": 2, "TargetImage": "b", "GrantedAccess": "0x1fffff"});
    let tamper = fact!(one_of(&evtx(SYSMON, SYSMON_LOG, 10, data)), ProcessTamper);
    assert_eq!((tamper.source_guid, tamper.source_pid, tamper.pid), (ProcessGuid::parse(GUID), Some(1), Some(2)));
    assert!(tamper.guid.is_some_and(|g| Some(g) != tamper.source_guid));
}

/// Run values and service images start programs; other values are settings.
#[test]
fn registry_values_that_start_programs_are_persistence() {
    let set = |object: &str, details: &str| {
        one_of(&evtx(
            SYSMON,
            SYSMON_LOG,
            13,
            json!({"EventType": "SetValue", "TargetObject": object, "Details": details, "ProcessId": 5, "Image": "reg.exe"}),
        ))
    };
    let run = fact!(
        set(r"HKU\S-1-5-21-1\SOFTWARE\Microsoft\Windows\CurrentVersion\Run\Sync", r#""C:\a b.exe" -o"#),
        Persistence
    );
    assert_eq!((run.kind.as_deref(), run.command.as_deref(), run.pid), (Some("run_key"), Some(r"C:\a b.exe"), Some(5)));
    let service = fact!(set(r"HKLM\System\CurrentControlSet\Services\Sync\ImagePath", "C:\\x.exe"), Persistence);
    assert_eq!(
        (service.kind.as_deref(), service.name.as_deref(), service.action.as_deref()),
        (Some("service"), Some("Sync"), Some("update"))
    );
    let exclusion = fact!(
        set(r"HKLM\SOFTWARE\Microsoft\Windows Defender\Exclusions\Paths\C:\x", "DWORD (0x00000000)"),
        SettingChange
    );
    assert_eq!(exclusion.kind.as_deref(), Some("av_config"));
    for other in [
        r"HKLM\System\CurrentControlSet\Services\Sync\Config\Last",
        r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\RunOther\x",
    ] {
        let setting = fact!(set(other, "x"), SettingChange);
        assert_eq!((setting.kind.as_deref(), setting.name.as_deref()), (Some("registry"), Some(other)));
    }
}
