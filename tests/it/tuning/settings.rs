//! Settings under their official names: changed, tried on history, per class of hosts, and what the engine makes of them.

use super::{CRUNCH, agent::{Agent, IMAGE, SERVER}, only, put};
use crate::harness::{TestApp, Who};
use axum::http::{Method, StatusCode};
use coalface::model::permission::Scope;
use serde_json::{Value, json};

const TUNABLES: &str = "/api/v1/tunables";

async fn set(app: &TestApp, class: Option<&str>, values: Value) -> Value {
    put(app, Method::PUT, TUNABLES, &json!({"class": class, "values": values, "reason": "test"}), StatusCode::OK).await
}

async fn tried(app: &TestApp, values: Value) -> Value {
    app.api(Who::Program(Scope::Triage), Method::POST, "/api/v1/tunables/preview", &json!({"values": values})).await.expect(StatusCode::OK).json()
}

#[tokio::test]
async fn a_change_is_tried_first_and_does_what_the_trial_said() {
    let app = TestApp::new().await;
    // 24 % of the host: below the threshold as shipped; even, so R.THROTTLED would see it unless it is short.
    let quiet = Agent { share: 0.24, minutes: 40, ..CRUNCH };
    app.send(&quiet.whole()).await;
    app.settle().await;
    assert_eq!(app.count("select count(*) from detection where verdict = 'alert'").await, 0);

    let trial = tried(&app, json!({"CPUThreshold": 20})).await;
    assert_eq!((&trial["evaluated_hosts"], &trial["next_cursor"]), (&json!(1), &Value::Null));
    let [added] = trial["added"].as_array().unwrap().as_slice() else { panic!("one, got {trial:#}") };
    assert_eq!((&added["host"], &added["before"]), (&json!("srv-7"), &json!("none")));
    assert_eq!(app.count("select count(*) from mark").await, 0, "a trial changes nothing");
    assert_eq!(app.count("select count(*) from tunable_change").await, 0);

    let sheet = set(&app, None, json!({"CPUThreshold": 20})).await;
    app.settle().await;
    let found = only(&app).await;
    assert_eq!((&found["verdict"], &found["tunables"]), (&added["after"], &sheet["version"]));

    // The other way round it would go again, and it does.
    let trial = tried(&app, json!({"CPUThreshold": 30})).await;
    assert_eq!((trial["added"].as_array().unwrap().len(), trial["removed"].as_array().unwrap().len()), (0, 1), "{trial:#}");
    assert_eq!(trial["removed"][0]["detection"], found["id"]);
    set(&app, None, json!({"CPUThreshold": null})).await;
    app.settle().await;
    assert_eq!(app.count("select count(*) from detection").await, 0);
}

#[tokio::test]
async fn a_class_has_settings_of_its_own_and_every_change_is_kept() {
    let app = TestApp::new().await;
    let other = Agent { host: "ws-8", number: 8, ..CRUNCH };
    app.send(&[CRUNCH.whole(), other.whole()].concat()).await;
    put(&app, Method::POST, "/api/v1/hosts", &json!({"name": "srv-7", "class": "Build"}), StatusCode::OK).await;
    app.settle().await;
    assert_eq!(app.count("select count(*) from evidence where code = 'R.PERSISTENT'").await, 2);
    // Load of these builders is usual below 95 %.
    let sheet = set(&app, Some("build"), json!({"CPUThreshold": 95, "TimeWindow": 30})).await;
    app.settle().await;
    assert_eq!(app.count("select count(*) from evidence where code = 'R.PERSISTENT'").await, 1);
    assert_eq!(app.count("select count(*) from detection d join host h using (host_id) where h.name = 'ws-8' and verdict = 'alert'").await, 1);
    let item = |sheet: &Value, name: &str| sheet["items"].as_array().unwrap().iter().find(|i| i["name"] == name).unwrap().clone();
    let cpu = item(&sheet, "CPUThreshold");
    assert_eq!((&cpu["official"], &cpu["value"], &cpu["classes"]["build"]["value"]), (&json!(false), &json!(30.0), &json!(95)));
    assert_eq!(item(&sheet, "TimeWindow")["official"], json!(true));
    assert_eq!(item(&sheet, "DestinationIPList")["elsewhere"], json!("/api/v1/indicators"));

    let stale = json!({"values": {"TimeWindow": 20}, "reason": "x", "version": 1});
    put(&app, Method::PUT, TUNABLES, &stale, StatusCode::CONFLICT).await;
    for (body, says) in [
        (json!({"values": {"TimeWindow": 7}, "reason": "x"}), "TimeWindow"),
        (json!({"values": {"Colour": 7}, "reason": "x"}), "Colour"),
        (json!({"values": {"TimeWindow": 20}}), "reason"),
        (json!({"values": {}, "reason": "x"}), "values"),
    ] {
        let refused = put(&app, Method::PUT, TUNABLES, &body, StatusCode::UNPROCESSABLE_ENTITY).await;
        assert!(refused.to_string().contains(says), "{refused}");
    }
    put(&app, Method::PUT, TUNABLES, &json!({"values": {"TimeWindow": 20}, "reason": "x", "colour": 1}), StatusCode::BAD_REQUEST).await;
    let sheet = set(&app, Some("build"), json!({"CPUThreshold": null})).await;
    let history: Vec<(&str, &Value)> = sheet["history"].as_array().unwrap().iter().map(|m| (m["name"].as_str().unwrap(), &m["value"])).collect();
    assert_eq!(history[0], ("CPUThreshold", &Value::Null));
    assert_eq!(history.len(), 3);
    app.settle().await;
    assert_eq!(app.count("select count(*) from evidence where code = 'R.PERSISTENT'").await, 2);
}

