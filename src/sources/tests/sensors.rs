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
fn suricata_names_are_the_same_in_three_forms() {
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
fn a_proxy_line_is_the_same_whatever_carried_it() {
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
