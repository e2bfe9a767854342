//! Metrics, network sensors, proxies, and the canonical form.

use super::*;
use crate::model::{
    event::HostKey,
    fact::{CpuSample, DnsQuery},
};

/// 64, 71: shares are percent of the host; a first sample has a counter only.
#[test]
fn metricbeat_shares_are_percent_of_the_host() {
    let process = |total: Value| {
        let document = metric(
            "system.process",
            json!({"process": {"pid": 4120, "executable": IMAGE}, "system": {"process": {"cpu": {"total": total}, "memory": {"rss": {"bytes": 7}}}}}),
        );
        fact!(one_of(&document), CpuSample)
    };
    let both = process(json!({"value": 1_143_300, "pct": 4.0, "norm": {"pct": 1.0}}));
    assert_eq!(
        (both.share, both.cpu_seconds, both.interval_ms, both.rss_bytes),
        (Some(100.0), Some(1143.3), Some(10_000), Some(7))
    );
    assert_eq!(both.name.as_deref(), Some("svchost.exe"));
    let first = process(json!({"value": 12}));
    assert_eq!((first.share, first.raw_value, first.cpu_seconds), (None, None, Some(0.012)));
    // N is not in the record: kept as sent, not guessed.
    let irix: CpuSample = process(json!({"pct": 3.2}));
    assert_eq!(
        (irix.share, irix.raw_value, irix.raw_unit.as_deref()),
        (None, Some(3.2), Some("system.process.cpu.total.pct"))
    );
    let host = fact!(
        one_of(&metric("system.cpu", json!({"system": {"cpu": {"cores": 4, "total": {"pct": 2.0}}}}))),
        HostSample
    );
    assert_eq!((host.share, host.logical_cpus), (Some(50.0), Some(4)));
}

/// 72, 73: `GPU Engine` values are percent already.
#[test]
fn gpu_engines_belong_to_their_process() {
    let sample = |instance: &str| {
        metric(
            "windows.perfmon",
            json!({"windows": {"perfmon": {"object": "GPU Engine", "instance": instance, "metrics": {"utilization_percentage": 6.31}}}}),
        )
    };
    let gpu = fact!(one_of(&sample("pid_4120_luid_0x0_0x1_phys_0_eng_1_engtype_Compute_0")), CpuSample);
    assert_eq!((gpu.pid, gpu.gpu_share, gpu.share), (Some(4120), Some(6.31), None));
    assert_eq!(one_of(&sample("_Total")).fact.table(), "other_event");
}

/// 74: one Zeek flow in its spellings; 49, 76 for names.
#[test]
fn sensors_give_flows_and_names_to_the_internal_end() {
    let tail = json!({"proto": "tcp", "service": "ssl", "duration": 60.5, "orig_bytes": 100, "resp_bytes": 200, "conn_state": "SF", "uid": "C1", "ts": 1_772_442_845.25});
    let spelled = |head: Value| {
        let mut document = tail.clone();
        document.as_object_mut().unwrap().extend(head.as_object().unwrap().clone());
        document
    };
    let ways = [
        spelled(
            json!({"_path": "conn", "id.orig_h": "10.0.0.5", "id.orig_p": 50000, "id.resp_h": "203.0.113.9", "id.resp_p": 3333}),
        ),
        spelled(
            json!({"@stream": "conn", "id_orig_h": "10.0.0.5", "id_orig_p": 50000, "id_resp_h": "203.0.113.9", "id_resp_p": 3333}),
        ),
        spelled(
            json!({"ts": "2026-03-02T09:14:05.250000Z", "id": {"orig_h": "10.0.0.5", "orig_p": 50000, "resp_h": "203.0.113.9", "resp_p": 3333}}),
        ),
        json!({"message": spelled(json!({"id.orig_h": "::ffff:10.0.0.5", "id.orig_p": 50000, "id.resp_h": "203.0.113.9", "id.resp_p": 3333})).to_string(), "host": {"name": "sensor"}}),
    ];
    let first = fact!(one_of(&ways[0]), Connection);
    assert_eq!(
        (first.bytes_out, first.bytes_in, first.application.as_deref(), first.direction.as_deref()),
        (Some(100), Some(200), Some("ssl"), Some("outbound"))
    );
    assert_eq!(first.ended_at.unwrap().signed_duration_since(first.started_at.unwrap()).num_milliseconds(), 60_500);
    for way in &ways {
        let event = one_of(way);
        assert_eq!(event.host, HostKey::Address("10.0.0.5".parse().unwrap()));
        assert_eq!(fact!(event, Connection), first);
    }
    let inbound = fact!(
        one_of(&spelled(json!({"id.orig_h": "203.0.113.9", "id.orig_p": 1, "id.resp_h": "10.0.0.5", "id.resp_p": 80}))),
        Connection
    );
    assert_eq!(
        (inbound.direction.as_deref(), inbound.local_port, inbound.bytes_out),
        (Some("inbound"), Some(80), Some(200))
    );
    let name = fact!(
        one_of(
            &json!({"_path": "ssl", "uid": "C1", "ts": 1.772e9, "id.orig_h": "10.0.0.5", "id.resp_h": "203.0.113.9", "server_name": "Pool.Example."})
        ),
        Connection
    );
    assert_eq!((name.kind.as_deref(), name.remote_host.as_deref()), (Some("name"), Some("pool.example")));
}