#[tokio::test]
async fn a_change_that_loses_a_confirmed_hijack_names_it() {
    let app = TestApp::new().await;
    // Uneven, so that load below the threshold is nothing.
    app.send(&Agent { swing: 0.4, ..CRUNCH }.whole()).await;
    app.settle().await;
    let id = only(&app).await["id"].as_str().unwrap().to_owned();
    let closed = json!({"status": "closed", "disposition": "true_positive"});
    app.api(Who::Program(Scope::Triage), Method::PATCH, &format!("/api/v1/detections/{id}"), &closed).await.expect(StatusCode::OK);
    app.settle().await;
    let trial = tried(&app, json!({"CPUThreshold": 95})).await;
    assert_eq!(trial["true_positives_lost"], json!([id]));
    assert!(trial["changed"][0]["nearest_miss"].is_string() || trial["removed"][0]["nearest_miss"].is_string(), "{trial:#}");
    let mut body = json!({"values": {"CPUThreshold": 95}, "reason": "noise"});
    let refused = put(&app, Method::PUT, TUNABLES, &body, StatusCode::UNPROCESSABLE_ENTITY).await;
    assert!(refused.to_string().contains(&id), "{refused}");
    body["accept_lost"] = json!([id]);
    put(&app, Method::PUT, TUNABLES, &body, StatusCode::OK).await;
}

#[tokio::test]
async fn names_places_parents_and_destinations_follow_their_settings() {
    let app = TestApp::new().await;
    app.send(&CRUNCH.whole()).await;
    app.settle().await;
    let codes = async || {
        let found = only(&app).await;
        let mut codes: Vec<String> = found["evidence"].as_array().unwrap().iter().map(|e| e["code"].as_str().unwrap().to_owned()).collect();
        codes.sort_unstable();
        codes.dedup();
        codes
    };
    let before = codes().await;
    for code in ["N.RARE", "P.RARE", "N.PERSIST", "P.LONG30"] {
        assert!(before.contains(&code.to_owned()), "{before:?}");
    }
    assert!(!before.contains(&"C.MINERNAME".to_owned()) && !before.contains(&"M.SYSPATH".to_owned()));

    // Our own name for a miner, and a program that belongs elsewhere.
    set(&app, None, json!({"ExecutableNamePatterns": ["crunch"], "Image": [{"name": "crunch.exe", "folders": [r"C:\Program Files\Acme"]}]})).await;
    app.settle().await;
    let named = codes().await;
    assert!(named.contains(&"C.MINERNAME".to_owned()) && named.contains(&"M.SYSPATH".to_owned()), "{named:?}");
    // It belongs here after all, and no name is a miner's.
    set(&app, None, json!({"ExecutableNamePatterns": null, "Image": [{"name": "crunch.exe", "folders": [r"C:\ProgramData\Acme"]}]})).await;
    app.settle().await;
    assert_eq!(codes().await, before);

    set(&app, None, json!({"DestinationIP": [SERVER]})).await;
    app.settle().await;
    let approved = codes().await;
    assert!(approved.contains(&"P.LONG30".to_owned()), "the connection is still long: {approved:?}");
    for code in ["N.RARE", "P.RARE", "N.PERSIST"] {
        assert!(!approved.contains(&code.to_owned()), "{code} of an approved destination");
    }

    set(&app, None, json!({"ParentProcessName": [{"image": r"C:\Windows\System32\svchost.exe", "signer": "*"}]})).await;
    app.settle().await;
    assert!(codes().await.contains(&"B.ADMIN".to_owned()), "started by what was called good automation");
    assert!(IMAGE.ends_with("crunch.exe"));
}

#[tokio::test]
async fn the_shipped_miner_names_stop_where_the_list_says_otherwise() {
    let app = TestApp::new().await;
    app.send(&crate::story::renamed_miner()).await;
    app.settle().await;
    assert_eq!(app.count("select count(*) from evidence where code in ('C.MINERNAME', 'M.OFN_MINER')").await, 2);
    set(&app, None, json!({"ExecutableNamePatterns": ["minerd"]})).await;
    app.settle().await;
    assert_eq!(app.count("select count(*) from evidence where code in ('C.MINERNAME', 'M.OFN_MINER')").await, 0);
    set(&app, None, json!({"ExecutableNamePatterns": null})).await;
    app.settle().await;
    assert_eq!(app.count("select count(*) from evidence where code in ('C.MINERNAME', 'M.OFN_MINER')").await, 2);
}

#[tokio::test]
async fn why_not_is_told_by_the_engine_with_the_nearest_miss_and_its_proof() {
    let app = TestApp::new().await;
    // Load and nothing else: no task, no connection, a quarter of an hour.
    let start = CRUNCH.beginning().swap_remove(1);
    app.send(&[vec![start], CRUNCH.load(0, 30)].concat()).await;
    app.settle().await;
    assert_eq!(app.count("select count(*) from detection").await, 0);
    let why = app.get(Who::Program(Scope::Read), "/api/v1/hosts/srv-7/assessment").await.expect(StatusCode::OK).json();
    assert_eq!((&why["detection"], &why["classes"]["R"]["state"], &why["classes"]["N"]["state"]), (&Value::Null, &json!("met"), &json!("unobservable")));
    for analytic in why["analytics"].as_array().unwrap() {
        assert!(analytic["nearest_miss"].as_str().is_some_and(|m| m.starts_with("for ")), "{analytic}");
    }
    let load = why["evidence"].as_array().unwrap().iter().find(|e| e["code"] == "R.SUSTAINED").unwrap();
    assert!(!load["events"].as_array().unwrap().is_empty(), "the samples that prove it");
}
