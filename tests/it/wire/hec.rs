//! Splunk's event collector.

use super::{facts, process_start, quarantined, send, send_as};
use crate::harness::TestApp;
use axum::http::StatusCode;
use coalface::{model::permission::Scope, store::tokens};
use flate2::{Compression, write::GzEncoder};
use serde_json::json;
use std::io::Write as _;

const EVENT: &str = "/services/collector/event";
const RAW: &str = "/services/collector/raw";
const SUCCESS: &str = r#"{"text":"Success","code":0}"#;

/// A process start as event XML, over two lines.
fn xml(record: u64) -> String {
    format!(
        "<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'><System>\
         <Provider Name='Microsoft-Windows-Security-Auditing'/><EventID>4688</EventID>\
         <TimeCreated SystemTime='2026-03-02T09:14:05.1234567Z'/><EventRecordID>{record}</EventRecordID>\
         <Channel>Security</Channel><Computer>ws-0412.corp.example</Computer></System>\n\
         <EventData><Data Name='NewProcessId'>0x1018</Data>\
         <Data Name='NewProcessName'>C:\\Windows\\System32\\svchost.exe</Data></EventData></Event>"
    )
}

#[tokio::test]
async fn objects_end_to_end_in_an_array_and_compressed_are_the_same_events() {
    let app = TestApp::new().await;
    let one = json!({"time": "1772442845.123", "host": "ws-0412", "sourcetype": "XmlWinEventLog", "event": xml(1)});
    let two = json!({"event": xml(2), "fields": {"host": "other", "computer": "other"}});
    let first = send(&app, "POST", EVENT, &[], format!("{one}{two}")).await.expect(StatusCode::OK);
    assert_eq!(first.text(), SUCCESS);
    assert_eq!(first.header("content-type"), "application/json");

    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(format!("{one}\n{two}\n").as_bytes()).unwrap();
    let array = format!("[{one},{two}]").into_bytes();
    for (path, headers, body) in [
        ("/services/collector", [("content-encoding", "gzip")].as_slice(), gzip.finish().unwrap()),
        ("/services/collector/event/1.0", &[("content-type", "application/x-www-form-urlencoded")], array),
    ] {
        assert_eq!(send(&app, "POST", path, headers, body).await.expect(StatusCode::OK).text(), SUCCESS);
    }
    assert_eq!(facts(&app).await, 2);
    assert_eq!(app.count("select count(*) from host where name like 'ws-0412%'").await, 1);
    assert_eq!(app.count("select count(*) from host where name = 'other'").await, 0);
    assert_eq!(app.count("select count(*) from segment where protocol = 'hec'").await, 1);
}

#[tokio::test]
async fn times_are_read_in_every_unit_and_carry_over_with_the_host() {
    let app = TestApp::new().await;
    let times =
        [json!("1772442845.123"), json!(1_772_442_845.123), json!(1_772_442_845_123_u64), json!("1772442845123000000")];
    for (n, time) in times.into_iter().enumerate() {
        let body = format!(
            "{}{}",
            json!({"time": time, "host": "ws-7", "event": format!("a{n}")}),
            json!({"event": format!("b{n}")})
        );
        send(&app, "POST", EVENT, &[], body).await.expect(StatusCode::OK);
    }
    assert_eq!(
        app.count("select count(*) from other_event o join host h using (host_id) where h.name = 'ws-7' and o.occurred_at = '2026-03-02T09:14:05.123Z'").await,
        8
    );
}

