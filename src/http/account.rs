//! Sign in and out, the own password, light or dark.

use crate::{
    app::App,
    http::{
        auth::{self, Allowed, Form, OpenForm, SignedIn, actor, session_cookie},
        error::{Error, FieldError, Result},
        filters, is_https,
        page::{self, Chrome, Section, THEME, Visit, safe_next},
        paths,
    },
    store::{
        accounts::{self, Password, SignIn},
        audit::{self, Actor, Deed},
        sessions,
    },
};
use askama::Template;
use axum::{
    extract::{FromRequestParts, State},
    http::{HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Redirect, Response},
};
use axum_extra::extract::Query;
use serde::Deserialize;
use sqlx::Connection as _;
use std::sync::Arc;

crate::http::route_table! {
    get  "/login"                           Public   => login;
    post "/login"                           Public   => sign_in;
    post "/logout"                          SignedIn => sign_out;
    get  "/account/password"                SignedIn => password;
    post "/account/password"                SignedIn => set_password;
    post "/account/theme"                   Public   => theme;
    post "/account/settings"                Public   => settings;
}

/// What a request without a session brings along.
pub(crate) struct Stranger {
    visit: Visit,
    actor: Actor,
    address: String,
    cookie: Option<String>,
}

impl FromRequestParts<Arc<App>> for Stranger {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> std::result::Result<Self, Self::Rejection> {
        Ok(Self {
            visit: Visit::of(parts),
            actor: actor(parts, app, String::new()),
            address: auth::address(parts).unwrap_or_else(|| "unknown".to_owned()),
            cookie: auth::cookie(&parts.headers, session_cookie(app)).map(str::to_owned),
        })
    }
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    chrome: Chrome,
    name: String,
    next: String,
    fault: Option<String>,
    plain_http: bool,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Next {
    #[serde(default)]
    next: String,
}

/// `GET /login`
pub(crate) async fn login(
    stranger: Stranger,
    Query(Next { next }): Query<Next>,
    State(app): State<Arc<App>>,
) -> Result<Response> {
    login_page(&app, stranger.visit, StatusCode::OK, String::new(), safe_next(&next), None)
}

fn login_page(app: &App, visit: Visit, status: StatusCode, name: String, next: String, fault: Option<String>) -> Result<Response> {
    let plain_http = !is_https(app) && app.settings.public_url.is_some();
    page::render(status, &LoginPage { chrome: Chrome::outside(visit, app.clock.now()), name, next, fault, plain_http })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Credentials {
    #[serde(default)]
    name: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    next: String,
}

/// `POST /login`
pub(crate) async fn sign_in(
    mut stranger: Stranger,
    State(app): State<Arc<App>>,
    OpenForm(form): OpenForm<Credentials>,
) -> Result<Response> {
    let (now, next) = (app.clock.now(), safe_next(&form.next));
    let name: String = form.name.trim().chars().take(64).collect();
    stranger.actor.name.clone_from(&name);
    let mut conn = app.db.web.acquire().await?;
    // Longer passwords cannot be right; hashing them would be work for nothing.
    let password: String = form.password.chars().take(*accounts::PASSWORD_LENGTH.end() + 1).collect();
    let outcome = accounts::sign_in(&mut conn, &name, password, &stranger.address, now).await?;
    let (status, fault) = match outcome {
        SignIn::Welcome(account) => {
            let mut tx = conn.begin().await?;
            if let Some(old) = &stranger.cookie {
                sessions::end(&mut tx, old).await?;
            }
            let token = sessions::begin(&mut tx, account.account_id, Some(&stranger.address), now).await?;
            let deed = Deed { action: "session.begin", object: &account.name, ..Deed::default() };
            audit::append(&mut tx, &stranger.actor, deed, now).await?;
            tx.commit().await?;
            let to = if account.must_set_password { paths::Password.to_string() } else { next };
            let mut response = Redirect::to(&to).into_response();
            set_cookie(&mut response, session_cookie(&app), &token, is_https(&app));
            return Ok(response);
        }
        SignIn::Wrong => (StatusCode::UNAUTHORIZED, "Name or password is wrong.".to_owned()),
        SignIn::Wait(wait) => {
            let text = format!("Too many tries. Wait {}, then try again.", filters::span_text(wait + chrono::TimeDelta::seconds(1)));
            (StatusCode::TOO_MANY_REQUESTS, text)
        }
    };
    // Refused tries while waiting are not recorded one by one: they would fill the log.
    if status == StatusCode::UNAUTHORIZED {
        let mut tx = conn.begin().await?;
        let deed = Deed { action: "session.refused", object: &name, ..Deed::default() };
        audit::append(&mut tx, &stranger.actor, deed, now).await?;
        tx.commit().await?;
    }
    login_page(&app, stranger.visit, status, name, next, Some(fault))
}

fn set_cookie(response: &mut Response, name: &str, value: &str, secure: bool) {
    let secure = if secure { "; Secure" } else { "" };
    if let Ok(value) = HeaderValue::from_str(&format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}")) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

/// `POST /logout`
pub(crate) async fn sign_out(
    stranger: Stranger,
    who: Allowed<SignedIn>,
    State(app): State<Arc<App>>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<Response> {
    let mut conn = app.db.web.acquire().await?;
    let mut tx = conn.begin().await?;
    if let Some(token) = &stranger.cookie {
        sessions::end(&mut tx, token).await?;
    }
    let deed = Deed { action: "session.end", object: who.name(), ..Deed::default() };
    audit::append(&mut tx, &who.actor, deed, app.clock.now()).await?;
    tx.commit().await?;
    let mut response = page::go(&paths::Login, "You are signed out.");
    set_cookie(&mut response, session_cookie(&app), "; Max-Age=0", is_https(&app));
    // Not "cookies": the flash must survive; the session cookie is removed above.
    response.headers_mut().insert(HeaderName::from_static("clear-site-data"), HeaderValue::from_static("\"cache\", \"storage\""));
    Ok(response)
}

#[derive(Template)]
#[template(path = "password.html")]
struct PasswordPage {
    chrome: Chrome,
    first: bool,
    fault: Option<FieldError>,
}

/// `GET /account/password`
pub(crate) async fn password(who: Allowed<SignedIn>, State(app): State<Arc<App>>) -> Result<Response> {
    password_page(&who, &app, StatusCode::OK, None).await
}

async fn password_page(who: &Allowed<SignedIn>, app: &App, status: StatusCode, fault: Option<FieldError>) -> Result<Response> {
    let mut conn = app.db.web.acquire().await?;
    let chrome = Chrome::load(&mut conn, who, Section::None, app.clock.now()).await?;
    let first = who.session().is_some_and(|s| s.must_set_password);
    page::render(status, &PasswordPage { chrome, first, fault })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPassword {
    #[serde(default)]
    current: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    again: String,
}

/// `POST /account/password`: ends all sessions and begins a new one.
pub(crate) async fn set_password(
    stranger: Stranger,
    who: Allowed<SignedIn>,
    State(app): State<Arc<App>>,
    Form(form): Form<NewPassword>,
) -> Result<Response> {
    let session = who.session().ok_or(Error::NotFound)?;
    let now = app.clock.now();
    let fault = page::password_fault(&form.password, &session.name)
        .or_else(|| (form.password != form.again).then(|| FieldError::new("again", "the two are not the same")));
    if let Some(fault) = fault {
        return password_page(&who, &app, StatusCode::UNPROCESSABLE_ENTITY, Some(fault)).await;
    }
    let mut conn = app.db.web.acquire().await?;
    // The one-time password was given at sign-in; a lasting one is asked for again.
    if !session.must_set_password {
        let fault = match accounts::sign_in(&mut conn, &session.name, form.current, &stranger.address, now).await? {
            SignIn::Welcome(_) => None,
            SignIn::Wrong => Some(FieldError::new("current", "this is not your password")),
            SignIn::Wait(wait) => Some(FieldError::new("current", format!("too many tries: wait {}", filters::span_text(wait)))),
        };
        if fault.is_some() {
            drop(conn);
            return password_page(&who, &app, StatusCode::UNPROCESSABLE_ENTITY, fault).await;
        }
    }
    let password = Password { hash: accounts::hash(form.password).await?, one_time: false };
    let mut tx = conn.begin().await?;
    accounts::set_password(&mut tx, &session.name, &password, now).await?;
    let token = sessions::begin(&mut tx, session.account_id, Some(&stranger.address), now).await?;
    let deed = Deed { action: "account.password", object: &session.name, ..Deed::default() };
    audit::append(&mut tx, &who.actor, deed, now).await?;
    tx.commit().await?;
    let mut response = page::go(&paths::Queue, "Your password is set.");
    set_cookie(&mut response, session_cookie(&app), &token, is_https(&app));
    Ok(response)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ThemeChoice {
    #[serde(default)]
    theme: String,
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    times: Option<String>,
    keys: Option<String>,
    #[serde(default)]
    next: String,
}

/// `POST /account/settings`: how times are shown and whether single keys act, for a year, for this browser.
pub(crate) async fn settings(State(app): State<Arc<App>>, OpenForm(form): OpenForm<Settings>) -> Response {
    let mut response = Redirect::to(&safe_next(&form.next)).into_response();
    let secure = if is_https(&app) { "; Secure" } else { "" };
    for (cookie, chosen, known) in [(page::TIMES, form.times, ["utc", "local"]), (page::KEYS, form.keys, ["on", "off"])] {
        let Some(word) = known.into_iter().find(|word| chosen.as_deref() == Some(word)) else { continue };
        if let Ok(value) = HeaderValue::from_str(&format!("{cookie}={word}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax{secure}")) {
            response.headers_mut().append(header::SET_COOKIE, value);
        }
    }
    response
}

/// `POST /account/theme`: for a year, for this browser.
pub(crate) async fn theme(State(app): State<Arc<App>>, OpenForm(form): OpenForm<ThemeChoice>) -> Response {
    let known = page::Theme::ALL.into_iter().find(|t| t.as_str() == form.theme).unwrap_or_default();
    let mut response = Redirect::to(&safe_next(&form.next)).into_response();
    let secure = if is_https(&app) { "; Secure" } else { "" };
    let cookie = format!("{THEME}={known}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax{secure}");
    if let Ok(value) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    response
}
