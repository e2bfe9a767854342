//! The queue and what is decided on it: addresses, order, groups, many at once, undo, snooze, saved views, news.

use super::{ANALYST, VIEWER, attribute, fixture, texts, with_fleet};
use crate::harness::{TestApp, Who};
use axum::http::{Method, StatusCode};
use chrono::TimeDelta;
use coalface::model::permission::Role;
use http_body_util::BodyExt as _;
use scraper::Selector;

const LEAD: Who = Who::Person(Role::Lead);

async fn titles(app: &TestApp, path: &str) -> Vec<String> {
    texts(&app.get(ANALYST, path).await.expect(StatusCode::OK).html(), "a.title")
}

/// What a form with every row of a page ticked would send.
async fn ticked(app: &TestApp, path: &str) -> Vec<String> {
    let html = app.get(ANALYST, path).await.html();
    html.select(&Selector::parse("input[name=id]").unwrap()).map(|e| e.attr("value").unwrap().to_owned()).collect()
}

#[tokio::test]
async fn equal_views_have_one_address_and_unknown_fields_are_named() {
    let (app, _) = with_fleet().await;
    let sent = app
        .get(ANALYST, "/?q=&severity=high&severity=critical&status=&host=srv-07")
        .await
        .expect(StatusCode::SEE_OTHER);
    assert_eq!(sent.header("location"), "/?host=srv-07&severity=high,critical");
    assert_eq!(titles(&app, "/?host=srv-07&severity=high,critical").await, ["Flat CPU and obfuscated PowerShell"]);
    for (q, expected) in [
        (r"image:*%5Csvchost.exe", "Renamed miner launched by scheduled task"),
        ("destination:pool.mining+image:k.exe", "Known pool contacted before any load"),
        ("command:powershell*+-host:build-*", "Flat CPU and obfuscated PowerShell"),
        ("tag:finance", "Renamed miner launched by scheduled task"),
        (
            "48edfHu7V9Z84YzzMa6fUueoELZ9ZRXq9VetWzYGzKt52XU5xvqgzYnDK9URnRoJMk1j8nLwEVsaSWJ4fhdUyZijBGUicoD",
            "Renamed miner launched by scheduled task",
        ),
    ] {
        assert_eq!(titles(&app, &format!("/?q={q}")).await, [expected], "{q}");
    }
    let refused = app.get(ANALYST, "/?q=colour:red").await.expect(StatusCode::BAD_REQUEST);
    assert!(refused.text().contains("no field `colour`"), "{}", refused.text());
    for path in ["/?sort=colour", "/?group=colour", "/?cursor=W10", "/?sort=host&cursor=W1tdLDEsMV0"] {
        app.get(ANALYST, path).await.expect(StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn every_column_sorts_both_ways_and_pages_once() {
    let (app, fleet) = with_fleet().await;
    fixture::crowd(&mut app.db().superuser().await, &fleet, 40).await;
    let mut orders = std::collections::BTreeSet::new();
    for sort in ["severity", "score", "title", "host", "first", "last", "found", "owner"] {
        for way in ["", "-"] {
            let (mut path, mut seen) = (format!("/?sort={way}{sort}&limit=25"), Vec::new());
            if way == "-" && sort == "severity" {
                path = "/?limit=25".to_owned();
            }
            loop {
                let html = app.get(ANALYST, &path).await.expect(StatusCode::OK).html();
                seen.extend(texts(&html, "a.title"));
                path = attribute(&html, ".pager a[rel=next]", "href");
                if path.is_empty() {
                    break;
                }
            }
            let mut once = seen.clone();
            once.sort();
            once.dedup();
            assert_eq!((seen.len(), once.len()), (44, 44), "{way}{sort}");
            orders.insert(seen);
        }
    }
    assert!(orders.len() >= 10, "the orders differ: {}", orders.len());
    assert_eq!(titles(&app, "/?sort=title&limit=25").await[0], "Busy build agent with a rare destination");
}

#[tokio::test]
async fn a_page_of_the_queue_is_read_from_its_index() {
    let (app, _) = with_fleet().await;
    let mut db = app.db().superuser().await;
    sqlx::query("set enable_seqscan = off").execute(&mut db).await.unwrap();
    sqlx::query("set enable_sort = off").execute(&mut db).await.unwrap();
    let plan: Vec<String> = sqlx::query_scalar(
        "explain select d.title from detection d join host h using (host_id)
         where d.status <> 'closed' and d.status = any(array['new', 'in_progress']) and d.verdict = any(array['alert'])
           and (d.severity_rank, d.score, d.last_seen) <= (4::smallint, 90::real, now())
         order by d.severity_rank desc, d.score desc, d.last_seen desc, d.host_id, d.detection_id limit 51",
    )
    .fetch_all(&mut db)
    .await
    .unwrap();
    let plan = plan.join("\n");
    assert!(
        plan.contains("Index Scan using detection_severity_rank_score_last_seen") && !plan.contains("Sort"),
        "{plan}"
    );
    assert!(plan.contains("Index Cond: (ROW(severity_rank, score, last_seen) <="), "{plan}");
}

#[tokio::test]
async fn groups_say_how_earlier_ones_were_decided_and_open_as_filters() {
    let (app, _) = with_fleet().await;
    let html = app.get(ANALYST, "/?group=host").await.expect(StatusCode::OK).html();
    assert_eq!(texts(&html, "a.title"), ["ws-0412.corp.example", "srv-07.corp.example", "build-03.corp.example"]);
    assert_eq!(texts(&html, "td[data-label='Decided before']"), ["never", "1 true positive", "never"]);
    let narrower = attribute(&html, "tr:nth-child(2) a.title", "href");
    assert_eq!(
        titles(&app, &narrower).await,
        ["Flat CPU and obfuscated PowerShell", "Known pool contacted before any load"]
    );
    let by_hash = app.get(ANALYST, "/?group=image").await.expect(StatusCode::OK).html();
    assert_eq!(texts(&by_hash, "a.title"), ["svchost.exe 5f0e1c1bb1c2…"]);
    assert_eq!(
        titles(&app, &attribute(&by_hash, "a.title", "href")).await,
        ["Renamed miner launched by scheduled task"]
    );
}

#[tokio::test]
async fn many_are_closed_at_once_but_for_what_somebody_changed_and_taken_back() {
    let (app, fleet) = with_fleet().await;
    fixture::crowd(&mut app.db().superuser().await, &fleet, 30).await;
    let rows = ticked(&app, "/?q=title:many").await;
    assert_eq!(rows.len(), 30);
    let mine = format!("/detections/{}", rows[0].split('.').next().unwrap());
    app.post_form(LEAD, &mine, &[("version", "1"), ("act", "assign")]).await.expect(StatusCode::SEE_OTHER);
    let form = |act: &'static str| {
        let mut form: Vec<(&str, &str)> = rows.iter().map(|id| ("id", id.as_str())).collect();
        form.extend([("act", act), ("query", "q=title:many"), ("note", "a build, seen before")]);
        form
    };
    app.post_form(VIEWER, "/bulk", &form("close")).await.expect(StatusCode::FORBIDDEN);
    app.post_form(ANALYST, "/bulk", &form("close")).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    let mut closing = form("close");
    closing.push(("disposition", "benign_positive"));
    let done = app.post_form(ANALYST, "/bulk", &closing).await.expect(StatusCode::OK).html();
    assert_eq!(texts(&done, "h1"), ["29 closed: benign positive. 1 skipped:"]);
    assert_eq!(texts(&done, ".lines li .muted"), ["changed by somebody meanwhile"]);
    assert_eq!(
        app.count(
            "select count(*) from detection where disposition = 'benign_positive' and note = 'a build, seen before'"
        )
        .await,
        29
    );
    assert_eq!(app.count("select count(*) from audit where action = 'detection.change'").await, 30);

    let number = app.count("select max(undo_id) from triage_undo").await.to_string();
    let undo = [("undo", number.as_str()), ("next", "/")];
    // not the one who decided
    app.post_form(LEAD, "/undo", &undo).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(app.count("select count(*) from detection where disposition = 'benign_positive'").await, 29);
    app.post_form(
        LEAD,
        &format!("/detections/{}", rows[1].split('.').next().unwrap()),
        &[("version", "2"), ("act", "note"), ("note", "mine")],
    )
    .await
    .expect(StatusCode::SEE_OTHER);
    app.post_form(ANALYST, "/undo", &undo).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(
        app.count("select count(*) from detection where status = 'new' and note is null and title like 'One of many%'")
            .await,
        28
    );
    assert_eq!(app.count("select count(*) from detection where note = 'mine' and status = 'closed'").await, 1);
    assert_eq!(app.count("select count(*) from triage_undo where undo_id = (select max(undo_id) from triage_undo where actor = 'analyst')").await, 0);
}

#[tokio::test]
async fn all_that_match_are_counted_before_anything_changes() {
    let (app, fleet) = with_fleet().await;
    fixture::crowd(&mut app.db().superuser().await, &fleet, 60).await;
    let form = [
        ("all", "on"),
        ("query", "q=title:many"),
        ("act", "close"),
        ("disposition", "false_positive_data"),
        ("note", "clock was wrong"),
    ];
    let asks = app.post_form(ANALYST, "/bulk", &form).await.expect(StatusCode::OK).html();
    assert_eq!(texts(&asks, "h1"), ["60 detections match"]);
    assert_eq!(
        app.count("select count(*) from detection where status = 'closed' and disposition = 'false_positive_data'")
            .await,
        0
    );
    let confirmed = attribute(&asks, "input[name=confirmed]", "value");
    let form: Vec<_> = form.into_iter().chain([("confirmed", confirmed.as_str())]).collect();
    let done = app.post_form(ANALYST, "/bulk", &form).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(done.header("location"), "/?q=title:many");
    assert_eq!(
        app.count("select count(*) from detection where status = 'closed' and disposition = 'false_positive_data'")
            .await,
        60
    );
}

#[tokio::test]
async fn a_snoozed_detection_is_out_of_sight_until_its_time() {
    let (app, fleet) = with_fleet().await;
    let path = format!("/detections/{}", fleet.miner);
    app.post_form(ANALYST, &path, &[("version", "1"), ("act", "snooze"), ("hours", "24")])
        .await
        .expect(StatusCode::SEE_OTHER);
    assert!(!titles(&app, "/").await.contains(&"Renamed miner launched by scheduled task".to_owned()));
    assert_eq!(titles(&app, "/?snoozed=1").await, ["Renamed miner launched by scheduled task"]);
    assert!(
        texts(&app.get(ANALYST, &path).await.html(), ".badges .tag").iter().any(|t| t.starts_with("snoozed until"))
    );
    let later = app.later(TimeDelta::hours(25));
    let mut conn = later.db.web.acquire().await.unwrap();
    assert_eq!(coalface::store::detections::open_count(&mut conn, later.clock.now()).await.unwrap(), 4);
    app.post_form(ANALYST, &path, &[("version", "1"), ("act", "snooze"), ("hours", "0")])
        .await
        .expect(StatusCode::SEE_OTHER);
    assert!(titles(&app, "/").await.contains(&"Renamed miner launched by scheduled task".to_owned()));
}

#[tokio::test]
async fn a_saved_view_opens_the_queue_for_its_owner() {
    let (app, _) = with_fleet().await;
    let view = |shared: bool| {
        let mut form = vec![("name", "Mine"), ("query", "severity=critical&sort=-severity"), ("opens", "on")];
        form.extend(shared.then_some(("shared", "on")));
        form
    };
    app.post_form(ANALYST, "/views", &view(true)).await.expect(StatusCode::FORBIDDEN);
    app.post_form(ANALYST, "/views", &view(false)).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(app.get(ANALYST, "/").await.expect(StatusCode::SEE_OTHER).header("location"), "/?severity=critical");
    assert_eq!(titles(&app, "/?view=0").await.len(), 4);
    app.get(LEAD, "/").await.expect(StatusCode::OK);
    app.post_form(LEAD, "/views", &view(true)).await.expect(StatusCode::SEE_OTHER);
    let tabs = texts(&app.get(VIEWER, "/").await.expect(StatusCode::OK).html(), ".tabs a");
    assert_eq!(tabs.last().unwrap(), "Mine team");
    let number = app.count("select view_id from saved_view where owner = 'analyst'").await.to_string();
    app.post_form(LEAD, "/views/delete", &[("view", &number)]).await.expect(StatusCode::NOT_FOUND);
    app.post_form(ANALYST, "/views/delete", &[("view", &number)]).await.expect(StatusCode::SEE_OTHER);
    app.get(ANALYST, "/").await.expect(StatusCode::OK);
}

/// The next `new` event of a stream.
async fn news(body: &mut axum::body::Body) -> String {
    loop {
        let frame = body.frame().await.expect("the stream goes on").unwrap();
        let text = String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
        if let Some(count) = text.strip_prefix("event: new\ndata: ") {
            return count.trim().to_owned();
        }
    }
}

#[tokio::test]
async fn what_is_committed_after_the_page_is_announced_whatever_the_clock_said() {
    let (app, fleet) = with_fleet().await;
    let mut db = app.db().superuser().await;
    // a pass that began before the page was made and commits after it
    let mut slow = app.db().superuser().await;
    sqlx::query("begin").execute(&mut slow).await.unwrap();
    fixture::crowd(&mut slow, &fleet, 2).await;
    sqlx::query("update detection set detected_at = $1 where title like 'One of many%'")
        .bind(app.now() - TimeDelta::minutes(1))
        .execute(&mut slow)
        .await
        .unwrap();

    let page = app.get(ANALYST, "/?severity=low").await.expect(StatusCode::OK).html();
    assert_eq!(texts(&page, "a.title").len(), 1);
    let address = attribute(&page, "[data-live]", "data-live");
    let (status, mut body) = app.stream(ANALYST, &address).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(news(&mut body).await, "0");
    sqlx::query("commit").execute(&mut slow).await.unwrap();
    assert_eq!(news(&mut body).await, "2");
    // what the filter does not show is no news
    sqlx::query("update detection set severity = 'info' where detection_id = 100").execute(&mut db).await.unwrap();
    assert_eq!(news(&mut body).await, "1");
    // the stream ends with the session
    sqlx::query("delete from session").execute(&mut db).await.unwrap();
    assert!(body.frame().await.is_none());
    for wrong in
        ["/live", "/live?topic=queue&snapshot=1:x:&made=1", "/live?topic=queue&snapshot=1:2:&made=1&severity=huge"]
    {
        app.get(LEAD, wrong).await.expect(StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn the_row_of_a_list_opens_in_place_for_scripts_only() {
    let (app, fleet) = with_fleet().await;
    let path = format!("/_f/detections/{}/peek", fleet.miner);
    app.get(VIEWER, &path).await.expect(StatusCode::NOT_FOUND);
    let request = app.request(VIEWER, Method::GET, &path).await.header("hx-request", "true");
    let part = app.browser(request.body(axum::body::Body::empty()).unwrap()).await.expect(StatusCode::OK);
    assert!(part.text().starts_with("<p>svchost.exe (original xmrig.exe) used 96 %"), "{}", part.text());
}

#[tokio::test]
async fn the_bar_closes_only_by_its_button() {
    let (app, fleet) = with_fleet().await;
    let path = format!("/detections/{}", fleet.miner);
    let refused = app
        .post_form(ANALYST, &path, &[("version", "1"), ("act", "close")])
        .await
        .expect(StatusCode::UNPROCESSABLE_ENTITY);
    assert!(texts(&refused.html(), ".fault")[0].starts_with("disposition: choose why"));
    app.post_form(
        ANALYST,
        &path,
        &[("version", "1"), ("act", "note"), ("note", "later"), ("disposition", "true_positive")],
    )
    .await
    .expect(StatusCode::SEE_OTHER);
    assert_eq!(app.count("select count(*) from detection where note = 'later' and status = 'new'").await, 1);
    let html = app.get(ANALYST, "/detections/0-0000000000000000").await;
    assert_eq!(html.status, StatusCode::NOT_FOUND);
    // from a filtered list, the next one is of that list
    let from = "sort=title";
    let page = app.get(ANALYST, &format!("{path}?from=sort%3Dtitle")).await.html();
    assert!(!attribute(&page, "a[rel=prev]", "href").is_empty() && attribute(&page, "a[rel=next]", "href").is_empty());
    let done = app
        .post_form(
            ANALYST,
            &path,
            &[("version", "2"), ("act", "close"), ("disposition", "true_positive"), ("from", from)],
        )
        .await
        .expect(StatusCode::SEE_OTHER);
    let next = app.get(ANALYST, done.header("location")).await.expect(StatusCode::OK).html();
    assert_eq!(texts(&next, "h1"), ["Busy build agent with a rare destination"]);
}

#[tokio::test]
async fn a_part_of_the_time_is_an_address() {
    let (app, fleet) = with_fleet().await;
    let rows = |html: &scraper::Html| texts(html, ".lane.load tbody tr").len();
    let path = format!("/detections/{}", fleet.miner);
    let whole = app.get(ANALYST, &path).await.html();
    let since = (fleet.start + TimeDelta::hours(1)).format("%Y-%m-%dT%H:%MZ").to_string();
    let until = (fleet.start + TimeDelta::hours(2)).format("%Y-%m-%dT%H:%MZ").to_string();
    let part = app.get(ANALYST, &format!("{path}?since={since}&until={until}")).await.expect(StatusCode::OK).html();
    assert!(rows(&part) <= 14 && rows(&part) < rows(&whole), "{} of {}", rows(&part), rows(&whole));
    assert_eq!(attribute(&part, ".zoom input[name=since]", "value"), since);
    app.get(ANALYST, &format!("{path}?since=soon")).await.expect(StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_report_is_for_paper_markdown_and_programs_and_downloads_are_audited() {
    let (app, fleet) = with_fleet().await;
    let path = format!("/detections/{}", fleet.miner);
    let page = app.get(VIEWER, &format!("{path}/report")).await.expect(StatusCode::OK).html();
    assert!(texts(&page, ".report li").iter().any(|e| e.contains("R.PERSISTENT: 96 % of the CPU")));
    app.get(VIEWER, &format!("{path}/report.md")).await.expect(StatusCode::FORBIDDEN);
    let text = app.get(ANALYST, &format!("{path}/report.md")).await.expect(StatusCode::OK);
    assert!(
        text.text().contains("- Command line: ` C:\\ProgramData\\upd\\svchost.exe -o stratum+tcp://"),
        "{}",
        text.text()
    );
    assert!(text.header("content-disposition").starts_with("attachment"));
    assert!(text.header("content-security-policy").ends_with("sandbox"));
    let json = app.get(ANALYST, &format!("{path}/report.json")).await.expect(StatusCode::OK).json();
    assert_eq!(json["title"], "Renamed miner launched by scheduled task");

    let lines = app.get(ANALYST, &format!("{path}/events.jsonl")).await.expect(StatusCode::OK);
    let first: serde_json::Value = serde_json::from_str(lines.text().lines().nth(1).unwrap()).unwrap();
    let raw = app.get(ANALYST, &format!("/events/{}/raw", fleet.event)).await.expect(StatusCode::OK);
    assert_eq!(raw.json()["winlog"]["event_id"], 1);
    assert_eq!(raw.header("etag"), format!("{}", first["sha256"]));
    assert!(
        app.get(ANALYST, &format!("/events/{}", fleet.event)).await.text().contains(first["sha256"].as_str().unwrap())
    );
    assert_eq!(app.count("select count(*) from audit where action = 'detection.export'").await, 4);
}

/// Five thousand children of one process, and a process that is its own grandparent.
async fn family(app: &TestApp, host: i64) {
    let mut db = app.db().superuser().await;
    sqlx::query(
        "insert into process (host_id, process_id, started_at, last_sign, start_observed, pid, image, image_name, parent_image, parent_process_id, group_key)
         select $1, 10000 + n, $2 + n * interval '1 second', $2 + interval '1 day', true, n, 'C:\\x\\worker.exe', 'c:\\x\\worker.exe', null, 4, 9 from generate_series(1, 5000) n
         union all select $1, 20001, $2, $2, true, 1, 'a.exe', 'a.exe', null, 20002, 9 union all select $1, 20002, $2, $2, true, 2, 'b.exe', 'b.exe', null, 20001, 9
         union all select $1, 20003, $2, $2, true, 3, 'c.exe', 'c.exe', 'C:\\y\\p.exe', null, 9",
    )
    .bind(host)
    .bind(app.now())
    .execute(&mut db)
    .await
    .unwrap();
}

#[tokio::test]
async fn thousands_of_children_come_in_pages_and_cycles_end() {
    let (app, fleet) = with_fleet().await;
    family(&app, fleet.host.0).await;
    let page = app.get(ANALYST, &format!("/processes/{}", fleet.process)).await.expect(StatusCode::OK);
    assert!(page.body.len() < 90_000, "{}", page.body.len());
    let html = page.html();
    assert_eq!(texts(&html, ".tree li.more").iter().filter(|t| *t == "Show more of 5001 children").count(), 1);
    assert_eq!(texts(&html, ".tree summary b").len(), 2 + 1 + 20);

    let mut next = attribute(&html, ".tree a[data-more]", "data-more");
    let (mut seen, mut pages) = (std::collections::BTreeSet::new(), 0);
    // the same page without scripts
    let plain = app.get(ANALYST, &attribute(&html, ".tree a[data-more]", "href")).await.expect(StatusCode::OK).html();
    assert_eq!(texts(&plain, ".tree summary b").len(), 2 + 1 + 50);
    app.get(ANALYST, &next).await.expect(StatusCode::NOT_FOUND);
    while !next.is_empty() {
        let request = app.request(ANALYST, Method::GET, &next).await.header("hx-request", "true");
        let part = app.browser(request.body(axum::body::Body::empty()).unwrap()).await.expect(StatusCode::OK);
        let part = scraper::Html::parse_fragment(part.text());
        seen.extend(texts(&part, "summary .muted:first-of-type"));
        next = attribute(&part, "li.more a", "data-more");
        pages += 1;
    }
    // 20 of the first paint, one of the fixture among them
    assert_eq!((seen.len(), pages), (4_981, 100));

    let cycle =
        app.get(ANALYST, &format!("/processes/{}-{:016x}", fleet.host.0, 20001)).await.expect(StatusCode::OK).html();
    assert_eq!(texts(&cycle, ".tree summary b"), ["b.exe", "a.exe"]);
    let orphan =
        app.get(ANALYST, &format!("/processes/{}-{:016x}", fleet.host.0, 20003)).await.expect(StatusCode::OK).html();
    assert!(texts(&orphan, ".tree dd").contains(&r"parent claimed, not seen C:\y\p.exe".to_owned()));
}

#[tokio::test]
async fn times_and_keys_are_the_visitors_choice() {
    let (app, _) = with_fleet().await;
    let answer = app
        .post_form(VIEWER, "/account/settings", &[("times", "local"), ("next", "//evil.example")])
        .await
        .expect(StatusCode::SEE_OTHER);
    assert_eq!(answer.header("location"), "/");
    assert!(answer.header("set-cookie").starts_with("cf_times=local; "));
    assert!(app.post_form(VIEWER, "/account/settings", &[("times", "mars")]).await.headers.get("set-cookie").is_none());
}
