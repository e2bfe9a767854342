//! The JSON API against a database: what outsiders post and read, and who may.

use crate::harness::TestApp;
use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode, header},
};
use chrono::{DateTime, TimeDelta, Utc};
use coalface::{
    model::{
        detection::{Content, Severity},
        exceptions::{EntryBody, Subject},
        ids::{DetectionId, HostId},
        permission::Scope,
    },
    store::{allowlist, audit, tokens},
};
use serde_json::{Value, json};
use sqlx::types::Json;
use tower::ServiceExt as _;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).unwrap()
}

struct Site {
    app: TestApp,
    router: Router,
}

impl Site {
    async fn new() -> Self {
        let app = TestApp::at(now()).await;
        Self { router: coalface::http::browser(app.app.clone()), app }
    }

    async fn token(&self, owner: &str, scope: Scope) -> String {
        let mut conn = self.app.db().pool().acquire().await.unwrap();
        let name = format!("{owner} {}", scope.as_str());
        let new = tokens::New { name: &name, scopes: &[scope], owner, host: None, expires_at: now() + TimeDelta::days(90) };
        tokens::create(&mut conn, &new, now()).await.unwrap().unwrap()
    }

    async fn account(&self, name: &str, role: &str, created_by: &str) {
        sqlx::query("insert into account (name, role, password_hash, created_by, created_at) values ($1, $2, '', $3, $4)")
            .bind(name)
            .bind(role)
            .bind(created_by)
            .bind(now() - TimeDelta::days(1))
            .execute(self.app.db().pool())
            .await
            .unwrap();
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, Value) {
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let bytes = axum::body::to_bytes(answer.into_body(), 8 << 20).await.unwrap();
        (status, if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() })
    }

    async fn call(&self, token: &str, method: &str, path: &str, body: impl Into<Option<Value>>) -> (StatusCode, Value) {
        let request = Request::builder().method(method).uri(path).header(header::AUTHORIZATION, format!("Bearer {token}"));
        let body = body.into().map_or_else(Body::empty, |b: Value| Body::from(b.to_string()));
        self.send(request.header(header::CONTENT_TYPE, "application/json").body(body).unwrap()).await
    }

    /// Calls, expects the status, answers the body.
    async fn ok(&self, token: &str, method: &str, path: &str, body: impl Into<Option<Value>>, want: StatusCode) -> Value {
        let (status, answer) = self.call(token, method, path, body).await;
        assert_eq!(status, want, "{method} {path}: {answer}");
        answer
    }

    async fn marks(&self) -> i64 {
        sqlx::query_scalar("select count(*) from (select distinct host_id, bucket from mark) m").fetch_one(self.app.db().pool()).await.unwrap()
    }

    async fn evaluated(&self) {
        sqlx::query("delete from mark").execute(self.app.db().pool()).await.unwrap();
    }

    /// A detection as the worker would store it.
    async fn detection(&self, host: HostId, own: i64, content: &Content) -> DetectionId {
        let score = content.analytics.iter().map(|a| a.score).fold(0.0, f64::max);
        let rank = Severity::ALL.iter().position(|s| *s == content.severity).unwrap();
        sqlx::query(
            "insert into detection (host_id, detection_id, group_key, groups, verdict, severity, severity_rank, score, analytics, title, first_seen,
               last_seen, content, detected_at, updated_at)
             values ($1, $2, 1, '{1}', $3, $4, $5, $6, '{AN1489}', $7, $8, $9, $10, $11, $11)",
        )
        .bind(host.0)
        .bind(own)
        .bind(content.verdict.as_str())
        .bind(content.severity.as_str())
        .bind(i16::try_from(rank).unwrap())
        .bind(score as f32)
        .bind(&content.title)
        .bind(content.first_seen)
        .bind(content.last_seen)
        .bind(Json(content))
        .bind(now())
        .execute(self.app.db().pool())
        .await
        .unwrap();
        DetectionId { host, own }
    }

    async fn audited(&self) -> Vec<String> {
        let mut conn = self.app.db().pool().acquire().await.unwrap();
        assert_eq!(audit::verify(&mut conn, &self.app.app.audit_key).await.unwrap().broken, None);
        sqlx::query_scalar("select action from audit order by seq").fetch_all(&mut *conn).await.unwrap()
    }
}