#[tokio::test]
async fn garbage_between_objects_is_kept_apart() {
    let app = TestApp::new().await;
    let event = |n| json!({"event": process_start(n)}).to_string();
    let body = format!("{}\nrubbish\nmore\n{}\n", event(1), event(2));
    assert_eq!(send(&app, "POST", EVENT, &[], body).await.expect(StatusCode::OK).text(), SUCCESS);
    assert_eq!((facts(&app).await, quarantined(&app).await), (2, 1));
    assert_eq!(
        app.count("select count(*) from quarantine where raw = E'rubbish\\nmore' and protocol = 'hec'").await,
        1
    );

    for (body, code, number) in [
        ("rubbish", 6, 0),
        ("{\"time\":1}", 12, 0),
        ("{\"event\":null}", 12, 0),
        ("{\"event\":\"\"}", 13, 0),
        ("{\"event\":\"x\",\"fields\":{\"a\":{}}}", 15, 0),
    ] {
        let reply = send(&app, "POST", EVENT, &[], body).await.expect(StatusCode::BAD_REQUEST);
        assert_eq!(
            (&reply.json()["code"], &reply.json()["invalid-event-number"]),
            (&json!(code), &json!(number)),
            "{body}"
        );
    }
    for empty in ["", " \n"] {
        let reply = send(&app, "POST", EVENT, &[], empty).await.expect(StatusCode::BAD_REQUEST);
        assert_eq!(reply.text(), r#"{"text":"No data","code":5}"#);
    }
    assert_eq!(facts(&app).await, 2);
}

#[tokio::test]
async fn raw_events_take_their_metadata_from_the_query() {
    let app = TestApp::new().await;
    let path = format!("{RAW}?host=ws-9&sourcetype=XmlWinEventLog&channel=FE0ECFAD-13D5-401B-847D-77833BD77131");
    let body = format!("{}\n{}\n", xml(1), xml(2));
    assert_eq!(send(&app, "POST", &path, &[], body).await.expect(StatusCode::OK).text(), SUCCESS);
    assert_eq!(facts(&app).await, 2);
    send(&app, "POST", &path, &[], "a line\nanother\n").await.expect(StatusCode::OK);
    assert_eq!(
        app.count("select count(*) from other_event o join host h using (host_id) where h.name = 'ws-9' and o.channel = 'XmlWinEventLog'").await,
        2
    );
    send(&app, "POST", RAW, &[], "").await.expect(StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn refusals_are_in_splunks_words() {
    let app = TestApp::new().await;
    let (stranger, reader) = (tokens::mint(&[Scope::Ingest]), app.token(Scope::Read).await);
    let good = format!("Splunk {}", app.token(Scope::Ingest).await);
    let body = json!({"event": process_start(1)}).to_string();
    for (query, headers, status, code) in [
        ("", vec![], StatusCode::UNAUTHORIZED, 2),
        ("", vec!["Digest x"], StatusCode::UNAUTHORIZED, 3),
        ("", vec![&*format!("Splunk {stranger}")], StatusCode::FORBIDDEN, 4),
        ("", vec![&*format!("Splunk {reader}")], StatusCode::FORBIDDEN, 4),
        ("", vec![&*good, &*good], StatusCode::BAD_REQUEST, 3),
        ("?token=x", vec![&*good], StatusCode::BAD_REQUEST, 16),
    ] {
        let headers: Vec<_> = headers.into_iter().map(|value| ("authorization", value)).collect();
        for path in [EVENT, RAW, "/services/collector/ack"] {
            let reply = send_as(&app, "POST", &format!("{path}{query}"), &headers, body.clone()).await.expect(status);
            assert_eq!(reply.json()["code"], code, "{path}{query}");
        }
    }
    send(&app, "POST", EVENT, &[("content-encoding", "gzip")], "no").await.expect(StatusCode::BAD_REQUEST);
    send(&app, "POST", EVENT, &[("content-type", "application/msgpack")], "no")
        .await
        .expect(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(facts(&app).await, 0);
    send_as(&app, "POST", EVENT, &[("authorization", &good)], body).await.expect(StatusCode::OK);
    assert_eq!(facts(&app).await, 1);
}

#[tokio::test]
async fn health_needs_no_token_and_every_id_is_acknowledged() {
    let app = TestApp::new().await;
    for path in ["/services/collector/health", "/services/collector/health/1.0"] {
        let reply = send_as(&app, "GET", path, &[], "").await.expect(StatusCode::OK);
        assert_eq!(reply.json(), json!({"text": "HEC is healthy", "code": 17}));
    }
    let reply = send(&app, "POST", "/services/collector/ack", &[], r#"{"acks":[1,20]}"#).await.expect(StatusCode::OK);
    assert_eq!(reply.json(), json!({"acks": {"1": true, "20": true}}));
    send(&app, "POST", "/services/collector/ack", &[], "{}").await.expect(StatusCode::BAD_REQUEST);

    app.app.db.ingest.close().await;
    let reply =
        send_as(&app, "GET", "/services/collector/health", &[], "").await.expect(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reply.json(), json!({"text": "HEC is unhealthy", "code": 18}));
}
