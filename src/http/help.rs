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
    (
        "Lists",
        &[
            ("j", "next row"),
            ("k", "previous row"),
            ("Enter", "open the row"),
            ("o", "peek: the row's story in place"),
            ("x", "tick the row"),
            ("Shift x", "tick from the last ticked row to here"),
            (".", "load what is new"),
        ],
    ),
    (
        "Ticked rows, or a detection",
        &[
            ("e, then t or 1", "choose true positive; Enter closes"),
            ("e, then b or 2", "choose benign positive"),
            ("e, then f l or 3", "choose false positive: logic"),
            ("e, then f d or 4", "choose false positive: data"),
            ("e, then d or 5", "choose duplicate"),
            ("e, then u or 6", "choose undetermined"),
            ("c", "write a note"),
            ("a", "assign to me"),
            ("s", "snooze"),
            ("z", "take the last decision back, while its message is shown"),
        ],
    ),
    (
        "A detection",
        &[("j, k", "next and previous of the list it was opened from"), ("w", "allowlist from this")],
    ),
    (
        "Lineage",
        &[
            ("Up, Down", "row above, row below"),
            ("Right, Left", "open; close, or go to the parent"),
            ("*", "open all rows beside this one"),
        ],
    ),
    (
        "Everywhere",
        &[
            ("g, then q", "queue"),
            ("g, then h", "hosts"),
            ("g, then d", "destinations"),
            ("g, then s", "hunt"),
            ("g, then l", "allowlist"),
            ("g, then c", "coverage"),
            ("g, then r", "rules"),
            ("/", "the search field"),
            ("?", "this page"),
            ("Esc", "close what is open, leave a field"),
        ],
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
