//! Admin pages: adding a data source, quarantine and its second try, tokens, accounts, the audit log.

use super::{VIEWER, attribute, spaced as texts};
use crate::harness::{TestApp, Who};
use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use chrono::TimeDelta;
use coalface::{
    model::permission::{Role, Scope},
    store::{accounts, audit, sessions},
};
use serde_json::json;
use sqlx::Row;

const ADMIN: Who = Who::Person(Role::Admin);
const AUDITOR: Who = Who::Person(Role::Auditor);

fn secret(page: &scraper::Html) -> String {
    texts(page, ".secret code").join("")
}

async fn post(app: &TestApp, token: &str, body: &str) -> StatusCode {
    let request = Request::post("/api/v1/events").header(header::AUTHORIZATION, format!("Bearer {token}")).body(Body::from(body.to_owned())).unwrap();
    app.ingest(request).await.status
}

fn start(host: &str, pid: u32) -> String {
    json!({"kind": "process_start", "occurred_at": "2026-03-02T09:59:30Z", "host": {"name": host}, "process": {"pid": pid, "image": "C:\\a.exe", "command_line": "a.exe"}}).to_string()
}

#[tokio::test]
async fn a_data_source_is_added_and_seen_to_arrive() {
    let app = TestApp::new().await;
    app.get(Who::Person(Role::Lead), "/admin/sources").await.expect(StatusCode::FORBIDDEN);
    let empty = app.get(ADMIN, "/admin/sources").await.expect(StatusCode::OK);
    assert_eq!(texts(&empty.html(), ".empty h2"), ["No data source yet"]);
    let form = app.get(ADMIN, "/admin/sources/new?product=fluent-bit").await.expect(StatusCode::OK).html();
    assert_eq!(attribute(&form, "input[name=product][checked]", "value"), "fluent-bit");

    let fields = [("product", "fluent-bit"), ("name", "edge"), ("zone", "+02:00"), ("days", "30")];
    for (name, value, said) in [("name", "a b", "name: 1 to 64"), ("days", "400", "days: 1 to 365"), ("zone", "Berlin", "zone: an offset")] {
        let wrong: Vec<_> = fields.iter().map(|(n, v)| (*n, if *n == name { value } else { v })).collect();
        let refused = app.post_form(ADMIN, "/admin/sources/new", &wrong).await.expect(StatusCode::UNPROCESSABLE_ENTITY).html();
        assert!(texts(&refused, ".fault")[0].starts_with(said), "{:?}", texts(&refused, ".fault"));
        assert_eq!(attribute(&refused, "input[name=product][checked]", "value"), "fluent-bit", "what was typed stays");
    }
    let made = app.post_form(ADMIN, "/admin/sources/new", &fields).await.expect(StatusCode::CREATED);
    let token = secret(&made.html());
    assert!(token.starts_with("cf_i"), "{token}");
    let text = texts(&made.html(), ".paste code").join("");
    assert!(text.contains(&format!("Authorization Bearer {token}")) && text.contains("Host coalface.example"), "{text}");
    assert_eq!(attribute(&made.html(), "#arrived", "hx-get"), "/admin/sources/edge");
    let again = app.post_form(ADMIN, "/admin/sources/new", &fields).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    assert!(texts(&again.html(), ".fault")[0].contains("exists already"));

    // the panel waits, then tells what came and what of it is read
    let panel = async || {
        let request = app.request(ADMIN, axum::http::Method::GET, "/admin/sources/edge").await.header("hx-request", "true");
        let answer = app.browser(request.body(Body::empty()).unwrap()).await.expect(StatusCode::OK);
        assert!(!answer.text().contains("<html"), "a fragment");
        answer.html()
    };
    assert_eq!(texts(&panel().await, "h2"), ["Waiting for the first event …"]);
    assert_eq!(attribute(&panel().await, "#arrived", "hx-trigger"), "every 3s");
    let other = json!({"@timestamp": "2026-03-02T09:59:00Z", "host": {"name": "ws-1"}, "event": {"provider": "<b>Kernel</b>\u{202e}", "code": "7"}});
    assert_eq!(post(&app, &token, &format!("{}\n{}\n{other}\nnot a record\n", start("ws-1", 1), start("ws-2", 2))).await, StatusCode::OK);
    let html = panel().await;
    assert_eq!(attribute(&html, "#arrived", "hx-trigger"), "", "it stops asking");
    let facts = texts(&html, ".received dd").join(" | ");
    assert!(facts.contains("3 records") && facts.contains("30 s from event to arrival") && facts.contains("1 bad json") && facts.contains("ws-1 , ws-2"), "{facts}");
    let read = texts(&html, "table.plain tr");
    assert!(read.contains(&"process start 2 66 % C L M".to_owned()) && read.contains(&"<b>Kernel</b>\\u{202e} 7 1".to_owned()), "{read:?}");
    assert!(texts(&html, ".lines li").iter().any(|l| l.starts_with("CPU of processes")), "{:?}", texts(&html, ".lines li"));

    let list = app.get(ADMIN, "/admin/sources").await.expect(StatusCode::OK).html();
    let row = texts(&list, "tbody tr").join("");
    assert!(row.starts_with("edge native receiving") && row.contains("bad json 1") && row.contains("33 %"), "{row}");
    app.get(ADMIN, "/admin/sources/nobody").await.expect(StatusCode::NOT_FOUND);
    let binding: Option<i32> = sqlx::query_scalar("select utc_offset_minutes from api_token where name = 'edge'").fetch_one(app.db().pool()).await.unwrap();
    assert_eq!(binding, Some(120));
}