fn content(changes: &Value) -> Content {
    let evidence = |code: &str, class: &str, points: f64, hard: bool| {
        json!({"code":code,"class":class,"points":points,"hop":1.0,"first_seen":"2026-09-01T10:00:00Z","last_seen":"2026-09-01T12:00:00Z",
               "known_at":"2026-09-01T10:20:00Z","summary":"s","hard":hard,"force":"plain","suppressed_by":null,"process":null,"events":[]})
    };
    let met = json!({"state":"met","score":20.0,"raw_score":20.0});
    let mut whole = json!({
        "title":"svchost.exe runs hot","story":"It does.","verdict":"alert","severity":"high","severity_reasons":["tier 2"],
        "analytics":[{"id":"AN0741","verdict":"none","score":30.0,"raw_score":30.0,"band":null,"first_alert_at":null,"nearest_miss":"needs N"},
                     {"id":"AN1489","verdict":"alert","score":81.5,"raw_score":81.5,"band":"strong","first_alert_at":"2026-09-01T10:20:00Z","nearest_miss":null}],
        "process":{"id":"1-00000000000000aa","guid":null,"pid":4120,"image":"C:\\ProgramData\\x\\svchost.exe","command_line":null,
                   "original_file_name":null,"sha256":"ab".repeat(32),"signer":"Example Corp","user":null,"parent_image":null,
                   "started_at":"2026-09-01T10:00:00Z","ended_at":null},
        "classes":{"R":met,"L":met,"P":met},
        "evidence":[evidence("R.PERSISTENT","R",22.0,false),evidence("L.TASK_SUSP","L",20.0,false),evidence("P.LONG30","P",15.0,false)],
        "destinations":[{"host":"dl.example","ip":"203.0.113.9","port":443,"first_seen":"2026-09-01T10:00:00Z","last_seen":"2026-09-01T12:00:00Z",
                         "bytes":10,"connections":1,"hosts":1,"indicator":null}],
        "persistence":[],"first_seen":"2026-09-01T10:00:00Z","last_seen":"2026-09-01T12:00:00Z","quiet":false
    });
    whole.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    serde_json::from_value(whole).unwrap()
}

fn host_id(host: &Value) -> HostId {
    HostId(host["id"].as_str().unwrap().parse().unwrap())
}

/// The bodies of the acceptance generator, each posted twice.
#[tokio::test]
async fn set_up_bodies_are_taken_once_and_named_when_they_are_there() {
    let site = Site::new().await;
    let admin = site.token("console:setup", Scope::Admin).await;
    let bodies = [
        ("indicators", json!({"list":"DestinationIPList","kind":"domain","category":"pool","value":"Pool.Example.","confidence":"high","source":"scenario"})),
        ("indicators", json!({"list":"DestinationIPList","kind":"cidr","value":"198.51.100.0/24","source":"scenario","port":3333})),
        ("allowlist", json!({"kind":"allow","match":{"sha256":"ab".repeat(32),"image":"C:\\agent\\_work\\*"},"scope":{"tags":["build-agent"]},
                             "covers":["R","L","P","M"],"reason":"agents","expires_at":(now() + TimeDelta::days(80))})),
        ("allowlist", json!({"kind":"allow","match":{"sha256":"cd".repeat(32),"signer":"Example"},"scope":{"hosts":["ws-1"]},"covers":["R"],
                             "reason":"expired long ago","expires_at":"2025-01-01T00:00:00Z"})),
        ("maintenance-windows", json!({"name":"patches","scope":{"hosts":["ws-1"]},"starts_at":"2026-09-01T10:00:00.000Z","ends_at":"2026-09-01T12:00:00Z",
                                       "reason":"monthly","images":["*\\tiworker.exe"]})),
        ("baselines", json!({"image":"C:\\build\\rustc.exe","host_class":"build","cpu_share":60.0,"note":""})),
    ];
    for (path, body) in bodies {
        let path = format!("/api/v1/{path}");
        let made = site.ok(&admin, "POST", &path, body.clone(), StatusCode::CREATED).await;
        let again = site.ok(&admin, "POST", &path, body.clone(), StatusCode::CONFLICT).await;
        assert_eq!(again["id"], made["id"], "{path}");
        assert!(again["request_id"].is_string());
        let one = format!("{path}/{}", made["id"].as_str().unwrap());
        let read = site.ok(&admin, "GET", &one, None, StatusCode::OK).await;
        assert_eq!(read["id"], made["id"]);
        let listed = site.ok(&admin, "GET", &path, None, StatusCode::OK).await;
        assert!(listed["items"].as_array().unwrap().iter().any(|item| item["id"] == made["id"]));
        // Unknown keys are refused by name, on creation and on edits.
        let mut odd = body;
        odd["created_by"] = json!("mallory");
        for (method, target, body) in [("POST", &path, odd), ("PATCH", &one, json!({"created_by":"mallory"}))] {
            let refusal = site.ok(&admin, method, target, body, StatusCode::BAD_REQUEST).await;
            assert!(refusal["detail"].as_str().unwrap().contains("created_by"), "{refusal}");
        }
        let (status, _) = site.call(&admin, "DELETE", &one, None).await;
        assert!(status.is_success());
    }
    let actions = site.audited().await;
    assert_eq!(actions.iter().filter(|a| a.ends_with(".create")).count(), 6);
}