/// 76: Suricata's three generations of dns say the same.
#[test]
fn case_76_suricata_names_are_the_same_in_three_forms() {
    let eve = |src: (&str, u16), dest: (&str, u16), dns: Value| {
        json!({"timestamp": "2026-03-02T09:14:05.820360+0000", "event_type": "dns", "src_ip": src.0, "src_port": src.1,
        "dest_ip": dest.0, "dest_port": dest.1, "proto": "UDP", "dns": dns})
    };
    let (client, server) = (("10.0.0.5", 50000), ("10.0.0.4", 53));
    let ways = [
        eve(
            server,
            client,
            json!({"type": "answer", "rcode": "NOERROR", "rrname": "Pool.example", "rdata": "203.0.113.9"}),
        ),
        eve(
            server,
            client,
            json!({"version": 2, "type": "answer", "rcode": "NOERROR", "rrname": "pool.example", "answers": [{"rrtype": "A", "rdata": "203.0.113.9"}]}),
        ),
        eve(
            client,
            server,
            json!({"version": 3, "type": "response", "rcode": "NOERROR", "queries": [{"rrname": "pool.example"}], "answers": [{"rdata": "203.0.113.9"}]}),
        ),
    ];
    let first: DnsQuery = fact!(one_of(&ways[0]), DnsQuery);
    assert_eq!((first.query.as_deref(), first.status.as_deref()), (Some("pool.example"), Some("0")));
    for way in &ways {
        let event = one_of(way);
        assert_eq!(event.host, HostKey::Address("10.0.0.5".parse().unwrap()));
        assert_eq!(fact!(event, DnsQuery), first);
    }
    let alert = json!({"timestamp": "2026-03-02T09:14:05.820360+0000", "event_type": "alert", "src_ip": "203.0.113.9", "src_port": 3333, "dest_ip": "10.0.0.5", "dest_port": 50000,
        "proto": "TCP", "app_proto": "failed", "alert": {"action": "allowed", "signature": "POLICY Stratum login observed", "severity": 2}});
    let events = try_all(&alert).unwrap();
    assert_eq!(events.len(), 2);
    let flow = fact!(events[0].clone(), Connection);
    assert_eq!(
        (flow.application.as_deref(), flow.remote_port, flow.direction.as_deref()),
        (Some("stratum"), Some(3333), Some("outbound"))
    );
}

