//! The password again, before what must not happen from a screen left open: accounts, tokens (trust design, section 3).

use crate::{
    app::App,
    http::{
        auth::{Credential, Who},
        error::{Error, FieldError, Result},
        filters,
    },
    store::{
        accounts::{self, SignIn},
        sessions,
    },
};
use chrono::{DateTime, TimeDelta, Utc};

/// For how long a password counts. Source: trust design, section 3.
const FRESH: TimeDelta = TimeDelta::minutes(15);

/// Whether the page has to ask for it.
pub(crate) fn is_due(who: &Who, now: DateTime<Utc>) -> bool {
    who.session().is_none_or(|s| now - s.reauthenticated_at > FRESH)
}

/// Takes the password that came with a form, if one is due; throttled like signing in.
///
/// # Errors
/// 422 naming the field when it is missing or wrong.
pub(crate) async fn demand(app: &App, who: &Who, password: Option<String>) -> Result<()> {
    let now = app.clock.now();
    if !is_due(who, now) {
        return Ok(());
    }
    let Credential::Session(session) = &who.credential else { return Err(Error::NotFound) };
    let refused = |reason: String| Err(Error::Invalid(vec![FieldError::new("your password", reason)]));
    let Some(password) = password else { return refused("give it again: the last time is more than 15 minutes ago".to_owned()) };
    let address = who.actor.address.clone().unwrap_or_else(|| "unknown".to_owned());
    let mut conn = app.db.web.acquire().await?;
    match accounts::sign_in(&mut conn, who.name(), password, &address, now).await? {
        SignIn::Welcome(_) => Ok(sessions::renew(&mut conn, session.account_id, &session.csrf, now).await?),
        SignIn::Wrong => refused("this is not your password".to_owned()),
        SignIn::Wait(wait) => refused(format!("too many tries: wait {}", filters::span_text(wait))),
    }
}