#[tokio::test]
async fn quarantined_records_are_read_downloaded_and_tried_again() {
    let app = TestApp::new().await;
    let token = app.token(Scope::Ingest).await;
    let nameless = json!({"kind": "process_start", "occurred_at": "2026-03-02T09:59:30Z", "process": {"pid": 9, "image": "C:\\<script>\u{202e}.exe"}}).to_string();
    assert_eq!(post(&app, &token, &format!("{nameless}\nbroken <b>{{\n")).await, StatusCode::OK);
    let page = app.get(ADMIN, "/admin/quarantine").await.expect(StatusCode::OK);
    let rows = texts(&page.html(), "tr[data-row]");
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert!(!page.text().contains('\u{202e}') && page.html().select(&scraper::Selector::parse("main script").unwrap()).count() == 0);
    let only = app.get(ADMIN, "/admin/quarantine?reason=no_host").await.html();
    let href = attribute(&only, "tr[data-row] a.title", "href");
    let one = app.get(ADMIN, &href).await.expect(StatusCode::OK);
    assert!(texts(&one.html(), "dd")[0].contains("no host name"));
    let file = app.get(ADMIN, &format!("{href}/raw")).await.expect(StatusCode::OK);
    assert_eq!((file.text(), file.header("content-type")), (nameless.as_str(), "application/octet-stream"));
    assert!(file.header("content-disposition").starts_with("attachment; ") && file.header("content-security-policy").ends_with("sandbox"));
    for who in [VIEWER, AUDITOR, Who::Person(Role::Lead)] {
        app.get(who, &format!("{href}/raw")).await.expect(StatusCode::FORBIDDEN);
    }

    // without a fix nothing changes; with a default host the record becomes an event, the broken one stays
    let again = async || app.post_form(ADMIN, "/admin/quarantine/replay", &[]).await.expect(StatusCode::SEE_OTHER);
    again().await;
    assert_eq!(app.count("select count(*) from quarantine").await, 2);
    sqlx::query("update api_token set default_host = 'ws-7'").execute(app.db().pool()).await.unwrap();
    again().await;
    assert_eq!(app.count("select count(*) from quarantine").await, 1);
    assert_eq!(app.count("select count(*) from process_start join host using (host_id) where name = 'ws-7'").await, 1);
    assert_eq!(app.count("select count(*) from mark").await, 1, "the worker is told");
    let done: serde_json::Value =
        sqlx::query_scalar("select after from audit where action = 'quarantine.replay' order by seq desc limit 1").fetch_one(app.db().pool()).await.unwrap();
    assert_eq!((&done["tried"], &done["stored"]), (&json!(2), &json!(1)));
    // what is sent again after that is a duplicate
    assert_eq!(post(&app, &token, &nameless).await, StatusCode::OK);
    assert_eq!(app.count("select count(*) from process_start").await, 1);
}

