//! Coverage with its advice, the configuration pages, rules, hosts in bulk, and hunting.

use super::{ANALYST, VIEWER, attribute, spaced as texts, with_fleet};
use crate::harness::{TestApp, Who};
use axum::http::StatusCode;
use coalface::model::permission::Role;
use serde_json::json;

const LEAD: Who = Who::Person(Role::Lead);

#[tokio::test]
async fn coverage_says_what_is_blind_where_and_what_to_switch_on() {
    let app = TestApp::new().await;
    let none = app.get(VIEWER, "/coverage").await.expect(StatusCode::OK).html();
    assert_eq!(texts(&none, ".empty h2"), ["No host has sent anything yet"]);
    let start = json!({"kind": "process_start", "occurred_at": "2026-03-02T09:59:30Z", "host": {"name": "ws-1"}, "process": {"pid": 5, "image": "C:\\a.exe"}});
    app.send(&[start]).await;
    app.settle().await;
    let page = app.get(VIEWER, "/coverage").await.expect(StatusCode::OK).html();
    assert_eq!(texts(&page, "tr[data-row] td"), ["○ absent", "○ absent", "○ absent", "○ absent", "○ absent", "○ absent", "blind", "blind"]);
    let tips = texts(&page, ".tips summary b");
    assert!(tips.contains(&"CPU of processes".to_owned()) && tips.contains(&"Command lines of process starts".to_owned()), "{tips:?}");
    assert!(!tips.contains(&"Process starts".to_owned()), "they are there");
    let xml = texts(&page, "details .paste code").pop().unwrap();
    assert!(xml.starts_with("<Sysmon schemaversion") && xml.contains("<NetworkConnect") && xml.contains("<DnsQuery"), "{xml}");
    assert_eq!(texts(&app.get(VIEWER, "/coverage?blind=AN0741").await.html(), "tr[data-row]").len(), 1);
    assert_eq!(texts(&app.get(VIEWER, "/coverage?q=nobody").await.html(), "tr[data-row]").len(), 0);
}

#[tokio::test]
async fn baselines_windows_and_indicators_are_written_by_leads_only() {
    let app = TestApp::new().await;
    let baseline = [("image", "*\\cl.exe"), ("host_class", "build"), ("cpu_share", "85 %"), ("note", "<b>builds</b>")];
    let window = [("name", "Patch night"), ("scope", "tags"), ("scope_value", "ring1, ring2"), ("starts_at", "2026-03-03T22:00"), ("ends_at", "2026-03-04T02:00"), ("reason", "patches")];
    let listed = [("values", "pool.example\n# a comment\n203.0.113.0/24\n203.0.113.9"), ("category", "pool"), ("confidence", "high"), ("source", "a feed")];
    for (path, fields, row) in [
        ("/baselines", &baseline[..], "*\\cl.exe build 85 % <b>builds</b> lead 2026-03-02 remove"),
        ("/maintenance-windows", &window[..], "22:00 – 02:00 4 h Patch night MW-1 tag:ring1, tag:ring2 any image patches · lead remove"),
        ("/indicators", &listed[..], "203.0.113.9 ip pool high a feed no end lead 2026-03-02 remove"),
    ] {
        for who in [VIEWER, ANALYST, Who::Person(Role::Auditor)] {
            assert_eq!(texts(&app.get(who.clone(), path).await.expect(StatusCode::OK).html(), "main form[method=post]").len(), 0, "{path} {who:?}");
            app.post_form(who, path, fields).await.expect(StatusCode::FORBIDDEN);
        }
        app.post_form(LEAD, path, fields).await.expect(StatusCode::SEE_OTHER);
        let page = app.get(LEAD, path).await.html();
        let rows = texts(&page, "tr[data-row], .agenda li");
        assert_eq!(rows[0], row, "{path}");
        // again: said, not stored twice
        let again = app.post_form(LEAD, path, fields).await;
        assert_eq!(texts(&app.get(LEAD, path).await.html(), "tr[data-row], .agenda li").len(), rows.len(), "{path}");
        assert!(matches!(again.status, StatusCode::UNPROCESSABLE_ENTITY | StatusCode::SEE_OTHER), "{path}");
        // a field that is wrong is named and what was typed stays
        let wrong: Vec<_> = fields.iter().map(|(n, v)| (*n, match *n { "cpu_share" => "much", "ends_at" => "2026-03-01T02:00", "values" => "pool.example\nnot an address", _ => v })).collect();
        let refused = app.post_form(LEAD, path, &wrong).await.expect(StatusCode::UNPROCESSABLE_ENTITY).html();
        assert_eq!(texts(&refused, ".fault").len(), 1, "{path}");
        let remove = attribute(&page, "form[action$='/remove']", "action");
        app.post_form(VIEWER, &remove, &[]).await.expect(StatusCode::FORBIDDEN);
        app.post_form(LEAD, &remove, &[]).await.expect(StatusCode::SEE_OTHER);
        app.post_form(LEAD, &remove, &[]).await.expect(StatusCode::NOT_FOUND);
    }
    assert_eq!(app.count("select count(*) from indicator").await, 2);
    let verified = coalface::store::audit::verify(&mut app.db().superuser().await, &app.app.audit_key).await.unwrap();
    assert_eq!((verified.broken, verified.rows), (None, 8));
}

