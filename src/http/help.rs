//! `/help/keys`.

use crate::{
    app::App,
    http::{
        auth::{Allowed, Read},
        error::Result,
        filters,
        page::{self, Chrome, Section},
    },
};
use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use std::sync::Arc;

/// What the keys do; `app.js` implements exactly these.
const KEYS: &[(&str, &[(&str, &str)])] = &[
    ("Lists", &[("j", "next row"), ("k", "previous row"), ("Enter", "open the row"), ("o", "peek: open the row's details in place"), (".", "load what is new")]),
    (
        "A detection",
        &[
            ("e, then t", "close as true positive"),
            ("e, then b", "close as benign positive"),
            ("e, then l", "close as false positive: logic"),
            ("e, then d", "close as false positive: data"),
            ("e, then u", "close as undetermined"),
            ("c", "write a note"),
            ("a", "assign to me"),
            ("w", "allowlist from this"),
            ("j, k", "next and previous section"),
        ],
    ),
    (
        "Everywhere",
        &[("g, then q", "queue"), ("g, then h", "hosts"), ("g, then d", "destinations"), ("g, then l", "allowlist"), ("g, then u", "hunt"), ("g, then c", "coverage"), ("g, then r", "rules"), ("/", "the search field"), ("?", "this page"), ("Esc", "close what is open, leave a field")],
    ),
];

#[derive(Template)]
#[template(path = "keys.html")]
struct KeysPage {
    chrome: Chrome,
    groups: &'static [(&'static str, &'static [(&'static str, &'static str)])],
}

/// `GET /help/keys`
pub(crate) async fn keys(who: Allowed<Read>, State(app): State<Arc<App>>) -> Result<Response> {
    let mut conn = app.db.web.acquire().await?;
    let chrome = Chrome::load(&mut conn, &who, Section::None, app.clock.now()).await?;
    page::render(StatusCode::OK, &KeysPage { chrome, groups: KEYS })
}
