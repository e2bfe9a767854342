//! The native route, and what all routes share: credentials, limits, overload.

use super::{facts, process_start, quarantined, send, send_as};
use crate::harness::TestApp;
use axum::http::StatusCode;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::TimeDelta;
use coalface::{model::permission::Scope, store::tokens};
use flate2::{Compression, write::GzEncoder};
use serde_json::json;
use std::io::Write as _;

const EVENTS: &str = "/api/v1/events";

#[tokio::test]
async fn a_batch_in_any_framing_and_coding_is_stored_once() {
    let app = TestApp::new().await;
    let (one, two) = (process_start(1).to_string(), process_start(2).to_string());
    let first = send(&app, "POST", EVENTS, &[], format!("[{one},{two}]")).await.expect(StatusCode::OK);
    assert_eq!(first.text(), r#"{"accepted":2,"duplicate":0,"quarantined":0,"errors":[]}"#);
    assert_eq!(first.header("content-type"), "application/json");

    let lines = format!("{one}\n{two}\n");
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(lines.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(lines.as_bytes(), 3).unwrap();
    for (headers, body) in [
        ([("content-type", "text/plain")].as_slice(), lines.clone().into_bytes()),
        (&[("content-type", "application/json")], format!("\u{feff}{one}{two}").into_bytes()),
        (&[("content-encoding", "gzip")], gzip),
        (&[("content-encoding", "zstd")], zstd),
    ] {
        let again = send(&app, "POST", EVENTS, headers, body).await.expect(StatusCode::OK);
        assert_eq!(again.text(), r#"{"accepted":0,"duplicate":2,"quarantined":0,"errors":[]}"#);
    }
    assert_eq!(facts(&app).await, 2);
}

#[tokio::test]
async fn a_bad_record_is_kept_apart_and_named() {
    let app = TestApp::new().await;
    let body = format!("{}\n{{broken\n{}\n", process_start(1), process_start(2));
    let reply = send(&app, "POST", EVENTS, &[], body.clone()).await.expect(StatusCode::OK);
    assert_eq!(
        reply.text(),
        r#"{"accepted":2,"duplicate":0,"quarantined":1,"errors":[{"index":1,"reason":"bad_json"}]}"#
    );
    let again = send(&app, "POST", EVENTS, &[], body).await.expect(StatusCode::OK);
    assert_eq!(
        again.json(),
        json!({"accepted": 0, "duplicate": 2, "quarantined": 1, "errors": [{"index": 1, "reason": "bad_json"}]})
    );
    assert_eq!((facts(&app).await, quarantined(&app).await), (2, 1));
    assert_eq!(
        app.count(
            "select count(*) from quarantine where raw = '{broken' and token = 'program-ingest' and protocol = 'native'"
        )
        .await,
        1
    );
}

#[tokio::test]
async fn nothing_usable_is_still_an_answer() {
    let app = TestApp::new().await;
    for empty in ["", " \n", "[]"] {
        let reply = send(&app, "POST", EVENTS, &[], empty).await.expect(StatusCode::OK);
        assert_eq!(reply.text(), r#"{"accepted":0,"duplicate":0,"quarantined":0,"errors":[]}"#);
    }
    let reply = send(&app, "POST", EVENTS, &[], "nothing that is an event").await.expect(StatusCode::OK);
    assert_eq!(reply.json()["accepted"], 0);
    assert_eq!(facts(&app).await, 0);
}

#[tokio::test]
async fn poison_among_many_is_repaired_or_kept_apart() {
    let app = TestApp::new().await;
    let mut body = Vec::new();
    for record in 0..500 {
        writeln!(body, "{}", process_start(record)).unwrap();
    }
    let poison = |record: u64, field: &[u8]| {
        let text = process_start(record).to_string();
        [&text.as_bytes()[..text.len() - 1], b",\"x\":", field, b"}\n"].concat()
    };
    let deep = [b"[".repeat(10_000), b"]".repeat(10_000)].concat();
    let long = format!("\"{}\"", "x".repeat(2 << 20));
    for (record, field) in [
        (1_001, b"\"\xFF\xFE\"".as_slice()),
        (1_002, b"\"\\u0000\""),
        (1_003, b"\"\\ud800\""),
        (1_004, b"1e400"),
        (1_005, &deep),
        (1_006, b"1,\"x\":2"),
        (1_007, long.as_bytes()),
    ] {
        body.extend(poison(record, field));
    }
    let reply = send(&app, "POST", EVENTS, &[], body).await.expect(StatusCode::OK);
    assert_eq!(
        reply.json(),
        json!({"accepted": 506, "duplicate": 0, "quarantined": 1, "errors": [{"index": 506, "reason": "too_large"}]})
    );
}

#[tokio::test]
async fn every_scheme_is_a_credential_and_anything_else_stores_nothing() {
    let app = TestApp::new().await;
    let token = app.token(Scope::Ingest).await;
    let pair = STANDARD.encode(format!("any:{token}"));
    for (record, value) in
        [format!("Bearer {token}"), format!("splunk {token}"), format!("ApiKey {pair}"), format!("BASIC {pair}")]
            .iter()
            .enumerate()
    {
        let body = process_start(record as u64).to_string();
        send_as(&app, "POST", EVENTS, &[("authorization", value)], body).await.expect(StatusCode::OK);
    }
    let before = facts(&app).await;

    let (good, body) = (format!("Bearer {token}"), process_start(99).to_string());
    let (stranger, reader) = (tokens::mint(&[Scope::Ingest]), app.token(Scope::Read).await);
    let in_url = format!("{EVENTS}?token={token}");
    for (path, headers, status) in [
        (EVENTS, vec![], StatusCode::UNAUTHORIZED),
        (EVENTS, vec![""], StatusCode::UNAUTHORIZED),
        (EVENTS, vec!["Bearer"], StatusCode::UNAUTHORIZED),
        (EVENTS, vec!["Digest abc"], StatusCode::UNAUTHORIZED),
        (EVENTS, vec!["Bearer cf_iabc"], StatusCode::UNAUTHORIZED),
        (EVENTS, vec![&*format!("Bearer {stranger}")], StatusCode::UNAUTHORIZED),
        (EVENTS, vec![&*format!("Bearer {reader}")], StatusCode::FORBIDDEN),
        (EVENTS, vec![&*good, &*good], StatusCode::BAD_REQUEST),
        (&in_url, vec![], StatusCode::UNAUTHORIZED),
        (&in_url, vec![&*good], StatusCode::UNAUTHORIZED),
    ] {
        let headers: Vec<_> = headers.into_iter().map(|value| ("authorization", value)).collect();
        for path in [path.to_owned(), path.replace(EVENTS, "/elastic/_bulk")] {
            let reply = send_as(&app, "POST", &path, &headers, body.clone()).await.expect(status);
            assert!(!reply.body.is_empty());
            assert!(!reply.text().contains(&token));
        }
    }
    assert_eq!(facts(&app).await, before);
    assert_eq!(quarantined(&app).await, 0);
}

/// Every route of every protocol; each in its own words, and nothing is stored.
#[tokio::test]
async fn no_route_takes_anything_from_strangers() {
    let app = TestApp::new().await;
    let (stranger, reader) = (tokens::mint(&[Scope::Ingest]), app.token(Scope::Read).await);
    let good = format!("Bearer {}", app.token(Scope::Ingest).await);
    let body = process_start(1).to_string();
    let json = ("content-type", "application/json");
    for path in [
        EVENTS,
        "/_bulk",
        "/elastic/win/_doc",
        "/services/collector",
        "/services/collector/event/1.0",
        "/services/collector/raw",
        "/v1/logs",
        "/v1/metrics",
        "/v1/traces",
        "/telegraf",
    ] {
        for slash in ["", "/"] {
            let path = format!("{path}{slash}");
            for value in ["", "Digest x", "Bearer cf_iabc", &format!("Bearer {stranger}"), &format!("Splunk {reader}")]
            {
                let reply = send_as(&app, "POST", &path, &[json, ("authorization", value)], body.clone()).await;
                assert!(
                    matches!(reply.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN),
                    "{path} {value}: {}",
                    reply.status
                );
            }
            let twice = [json, ("authorization", &*good), ("authorization", &*good)];
            send_as(&app, "POST", &path, &twice, body.clone()).await.expect(StatusCode::BAD_REQUEST);
        }
    }
    assert_eq!(app.count("select count(*) from segment").await, 0);
    assert_eq!(quarantined(&app).await, 0);
}

#[tokio::test]
async fn a_token_counts_until_it_expires_and_no_longer() {
    let app = TestApp::new().await;
    let value = format!("Bearer {}", app.token(Scope::Ingest).await);
    let later = coalface::http::ingest::router(app.later(TimeDelta::days(91)));
    let request = axum::http::Request::post(EVENTS)
        .header("authorization", value)
        .body(axum::body::Body::from(process_start(1).to_string()))
        .unwrap();
    let reply = tower::ServiceExt::oneshot(later, request).await.unwrap();
    assert_eq!(reply.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(facts(&app).await, 0);
}

#[tokio::test]
async fn a_token_bound_to_a_host_speaks_for_no_other() {
    let app = TestApp::new().await;
    let expires_at = app.now() + TimeDelta::days(1);
    let new = tokens::New {
        name: "bound",
        scopes: &[Scope::Ingest],
        owner: "console:bound",
        host: Some("ws-0001.corp.example"),
        expires_at,
    };
    let token = tokens::create(&mut app.db().pool().acquire().await.unwrap(), &new, app.now()).await.unwrap().unwrap();
    let value = format!("Bearer {token}");
    let reply = send_as(&app, "POST", EVENTS, &[("authorization", &value)], process_start(1).to_string())
        .await
        .expect(StatusCode::OK);
    assert_eq!(reply.json()["errors"], json!([{"index": 0, "reason": "host_not_allowed"}]));
    assert_eq!(facts(&app).await, 0);
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_as_the_table_says() {
    let app = TestApp::new().await;
    for path in [EVENTS, "/_bulk"] {
        for (headers, body, status) in [
            (
                [("content-type", "application/msgpack")].as_slice(),
                b"\x81".to_vec(),
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ),
            (&[("content-encoding", "br")], b"x".to_vec(), StatusCode::UNSUPPORTED_MEDIA_TYPE),
            (&[("content-encoding", "gzip")], b"not gzip".to_vec(), StatusCode::BAD_REQUEST),
            (&[("content-length", "99999999")], b"{}".to_vec(), StatusCode::PAYLOAD_TOO_LARGE),
            (&[], b"{}\n".repeat(100_001), StatusCode::PAYLOAD_TOO_LARGE),
        ] {
            send(&app, "POST", path, headers, body).await.expect(status);
        }
    }
    assert_eq!(app.count("select count(*) from other_event").await, 0);
}

#[tokio::test]
async fn without_a_database_the_answer_is_to_come_back() {
    let app = TestApp::new().await;
    let token = app.token(Scope::Ingest).await;
    let value = format!("Bearer {token}");
    app.app.db.ingest.close().await;
    for path in [EVENTS, "/_bulk", "/elastic/", "/services/collector", "/v1/logs", "/telegraf", "/osquery/log"] {
        let body = match path {
            "/osquery/log" => json!({"node_key": token, "log_type": "result", "data": []}).to_string(),
            "/_bulk" => format!("{{\"create\":{{}}}}\n{}\n", process_start(1)),
            _ => process_start(1).to_string(),
        };
        let method = if path == "/elastic/" { "GET" } else { "POST" };
        let headers = [("authorization", &*value), ("content-type", "application/json")];
        let reply = send_as(&app, method, path, &headers, body).await.expect(StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(reply.text(), "busy, retry later\n");
        assert_eq!(reply.header("retry-after"), "1");
        assert!(reply.header("content-type").starts_with("text/plain"));
        let elastic = ["/_bulk", "/elastic/"].contains(&path);
        assert_eq!(reply.header("x-elastic-product"), if elastic { "Elasticsearch" } else { "" });
    }
}