#[tokio::test]
async fn windows_are_listed_as_a_calendar() {
    let app = TestApp::new().await;
    for (name, from, to) in [("past", "2026-03-01T00:00", "2026-03-01T02:00"), ("now", "2026-03-02T09:00", "2026-03-02T11:00"), ("soon", "2026-03-05T00:00", "2026-03-05T02:00"), ("later", "2026-03-07T00:00", "2026-03-07T02:00")] {
        let fields = [("name", name), ("scope", "class"), ("scope_value", "build"), ("starts_at", from), ("ends_at", to), ("reason", "x")];
        app.post_form(LEAD, "/maintenance-windows", &fields).await.expect(StatusCode::SEE_OTHER);
    }
    let page = app.get(VIEWER, "/maintenance-windows").await.html();
    assert_eq!(texts(&page, ".day h2"), ["Running now", "Thursday, 2026-03-05", "Saturday, 2026-03-07"]);
    let past = app.get(VIEWER, "/maintenance-windows?show=past").await.html();
    assert_eq!((texts(&past, ".day h2"), texts(&past, ".agenda b")), (vec!["Sunday, 2026-03-01".to_owned()], vec!["past".to_owned()]));
}

#[tokio::test]
async fn rules_are_listed_with_what_they_stand_for_and_how_often_they_fired() {
    let app = TestApp::new().await;
    let miner = json!({"kind": "process_start", "occurred_at": "2026-03-02T09:59:30Z", "host": {"name": "ws-1"}, "process": {"pid": 5, "image": "C:\\m.exe", "command_line": "m.exe -o stratum+tcp://pool.example:3333"}});
    app.send(&[miner]).await;
    app.settle().await;
    let page = app.get(VIEWER, "/rules").await.expect(StatusCode::OK).html();
    let rows = texts(&page, "tr[data-row]");
    assert_eq!(rows.len(), app.app.rules.rules().filter(|r| r.evidence.is_ok()).count());
    let fired = rows.iter().find(|r| r.starts_with("C.MINERFLAG Options and addresses")).unwrap();
    assert!(fired.contains("25 hard 1 1 1 2026-03-02 09:59:30Z"), "{fired}");
    assert!(fired.contains("examples:") && fired.contains("stratum+tcp://pool.example:3333"), "its text and examples");
    assert!(texts(&page, "#others + table th[scope=row]").contains(&"R.SUSTAINED".to_owned()));
    assert!(texts(&app.get(VIEWER, "/rules?q=wallet").await.html(), "tr[data-row]").len() < rows.len());
}

