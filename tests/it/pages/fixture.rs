//! One fleet with a renamed miner and what surrounds it, as the worker would have left it. Hosts and addresses are invented.

use chrono::{DateTime, TimeDelta, Utc};
use coalface::model::{
    code::{Class, Code, Force},
    detection::{
        Band, ClassState, Content, Destination, Evidence, Judged, Persistence, Process, Severity, State, Verdict,
    },
    ids::{DetectionId, EventId, EventRef, HostId, ProcessId},
};
use sqlx::{PgConnection, Row};
use std::collections::BTreeMap;
use uuid::Uuid;

/// The group of the miner.
pub(crate) const GROUP: i64 = 77;
/// The miner's hash.
pub(crate) const HASH: &str = "5f0e1c1bb1c2f9a53b2d5f0f3d1b7a6e9c4d8e7f60718293a4b5c6d7e8f90123";
/// Text that would be markup, and characters that hide.
pub(crate) const HOSTILE: &str = "svchost.exe \"<script>alert(1)</script>\" \u{202e}gpj.exe' onmouseover=x \0\u{200b}";

/// What tests refer to.
#[derive(Debug, Clone)]
pub(crate) struct Fleet {
    pub(crate) host: HostId,
    pub(crate) miner: DetectionId,
    pub(crate) process: ProcessId,
    pub(crate) event: EventRef,
    /// Start of the miner.
    pub(crate) start: DateTime<Utc>,
}

async fn host(db: &mut PgConnection, name: &str, tier: Option<i16>, class: &str, tags: &[&str], last: DateTime<Utc>) -> HostId {
    let tags: Vec<String> = tags.iter().map(|t| (*t).to_owned()).collect();
    let row = sqlx::query(
        "insert into host (name, tier, role, class, tags, server_edition, first_seen, last_seen, logical_cpus)
         values ($1, $2, null, $3, $4, false, $5, $6, 8) returning host_id",
    )
    .bind(name)
    .bind(tier)
    .bind(class)
    .bind(tags)
    .bind(last - TimeDelta::days(40))
    .bind(last)
    .fetch_one(&mut *db)
    .await
    .unwrap();
    let id: i64 = row.get(0);
    sqlx::query("insert into host_alias (alias, host_id, label) values ('name:' || $1, $2, split_part($1, '.', 1))").bind(name).bind(id).execute(db).await.unwrap();
    HostId(id)
}

struct Seen<'a> {
    own: i64,
    parent: Option<i64>,
    pid: i64,
    image: &'a str,
    line: &'a str,
    original: &'a str,
    signature: &'a str,
    user: &'a str,
    start: DateTime<Utc>,
    end: Option<DateTime<Utc>>,
    group: i64,
}

async fn process(db: &mut PgConnection, host: HostId, p: &Seen<'_>, last: DateTime<Utc>, event: Option<EventRef>) {
    sqlx::query(
        "insert into process (host_id, process_id, started_at, ended_at, last_sign, start_observed, pid, image, image_name, command_line,
           original_file_name, sha256, signer, signature, user_name, integrity, parent_process_id, group_key, event_at, event_id)
         values ($1, $2, $3, $4, $5, true, $6, $7, lower($7), $8, $9, $10, $11, $12, $13, 'system', $14, $15, $16, $17)",
    )
    .bind(host.0)
    .bind(p.own)
    .bind(p.start)
    .bind(p.end)
    .bind(p.end.unwrap_or(last))
    .bind(p.pid)
    .bind(p.image)
    .bind(p.line)
    .bind(p.original)
    .bind(HASH)
    .bind((p.signature == "valid").then_some("Microsoft Windows"))
    .bind(p.signature)
    .bind(p.user)
    .bind(p.parent)
    .bind(p.group)
    .bind(event.map(|e| e.at))
    .bind(event.map(|e| e.id.0))
    .execute(db)
    .await
    .unwrap();
}