#[tokio::test]
async fn a_host_is_described_before_it_was_ever_seen_and_found_by_any_of_its_names() {
    let site = Site::new().await;
    let admin = site.token("console:setup", Scope::Admin).await;
    let body = json!({"name":"WS-0412.corp.example","tier":3,"class":"workstation","tags":["finance"]});
    let made = site.ok(&admin, "POST", "/api/v1/hosts", body.clone(), StatusCode::CREATED).await;
    assert_eq!((&made["name"], &made["tier"]), (&json!("ws-0412.corp.example"), &json!(3)));
    let again = site.ok(&admin, "POST", "/api/v1/hosts", json!({"name":"ws-0412","role":"payroll"}), StatusCode::OK).await;
    assert_eq!((&again["id"], &again["role"], &again["tier"]), (&made["id"], &json!("payroll"), &json!(3)));
    for name in ["ws-0412", "WS-0412", "WS-0412.CORP.EXAMPLE"] {
        assert_eq!(site.ok(&admin, "GET", &format!("/api/v1/hosts/{name}"), None, StatusCode::OK).await["id"], made["id"]);
    }
    site.ok(&admin, "GET", "/api/v1/hosts/ws-04", None, StatusCode::NOT_FOUND).await;
    site.ok(&admin, "GET", "/api/v1/hosts/ws%00", None, StatusCode::NOT_FOUND).await;
    site.ok(&admin, "POST", "/api/v1/hosts", json!({"name":"x","tier":7}), StatusCode::UNPROCESSABLE_ENTITY).await;
    let edited = site.ok(&admin, "PATCH", "/api/v1/hosts/ws-0412", json!({"role":null,"tags":[]}), StatusCode::OK).await;
    assert_eq!((&edited["role"], &edited["tags"], &edited["tier"]), (&Value::Null, &json!([]), &json!(3)));
    site.ok(&admin, "DELETE", "/api/v1/hosts/ws-0412", None, StatusCode::NO_CONTENT).await;
    assert_eq!(site.ok(&admin, "GET", "/api/v1/hosts/ws-0412", None, StatusCode::OK).await["tier"], Value::Null);
}

#[tokio::test]
async fn hard_evidence_is_covered_by_two_people_only() {
    let site = Site::new().await;
    site.account("kim", "lead", "system").await;
    site.account("lee", "admin", "kim").await;
    site.account("sam", "analyst", "kim").await;
    let kim = site.token("kim", Scope::Admin).await;
    let body = json!({"kind":"exercise","match":{"sha256":"ab".repeat(32),"image":"C:\\x.exe","destination":"pool.example"},"scope":{"hosts":["ws-1"]},
                      "covers":["R","C","N","C.MINERFLAG","N.IOC"],"reason":"drill","valid_from":"2026-09-01T09:00:00Z","expires_at":"2026-09-01T14:00:00Z"});
    let made = site.ok(&kim, "POST", "/api/v1/allowlist", body, StatusCode::CREATED).await;
    assert_eq!((&made["state"], &made["approvals_needed"], &made["single_handed"]), (&json!("proposed"), &json!(2), &json!(false)));
    let approve = format!("/api/v1/allowlist/{}/approve", made["id"].as_str().unwrap());
    let mut conn = site.app.db().pool().acquire().await.unwrap();
    assert!(allowlist::in_force(&mut conn, now()).await.unwrap().is_empty());
    // The author, another token of the author, an analyst, an account the author made yesterday.
    let refusal = site.ok(&kim, "POST", &approve, json!({}), StatusCode::UNPROCESSABLE_ENTITY).await;
    assert!(refusal["detail"].as_str().unwrap().contains("another"));
    let sam = site.token("sam", Scope::Admin).await;
    site.ok(&sam, "POST", &approve, json!({}), StatusCode::FORBIDDEN).await;
    let lee = site.token("lee", Scope::Admin).await;
    site.ok(&lee, "POST", &approve, json!({}), StatusCode::UNPROCESSABLE_ENTITY).await;
    let console = site.token("console:approver", Scope::Admin).await;
    let active = site.ok(&console, "POST", &approve, json!({}), StatusCode::OK).await;
    assert_eq!((&active["state"], &active["self_approved"]), (&json!("active"), &json!(false)));
    let entries = allowlist::in_force(&mut conn, now()).await.unwrap();
    assert_eq!(entries.len(), 1);
    assert!(entries[0].body.matches(&Subject {
        sha256: Some(&"AB".repeat(32)),
        image: Some(r"c:\x.exe"),
        destinations: &["eu.pool.example"],
        ..Subject::default()
    }));
    // An edit voids what was approved; only ending it sooner does not.
    let one = format!("/api/v1/allowlist/{}", made["id"].as_str().unwrap());
    let sooner = site.ok(&kim, "PATCH", &one, json!({"expires_at":"2026-09-01T13:00:00Z","version":1}), StatusCode::OK).await;
    assert_eq!((&sooner["state"], &sooner["version"]), (&json!("active"), &json!(2)));
    site.ok(&kim, "PATCH", &one, json!({"reason":"x","version":1}), StatusCode::CONFLICT).await;
    let wider = site.ok(&kim, "PATCH", &one, json!({"covers":["R","C.WALLET"]}), StatusCode::OK).await;
    assert_eq!(wider["state"], json!("proposed"));
    assert!(allowlist::in_force(&mut conn, now()).await.unwrap().is_empty());
    site.audited().await;
}

