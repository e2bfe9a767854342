//! One story from HTTP body to page. Read this to understand the system: a renamed miner's raw telemetry is posted the way
//! forwarders post it, becomes rows, evidence, a detection, and a page that explains itself.

use crate::{
    harness::{TestApp, Who},
    story,
};
use axum::http::{Method, StatusCode};
use coalface::model::permission::{Role, Scope};

#[tokio::test]
async fn a_renamed_miner_becomes_a_detection_that_explains_itself() {
    let app = TestApp::new().await;

    // 1. A forwarder posts documents and hears how many were new.
    let events = story::renamed_miner();
    let receipt = app.send(&events).await;
    assert_eq!(receipt["accepted"], events.len(), "{receipt}");
    assert_eq!(receipt["quarantined"], 0);

    // 2. Every document is a typed fact, with its raw record in a segment.
    assert_eq!(app.count("select count(*) from process_start").await, 1);
    assert_eq!(app.count("select count(*) from cpu_sample").await, 180);
    assert_eq!(app.count("select count(*) from persistence where kind = 'task'").await, 2);
    assert_eq!(app.count("select sum(records) from segment").await, i64::try_from(events.len()).unwrap());
    // Rules ran while it came in: the version data names a miner, the system name is in the wrong folder.
    assert_eq!(app.count("select count(*) from rule_hit where code in ('C.MINERNAME', 'M.OFN_MINER', 'M.SYSPATH')").await, 3);
    // Agent, sampler and sensor speak of one computer; the sensor's address leads to it.
    assert_eq!(app.count("select count(*) from host where kind = 'computer'").await, 1);

    // 3. A re-send changes nothing.
    let again = app.send(&events).await;
    assert_eq!((again["accepted"].as_i64(), again["duplicate"].as_u64()), (Some(0), Some(events.len() as u64)));

    // 4. The worker derives, finds and judges until nothing is pending.
    app.settle().await;
    assert_eq!(app.count("select count(*) from process where image_name = 'svchost.exe' and start_observed").await, 1);
    assert_eq!(app.count("select count(*) from evidence where code = 'R.PERSISTENT'").await, 1);
    // The sensor's duration joined the agent's connection.
    assert_eq!(app.count("select count(*) from flow where process_id is not null and ended_at - started_at > interval '80 minutes'").await, 1);

    // 5. The API serves one alert of both analytics with its evidence.
    let list = app.get(Who::Program(Scope::Read), "/api/v1/detections").await.expect(StatusCode::OK).json();
    let [detection] = list["items"].as_array().unwrap().as_slice() else { panic!("one detection, got {list}") };
    assert_eq!(detection["verdict"], "alert");
    assert_eq!(detection["host"]["name"], "ws-0412", "short and full name are one machine");
    assert_eq!(detection["process"]["image"], story::IMAGE);
    for class in ["R", "C", "N", "L", "P", "M"] {
        assert_eq!(detection["classes"][class]["state"], "met", "{class} of {detection:#}");
    }
    let codes: Vec<&str> = detection["evidence"].as_array().unwrap().iter().filter_map(|e| e["code"].as_str()).collect();
    for code in ["R.PERSISTENT", "C.MINERNAME", "C.CFGBARE", "N.MINEPORT", "N.RARE", "L.TASK_SUSP", "P.LONG30", "M.SYSPATH"] {
        assert!(codes.contains(&code), "{code} in {codes:?}");
    }
    assert_eq!(detection["persistence"][0]["name"], "\\OneDriveSync");

    // 6. The queue shows it to an analyst, and its page tells why, down to the raw event.
    let queue = app.get(Who::Person(Role::Analyst), "/").await.expect(StatusCode::OK);
    assert!(queue.text().contains("Disguised process under sustained load"));
    let page = app.get(Who::Person(Role::Analyst), &format!("/detections/{}", detection["id"].as_str().unwrap())).await.expect(StatusCode::OK);
    assert!(page.text().contains("OneDriveSync"));
    assert!(page.text().contains("xmrig.exe"));
}

#[tokio::test]
async fn an_entry_hides_what_it_names_and_hard_evidence_voids_it() {
    let app = TestApp::new().await;
    app.send(&story::renamed_miner()).await;
    app.settle().await;
    let sha = "9f2c".repeat(16);
    let entry = |covers: &[&str]| {
        serde_json::json!({"match": {"sha256": sha, "image": story::IMAGE, "destination": story::POOL}, "scope": {"hosts": ["ws-0412"]},
            "covers": covers, "reason": "approved by the lab"})
    };
    let verdict = async || {
        let all = app.get(Who::Program(Scope::Read), "/api/v1/detections?verdict=alert,suppressed").await.expect(StatusCode::OK).json();
        (all["items"][0]["verdict"].as_str().unwrap().to_owned(), all["items"][0]["classes"]["R"]["state"].as_str().unwrap().to_owned())
    };

    // Classes never include their hard codes: the entry is void, and says so.
    app.api(Who::Program(Scope::Admin), Method::POST, "/api/v1/allowlist", &entry(&["R", "C", "N", "L", "P", "M"])).await.expect(StatusCode::CREATED);
    app.settle().await;
    assert_eq!(verdict().await, ("alert".to_owned(), "void".to_owned()));

    // Named one by one, and approved by a second person, it hides the detection and keeps it to be seen.
    let named = entry(&["R", "C", "N", "L", "P", "M", "C.MINERNAME", "M.OFN_MINER", "M.SYSPATH"]);
    let made = app.api(Who::Program(Scope::Admin), Method::POST, "/api/v1/allowlist", &named).await.expect(StatusCode::CREATED).json();
    if made["state"] == "proposed" {
        let path = format!("/api/v1/allowlist/{}/approve", made["id"].as_str().unwrap());
        app.api(Who::OtherProgram(Scope::Admin), Method::POST, &path, &serde_json::json!({})).await.expect(StatusCode::OK);
    }
    app.settle().await;
    assert_eq!(verdict().await, ("suppressed".to_owned(), "suppressed".to_owned()));
}