fn judged(id: &str, verdict: Verdict, score: f64) -> Judged {
    let band = (verdict == Verdict::Alert).then_some(if score >= 80.0 { Band::Strong } else { Band::Probable });
    Judged {
        id: id.to_owned(), verdict, score, raw_score: score, band, first_alert_at: None,
        nearest_miss: (verdict != Verdict::Alert).then(|| "needs 9 more points or a suspicious launch".to_owned()),
    }
}

fn state(state: State, score: f64, reason: Option<&str>) -> ClassState {
    ClassState { state, score, raw_score: score, reason: reason.map(str::to_owned) }
}

async fn store(db: &mut PgConnection, id: DetectionId, content: &Content, status: &str, disposition: Option<&str>, assignee: Option<&str>, at: DateTime<Utc>) {
    let rank = Severity::ALL.iter().position(|s| *s == content.severity).unwrap();
    let score = content.analytics.iter().map(|a| a.score).fold(0.0, f64::max);
    let analytics: Vec<String> = content.analytics.iter().filter(|a| a.verdict > Verdict::NotAssessable).map(|a| a.id.clone()).collect();
    sqlx::query(
        "insert into detection (host_id, detection_id, group_key, groups, verdict, severity, severity_rank, score, analytics, title,
           first_seen, last_seen, content, status, disposition, assignee, detected_at, updated_at)
         values ($1, $2, $3, array[$3], $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $16)",
    )
    .bind(id.host.0)
    .bind(id.own)
    .bind(GROUP)
    .bind(content.verdict.as_str())
    .bind(content.severity.as_str())
    .bind(i16::try_from(rank).unwrap())
    .bind(score as f32)
    .bind(analytics)
    .bind(&content.title)
    .bind(content.first_seen)
    .bind(content.last_seen)
    .bind(sqlx::types::Json(content))
    .bind(status)
    .bind(disposition)
    .bind(assignee)
    .bind(at)
    .execute(db)
    .await
    .unwrap();
}

