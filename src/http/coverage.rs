//! `/coverage`: what is blind where, and what to switch on so that it is not. JSON is in `coverage_api`.

use crate::{
    app::App,
    http::{
        advice::{self, Advice},
        auth::{Allowed, Read},
        error::Result,
        filters,
        page::{self, Chrome, Section},
        paths,
        query::Fields,
    },
    model::{
        code::Class,
        coverage::{self, Assessable, CLASSES, ClassHealth, Health},
    },
    store::coverage::{self as store, Filter, HostSeen},
};
use askama::Template;
use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
    response::Response,
};
use std::{collections::BTreeMap, sync::Arc};

crate::http::route_table! {
    get "/coverage" Read => show;
}

/// Hosts that are judged for the summary: each costs a range of 288 rows.
const MOST: i64 = 2_000;
/// Hosts of the matrix.
const ROWS: usize = 200;
/// Hosts named beside an advice.
const NAMED: usize = 8;

struct Row {
    name: String,
    href: String,
    tier: Option<i16>,
    class: Option<String>,
    health: BTreeMap<Class, ClassHealth>,
    analytics: [Assessable; 2],
}

impl Row {
    fn of(host: &HostSeen, now: chrono::DateTime<chrono::Utc>) -> Self {
        let health = coverage::judge(&host.seen, now);
        Self {
            name: host.name.clone(),
            href: paths::Host { name: host.name.clone() }.to_string(),
            tier: host.tier,
            class: host.class.clone(),
            analytics: coverage::assessable(&health),
            health,
        }
    }

    fn is_blind(&self, analytic: &str) -> bool {
        self.analytics.iter().any(|a| a.id == analytic && a.state != "assessable")
    }

    /// State of each class, in the order of the columns, with its reason.
    fn cells(&self) -> Vec<(&'static str, &'static str, String)> {
        CLASSES
            .into_iter()
            .map(|class| match self.health.get(&class) {
                Some(health) => (health.state.as_str(), sign(health.state), health.reason.clone().unwrap_or_default()),
                None => ("unknown", sign(Health::Unknown), String::new()),
            })
            .collect()
    }
}

/// Shape beside the word.
fn sign(health: Health) -> &'static str {
    match health {
        Health::Healthy => "\u{25cf}",
        Health::Degraded => "\u{25d0}",
        Health::Stale => "\u{25d4}",
        Health::Absent => "\u{25cb}",
        Health::Unknown => "?",
    }
}

/// What a state word of an analytic says.
fn words(state: &str) -> &str {
    match state {
        "not_assessable" => "blind",
        other => other,
    }
}

struct Tip {
    advice: &'static Advice,
    hosts: usize,
    named: Vec<(String, String)>,
}

/// Hosts by the health of one class.
struct Summary {
    class: Class,
    title: &'static str,
    states: Vec<(&'static str, usize)>,
}

/// Hosts that an analytic can judge.
struct Sight {
    id: &'static str,
    full: usize,
    part: usize,
    blind: usize,
}

#[derive(Template)]
#[template(path = "coverage.html")]
struct CoveragePage {
    chrome: Chrome,
    fields: Fields,
    rows: Vec<Row>,
    hosts: usize,
    shown_of: usize,
    full: bool,
    classes: Vec<String>,
    summary: Vec<Summary>,
    analytics: Vec<Sight>,
    tips: Vec<Tip>,
    sysmon: Option<String>,
}

impl CoveragePage {
    fn value(&self, name: &str) -> &str {
        self.fields.one(name).unwrap_or_default()
    }

    fn blind(&self, analytic: &str) -> String {
        format!("/coverage{}", self.fields.with("blind", Some(analytic)))
    }
}

/// `GET /coverage`
pub(crate) async fn show(who: Allowed<Read>, RawQuery(query): RawQuery, State(app): State<Arc<App>>) -> Result<Response> {
    let now = app.clock.now();
    let fields = Fields::parse(query.as_deref());
    let mut conn = app.db.web.acquire().await?;
    let filter = Filter { name: None, class: fields.one("class").map(str::to_owned), after: None, limit: MOST + 1 };
    let mut seen = store::hosts(&mut conn, &filter).await?;
    let chrome = Chrome::load(&mut conn, &who, Section::Coverage, now).await?;
    drop(conn);
    let full = i64::try_from(seen.len()).unwrap_or(i64::MAX) > MOST;
    seen.truncate(usize::try_from(MOST).unwrap_or(usize::MAX));
    if let Some(part) = fields.one("q") {
        seen.retain(|h| h.name.contains(&part.to_lowercase()));
    }
    let mut all: Vec<Row> = seen.iter().map(|h| Row::of(h, now)).collect();
    let summary = CLASSES.into_iter().map(|class| {
        let states = [Health::Healthy, Health::Degraded, Health::Stale, Health::Absent, Health::Unknown];
        let count = |state: Health| all.iter().filter(|r| r.health.get(&class).is_some_and(|h| h.state == state)).count();
        Summary { class, title: class.title(), states: states.into_iter().map(|s| (s.as_str(), count(s))).filter(|(_, n)| *n > 0).collect() }
    });
    let summary = summary.collect();
    let analytics = ["AN0741", "AN1489"].map(|id| {
        let count = |state: &str| all.iter().flat_map(|r| &r.analytics).filter(|a| a.id == id && a.state == state).count();
        Sight { id, full: count("assessable"), part: count("partial"), blind: count("not_assessable") }
    });
    let found = advice::missing(seen.iter().map(|h| (h.name.as_str(), h.seen)));
    let sysmon = advice::sysmon(found.iter().map(|(advice, _)| *advice));
    let tips = found.into_iter().map(|(advice, names)| Tip {
        advice,
        hosts: names.len(),
        named: names.into_iter().take(NAMED).map(|n| (n.to_owned(), paths::Host { name: n.to_owned() }.to_string())).collect(),
    });
    let tips = tips.collect();
    let mut classes: Vec<String> = seen.iter().filter_map(|h| h.class.clone()).collect();
    classes.sort_unstable();
    classes.dedup();
    let hosts = all.len();
    if let Some(blind) = fields.one("blind") {
        all.retain(|r| r.is_blind(blind));
    }
    let shown_of = all.len();
    all.truncate(ROWS);
    let page = CoveragePage { chrome, fields, rows: all, hosts, shown_of, full, classes, summary, analytics: analytics.into(), tips, sysmon };
    page::render(StatusCode::OK, &page)
}
