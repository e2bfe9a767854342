//! `/rules`: every per-event rule that is loaded, what it stands for, its text with its examples, and how often it fired; and those
//! that are read and not evaluated, with the reason.

use crate::{
    app::App,
    http::{
        auth::{Allowed, Read},
        error::Result,
        filters,
        page::{self, Chrome, Section},
        query::Fields,
    },
    model::code::{Code, Force},
    rules::{RuleInfo, Ruleset},
    store::rule_hits::{self, Hits},
};
use askama::Template;
use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
    response::Response,
};
use std::{collections::HashMap, sync::Arc};

crate::http::route_table! {
    get "/rules" Read => list;
}

struct Row {
    info: RuleInfo,
    text: Option<&'static str>,
    hits: Option<Hits>,
    /// Hits of earlier texts: they do not count any more.
    past: i64,
}

impl Row {
    fn code(&self) -> Option<Code> {
        self.info.evidence.as_ref().ok().map(|e| e.code)
    }

    fn categories(&self) -> String {
        let all = self.info.evidence.as_ref().map(|e| e.categories.iter().map(|c| format!("{c:?}")).collect::<Vec<_>>());
        all.map(|c| c.join(", ")).unwrap_or_default()
    }

    fn force_words(&self) -> &'static str {
        self.info.evidence.as_ref().map_or("", |e| force_words(e.force))
    }

    fn holds(&self, part: &str) -> bool {
        let part = part.to_lowercase();
        let code = self.code().map(|c| c.name().to_lowercase()).unwrap_or_default();
        [self.info.title.to_lowercase(), self.info.id.to_lowercase(), self.info.file.to_lowercase(), code].iter().any(|t| t.contains(&part))
    }
}

#[derive(Template)]
#[template(path = "rules.html")]
struct RulesPage {
    chrome: Chrome,
    fields: Fields,
    rows: Vec<Row>,
    idle: Vec<Row>,
    /// Codes that no rule gives: the worker finds them over time.
    others: Vec<Code>,
}

impl RulesPage {
    fn q(&self) -> &str {
        self.fields.one("q").unwrap_or_default()
    }
}

/// What a force does, in words.
fn force_words(force: Force) -> &'static str {
    match force {
        Force::Plain => "adds points",
        Force::Weak => "discriminates, unless something benign explains it",
        Force::Discriminator => "discriminates",
        Force::Hard => "hard: discriminates, voids entries that do not name it",
    }
}

/// `GET /rules`
pub(crate) async fn list(who: Allowed<Read>, RawQuery(query): RawQuery, State(app): State<Arc<App>>) -> Result<Response> {
    let fields = Fields::parse(query.as_deref());
    let mut conn = app.db.web.acquire().await?;
    let mut by_rule: HashMap<String, Vec<Hits>> = HashMap::new();
    for hits in rule_hits::counts(&mut conn).await? {
        by_rule.entry(hits.rule_id.clone()).or_default().push(hits);
    }
    let chrome = Chrome::load(&mut conn, &who, Section::Tuning, app.clock.now()).await?;
    drop(conn);
    let row = |info: &RuleInfo| {
        let (now, before): (Vec<Hits>, Vec<Hits>) = by_rule.remove(&info.id).unwrap_or_default().into_iter().partition(|h| h.rule_hash == info.hash);
        Row { text: Ruleset::shipped_text(&info.file), info: info.clone(), hits: now.into_iter().next(), past: before.iter().map(|h| h.count).sum() }
    };
    let mut rows: Vec<Row> = app.rules.rules().map(row).collect();
    let others = Code::ALL.iter().copied().filter(|c| !rows.iter().any(|r| r.code() == Some(*c))).collect();
    if let Some(part) = fields.one("q") {
        rows.retain(|r| r.holds(part));
    }
    let (mut rows, mut idle): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|r| r.info.evidence.is_ok());
    rows.sort_by_key(|r| (r.code(), r.info.title.clone()));
    idle.sort_by(|a, b| a.info.title.cmp(&b.info.title));
    page::render(StatusCode::OK, &RulesPage { chrome, fields, rows, idle, others })
}