#[tokio::test]
async fn hosts_are_described_in_bulk() {
    let (app, _) = with_fleet().await;
    let fields = [("host", "ws-0412"), ("host", "kiosk-11"), ("tier", "1"), ("role", "till"), ("add_tags", "shop, pos"), ("remove_tags", "none"), ("back", "/hosts?class=kiosk")];
    app.post_form(ANALYST, "/hosts", &fields).await.expect(StatusCode::FORBIDDEN);
    assert_eq!(texts(&app.get(ANALYST, "/hosts").await.html(), "#bulk").len(), 0);
    assert_eq!(texts(&app.get(LEAD, "/hosts").await.html(), "#bulk").len(), 1);
    let done = app.post_form(LEAD, "/hosts", &fields).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(done.header("location"), "/hosts?class=kiosk");
    assert_eq!(app.count("select count(*) from host where tier = 1 and role = 'till' and tags @> '{shop,pos}'").await, 2);
    app.post_form(LEAD, "/hosts", &[("tier", "1")]).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    app.post_form(LEAD, "/hosts", &[("host", "ws-0412"), ("tier", "9")]).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    // all or none
    app.post_form(LEAD, "/hosts", &[("host", "ws-0412"), ("host", "nobody"), ("tier", "2")]).await.expect(StatusCode::NOT_FOUND);
    assert_eq!(app.count("select count(*) from host where tier = 2 and role = 'till'").await, 0);
    let evil = app.post_form(LEAD, "/hosts", &[("host", "ws-0412"), ("tier", "2"), ("back", "//evil.example")]).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(evil.header("location"), "/");
}

/// Three hosts with starts, a connection and a task; nothing is evaluated.
async fn hunted() -> TestApp {
    let app = TestApp::new().await;
    let at = |s: u32| format!("2026-03-02T09:{:02}:{:02}Z", s / 60, s % 60);
    let mut events = Vec::new();
    for n in 0..130u32 {
        let image = if n % 10 == 0 { r"C:\ProgramData\upd\svchost.exe" } else { r"C:\Windows\System32\svchost.exe" };
        let line = if n == 0 { "svchost.exe 100% _x \"<i>quoted</i>\" \u{202e}".to_owned() } else { format!("svchost.exe -k n{n}") };
        events.push(json!({"kind": "process_start", "occurred_at": at(n), "host": {"name": format!("ws-{}.corp.example", n % 3)}, "process": {"pid": n + 100, "image": image, "command_line": line}}));
    }
    events.push(json!({"kind": "network_connection", "occurred_at": at(140), "host": {"name": "ws-1.corp.example"}, "process": {"pid": 4, "image": r"C:\m.exe"},
        "network": {"remote_ip": "203.0.113.9", "remote_port": 3333, "local_ip": "192.0.2.4", "direction": "outbound", "transport": "tcp"}}));
    app.send(&events).await;
    app
}