/// Builds the fleet; the miner runs for six hours that end half an hour before `now`.
pub(crate) async fn fleet(db: &mut PgConnection, now: DateTime<Utc>) -> Fleet {
    let now = DateTime::from_timestamp(now.timestamp() / 300 * 300, 0).unwrap();
    let start = now - TimeDelta::minutes(402);
    let end = now - TimeDelta::minutes(30);
    let id = host(db, "ws-0412.corp.example", Some(3), "workstation", &["finance"], end).await;
    let srv = host(db, "srv-07.corp.example", Some(2), "server", &["erp", "dmz"], end).await;
    let build = host(db, "build-03.corp.example", Some(3), "build", &["build"], end).await;
    host(db, "kiosk-11", None, "kiosk", &[], now - TimeDelta::days(3)).await;

    let event = EventRef { host: id, at: start, id: EventId(Uuid::from_u128(1)) };
    let task_event = EventRef { host: id, at: start - TimeDelta::minutes(1), id: EventId(Uuid::from_u128(2)) };
    let net_event = EventRef { host: id, at: start + TimeDelta::seconds(40), id: EventId(Uuid::from_u128(3)) };
    raw(db, event, task_event, net_event).await;

    let line = r"C:\ProgramData\upd\svchost.exe -o stratum+tcp://pool.mining.example:3333 -u 48edfHu7V9Z84YzzMa6fUueoELZ9ZRXq9VetWzYGzKt52XU5xvqgzYnDK9URnRoJMk1j8nLwEVsaSWJ4fhdUyZijBGUicoD --donate-level 1 --cpu-max-threads-hint 95";
    let sys = r"NT AUTHORITY\SYSTEM";
    let miner = r"C:\ProgramData\upd\svchost.exe";
    let rows = [
        Seen { own: 1, parent: None, pid: 700, image: r"C:\Windows\System32\services.exe", line: r"C:\Windows\system32\services.exe", original: "services.exe", signature: "valid", user: sys, start: start - TimeDelta::days(3), end: None, group: 1 },
        Seen { own: 2, parent: Some(1), pid: 1288, image: r"C:\Windows\System32\svchost.exe", line: r"C:\Windows\system32\svchost.exe -k netsvcs -p -s Schedule", original: "svchost.exe", signature: "valid", user: sys, start: start - TimeDelta::days(3), end: None, group: 2 },
        Seen { own: 3, parent: Some(2), pid: 4120, image: miner, line, original: "xmrig.exe", signature: "unsigned", user: sys, start, end: Some(start + TimeDelta::minutes(152)), group: GROUP },
        Seen { own: 4, parent: Some(2), pid: 6604, image: miner, line, original: "xmrig.exe", signature: "unsigned", user: sys, start: start + TimeDelta::minutes(160), end: None, group: GROUP },
        Seen { own: 5, parent: Some(4), pid: 6620, image: r"C:\Windows\System32\conhost.exe", line: HOSTILE.trim_end_matches('\u{200b}').trim_end_matches('\0'), original: "CONHOST.EXE", signature: "valid", user: sys, start: start + TimeDelta::minutes(160), end: None, group: 3 },
    ];
    for p in &rows {
        process(db, id, p, end, (p.own == 4).then_some(event)).await;
    }
    load(db, id, start, end).await;

    for (own, from, held, bytes) in [(0, 0, 150, 812_000i64), (1, 161, 209, 1_210_000)] {
        let from = start + TimeDelta::minutes(from);
        flow(db, id, own, from, Some(from + TimeDelta::minutes(held)), "pool.mining.example", "203.0.113.9", 3333, Some(bytes), net_event).await;
    }
    flow(db, id, 9, start + TimeDelta::minutes(2), None, "198.51.100.44", "198.51.100.44", 443, None, net_event).await;
    flow(db, srv, 20, start + TimeDelta::minutes(30), Some(end), "pool.mining.example", "203.0.113.9", 3333, Some(99_000), net_event).await;
    for n in 0..12 {
        flow(db, build, 30 + n, start + TimeDelta::minutes(n * 20), Some(start + TimeDelta::minutes(n * 20 + 1)), "packages.example", "192.0.2.80", 443, Some(5_300_000), net_event).await;
    }
    sqlx::query("insert into indicator (list, kind, category, value, confidence, source, created_by, created_at) values ('DestinationIPList', 'domain', 'pool', 'mining.example', 'high', 'test', 'kim', $1)")
        .bind(now).execute(&mut *db).await.unwrap();
    for (kind, value) in [("image", HASH), ("destination", "pool.mining.example")] {
        for (host, days) in [(id, 0), (srv, 5)] {
            sqlx::query("insert into fleet_sighting (kind, value, day, host_id) values ($1, $2, $3, $4)")
                .bind(kind).bind(value).bind((end - TimeDelta::days(days)).date_naive()).bind(host.0).execute(&mut *db).await.unwrap();
        }
    }
    sqlx::query("insert into baseline (image, host_class, cpu_share, created_by, created_at) values ('svchost.exe', 'workstation', 8, 'kim', $1)")
        .bind(now).execute(&mut *db).await.unwrap();

    let process = ProcessId { host: id, own: 4 };
    let evidence = |code: Code, points: f64, hard: bool, from: i64, to: i64, summary: &str, events: Vec<EventRef>| Evidence {
        code, class: code.class(), points, hop: 1.0,
        first_seen: start + TimeDelta::minutes(from), last_seen: (start + TimeDelta::minutes(to)).min(end), known_at: start + TimeDelta::minutes(from + 15),
        summary: summary.to_owned(), hard, force: if hard { Force::Hard } else { Force::Plain }, suppressed_by: None, process: Some(process), rule: None, events,
    };
    let content = Content {
        title: "Renamed miner launched by scheduled task".to_owned(),
        story: "svchost.exe (original xmrig.exe) used 96 % of the CPU for 6 h 2 min, was started by the task \\OneDriveSync as SYSTEM and held connections to pool.mining.example (203.0.113.9:3333), which is on DestinationIPList.".to_owned(),
        verdict: Verdict::Alert,
        severity: Severity::Critical,
        severity_reasons: vec!["strong AN1489 (95)".to_owned(), "known pool".to_owned(), "tier 3 host".to_owned()],
        analytics: vec![judged("AN0741", Verdict::Alert, 84.0), judged("AN1489", Verdict::Alert, 95.0)],
        process: Some(Process {
            id: process, guid: None, pid: Some(6604), image: Some(miner.to_owned()), command_line: Some(line.to_owned()),
            original_file_name: Some("xmrig.exe".to_owned()), sha256: Some(HASH.to_owned()), signer: None, user: Some(sys.to_owned()),
            parent_image: Some(r"C:\Windows\System32\svchost.exe".to_owned()), started_at: Some(start), ended_at: None,
        }),
        classes: BTreeMap::from([
            (Class::R, state(State::Met, 26.0, None)),
            (Class::C, state(State::Met, 35.0, None)),
            (Class::N, state(State::Met, 30.0, None)),
            (Class::L, state(State::Met, 20.0, None)),
            (Class::P, state(State::Unobservable, 0.0, Some("no source with durations sent anything on this host"))),
            (Class::M, state(State::Met, 30.0, None)),
            (Class::A, state(State::Below, 6.0, None)),
            (Class::B, state(State::ObservedAbsent, 0.0, None)),
        ]),
        evidence: vec![
            evidence(Code::RPersistent, 22.0, false, 5, 372, "96 % of the CPU for 362 min, threshold 30 %", vec![event]),
            evidence(Code::RPlateau, 8.0, false, 20, 372, "load within 3 points of its median for 340 min", vec![event]),
            evidence(Code::CMinerFlag, 25.0, true, 0, 0, "--donate-level, stratum URL", vec![event]),
            evidence(Code::CWallet, 25.0, true, 0, 0, "Monero address after -u", vec![event]),
            evidence(Code::NIoc, 30.0, true, 1, 370, "pool.mining.example is on DestinationIPList (pool, high)", vec![net_event]),
            evidence(Code::NMinePort, 10.0, false, 1, 370, "port 3333, 2 of 412 hosts", vec![net_event]),
            evidence(Code::LTaskSusp, 20.0, false, -1, 0, "task \\OneDriveSync made one minute before, runs from ProgramData as SYSTEM", vec![task_event, event]),
            evidence(Code::MSysPath, 25.0, true, 0, 0, "svchost.exe outside System32", vec![event]),
            evidence(Code::MOfnMiner, 25.0, true, 0, 0, "original name xmrig.exe", vec![event]),
        ],
        destinations: vec![
            Destination { host: Some("pool.mining.example".to_owned()), ip: Some("203.0.113.9".to_owned()), port: Some(3333), first_seen: start + TimeDelta::minutes(1), last_seen: end, bytes: Some(2_022_000), connections: 2, hosts: Some(2), indicator: Some("pool".to_owned()) },
            Destination { host: None, ip: Some("198.51.100.44".to_owned()), port: Some(443), first_seen: start + TimeDelta::minutes(2), last_seen: start + TimeDelta::minutes(2), bytes: None, connections: 1, hosts: Some(1), indicator: None },
        ],
        persistence: vec![Persistence { kind: "scheduled_task".to_owned(), name: r"\OneDriveSync".to_owned(), created_at: Some(task_event.at), by: Some(r"CORP\kim".to_owned()), command: Some(miner.to_owned()), event: task_event }],
        first_seen: start,
        last_seen: end,
        quiet: false,
        tunables: 0,
    };
    let miner_id = DetectionId { host: id, own: 1 };
    store(db, miner_id, &content, "new", None, None, now - TimeDelta::minutes(41)).await;
    sqlx::query("insert into detection_journal (host_id, detection_id, at, actor, action, detail) values ($1, 1, $2, 'engine', 'changed', 'arrived 14 min late: +C.MINERFLAG')")
        .bind(id.0).bind(now - TimeDelta::minutes(20)).execute(&mut *db).await.unwrap();

    let more = [
        (srv, 2, "Flat CPU and obfuscated PowerShell", Verdict::Alert, Severity::High, 71.4, "in_progress", r"powershell.exe -w hidden -enc SQBFAFgAKABOAGUAdwAtAE8AYgBqAGUAYwB0ACAATgBlAHQALgBXAGUAYgBDAGwAaQBlAG4AdAApAA=="),
        (srv, 3, "Known pool contacted before any load", Verdict::EarlyWarning, Severity::Medium, 44.0, "new", r"C:\Users\Public\k.exe --coin monero"),
        (build, 4, "Busy build agent with a rare destination", Verdict::Partial, Severity::Low, 38.0, "new", HOSTILE.trim_end_matches('\u{200b}').trim_end_matches('\0')),
        (build, 5, "Compiler at full load", Verdict::Candidate, Severity::Info, 21.0, "new", r"C:\agent\bin\cl.exe /MP"),
        (build, 6, "Load test on the build agent", Verdict::Suppressed, Severity::Info, 61.0, "new", r"C:\tools\stress.exe --cpu 8"),
    ];
    for (at, own, title, verdict, severity, score, status, line) in more {
        let mut c = content.clone();
        title.clone_into(&mut c.title);
        (c.verdict, c.severity) = (verdict, severity);
        c.analytics = vec![judged("AN0741", verdict, score), judged("AN1489", Verdict::None, score / 2.0)];
        c.process = c.process.map(|p| Process { command_line: Some(line.to_owned()), image: line.split(' ').next().map(str::to_owned), id: ProcessId { host: at, own: 4 }, sha256: None, ..p });
        c.classes.insert(Class::C, state(State::Void, 25.0, Some("AL-17 voided by N.IOC")));
        c.classes.insert(Class::N, state(State::Suppressed, 30.0, Some("AL-17 until 2026-12-01")));
        c.classes.insert(Class::M, state(State::ObservedAbsent, 0.0, None));
        c.classes.insert(Class::L, state(State::Below, 8.0, None));
        c.first_seen = start + TimeDelta::minutes(own * 11);
        c.persistence.clear();
        if verdict == Verdict::Suppressed {
            c.evidence[0].suppressed_by = Some("AL-17".to_owned());
        }
        store(db, DetectionId { host: at, own }, &c, status, None, (status == "in_progress").then_some("kim"), now - TimeDelta::minutes(own * 37)).await;
    }
    let mut closed = content.clone();
    "Miner from last month".clone_into(&mut closed.title);
    closed.first_seen = start - TimeDelta::days(30);
    closed.last_seen = end - TimeDelta::days(30);
    store(db, DetectionId { host: srv, own: 8 }, &closed, "closed", Some("true_positive"), Some("kim"), now - TimeDelta::days(30)).await;
    Fleet { host: id, miner: miner_id, process, event, start }
}