/// 75: one CONNECT as text, by Filebeat and by HEC is one flow.
#[test]
fn case_75_a_proxy_line_is_the_same_whatever_carried_it() {
    let line =
        "1772442845.049 5006 192.168.0.5 TCP_TUNNEL/200 19763 CONNECT pool.example:443 - HIER_DIRECT/203.0.113.9 -";
    let ways = [
        one_text(line),
        one_of(
            &json!({"@timestamp": "2026-03-02T09:14:09Z", "host": {"name": "proxy-1"}, "event": {"module": "squid", "dataset": "squid.log"}, "message": line}),
        ),
        one_of(&json!({"time": 1_772_442_845.049, "host": "proxy-1", "sourcetype": "squid:access", "event": line})),
    ];
    for event in &ways {
        assert_eq!(event.identity, ways[0].identity);
        assert_eq!(event.host, HostKey::Address("192.168.0.5".parse().unwrap()));
        let proxy = fact!(event.clone(), Connection);
        assert_eq!(
            (proxy.kind.as_deref(), proxy.remote_host.as_deref(), proxy.remote_port),
            (Some("proxy"), Some("pool.example"), Some(443))
        );
        assert_eq!(proxy.remote_ip, "203.0.113.9".parse().ok());
        assert_eq!(proxy.ended_at.unwrap().signed_duration_since(proxy.started_at.unwrap()).num_milliseconds(), 5_006);
    }
    let denied = fact!(
        one_text(&line.replace("TCP_TUNNEL/200", "TCP_DENIED/403").replace("HIER_DIRECT/203.0.113.9", "HIER_NONE/-")),
        Connection
    );
    assert_eq!((denied.allowed, denied.remote_ip), (Some(false), None));
}

/// The canonical form.
#[test]
fn the_canonical_form_is_accepted() {
    let document = json!({"kind": "process_sample", "occurred_at": "2026-03-02T09:19:05Z", "host": {"name": "ws-0412"}, "process": {"pid": 4120, "started_at": "2026-03-02T09:14:05Z"},
        "sample": {"cpu_share": 95.1, "logical_cpus": 4, "interval_s": 60}, "unknown": {"x": 1}});
    let sample = fact!(one_of(&document), CpuSample);
    assert_eq!(
        (sample.share, sample.logical_cpus, sample.interval_ms, sample.pid),
        (Some(95.1), Some(4), Some(60_000), Some(4120))
    );
    assert_eq!(sample.started_at.unwrap().timestamp(), 1_772_442_845);
}

fn any_value(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let pairs: Vec<Value> = map.iter().map(|(key, v)| json!({"key": key, "value": any_value(v)})).collect();
            json!({"kvlistValue": {"values": pairs}})
        }
        Value::Array(list) => json!({"arrayValue": {"values": list.iter().map(any_value).collect::<Vec<_>>()}}),
        Value::Number(n) if n.is_i64() => json!({"intValue": n.to_string()}),
        Value::Number(n) => json!({ "doubleValue": n }),
        Value::String(text) => json!({ "stringValue": text }),
        other => json!({ "boolValue": other }),
    }
}

fn otlp_resource(more: Value) -> Value {
    let mut all = json!({"host.name": "ws-0412", "host.id": "h1"});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"attributes": any_value(&all)["kvlistValue"]["values"]})
}

/// 15, 27, 35: OTLP logs in their forms are the same event as any other way; the resource lends its id to its own host.
#[test]
fn otlp_logs_carry_windows_records() {
    let pairs: Vec<Value> =
        sysmon_1().as_object().unwrap().iter().map(|(name, value)| json!({ name: value })).collect();
    let bodies = [
        any_value(&otel(SYSMON, SYSMON_LOG, 1, sysmon_1())),
        any_value(&otel(SYSMON, SYSMON_LOG, 1, json!({ "data": pairs }))),
        any_value(&json!(xml(SYSMON, SYSMON_LOG, 1, &sysmon_1()))),
    ];
    let records: Vec<Value> =
        bodies.iter().map(|b| json!({"timeUnixNano": "1772442845100000000", "body": b})).collect();
    let document =
        json!({"resourceLogs": [{"resource": otlp_resource(json!({})), "scopeLogs": [{"logRecords": records}]}]});
    let events = try_all(&document).unwrap();
    assert_eq!(events.len(), 3);
    let identity = one_of(&evtx(SYSMON, SYSMON_LOG, 1, sysmon_1())).identity;
    for event in events {
        assert_eq!(event.identity, identity);
        assert_eq!(event.host, HostKey::Agent { id: "h1".into(), name: Some("ws-0412.corp.example".into()) });
        assert_eq!(fact!(event, ProcessStart), expected_start());
    }
}