#[tokio::test]
async fn a_hunt_is_narrowed_value_by_value() {
    let app = hunted().await;
    let found = async |query: &str| texts(&app.get(VIEWER, &format!("/hunt?{query}")).await.expect(StatusCode::OK).html(), "tr[data-row]").len();
    for (query, n) in [
        ("q=event:process_start+image:svchost.exe+-image:*%5CSystem32%5C*", 13),
        ("q=image:C:%5CPROGRAMDATA%5Cupd%5Csvchost.exe", 13),
        ("q=host:ws-1+pid:101,104", 2),
        ("q=host:ws-1.corp.example+pid:%3E226", 1),
        ("q=100%25+_x", 1),
        ("q=n1_9", 0),
        ("q=-svchost.exe+event:process_start", 0),
        ("q=event:process_*+-host:ws-0,ws-1&until=2026-03-02T09:00:06Z", 2),
        ("q=nothing+at+all", 0),
    ] {
        assert_eq!(found(query).await, n, "{query}");
    }
    for query in ["q=imag:x", "q=port:x", "q=user:%22x", "since=soon", "cursor=1", "q=a%00b"] {
        app.get(VIEWER, &format!("/hunt?{query}")).await.expect(StatusCode::BAD_REQUEST);
    }
    // paging meets every event once
    let (mut path, mut pids) = ("/hunt?q=event:process_start".to_owned(), Vec::new());
    loop {
        let html = app.get(VIEWER, &path).await.expect(StatusCode::OK).html();
        pids.extend(texts(&html, "tr[data-row] td.what code"));
        path = attribute(&html, "a[rel=next]", "href");
        if path.is_empty() {
            break;
        }
    }
    assert_eq!(pids.len(), 130);
    pids.sort();
    pids.dedup();
    assert_eq!(pids.len(), 130);

    // the menu of a value leads to a question that holds
    let page = app.get(ANALYST, "/hunt?q=host:ws-0&since=24h").await.html();
    let images = texts(&page, ".facet:nth-of-type(3) > summary");
    assert_eq!(images, ["image 2"]);
    let menu: Vec<String> = texts(&page, ".facet:nth-of-type(3) > ul > li:first-of-type a");
    assert_eq!(menu, ["Include", "Exclude", "Only"]);
    for (n, expected) in [(1, 39), (2, 5), (3, 117)] {
        let href = attribute(&page, &format!(".facet:nth-of-type(3) > ul > li:first-of-type a:nth-of-type({n})"), "href");
        let html = app.get(ANALYST, &href).await.expect(StatusCode::OK).html();
        let said = texts(&html, "main > p.muted").join(" ");
        assert!(said.contains(&format!(" {expected} match")), "{href}: {said}");
    }
    let hostile = app.get(VIEWER, "/hunt?q=quoted").await;
    assert!(hostile.text().contains("\\u{202e}") && !hostile.text().contains("<i>") && !hostile.text().contains('\u{202e}'));
    assert!(app.count("select count(*) from audit where action = 'hunt'").await > 5);
}

#[tokio::test]
async fn hunts_are_kept_and_exported() {
    let app = hunted().await;
    app.post_form(VIEWER, "/hunt/saved", &[("name", "mine"), ("query", "q=host%3Aws-1&cursor=x")]).await.expect(StatusCode::SEE_OTHER);
    app.post_form(ANALYST, "/hunt/saved", &[("name", "for <all>"), ("query", "q=image%3Asvchost.exe"), ("shared", "1")]).await.expect(StatusCode::SEE_OTHER);
    app.post_form(VIEWER, "/hunt/saved", &[("query", "q=x")]).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    let page = app.get(VIEWER, "/hunt").await.html();
    assert_eq!(texts(&page, ".kept a"), ["for <all> analyst", "mine"]);
    assert_eq!(attribute(&page, ".kept:nth-of-type(2) a", "href"), "/hunt?q=host%3Aws-1");
    assert_eq!(texts(&app.get(LEAD, "/hunt").await.html(), ".kept a").len(), 1, "own ones are own");
    let other = app.db().pool();
    let id: i64 = sqlx::query_scalar("select saved_hunt_id from saved_hunt where owner = 'analyst'").fetch_one(other).await.unwrap();
    app.post_form(VIEWER, &format!("/hunt/saved/{id}/forget"), &[]).await.expect(StatusCode::NOT_FOUND);
    app.post_form(ANALYST, &format!("/hunt/saved/{id}/forget"), &[]).await.expect(StatusCode::SEE_OTHER);

    app.get(VIEWER, "/hunt/export?q=x").await.expect(StatusCode::FORBIDDEN);
    let csv = app.get(ANALYST, "/hunt/export?q=event:process_start").await.expect(StatusCode::OK);
    assert!(csv.header("content-disposition").contains("coalface-hunt.csv"));
    assert_eq!(csv.text().lines().count(), 131);
    let jsonl = app.get(ANALYST, "/hunt/export?format=jsonl&q=ip:203.0.113.9").await.expect(StatusCode::OK);
    let row: serde_json::Value = serde_json::from_str(jsonl.text().trim()).unwrap();
    assert_eq!((&row["event"], &row["port"], &row["host"]), (&json!("connection"), &json!("3333"), &json!("ws-1.corp.example")));
    assert_eq!(app.get(ANALYST, "/hunt/export?q=nothing+here").await.text().lines().count(), 1, "the head line");
    app.get(ANALYST, "/hunt/export?q=imag:x").await.expect(StatusCode::BAD_REQUEST);
    assert_eq!(app.count("select count(*) from audit where action = 'export'").await, 3);
}