#[tokio::test]
async fn tokens_are_shown_once_and_end_at_once() {
    let app = TestApp::new().await;
    let path = "/admin/tokens";
    app.post_form(ADMIN, path, &[("name", "export")]).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    app.post_form(Who::Person(Role::Lead), path, &[("name", "export"), ("scope", "read")]).await.expect(StatusCode::FORBIDDEN);
    let made = app.post_form(ADMIN, path, &[("name", "export"), ("scope", "read"), ("scope", "metrics"), ("days", "10")]).await.expect(StatusCode::CREATED);
    let token = secret(&made.html());
    let list = app.get(ADMIN, path).await.expect(StatusCode::OK);
    assert!(!list.text().contains(&token) && texts(&list.html(), "tbody tr")[0].contains("read metrics admin"), "{:?}", texts(&list.html(), "tbody tr"));
    let ask = || Request::get("/api/v1/status").header(header::AUTHORIZATION, format!("Bearer {token}")).body(Body::empty()).unwrap();
    app.browser(ask()).await.expect(StatusCode::OK);
    app.post_form(ADMIN, "/admin/tokens/export/revoke", &[]).await.expect(StatusCode::SEE_OTHER);
    app.browser(ask()).await.expect(StatusCode::UNAUTHORIZED);
    let deeds: Vec<String> = sqlx::query("select action from audit order by seq").fetch_all(app.db().pool()).await.unwrap().iter().map(|r| r.get(0)).collect();
    assert_eq!(deeds, ["token.create", "token.revoke"]);
    assert_eq!(app.count("select count(*) from audit where after::text like '%cf_%'").await, 0, "never the text");
}