/// `n` more open detections of low severity, for paging.
pub(crate) async fn crowd(db: &mut PgConnection, fleet: &Fleet, n: i64) {
    let row = sqlx::query("select content from detection where host_id = $1 and detection_id = 1").bind(fleet.host.0).fetch_one(&mut *db).await.unwrap();
    let sqlx::types::Json(mut content): sqlx::types::Json<Content> = row.get(0);
    content.severity = Severity::Low;
    content.verdict = Verdict::EarlyWarning;
    for own in 100..100 + n {
        content.title = format!("One of many: {own}");
        content.analytics = vec![judged("AN0741", Verdict::EarlyWarning, (own % 40) as f64), judged("AN1489", Verdict::None, 0.0)];
        store(db, DetectionId { host: fleet.host, own }, &content, "new", None, None, fleet.start).await;
    }
}

#[expect(clippy::too_many_arguments, reason = "a row of a table")]
async fn flow(db: &mut PgConnection, host: HostId, own: i64, from: DateTime<Utc>, to: Option<DateTime<Utc>>, name: &str, ip: &str, port: i32, bytes: Option<i64>, event: EventRef) {
    sqlx::query(
        "insert into flow (host_id, started_at, flow_id, process_id, group_key, remote_ip, remote_port, destination, external, protocol,
           direction, ended_at, bytes_out, event_at, event_id)
         values ($1, $2, $3, 4, $4, $5::inet, $6, $7, true, 'tcp', 'outbound', $8, $9, $10, $11)",
    )
    .bind(host.0).bind(from).bind(own).bind(GROUP).bind(ip).bind(port).bind(name).bind(to).bind(bytes).bind(event.at).bind(event.id.0)
    .execute(db)
    .await
    .unwrap();
}

