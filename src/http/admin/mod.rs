//! `/admin`: data sources, quarantine, tokens, accounts and the audit log. What is not built here is not linked.

mod audit;
mod overview;
mod quarantine;
mod recipes;
mod sources;
mod tokens;
mod users;

use crate::http::Route;

/// Tables of all admin pages.
pub(crate) const TABLES: [&[Route]; 6] =
    [overview::ROUTES, sources::ROUTES, quarantine::ROUTES, tokens::ROUTES, users::ROUTES, audit::ROUTES];

/// Routers of all admin pages.
pub(crate) fn routes() -> axum::Router<std::sync::Arc<crate::app::App>> {
    axum::Router::new()
        .merge(overview::routes())
        .merge(sources::routes())
        .merge(quarantine::routes())
        .merge(tokens::routes())
        .merge(users::routes())
        .merge(audit::routes())
}

/// A name for something new: 1 to 64 letters, digits, `.`, `_`, `-`.
fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

/// What a name must be, in words.
const NAME_RULE: &str = "1 to 64 letters, digits, dots, hyphens or underscores";