#[tokio::test]
async fn accounts_are_made_changed_and_ended() {
    let app = TestApp::new().await;
    let path = "/admin/users";
    let made = app.post_form(ADMIN, path, &[("name", "Kim"), ("role", "analyst")]).await.expect(StatusCode::CREATED);
    let password = secret(&made.html());
    app.post_form(ADMIN, path, &[("name", "kim"), ("role", "lead")]).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    app.post_form(ADMIN, path, &[("name", "lee"), ("role", "king")]).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    let mut db = app.db().pool().acquire().await.unwrap();
    let accounts::SignIn::Welcome(kim) = accounts::sign_in(&mut db, "kim", password, "192.0.2.1", app.now()).await.unwrap() else { panic!("the one-time password") };
    assert!(kim.must_set_password);
    let act = async |act: &'static str| app.post_form(ADMIN, "/admin/users/kim", &[("act", act), ("role", "lead")]).await;

    let session = sessions::begin(&mut db, kim.account_id, None, app.now()).await.unwrap();
    act("role").await.expect(StatusCode::SEE_OTHER);
    assert!(sessions::find(&mut db, &session, app.now()).await.unwrap().is_none(), "a new role is a new session");
    assert_eq!(accounts::find(&mut db, "kim").await.unwrap().unwrap().role, Role::Lead);
    act("disable").await.expect(StatusCode::SEE_OTHER);
    assert!(accounts::find(&mut db, "kim").await.unwrap().unwrap().disabled_at.is_some());
    act("enable").await.expect(StatusCode::SEE_OTHER);
    assert!(secret(&act("password").await.expect(StatusCode::CREATED).html()).len() > 15);
    act("crown").await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    // nobody locks themselves out
    app.post_form(ADMIN, "/admin/users/admin", &[("act", "disable")]).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    app.post_form(ADMIN, "/admin/users/nobody", &[("act", "disable")]).await.expect(StatusCode::NOT_FOUND);
    app.post_form(AUDITOR, "/admin/users/kim", &[("act", "disable")]).await.expect(StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_password_given_long_ago_is_asked_for_again() {
    let app = TestApp::new().await;
    app.get(ADMIN, "/admin").await.expect(StatusCode::OK);
    let hash = accounts::hash("walnut river seven".to_owned()).await.unwrap();
    let long_ago = app.now() - TimeDelta::minutes(16);
    sqlx::query("update session set reauthenticated_at = $1").bind(long_ago).execute(app.db().pool()).await.unwrap();
    sqlx::query("update account set password_hash = $1").bind(hash).execute(app.db().pool()).await.unwrap();
    for (path, fields) in [
        ("/admin/tokens", vec![("name", "x"), ("scope", "read")]),
        ("/admin/users", vec![("name", "x"), ("role", "viewer")]),
        ("/admin/sources/new", vec![("name", "x"), ("product", "curl")]),
    ] {
        let form = app.get(ADMIN, path).await.expect(StatusCode::OK).html();
        assert!(!texts(&form, "form.stack label:has(input[name=password])").is_empty(), "{path}");
        let refused = app.post_form(ADMIN, path, &fields).await.expect(StatusCode::UNPROCESSABLE_ENTITY).html();
        assert!(texts(&refused, ".fault")[0].starts_with("your password"), "{path}");
        let wrong: Vec<_> = fields.iter().copied().chain([("password", "not this one at all")]).collect();
        app.post_form(ADMIN, path, &wrong).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    }
    app.post_form(ADMIN, "/admin/tokens", &[("name", "x"), ("scope", "read"), ("password", "walnut river seven")]).await.expect(StatusCode::CREATED);
    // for a quarter of an hour it counts
    app.post_form(ADMIN, "/admin/users", &[("name", "x"), ("role", "viewer")]).await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn the_audit_log_is_filtered_verified_and_exported() {
    let app = TestApp::new().await;
    let mut db = app.db().superuser().await;
    let actor = audit::Actor::new("=kim", app.app.audit_key.clone());
    for n in 0..105 {
        let object = format!("thing-{n}");
        let deed = audit::Deed { action: if n % 2 == 0 { "token.create" } else { "host.describe" }, object: &object, before: None, after: Some(json!({"n": n})) };
        audit::append(&mut db, &actor, deed, app.now()).await.unwrap();
    }
    app.get(Who::Person(Role::Lead), "/admin/audit").await.expect(StatusCode::FORBIDDEN);
    let page = app.get(AUDITOR, "/admin/audit").await.expect(StatusCode::OK).html();
    assert_eq!(texts(&page, "tr[data-row]").len(), 100);
    let next = attribute(&page, "a[rel=next]", "href");
    assert_eq!(texts(&app.get(AUDITOR, &next).await.html(), "tr[data-row]").len(), 5);
    let some = app.get(AUDITOR, "/admin/audit?action=token&object=THING-10&since=1h").await.html();
    assert_eq!(texts(&some, "tr[data-row] td.what").iter().map(|t| t.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>(), ["thing-104", "thing-102", "thing-100", "thing-10"]);
    app.get(AUDITOR, "/admin/audit?since=soon").await.expect(StatusCode::BAD_REQUEST);
    assert_eq!(texts(&page, "a[href='/admin/tokens']").len(), 0, "an auditor sees no page it may not open");

    let csv = app.get(AUDITOR, "/admin/audit/export?action=token.create").await.expect(StatusCode::OK);
    assert!(csv.header("content-type").starts_with("text/csv"));
    assert_eq!(csv.text().lines().count(), 54);
    assert!(csv.text().contains("\"'=kim\""), "no formula");
    let jsonl = app.get(AUDITOR, "/admin/audit/export?format=jsonl&object=thing-104").await;
    assert_eq!(serde_json::from_str::<serde_json::Value>(jsonl.text().trim()).unwrap()["after"]["n"], 104);

    let whole = app.post_form(AUDITOR, "/admin/audit/verify", &[]).await.expect(StatusCode::OK).html();
    assert!(texts(&whole, ".whole")[0].starts_with("The chain is whole : 107 rows"), "{:?}", texts(&whole, ".whole"));
    sqlx::query("update audit set object = 'other' where seq = 7").execute(&mut db).await.unwrap();
    let broken = app.post_form(AUDITOR, "/admin/audit/verify", &[]).await.expect(StatusCode::OK).html();
    assert!(texts(&broken, ".fault")[0].starts_with("Broken at row 7"), "{:?}", texts(&broken, ".fault"));
}