/// Buckets of load: busy, a restart, an hour without telemetry, busy again.
async fn load(db: &mut PgConnection, host: HostId, start: DateTime<Utc>, end: DateTime<Utc>) {
    let mut at = coalface::time::bucket(start) - TimeDelta::minutes(30);
    let mut n = 0i64;
    while at < end {
        let blind = (40..52).contains(&n);
        let share = if at < start || (31..33).contains(&n) { None } else { Some(93.0 + (n % 5) as f32) };
        if !blind {
            sqlx::query("insert into host_bucket values ($1, $2, 120, 40, 0.1, 97, 2, 2, 2, 2, 3, 0, 5, 0, 1)").bind(host.0).bind(at).execute(&mut *db).await.unwrap();
            if let Some(share) = share {
                sqlx::query("insert into cpu_bucket values ($1, $2, $3, $4, $5, $4 - 2, $4, $4 + 2, 300, null, 4)")
                    .bind(host.0).bind(at).bind(GROUP).bind(share).bind(share * 0.08).execute(&mut *db).await.unwrap();
            }
        }
        at += coalface::time::BUCKET;
        n += 1;
    }
}

/// Three facts and the segment they came in.
async fn raw(db: &mut PgConnection, start: EventRef, task: EventRef, net: EventRef) {
    let records = [
        serde_json::json!({"winlog":{"event_id":1,"event_data":{"Image":r"C:\ProgramData\upd\svchost.exe","CommandLine":HOSTILE}}}).to_string(),
        "<Event><System><EventID>4698</EventID></System></Event>".to_owned(),
        serde_json::json!({"winlog":{"event_id":3,"event_data":{"DestinationIp":"203.0.113.9"}}}).to_string(),
    ];
    let plain: Vec<u8> = records.iter().flat_map(|r| u32::try_from(r.len()).unwrap().to_le_bytes().into_iter().chain(r.bytes())).collect();
    sqlx::query("insert into segment values (5, $1, 'winlogbeat', 'elastic', 3, $2, $3)")
        .bind(start.at).bind(i32::try_from(plain.len()).unwrap()).bind(zstd::bulk::compress(&plain, 3).unwrap()).execute(&mut *db).await.unwrap();
    let key = |e: EventRef| (e.host.0, e.at, e.id.0);
    let (h, at, id) = key(start);
    sqlx::query(r"insert into process_start (host_id, occurred_at, event_id, segment_id, ordinal, time_quality, image) values ($1, $2, $3, 5, 0, 0, 'C:\ProgramData\upd\svchost.exe')")
        .bind(h).bind(at).bind(id).execute(&mut *db).await.unwrap();
    let (h, at, id) = key(task);
    sqlx::query(r"insert into persistence (host_id, occurred_at, event_id, segment_id, ordinal, time_quality, kind, name) values ($1, $2, $3, 5, 1, 0, 'scheduled_task', '\OneDriveSync')")
        .bind(h).bind(at).bind(id).execute(&mut *db).await.unwrap();
    let (h, at, id) = key(net);
    sqlx::query("insert into connection (host_id, occurred_at, event_id, segment_id, ordinal, time_quality, kind) values ($1, $2, $3, 5, 2, 0, 'socket')")
        .bind(h).bind(at).bind(id).execute(&mut *db).await.unwrap();
}