#[tokio::test]
async fn a_site_with_one_lead_waits_a_day() {
    let site = Site::new().await;
    site.account("kim", "admin", "system").await;
    let kim = site.token("kim", Scope::Admin).await;
    let body = json!({"match":{"sha256":"ab".repeat(32),"image":"x.exe"},"scope":{"hosts":["ws-1"]},"covers":["C.MINERFLAG"],"reason":"lab"});
    let made = site.ok(&kim, "POST", "/api/v1/allowlist", body.clone(), StatusCode::CREATED).await;
    assert_eq!((&made["state"], &made["single_handed"]), (&json!("proposed"), &json!(true)));
    let mut conn = site.app.db().pool().acquire().await.unwrap();
    assert!(allowlist::in_force(&mut conn, now() + TimeDelta::hours(23)).await.unwrap().is_empty());
    assert_eq!(allowlist::in_force(&mut conn, now() + TimeDelta::hours(24)).await.unwrap().len(), 1);
    let system = audit::Actor::new("system", site.app.app.audit_key.clone());
    assert_eq!(allowlist::ripen(&mut conn, &system, now() + TimeDelta::hours(24)).await.unwrap(), 1);
    // Revoked, it counts no more, and the same may be made again.
    let one = format!("/api/v1/allowlist/{}", made["label"].as_str().unwrap());
    assert_eq!(site.ok(&kim, "DELETE", &one, None, StatusCode::OK).await["state"], json!("revoked"));
    assert!(allowlist::in_force(&mut conn, now() + TimeDelta::hours(48)).await.unwrap().is_empty());
    site.ok(&kim, "POST", "/api/v1/allowlist", body, StatusCode::CREATED).await;
    // Wide and long ones need a lead, who may be the author; that is said.
    let wide = json!({"match":{"sha256":"ab".repeat(32),"image":"x.exe"},"scope":{"everywhere":true},"covers":["R"],"reason":"ours"});
    let wide = site.ok(&kim, "POST", "/api/v1/allowlist", wide, StatusCode::CREATED).await;
    assert_eq!((&wide["state"], &wide["self_approved"]), (&json!("active"), &json!(true)));
}

