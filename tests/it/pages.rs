//! Pages as a browser gets them: who may see what, what a decision does, what hostile text becomes.

mod admin;
mod fixture;
mod triage;
mod hunting;

use crate::harness::{TestApp, Who};
use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use coalface::{
    http::{TABLES, auth::Needs},
    model::permission::Role,
};
use fixture::{Fleet, HOSTILE, fleet};
use scraper::{Html, Selector};
use sqlx::Row;

const ANALYST: Who = Who::Person(Role::Analyst);
const VIEWER: Who = Who::Person(Role::Viewer);

async fn with_fleet() -> (TestApp, Fleet) {
    let app = TestApp::new().await;
    let mut db = app.db().superuser().await;
    let fleet = fleet(&mut db, app.now()).await;
    (app, fleet)
}

fn texts(html: &Html, selector: &str) -> Vec<String> {
    let selector = Selector::parse(selector).unwrap();
    html.select(&selector).map(|e| e.text().collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// The same with a blank between the cells of a row.
fn spaced(html: &Html, selector: &str) -> Vec<String> {
    let selector = Selector::parse(selector).unwrap();
    html.select(&selector).map(|e| e.text().flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")).collect()
}

fn attribute(html: &Html, selector: &str, name: &str) -> String {
    let selector = Selector::parse(selector).unwrap();
    html.select(&selector).next().and_then(|e| e.attr(name)).unwrap_or_default().to_owned()
}

/// Further pages that show something of the fixture's fleet; an administrator may see them all.
const WITH_CONTENT: &[&str] = &["/admin", "/admin/sources", "/admin/sources/new", "/admin/quarantine", "/admin/tokens", "/admin/users", "/admin/audit", "/coverage", "/coverage?blind=AN0741",
    "/baselines", "/maintenance-windows", "/maintenance-windows?show=past", "/indicators", "/rules", "/rules?q=wallet", "/metrics-report", "/hunt", "/hunt?q=event:process_start&since=30d"];

/// Every page with content, for the tests that walk them.
fn pages(fleet: &Fleet) -> Vec<String> {
    let (miner, event) = (fleet.miner, fleet.event);
    vec![
        "/".to_owned(),
        "/?verdict=candidate".to_owned(),
        "/?q=nothing+like+this".to_owned(),
        format!("/detections/{miner}"),
        format!("/detections/{miner}/events"),
        format!("/detections/{miner}/events/{event}"),
        format!("/events/{event}"),
        format!("/detections/{miner}/report"),
        "/?group=image".to_owned(),
        format!("/processes/{}", fleet.process),
        "/hosts".to_owned(),
        "/hosts/WS-0412".to_owned(),
        "/destinations".to_owned(),
        "/help/keys".to_owned(),
        "/account/password".to_owned(),
    ]
    .into_iter()
    .chain(WITH_CONTENT.iter().map(|path| (*path).to_owned()))
    .collect()
}

#[tokio::test]
async fn the_queue_is_worst_first_and_its_views_hold_the_rest() {
    let (app, _) = with_fleet().await;
    let page = app.get(ANALYST, "/").await.expect(StatusCode::OK);
    let titles = texts(&page.html(), "a.title");
    assert_eq!(
        titles,
        [
            "Renamed miner launched by scheduled task",
            "Flat CPU and obfuscated PowerShell",
            "Known pool contacted before any load",
            "Busy build agent with a rare destination"
        ]
    );
    for (path, title) in [
        ("/?verdict=candidate", "Compiler at full load"),
        ("/?verdict=suppressed", "Load test on the build agent"),
        ("/?status=closed", "Miner from last month"),
        ("/?severity=medium&q=monero", "Known pool contacted before any load"),
        ("/?host=srv-07&severity=high,critical", "Flat CPU and obfuscated PowerShell"),
    ] {
        assert_eq!(texts(&app.get(ANALYST, path).await.html(), "a.title"), [title], "{path}");
    }
    let none = app.get(ANALYST, "/?host=srv-07&severity=critical").await.expect(StatusCode::OK);
    assert_eq!(texts(&none.html(), ".empty li"), ["Without host srv-07: 1", "Without severity critical: 2"]);
    app.get(ANALYST, "/?severity=huge").await.expect(StatusCode::BAD_REQUEST);
    app.get(ANALYST, "/?cursor=huge").await.expect(StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn paging_shows_every_detection_once() {
    let (app, fleet) = with_fleet().await;
    fixture::crowd(&mut app.db().superuser().await, &fleet, 70).await;
    let (mut path, mut seen) = ("/?limit=25".to_owned(), Vec::new());
    loop {
        let html = app.get(ANALYST, &path).await.expect(StatusCode::OK).html();
        seen.extend(texts(&html, "a.title"));
        path = attribute(&html, "a[rel=next]", "href");
        if path.is_empty() {
            break;
        }
    }
    assert_eq!(seen.len(), 74);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 74);
}

#[tokio::test]
async fn before_the_first_event_the_queue_says_how_to_begin() {
    let app = TestApp::new().await;
    let page = app.get(ANALYST, "/").await.expect(StatusCode::OK);
    assert_eq!(texts(&page.html(), ".card h2"), ["Add a data source", "Import files", "Look around first"]);
}

#[tokio::test]
async fn marks_that_wait_too_long_are_said_on_every_page() {
    let (app, _) = with_fleet().await;
    let late = app.now() - chrono::TimeDelta::minutes(4);
    sqlx::query("insert into mark values (1, $1, 1, $1)").bind(late).execute(app.db().pool()).await.unwrap();
    for path in ["/", "/hosts"] {
        let banner = texts(&app.get(ANALYST, path).await.html(), ".banner");
        assert!(banner[0].starts_with("Evaluation is 4 min behind: 1 host buckets"), "{banner:?}");
    }
}

#[tokio::test]
async fn a_detection_shows_its_evidence_beside_what_could_explain_it() {
    let (app, fleet) = with_fleet().await;
    let html = app.get(ANALYST, &format!("/detections/{}", fleet.miner)).await.expect(StatusCode::OK).html();
    let evidence = texts(&html, ".evidence li");
    assert!(evidence.iter().any(|e| e.contains("96 % of the CPU for 362 min, threshold 30 % R.PERSISTENT")), "{evidence:?}");
    // every proof leads to an event of the page
    for link in html.select(&Selector::parse(".evidence a.proof").unwrap()) {
        let anchor = link.attr("href").unwrap().trim_start_matches('#').to_owned();
        assert!(!texts(&html, &format!("li[id='{anchor}']")).is_empty(), "{anchor}");
    }
    assert_eq!(texts(&html, ".class h3 small:not(.n)")[4], "no coverage: no source with durations sent anything on this host");
    assert!(texts(&html, "section:has(#explain) dd").contains(&"8 % for svchost.exe on workstation".to_owned()));
    assert_eq!(texts(&html, ".tree .logical > .tag"), ["scheduled task"]);
    assert_eq!(texts(&html, ".chain a"), ["services.exe", "svchost.exe", "svchost.exe"]);
    let no_data = texts(&html, ".lane td").iter().filter(|t| *t == "no data").count();
    assert!(no_data >= 12, "an hour without telemetry is not zero: {no_data}");
}

#[tokio::test]
async fn a_decision_closes_records_and_goes_on_to_the_next() {
    let (app, fleet) = with_fleet().await;
    let path = format!("/detections/{}", fleet.miner);
    let form = |version, disposition, note| [("version", version), ("disposition", disposition), ("note", note)];
    app.post_form(VIEWER, &path, &form("1", "true_positive", "x")).await.expect(StatusCode::FORBIDDEN);

    let refused = app.post_form(ANALYST, &path, &form("1", "undetermined", "")).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    assert!(texts(&refused.html(), ".fault")[0].starts_with("note: say what was looked at"));

    let done = app.post_form(ANALYST, &path, &form("1", "true_positive", "wallet <b>seen</b>")).await.expect(StatusCode::SEE_OTHER);
    assert!(done.header("location").starts_with("/detections/"), "{}", done.header("location"));
    assert_ne!(done.header("location"), path);
    let page = app.get(ANALYST, &path).await.html();
    assert!(texts(&page, ".badges .tag").contains(&"True positive".to_owned()));
    let activity = texts(&page, ".activity li").join(" ");
    assert!(activity.contains("closed") && activity.contains("wallet <b>seen</b>"), "{activity}");
    let rows = sqlx::query("select actor from audit where action = 'detection.change'").fetch_all(app.db().pool()).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].get::<String, _>(0), "analyst");

    // the other tab still has version 1
    let stale = app.post_form(Who::Other(Role::Lead), &path, &form("1", "benign_positive", "mine")).await.expect(StatusCode::CONFLICT);
    let row = &texts(&stale.html(), "tr.differs")[..];
    assert!(row.contains(&"DispositionTrue positiveBenign positive".to_owned()), "{row:?}");
    assert_eq!(attribute(&stale.html(), "input[name=note]", "value"), "mine");
    let version = attribute(&stale.html(), "input[name=version]", "value");
    app.post_form(Who::Other(Role::Lead), &path, &form(&version, "benign_positive", "mine")).await.expect(StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn who_may_not_decide_sees_no_buttons() {
    let (app, fleet) = with_fleet().await;
    for (role, buttons) in [(Role::Viewer, 0), (Role::Auditor, 0), (Role::Analyst, 1), (Role::Lead, 1), (Role::Admin, 1)] {
        let html = app.get(Who::Person(role), &format!("/detections/{}", fleet.miner)).await.expect(StatusCode::OK).html();
        assert_eq!(texts(&html, "form.bar").len(), buttons, "{role:?}");
        let raw = html.select(&Selector::parse(".cited a").unwrap()).count();
        assert_eq!(raw > 0, role != Role::Viewer, "{role:?}");
    }
}

#[tokio::test]
async fn every_route_of_the_table_asks_for_its_right() {
    let (app, fleet) = with_fleet().await;
    for route in TABLES.iter().flat_map(|table| table.iter()) {
        let path = route
            .path
            .replace("{event}", &fleet.event.to_string())
            .replace("/detections/{id}", &format!("/detections/{}", fleet.miner))
            .replace("/processes/{id}", &format!("/processes/{}", fleet.process))
            .replace("{name}", "ws-0412")
            .replace("{digest}", "00000000-0000-0000-0000-000000000000")
            .replace("{id}", "1");
        let method: Method = route.method.to_uppercase().parse().unwrap();
        let ask = || Request::builder().method(method.clone()).uri(&path).header(header::ORIGIN, "http://localhost").header(header::HOST, "localhost");
        let stranger = app.browser(ask().body(Body::empty()).unwrap()).await.status;
        let expected = match route.needs {
            Needs::Nothing => {
                // an empty sign-in is refused as one with a wrong password
                let refused = stranger == StatusCode::FORBIDDEN || stranger == StatusCode::UNAUTHORIZED && path != "/login";
                assert!(!refused, "{} {path}: {stranger}", route.method);
                continue;
            }
            _ if path.starts_with("/api/") => StatusCode::UNAUTHORIZED,
            _ => StatusCode::SEE_OTHER,
        };
        assert_eq!(stranger, expected, "{} {path}", route.method);
        let Needs::May(permission) = route.needs else { continue };
        if path.starts_with("/api/") {
            continue;
        }
        for (role, _) in Role::ALL.into_iter().filter(|(role, _)| !role.may(permission)) {
            let request = app.request(Who::Person(role), method.clone(), &path).await.body(Body::empty()).unwrap();
            assert_eq!(app.browser(request).await.status, StatusCode::FORBIDDEN, "{role:?} {} {path}", route.method);
        }
    }
}

#[tokio::test]
async fn answers_carry_the_policy_and_nothing_inline() {
    let (app, fleet) = with_fleet().await;
    let mut paths = pages(&fleet);
    paths.push("/nothing/here".to_owned());
    for path in paths {
        let answer = app.get(Who::Person(Role::Admin), &path).await;
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{path}: {policy}");
        assert!(policy.ends_with("require-trusted-types-for 'script'; trusted-types default"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "same-origin");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("x-request-id").len(), 16);
        let html = answer.html();
        for script in html.select(&Selector::parse("script").unwrap()) {
            assert!(script.attr("src").is_some_and(|s| s.starts_with("/static/")) && script.text().next().is_none(), "{path}");
        }
        for element in html.select(&Selector::parse("body *").unwrap()) {
            for (name, value) in element.value().attrs() {
                assert!(name != "style" && !name.starts_with("on"), "{path}: {name}");
                assert!(!value.trim_start().to_lowercase().starts_with("javascript:"), "{path}: {value}");
            }
        }
        assert_eq!(texts(&html, "h1").len(), 1, "{path}");
        assert_eq!(texts(&html, "main").len(), 1, "{path}");
    }
}

#[tokio::test]
async fn every_link_of_a_page_leads_somewhere() {
    let (app, fleet) = with_fleet().await;
    let mut links = std::collections::BTreeSet::new();
    for path in pages(&fleet) {
        let html = app.get(Who::Person(Role::Admin), &path).await.expect(StatusCode::OK).html();
        for link in html.select(&Selector::parse("a[href^='/']").unwrap()) {
            links.insert(link.attr("href").unwrap().to_owned());
        }
    }
    assert!(links.len() > 15, "{links:?}");
    // the fleet has processes of one host only; the API wants a token
    for link in links.iter().filter(|l| !l.starts_with("/api/") && !l.starts_with("/processes/")) {
        assert_eq!(app.get(Who::Person(Role::Admin), link).await.status, StatusCode::OK, "{link}");
    }
}

/// A connection prepares a question once: the type of a score must not depend on whether it is a whole number.
#[tokio::test]
async fn a_detection_opens_whether_its_score_is_whole_or_not() {
    let (app, fleet) = with_fleet().await;
    let path = format!("/detections/{}", fleet.miner);
    for score in [88.5f32, 88.0, 87.5, 87.0] {
        let id = fleet.miner;
        sqlx::query("update detection set score = $3 where host_id = $1 and detection_id = $2")
            .bind(id.host.0)
            .bind(id.own)
            .bind(score)
            .execute(app.db().pool())
            .await
            .unwrap();
        for _ in 0..5 {
            app.get(Who::Person(Role::Admin), &path).await.expect(StatusCode::OK);
        }
    }
}

#[tokio::test]
async fn hostile_text_is_shown_as_what_it_is() {
    let (app, fleet) = with_fleet().await;
    let mut shown = 0;
    for path in pages(&fleet) {
        let answer = app.get(Who::Person(Role::Admin), &path).await.expect(StatusCode::OK);
        for hidden in ['\u{202e}', '\u{200b}', '\0'] {
            assert!(!answer.text().contains(hidden), "{path}");
        }
        assert_eq!(answer.html().select(&Selector::parse("main script").unwrap()).count(), 0, "{path}");
        shown += usize::from(answer.text().contains("\\u{202e}"));
    }
    assert!(HOSTILE.contains("<script>") && shown >= 4, "it must be on some pages: {shown}");
}

#[tokio::test]
async fn pages_stay_within_their_budgets() {
    let (app, fleet) = with_fleet().await;
    fixture::crowd(&mut app.db().superuser().await, &fleet, 70).await;
    for (path, bytes, elements) in [("/".to_owned(), 60_000, 2_500), (format!("/detections/{}", fleet.miner), 90_000, 3_000)] {
        let answer = app.get(ANALYST, &path).await.expect(StatusCode::OK);
        let count = answer.html().select(&Selector::parse("*").unwrap()).count();
        assert!(answer.body.len() <= bytes && count <= elements, "{path}: {} bytes, {count} elements", answer.body.len());
    }
}

#[tokio::test]
async fn writes_need_the_origin_and_the_hidden_token() {
    let (app, fleet) = with_fleet().await;
    let path = format!("/detections/{}", fleet.miner);
    let body = "version=1&disposition=true_positive";
    for origin in [None, Some("http://evil.example"), Some("http://localhost")] {
        let mut request = app.request(ANALYST, Method::POST, &path).await;
        let headers = request.headers_mut().unwrap();
        headers.remove(header::ORIGIN);
        headers.remove("sec-fetch-site");
        headers.insert(header::HOST, "localhost".parse().unwrap());
        headers.insert(header::CONTENT_TYPE, "application/x-www-form-urlencoded".parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        app.browser(request.body(Body::from(body)).unwrap()).await.expect(StatusCode::FORBIDDEN);
    }
    let open: i64 = sqlx::query_scalar("select count(*) from detection where status = 'new' and detection_id = 1").fetch_one(app.db().pool()).await.unwrap();
    assert_eq!(open, 1);
}

#[tokio::test]
async fn raw_events_are_those_of_the_detection() {
    let (app, fleet) = with_fleet().await;
    let page = app.get(ANALYST, &format!("/events/{}", fleet.event)).await.expect(StatusCode::OK);
    assert_eq!(texts(&page.html(), "h2")[0].split(' ').take(2).collect::<Vec<_>>(), ["process", "start"]);
    assert!(page.text().contains("&#34;event_id&#34;: 1") || page.text().contains("&quot;event_id&quot;: 1"), "{}", page.text());
    let other = fleet.event.to_string().replace("00000001", "000000ff");
    app.get(ANALYST, &format!("/detections/{}/events/{other}", fleet.miner)).await.expect(StatusCode::NOT_FOUND);
    app.get(ANALYST, &format!("/events/{other}")).await.expect(StatusCode::NOT_FOUND);
    app.get(VIEWER, &format!("/events/{}", fleet.event)).await.expect(StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn signing_in_is_throttled_and_a_session_ends_for_good() {
    let app = TestApp::new().await;
    let mut db = app.db().superuser().await;
    let hash = coalface::store::accounts::hash("walnut river seven".to_owned()).await.unwrap();
    let password = coalface::store::accounts::Password { hash, one_time: true };
    coalface::store::accounts::create(&mut db, "kim", Role::Analyst, &password, "test", app.now()).await.unwrap();
    let post = |path: &'static str, body: String, cookie: String| {
        Request::post(path)
            .header(header::ORIGIN, "http://localhost")
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::COOKIE, cookie)
            .body(Body::from(body))
            .unwrap()
    };
    let sign_in = |password: &str| post("/login", format!("name=Kim&password={password}&next=%2F%2Fevil.example"), String::new());
    for _ in 0..2 {
        app.browser(sign_in("wrong")).await.expect(StatusCode::UNAUTHORIZED);
    }
    let welcome = app.browser(sign_in("walnut+river+seven")).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(welcome.header("location"), "/account/password");
    let cookie = welcome.header("set-cookie").split(';').next().unwrap().to_owned();
    assert!(welcome.header("set-cookie").contains("HttpOnly; SameSite=Lax"));
    let get = |path: &'static str| Request::get(path).header(header::COOKIE, &cookie).body(Body::empty()).unwrap();

    // only the set-password page opens, and the one-time password is used up
    assert_eq!(app.browser(get("/")).await.expect(StatusCode::SEE_OTHER).header("location"), "/account/password");
    app.browser(sign_in("walnut+river+seven")).await.expect(StatusCode::UNAUTHORIZED);
    let page = app.browser(get("/account/password")).await.expect(StatusCode::OK).html();
    let csrf = attribute(&page, "main input[name=csrf]", "value");
    let short = post("/account/password", format!("csrf={csrf}&password=short&again=short"), cookie.clone());
    app.browser(short).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    let set = format!("csrf={csrf}&password=copper+lantern+nine&again=copper+lantern+nine");
    let renewed = app.browser(post("/account/password", set, cookie.clone())).await.expect(StatusCode::SEE_OTHER);
    let fresh = renewed.headers.get_all("set-cookie").iter().map(|v| v.to_str().unwrap()).find(|v| v.starts_with("cf_session")).unwrap();
    let fresh = fresh.split(';').next().unwrap().to_owned();
    app.browser(get("/")).await.expect(StatusCode::SEE_OTHER);
    let mine = |path: &'static str| Request::get(path).header(header::COOKIE, &fresh).body(Body::empty()).unwrap();
    let page = app.browser(mine("/")).await.expect(StatusCode::OK).html();

    let csrf = attribute(&page, "form[action='/logout'] input[name=csrf]", "value");
    let out = app.browser(post("/logout", format!("csrf={csrf}"), fresh.clone())).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(out.header("location"), "/login");
    app.browser(mine("/")).await.expect(StatusCode::SEE_OTHER);

    for _ in 0..6 {
        app.browser(sign_in("wrong")).await;
    }
    app.browser(sign_in("copper+lantern+nine")).await.expect(StatusCode::TOO_MANY_REQUESTS);
    let verified = coalface::store::audit::verify(&mut db, &app.app.audit_key).await.unwrap();
    assert_eq!((verified.broken, verified.rows > 3), (None, true));
    sqlx::query("update audit set actor = 'nobody' where seq = 2").execute(&mut db).await.unwrap();
    let broken = coalface::store::audit::verify(&mut db, &app.app.audit_key).await.unwrap().broken;
    assert_eq!(broken, Some((2, "its seal does not match its content")));
}

#[test]
fn templates_hold_nothing_the_policy_or_htmx_would_trip_over() {
    let forbidden = regex::Regex::new(
        r#"(?i)hx-on|js:|hx-vars|hx-trigger="[^"]*\[|\sstyle=|\son[a-z]+=|<script(?:>| [^s])|javascript:|\|\s*safe|morph:\{|hx-boost"#,
    )
    .unwrap();
    let mut files = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/templates"))];
    let mut read = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        read += 1;
        for (n, line) in text.lines().enumerate() {
            if let Some(found) = forbidden.find(line) {
                panic!("{}:{}: `{}` is not allowed in templates", path.display(), n + 1, found.as_str());
            }
            for attribute in line.split("hx-").skip(1).filter_map(|rest| rest.split_once('"')).filter_map(|(_, rest)| rest.split('"').next()) {
                assert!(!attribute.contains("|event"), "{}:{}: event text inside an hx-* attribute", path.display(), n + 1);
            }
        }
    }
    assert!(read >= 12, "{read}");
}