/// 66: counters of all states, the share by receiver version, the host's mean over processors.
#[test]
fn otlp_metrics_are_summed_over_states() {
    let point = |tags: Value, value: f64| json!({"attributes": any_value(&tags)["kvlistValue"]["values"], "startTimeUnixNano": "1772442845000000000", "timeUnixNano": "1772443145000000000", "asDouble": value});
    let process = |version: &str| {
        let metrics = json!([
            {"name": "process.cpu.time", "sum": {"dataPoints": [point(json!({"state": "user"}), 1140.2), point(json!({"state": "system"}), 3.1)]}},
            {"name": "process.cpu.utilization", "gauge": {"dataPoints": [point(json!({"state": "user"}), 0.95), point(json!({"state": "system"}), 0.002)]}},
            {"name": "process.memory.usage", "sum": {"dataPoints": [{"timeUnixNano": "1772443145000000000", "asInt": "2491416576"}]}},
        ]);
        let resource = otlp_resource(json!({"process.pid": 4120, "process.executable.path": IMAGE}));
        json!({"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"scope": {"version": version}, "metrics": metrics}]}]})
    };
    let new = fact!(one_of(&process("0.128.0")), CpuSample);
    assert_eq!(
        (new.pid, new.rss_bytes, new.started_at.unwrap().timestamp()),
        (Some(4120), Some(2_491_416_576), 1_772_442_845)
    );
    assert!((new.cpu_seconds.unwrap() - 1143.3).abs() < 1e-6 && (new.share.unwrap() - 95.2).abs() < 1e-6);
    assert_eq!(fact!(one_of(&process("0.110.0")), CpuSample).share, None);

    let idle = |cpu: &str, value: f64| point(json!({"cpu": cpu, "state": "idle"}), value);
    let host = json!({"resourceMetrics": [{"resource": otlp_resource(json!({})), "scopeMetrics": [{"metrics": [
        {"name": "system.cpu.logical.count", "sum": {"dataPoints": [{"timeUnixNano": "1772443145000000000", "asInt": "4"}]}},
        {"name": "system.cpu.utilization", "gauge": {"dataPoints": [idle("cpu0", 0.5), idle("cpu1", 0.1)]}},
    ]}]}]});
    let host = fact!(one_of(&host), HostSample);
    assert_eq!((host.share, host.logical_cpus), (Some(70.0), Some(4)));
}

/// 37, 64, 65, 67: Telegraf counters count, its percentages do not.
#[test]
fn telegraf_metrics_are_read_singly_in_batches_and_as_lines() {
    let procstat = json!({"name": "procstat", "tags": {"host": "WS-0412", "process_name": "svchost.exe"}, "fields": {"pid": 4120, "cpu_usage": 380.4,
        "cpu_time_user": 1140.2, "cpu_time_system": 3.1, "created_at": 1_772_442_845_000_000_000_i64}, "timestamp": 1_772_443_145});
    let win_proc = |instance: &str| {
        json!({"name": "win_proc", "tags": {"host": "WS-0412", "instance": instance, "objectname": "Process"},
        "fields": {"Percent_Processor_Time": 380.4, "ID_Process": 4120, "Elapsed_Time": 300.0}, "timestamp": 1_772_443_145})
    };
    let gpu = json!({"name": "win_gpu", "tags": {"host": "WS-0412", "instance": "pid_4120_luid_0x0_0x1_phys_0_eng_1_engtype_Compute_0", "objectname": "GPU Engine"},
        "fields": {"Utilization_Percentage": 97.2}, "timestamp": 1_772_443_145});
    let events = try_all(&json!({"metrics": [procstat, win_proc("svchost#7"), win_proc("_Total"), gpu]})).unwrap();
    assert_eq!(events[0].identity, one_of(&procstat).identity);
    let samples: Vec<CpuSample> =
        [&events[0], &events[1], &events[3]].into_iter().map(|e| fact!(e.clone(), CpuSample)).collect();
    assert!((samples[0].cpu_seconds.unwrap() - 1143.3).abs() < 1e-6);
    assert_eq!((samples[0].share, samples[0].raw_value), (None, Some(380.4)));
    assert_eq!((samples[1].name.as_deref(), samples[1].started_at), (Some("svchost.exe"), samples[0].started_at));
    assert_eq!(samples[2].gpu_share, Some(97.2));
    assert_eq!(events[2].fact.table(), "other_event");
    let line = "procstat,host=WS-0412,process_name=svchost.exe pid=4120i,cpu_usage=380.4,cpu_time_user=1140.2,cpu_time_system=3.1,created_at=1772442845000000000i 1772443145000000000";
    let by_line = one_text(line);
    assert_eq!(by_line.host, HostKey::Name("ws-0412".into()));
    assert_eq!(fact!(by_line, CpuSample), samples[0]);
    let mut fields = json!({"TimeCreated": "2026-03-02T09:14:05.1000000Z", "EventRecordID": 5512, "ProcessID": 3520});
    for (name, value) in sysmon_1().as_object().unwrap() {
        fields[format!("Data_{name}")] = value.clone();
    }
    let event = one_of(
        &json!({"name": "win_eventlog", "tags": {"host": "WS-0412", "Channel": SYSMON_LOG, "Computer": "WS-0412.corp.example", "EventID": "1",
        "Source": SYSMON}, "fields": fields, "timestamp": 1_772_442_840}),
    );
    assert_eq!(event.identity, one_of(&evtx(SYSMON, SYSMON_LOG, 1, sysmon_1())).identity);
    assert_eq!(fact!(event, ProcessStart), expected_start());
}

/// osquery rows go by their columns; a removed row is no event.
#[test]
fn osquery_rows_are_routed_by_their_columns() {
    let row = |action: &str, columns: Value| {
        json!({"name": "q", "hostIdentifier": "4C4C4544", "unixTime": 1_772_443_145, "action": action,
        "decorations": {"hostname": "ws-0412", "cpu_logical_cores": "4"}, "columns": columns})
    };
    let process = json!({"pid": "4120", "path": IMAGE, "user_time": "1140200", "system_time": "3100", "start_time": "1772442845"});
    let event = one_of(&row("snapshot", process.clone()));
    assert_eq!(event.host, HostKey::Agent { id: "4C4C4544".into(), name: Some("ws-0412".into()) });
    let sample = fact!(event, CpuSample);
    assert_eq!((sample.cpu_seconds, sample.logical_cpus, sample.pid), (Some(1143.3), Some(4), Some(4120)));
    assert_eq!(one_of(&row("removed", process)).fact.table(), "other_event");
    let socket = row(
        "added",
        json!({"pid": "4120", "protocol": "6", "local_address": "10.0.0.5", "local_port": "1", "remote_address": "203.0.113.9", "remote_port": "3333"}),
    );
    assert_eq!(fact!(one_of(&socket), Connection).remote_port, Some(3333));
    let data = json!({"EventData": {"NewProcessId": "0x1018", "NewProcessName": IMAGE}}).to_string();
    let windows = row(
        "added",
        json!({"datetime": "2026-03-02T09:14:05.1Z", "source": "Security", "provider_name": AUDIT, "computer_name": "ws-0412", "eventid": "4688", "data": data}),
    );
    let events = try_all(&json!({"node_key": "n", "log_type": "result", "data": [windows, socket]})).unwrap();
    assert_eq!(fact!(events[0].clone(), ProcessStart).pid, Some(4120));
    assert_ne!(events[0].identity, events[1].identity);
}

/// One record of a batch that cannot be used does not fail the others, and is kept.
#[test]
fn a_bad_record_of_a_batch_is_kept_raw_and_says_why() {
    let good = json!({"name": "cpu", "tags": {"host": "ws-0412", "cpu": "cpu-total"}, "fields": {"usage_idle": 4.0}, "timestamp": 1_772_443_145});
    let mut bad = good.clone();
    bad["tags"].as_object_mut().unwrap().remove("host");
    let events = try_all(&json!({"metrics": [good, bad]})).unwrap();
    assert_eq!(fact!(events[0].clone(), HostSample).share, Some(96.0));
    assert_eq!(
        (events[1].fact.table(), events[1].field_errors.as_slice()),
        ("other_event", ["no_host".to_owned()].as_slice())
    );
    assert_eq!(try_all(&bad).unwrap_err(), Reject::NoHost);
}