#[tokio::test]
async fn detections_are_listed_changed_and_guarded_against_each_other() {
    let site = Site::new().await;
    site.account("sam", "analyst", "system").await;
    let admin = site.token("console:setup", Scope::Admin).await;
    let triage = site.token("console:triage", Scope::Triage).await;
    let host = host_id(&site.ok(&admin, "POST", "/api/v1/hosts", json!({"name":"srv-1.corp.example","tier":2}), StatusCode::CREATED).await);
    for (own, changes) in [
        (1, json!({})),
        (2, json!({"severity":"critical"})),
        (3, json!({"severity":"critical","title":"C:\\odd\\name"})),
        (4, json!({"verdict":"candidate","severity":"info"})),
        (-5, json!({"verdict":"suppressed","severity":"info"})),
    ] {
        site.detection(host, own, &content(&changes)).await;
    }
    let ids = |page: &Value| page["items"].as_array().unwrap().iter().map(|d| d["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let id = |own: i64| DetectionId { host, own }.to_string();
    let queue = site.ok(&triage, "GET", "/api/v1/detections", None, StatusCode::OK).await;
    assert_eq!(ids(&queue), [id(2), id(3), id(1)]);
    assert_eq!(queue["items"][0]["host"]["name"], json!("srv-1.corp.example"));
    assert!(queue["items"][0]["evidence"][0]["code"].is_string());
    for (query, want) in [
        ("verdict=candidate", vec![id(4)]),
        ("verdict=suppressed", vec![id(-5)]),
        ("verdict=all", vec![id(2), id(3), id(1), id(-5), id(4)]),
        ("host=SRV-1&severity=high", vec![id(1)]),
        ("q=c:%5Codd%5C", vec![id(3)]),
        ("since=2026-09-01T12:00:01Z", vec![]),
        ("until=2026-09-01T10:00:00Z", vec![]),
        ("analytic=AN0741", vec![]),
        ("status=closed", vec![]),
        ("host=other", vec![]),
    ] {
        assert_eq!(ids(&site.ok(&triage, "GET", &format!("/api/v1/detections?{query}"), None, StatusCode::OK).await), want, "{query}");
    }
    for query in ["verdict=alarm", "limit=x", "cursor=abc", "colour=red", "since=yesterday"] {
        site.ok(&triage, "GET", &format!("/api/v1/detections?{query}"), None, StatusCode::BAD_REQUEST).await;
    }
    // One by one, the pages hold each detection once.
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = site.ok(&triage, "GET", &format!("/api/v1/detections?verdict=all&limit=1&cursor={cursor}"), None, StatusCode::OK).await;
        seen.extend(ids(&page));
        match page["next_cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    assert_eq!(seen, [id(2), id(3), id(1), id(-5), id(4)]);

    let one = format!("/api/v1/detections/{}", id(1));
    site.evaluated().await;
    site.ok(&triage, "PATCH", &one, json!({"status":"closed"}), StatusCode::UNPROCESSABLE_ENTITY).await;
    site.ok(&triage, "PATCH", &one, json!({"status":"done"}), StatusCode::BAD_REQUEST).await;
    site.ok(&triage, "PATCH", &one, json!({"assignee":"nobody"}), StatusCode::UNPROCESSABLE_ENTITY).await;
    let closed = json!({"status":"closed","disposition":"true_positive","assignee":"sam","note":"isolated","version":1});
    let after = site.ok(&triage, "PATCH", &one, closed.clone(), StatusCode::OK).await;
    assert_eq!((&after["version"], &after["status"], &after["assignee"]), (&json!(2), &json!("closed"), &json!("sam")));
    assert_eq!(site.marks().await, 1, "what follows a decision is judged again");
    site.ok(&triage, "PATCH", &one, closed, StatusCode::CONFLICT).await;
    let request = |tag: &str| {
        Request::patch(&one)
            .header(header::AUTHORIZATION, format!("Bearer {triage}"))
            .header(header::IF_MATCH, tag)
            .body(Body::from(r#"{"note":"again"}"#))
            .unwrap()
    };
    assert_eq!(site.send(request("\"1\"")).await.0, StatusCode::PRECONDITION_FAILED);
    assert_eq!(site.send(request("\"2\"")).await.0, StatusCode::OK);
    let reopened = site.ok(&triage, "PATCH", &one, json!({"status":"new"}), StatusCode::OK).await;
    assert_eq!((&reopened["disposition"], &reopened["version"]), (&Value::Null, &json!(4)));
    let journal: Vec<String> = sqlx::query_scalar("select action from detection_journal order by entry_id").fetch_all(site.app.db().pool()).await.unwrap();
    assert_eq!(journal, ["closed", "disposition", "assigned", "note", "note", "reopened"]);
    assert_eq!(site.audited().await.iter().filter(|a| *a == "detection.change").count(), 3);
    for bad in ["17", "x-1", &format!("{}-00", host.0), &id(99)] {
        site.ok(&triage, "GET", &format!("/api/v1/detections/{bad}"), None, StatusCode::NOT_FOUND).await;
    }
}

#[tokio::test]
async fn a_preview_counts_what_an_entry_would_hide_and_an_entry_marks_it() {
    let site = Site::new().await;
    let admin = site.token("console:setup", Scope::Admin).await;
    let host = host_id(&site.ok(&admin, "POST", "/api/v1/hosts", json!({"name":"srv-1","tags":["build"]}), StatusCode::CREATED).await);
    let other = host_id(&site.ok(&admin, "POST", "/api/v1/hosts", json!({"name":"srv-2"}), StatusCode::CREATED).await);
    let id = site.detection(host, 1, &content(&json!({}))).await;
    site.detection(other, 1, &content(&json!({}))).await;
    site.detection(host, 2, &content(&json!({"verdict":"candidate"}))).await;
    site.evaluated().await;
    let body = |covers: Value, scope: Value| json!({"match":{"signer":"example corp","image":"svchost.exe"},"scope":scope,"covers":covers,"reason":"ours"});
    let build = json!({"tags":["build"]});
    let preview = |covers: Value, scope: Value| {
        let (site, admin) = (&site, &admin);
        async move { site.ok(admin, "POST", "/api/v1/allowlist/preview", body(covers, scope), StatusCode::OK).await }
    };
    let seen = preview(json!(["R"]), build.clone()).await;
    assert_eq!((&seen["would_hide"], &seen["hosts"], &seen["dispositions"]["open"]), (&json!(1), &json!(["srv-1"]), &json!(1)));
    assert_eq!(preview(json!(["M"]), build.clone()).await["would_hide"], json!(0));
    assert_eq!(preview(json!(["R"]), json!({"everywhere":true})).await["would_hide"], json!(2));
    assert_eq!(site.marks().await, 0, "a preview changes nothing");
    let patch = json!({"status":"closed","disposition":"true_positive"});
    site.ok(&admin, "PATCH", &format!("/api/v1/detections/{id}"), patch, StatusCode::OK).await;
    assert_eq!(preview(json!(["R"]), build.clone()).await["true_positives"], json!([id.to_string()]));
    site.evaluated().await;
    // What hides a confirmed hijack waits for somebody else.
    let entry = site.ok(&admin, "POST", "/api/v1/allowlist", body(json!(["R"]), build.clone()), StatusCode::CREATED).await;
    assert_eq!((&entry["state"], site.marks().await), (&json!("proposed"), 0));
    let harmless = site.ok(&admin, "POST", "/api/v1/allowlist", body(json!(["M"]), build), StatusCode::CREATED).await;
    assert_eq!((&harmless["state"], site.marks().await), (&json!("active"), 2), "where the two detections of srv-1 begin and end");
}

#[tokio::test]
async fn an_indicator_marks_who_met_it() {
    let site = Site::new().await;
    let admin = site.token("console:setup", Scope::Admin).await;
    sqlx::raw_sql(
        "insert into flow (host_id, started_at, flow_id, remote_ip, remote_host, destination, external, event_at, event_id) values
           (1, '2026-09-01T10:01:00Z', 1, '203.0.113.9', 'eu.pool.example', 'eu.pool.example', true, '2026-09-01T10:01:00Z', gen_random_uuid()),
           (2, '2026-09-01T10:01:00Z', 1, '203.0.113.9', 'notpool.example', 'notpool.example', true, '2026-09-01T10:01:00Z', gen_random_uuid());
         insert into dns_query (host_id, occurred_at, event_id, segment_id, ordinal, time_quality, query, addresses) values
           (3, '2026-09-01T11:01:00Z', gen_random_uuid(), 0, 0, 0, 'POOL.example', '{198.51.100.7}')",
    )
    .execute(site.app.db().pool())
    .await
    .unwrap();
    let post = |kind: &str, value: &str| json!({"list":"DestinationIPList","kind":kind,"value":value,"source":"test"});
    for (kind, value, want) in [("domain", "pool.example", vec![1i64, 3]), ("cidr", "203.0.113.0/24", vec![1, 2]), ("ip", "198.51.100.7", vec![3]), ("ip", "192.0.2.1", vec![])] {
        site.evaluated().await;
        site.ok(&admin, "POST", "/api/v1/indicators", post(kind, value), StatusCode::CREATED).await;
        let hosts: Vec<i64> = sqlx::query_scalar("select distinct host_id from mark order by 1").fetch_all(site.app.db().pool()).await.unwrap();
        assert_eq!(hosts, want, "{value}");
    }
    let list = site.ok(&admin, "GET", "/api/v1/destinations?since=2026-09-01T00:00:00Z&until=2026-09-02T00:00:00Z", None, StatusCode::OK).await;
    assert_eq!((&list["items"][0]["destination"], &list["items"][0]["indicator"]), (&json!("eu.pool.example"), &json!("pool")));
}

#[tokio::test]
async fn status_coverage_assessment_and_trees_answer() {
    let site = Site::new().await;
    let admin = site.token("console:setup", Scope::Admin).await;
    let read = site.token("console:read", Scope::Read).await;
    let host = host_id(&site.ok(&admin, "POST", "/api/v1/hosts", json!({"name":"srv-1"}), StatusCode::CREATED).await);
    let status = site.ok(&read, "GET", "/api/v1/status", None, StatusCode::OK).await;
    assert_eq!((&status["worker"]["pending"], &status["worker"]["last_pass_at"]), (&json!(0), &Value::Null));
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "insert into mark values ({0}, '2026-09-01T10:00:00Z', 1, now()), ({0}, '2026-09-01T10:00:00Z', 2, now());
         update host set first_seen = '2026-08-01T00:00:00Z', last_seen = '2026-09-21T14:00:00Z' where host_id = {0};
         insert into host_bucket values ({0}, '2026-09-21T14:00:00Z', 9, 4, 1, 50, 2, 2, 2, 2, 0, 0, 0, 0, 0);
         insert into process (host_id, process_id, started_at, last_sign, start_observed, group_key, parent_process_id, image) values
           ({0}, 1, '2026-09-01T10:00:00Z', '2026-09-01T10:00:00Z', true, 1, null, 'a.exe'),
           ({0}, 2, '2026-09-01T10:01:00Z', '2026-09-01T10:01:00Z', true, 1, 1, 'b.exe'),
           ({0}, 3, '2026-09-01T10:02:00Z', '2026-09-01T10:02:00Z', true, 1, 2, 'c.exe'),
           ({0}, 4, '2026-09-01T10:03:00Z', '2026-09-01T10:03:00Z', true, 1, 3, 'd.exe')",
        host.0
    )))
    .execute(site.app.db().pool())
    .await
    .unwrap();
    let status = site.ok(&read, "GET", "/api/v1/status", None, StatusCode::OK).await;
    assert_eq!(status["worker"]["pending"], json!(1), "two marks of one bucket are one piece of work");
    let coverage = site.ok(&read, "GET", "/api/v1/coverage", None, StatusCode::OK).await;
    let classes = &coverage["items"][0]["classes"];
    assert_eq!((&classes["R"]["state"], &classes["L"]["state"], &classes["N"]["state"]), (&json!("healthy"), &json!("healthy"), &json!("absent")));
    let assessment = site.ok(&read, "GET", "/api/v1/hosts/srv-1/assessment", None, StatusCode::OK).await;
    assert_eq!((&assessment["verdict"], &assessment["classes"]["N"]["state"]), (&json!("none"), &json!("unobservable")));
    assert!(assessment["analytics"][0]["nearest_miss"].as_str().unwrap().contains("needs R, C and N"));
    let id = site.detection(host, 1, &content(&json!({}))).await;
    let assessment = site.ok(&read, "GET", "/api/v1/hosts/srv-1/assessment", None, StatusCode::OK).await;
    assert_eq!((&assessment["verdict"], &assessment["detection"]), (&json!("alert"), &json!(id.to_string())));
    let tree = site.ok(&read, "GET", &format!("/api/v1/processes/{}-0000000000000003/tree", host.0), None, StatusCode::OK).await;
    let images = |list: &Value| list.as_array().unwrap().iter().map(|n| n["image"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!((images(&tree["ancestors"]), images(&tree["descendants"])), (vec!["b.exe".to_owned(), "a.exe".to_owned()], vec!["d.exe".to_owned()]));
}

#[tokio::test]
async fn every_route_wants_its_scope() {
    let site = Site::new().await;
    let mut tokens = Vec::new();
    for (_, name) in Scope::ALL {
        let scope: Scope = name.parse().unwrap();
        tokens.push((scope, site.token("console:x", scope).await));
    }
    let api = || coalface::http::TABLES.iter().flat_map(|t| t.iter()).filter(|r| r.path.starts_with("/api/v1/"));
    for route in api() {
        let coalface::http::auth::Needs::May(permission) = route.needs else { panic!("{}: nobody is asked", route.path) };
        let path = route.path.replace("{id}", "0").replace("{name}", "nobody");
        let method = route.method.to_uppercase();
        assert_eq!(site.call("cf_junk", &method, &path, None).await.0, StatusCode::UNAUTHORIZED);
        for (scope, token) in &tokens {
            let (status, _) = site.call(token, &method, &path, None).await;
            let refused = status == StatusCode::FORBIDDEN;
            assert_eq!(refused, !scope.may(permission), "{method} {path} with {}: {status}", scope.as_str());
            assert!(!status.is_server_error(), "{method} {path}: {status}");
        }
    }
    assert!(api().count() > 30);
}

/// What a browser gets: status, where it is sent, and the page.
struct Seen {
    status: StatusCode,
    to: Option<String>,
    page: scraper::Html,
}

impl Seen {
    fn texts(&self, selector: &str) -> Vec<String> {
        let selector = scraper::Selector::parse(selector).unwrap();
        self.page.select(&selector).map(|e| e.text().collect::<Vec<_>>().join(" ").split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    fn value(&self, name: &str) -> Option<String> {
        let selector = scraper::Selector::parse(&format!("[name={name}]")).unwrap();
        self.page.select(&selector).next().and_then(|e| e.value().attr("value")).map(str::to_owned)
    }
}

/// A signed-in browser.
struct Browser<'a> {
    site: &'a Site,
    cookie: String,
}

impl Browser<'_> {
    async fn go(&self, method: &str, path: &str, form: &[(&str, &str)]) -> Seen {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::COOKIE, format!("cf_session={}", self.cookie))
            .header("sec-fetch-site", "same-origin")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let answer = self.site.router.clone().oneshot(request.body(Body::from(encoded(form))).unwrap()).await.unwrap();
        let status = answer.status();
        let to = answer.headers().get(header::LOCATION).map(|v| v.to_str().unwrap().to_owned());
        let bytes = axum::body::to_bytes(answer.into_body(), 8 << 20).await.unwrap();
        Seen { status, to, page: scraper::Html::parse_document(std::str::from_utf8(&bytes).unwrap()) }
    }
}

/// A form as browsers send it.
fn encoded(form: &[(&str, &str)]) -> String {
    form.iter().fold(form_urlencoded::Serializer::new(String::new()), |mut out, (name, value)| {
        out.append_pair(name, value);
        out
    }).finish()
}

impl Site {
    async fn browser(&self, name: &str) -> Browser<'_> {
        let mut conn = self.app.db().pool().acquire().await.unwrap();
        let id: i64 = sqlx::query_scalar("select account_id from account where name = $1").bind(name).fetch_one(&mut *conn).await.unwrap();
        let cookie = coalface::store::sessions::begin(&mut conn, id, None, now()).await.unwrap();
        Browser { site: self, cookie }
    }
}

#[tokio::test]
async fn an_entry_is_written_from_a_detection_previewed_stored_approved_and_ended_without_a_script() {
    let site = Site::new().await;
    let admin = site.token("console:setup", Scope::Admin).await;
    for (name, role) in [("kim", "lead"), ("lee", "admin"), ("sam", "analyst"), ("vic", "viewer")] {
        site.account(name, role, "system").await;
    }
    let host = host_id(&site.ok(&admin, "POST", "/api/v1/hosts", json!({"name":"srv-1"}), StatusCode::CREATED).await);
    let id = site.detection(host, 1, &content(&json!({"title":"<b>hot</b>"}))).await;
    let (kim, lee, sam, vic) = (site.browser("kim").await, site.browser("lee").await, site.browser("sam").await, site.browser("vic").await);

    let form = sam.go("GET", &format!("/allowlist/new?detection={id}"), &[]).await;
    assert_eq!((form.status, form.value("sha256"), form.value("scope_value")), (StatusCode::OK, Some("ab".repeat(32)), Some("srv-1".to_owned())));
    assert_eq!(vic.go("GET", "/allowlist/new", &[]).await.status, StatusCode::FORBIDDEN);
    assert!(vic.go("GET", "/allowlist", &[]).await.texts("form[action='/allowlist'], a.button").is_empty());

    let csrf = form.value("csrf").unwrap();
    let sha256 = "ab".repeat(32);
    let typed = [("csrf", csrf.as_str()), ("sha256", &sha256), ("signer", "Example Corp"), ("scope", "hosts"), ("scope_value", "srv-1"), ("covers", "R"), ("reason", "ours")];
    let with = |more: &[(&'static str, &'static str)]| typed.iter().copied().chain(more.iter().copied()).collect::<Vec<(&str, &str)>>();
    let preview = sam.go("POST", "/allowlist", &with(&[("action", "preview")])).await;
    assert_eq!(preview.texts(".preview h2"), ["Would have hidden 1 on 1 host"]);
    assert_eq!(preview.texts(".preview td a"), ["<b>hot</b>"], "text of events stays text");
    assert_eq!(preview.value("signer").as_deref(), Some("Example Corp"), "the form as typed");
    // Wrong input comes back with what is wrong; a form of another session does nothing.
    let wrong = sam.go("POST", "/allowlist", &with(&[("expires_on", "tomorrow")])).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(wrong.texts("#fault")[0].starts_with("expires_on"));
    assert_eq!(kim.go("POST", "/allowlist", &typed).await.status, StatusCode::FORBIDDEN);

    let made = sam.go("POST", "/allowlist", &with(&[("more_codes", "C.MINERFLAG"), ("action", "create")])).await;
    assert_eq!((made.status, made.to.as_deref()), (StatusCode::SEE_OTHER, Some("/allowlist")));
    for (browser, want) in [(&kim, "waiting (1 of 2)"), (&lee, "active")] {
        let list = browser.go("GET", "/allowlist?show=waiting", &[]).await;
        let csrf = list.value("csrf").unwrap();
        let entry: i64 = sqlx::query_scalar("select max(entry_id) from allowlist_entry").fetch_one(site.app.db().pool()).await.unwrap();
        assert_eq!(browser.go("POST", &format!("/allowlist/{entry}/approve"), &[("csrf", &csrf)]).await.status, StatusCode::SEE_OTHER);
        let states = browser.go("GET", "/allowlist", &[]).await.texts("tbody td:nth-of-type(1)");
        assert_eq!(states, [want]);
        // An analyst may not end it; a lead may, and what it covered stays covered.
        if want == "active" {
            let path = format!("/allowlist/{entry}/expire");
            assert_eq!(sam.go("POST", &path, &typed[..1]).await.status, StatusCode::FORBIDDEN);
            assert_eq!(lee.go("POST", &path, &[("csrf", &csrf), ("version", "1")]).await.status, StatusCode::SEE_OTHER);
        }
    }
    assert_eq!(kim.go("GET", "/allowlist?show=all", &[]).await.texts("tbody td:nth-of-type(1)"), ["expired"]);
    let mut conn = site.app.db().pool().acquire().await.unwrap();
    assert_eq!(allowlist::in_force(&mut conn, now()).await.unwrap().len(), 1);
    site.audited().await;
}

#[tokio::test]
async fn the_description_names_every_route_its_scope_and_no_other() {
    let site = Site::new().await;
    let read = site.token("console:read", Scope::Read).await;
    let document = site.ok(&read, "GET", "/api/v1/openapi.json", None, StatusCode::OK).await;
    let mut described = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            described.push((method.clone(), path.clone(), operation["security"][0]["token"][0].as_str().unwrap().to_owned()));
        }
    }
    let mut routes = Vec::new();
    for route in coalface::http::TABLES.iter().flat_map(|t| t.iter()).filter(|r| r.path.starts_with("/api/v1/")) {
        let coalface::http::auth::Needs::May(permission) = route.needs else { panic!("{}: nobody is asked", route.path) };
        let scope = [Scope::Read, Scope::Triage, Scope::Admin].into_iter().find(|s| s.may(permission)).unwrap();
        routes.push((route.method.to_owned(), route.path.to_owned(), scope.as_str().to_owned()));
    }
    described.sort();
    routes.sort();
    assert_eq!(described, routes);
    // Every schema that is named is there.
    let text = document.to_string();
    for name in text.split("#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
}

/// A body as a whole is what makes two entries equal.
#[test]
fn a_body_reads_as_it_was_written() {
    let body: EntryBody = serde_json::from_value(json!({"match":{"sha256":"x","signer":"y"},"scope":{"hosts":["A"]},"covers":["R"],"reason":"r"})).unwrap();
    let again: EntryBody = serde_json::from_value(serde_json::to_value(&body).unwrap()).unwrap();
    assert_eq!(body, again);
}