#[tokio::test]
async fn the_metrics_report_counts_what_people_did() {
    let (app, fleet) = with_fleet().await;
    let path = format!("/detections/{}", fleet.miner);
    let form = [("version", "1"), ("disposition", "true_positive"), ("note", "x")];
    app.post_form(ANALYST, &path, &form).await.expect(StatusCode::SEE_OTHER);
    let page = app.get(VIEWER, "/metrics-report?since=2d").await.expect(StatusCode::OK).html();
    // found 41 minutes before it was closed; three others of the queue's verdicts are open
    assert_eq!(texts(&page, ".big"), ["41 min", "41 min", "3"]);
    assert!(texts(&page, ".card p.muted")[1].ends_with("1 of 4 are closed."), "{:?}", texts(&page, ".card p.muted"));
    let rows = texts(&page, "table.rows tr");
    let wallet = rows.iter().find(|r| r.starts_with("C.WALLET")).unwrap();
    assert!(wallet.ends_with("1 0 0 0 3 100 % 21–100"), "{wallet}");
    assert!(texts(&page, "table.plain tr").contains(&"AL-17 1 0".to_owned()), "{:?}", texts(&page, "table.plain tr"));
    assert_eq!(texts(&page, "#people").len(), 0, "per person for leads only");
    let lead = app.get(LEAD, "/metrics-report").await.html();
    assert!(texts(&lead, "table.plain tr").contains(&"analyst 1 41 min".to_owned()), "{:?}", texts(&lead, "table.plain tr"));
    app.get(VIEWER, "/metrics-report?since=soon").await.expect(StatusCode::BAD_REQUEST);

    for file in ["export", "detections", "attack-layer.json"] {
        app.get(VIEWER, &format!("/metrics-report/{file}")).await.expect(StatusCode::FORBIDDEN);
    }
    let numbers = app.get(ANALYST, "/metrics-report/export?since=2d").await.expect(StatusCode::OK);
    assert!(numbers.text().contains("\"disposition\",\"C.WALLET\",\"true_positive\",\"1\""), "{}", numbers.text());
    let layer: serde_json::Value = serde_json::from_str(app.get(ANALYST, "/metrics-report/attack-layer.json?since=2d").await.text()).unwrap();
    let of = |id: &str| layer["techniques"].as_array().unwrap().iter().find(|t| t["techniqueID"] == id).unwrap()["score"].clone();
    assert_eq!((&layer["domain"], of("T1496.001")), (&json!("enterprise-attack"), json!(4)));
    let csv = app.get(ANALYST, "/metrics-report/detections").await.expect(StatusCode::OK);
    assert!(csv.text().starts_with("\"id\",\"detected_at\"") && csv.text().contains("Renamed miner launched"), "{}", csv.text());
    assert!(!csv.text().contains("Compiler at full load"), "candidates are not in the queue");
    let lines = app.get(ANALYST, "/metrics-report/detections?format=jsonl").await;
    let ids: Vec<String> = lines.text().lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["id"].as_str().unwrap().to_owned()).collect();
    assert!(ids.contains(&fleet.miner.to_string()) && ids.len() == 5, "{ids:?}");
}
