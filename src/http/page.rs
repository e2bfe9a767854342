//! What all pages share: the frame around them, flash messages, htmx's wishes, and the page and toast faces of errors.

use crate::{
    http::{
        assets,
        auth::{Who, cookie},
        error::{Error, FieldError, RequestId},
        filters,
    },
    model::permission::Permission,
    store::{accounts::PASSWORD_LENGTH, detections},
};
use askama::Template;
use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Redirect, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use std::{fmt, sync::Arc};

/// Cookie that carries one message over a redirect.
pub const FLASH: &str = "cf_flash";
/// Cookie that holds `light` or `dark`.
pub const THEME: &str = "cf_theme";

/// Cookie that says `local` when times are shown in the browser's zone too.
pub const TIMES: &str = "cf_times";
/// Cookie that says `off` when single keys do nothing.
pub const KEYS: &str = "cf_keys";

/// Colours a visitor chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Theme {
    /// What the system says.
    #[default]
    System,
    /// Always light.
    Light,
    /// Always dark.
    Dark,
}

impl Theme {
    /// All, in the order of the switch.
    pub const ALL: [Self; 3] = [Self::System, Self::Light, Self::Dark];

    /// As in the cookie.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    fn of(text: Option<&str>) -> Self {
        Self::ALL.into_iter().find(|t| Some(t.as_str()) == text).unwrap_or_default()
    }
}

impl fmt::Display for Theme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a page needs to know of its request.
#[derive(Debug, Clone, Default)]
pub struct Visit {
    /// Path and query asked for.
    pub here: String,
    /// Chosen colours.
    pub theme: Theme,
    /// `utc` or `local`.
    pub times: &'static str,
    /// `on` or `off`: single keys.
    pub keys: &'static str,
    /// Message of the page before.
    pub flash: Option<String>,
    /// Number of the decision it is about, if it can be taken back.
    pub undo: Option<i64>,
    /// What htmx wants.
    pub hx: Hx,
}

impl Visit {
    /// Reads the request.
    pub fn of(parts: &Parts) -> Self {
        let flash = cookie(&parts.headers, FLASH).and_then(|v| URL_SAFE_NO_PAD.decode(v).ok()).and_then(|b| String::from_utf8(b).ok());
        let (flash, undo) = match flash.as_deref().and_then(|text| text.rsplit_once(UNDO)) {
            Some((text, number)) => (Some(text.to_owned()), number.parse().ok()),
            None => (flash, None),
        };
        let is = |name, value| cookie(&parts.headers, name) == Some(value);
        Self {
            times: if is(TIMES, "local") { "local" } else { "utc" },
            keys: if is(KEYS, "off") { "off" } else { "on" },
            undo,
            here: parts.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
            theme: Theme::of(cookie(&parts.headers, THEME)),
            flash,
            hx: Hx::of(&parts.headers),
        }
    }
}

/// Whether a whole page or its main part is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hx {
    /// A browser navigates.
    #[default]
    Full,
    /// htmx swaps a part.
    Fragment,
}

impl Hx {
    /// A fragment only for htmx itself, never when it boosts a link or restores history.
    pub fn of(headers: &HeaderMap) -> Self {
        let has = |name: &str| headers.contains_key(name);
        if has("hx-request") && !has("hx-boosted") && !has("hx-history-restore-request") { Self::Fragment } else { Self::Full }
    }

    /// See [`Hx`].
    pub fn is_fragment(self) -> bool {
        self == Self::Fragment
    }
}

/// Which entry of the navigation is lit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "named like the pages")]
pub enum Section {
    #[default]
    None,
    Queue,
    Hunt,
    Hosts,
    Destinations,
    Tuning,
    Coverage,
    Admin,
}

impl Section {
    fn as_str(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Queue => "queue",
            Self::Hunt => "hunt",
            Self::Hosts => "hosts",
            Self::Destinations => "destinations",
            Self::Tuning => "tuning",
            Self::Coverage => "coverage",
            Self::Admin => "admin",
        }
    }
}

/// The frame of a page: who looks, what they may, where they are.
#[derive(Debug, Clone, Default)]
pub struct Chrome {
    /// Account name; absent before sign-in.
    pub user: Option<String>,
    /// Word of the role.
    pub role: &'static str,
    /// Hidden field of every form.
    pub csrf: String,
    /// From the request.
    pub visit: Visit,
    /// Lit entry.
    pub section: Section,
    /// Open detections of the queue; 1,000 means that many or more.
    pub open: i64,
    /// Evaluation is behind, if it is.
    pub behind: Option<detections::Behind>,
    /// When the page was made.
    pub now: DateTime<Utc>,
    may: Vec<Permission>,
}

impl Chrome {
    /// For a signed-in visitor.
    pub async fn load(conn: &mut PgConnection, who: &Who, section: Section, now: DateTime<Utc>) -> sqlx::Result<Self> {
        use Permission as P;
        Ok(Self {
            user: Some(who.name().to_owned()),
            role: who.role().map_or("", |r| r.as_str()),
            csrf: who.session().map(|s| s.csrf.clone()).unwrap_or_default(),
            visit: who.visit.clone(),
            section,
            open: detections::open_count(conn, now).await?,
            behind: detections::behind(conn, now).await?,
            now,
            may: [P::Export, P::Triage, P::Propose, P::Tune, P::Approve, P::Audit, P::Administer]
                .into_iter()
                .filter(|p| who.may(*p))
                .collect(),
        })
    }

    /// Before sign-in.
    pub fn outside(visit: Visit, now: DateTime<Utc>) -> Self {
        Self { visit, now, ..Self::default() }
    }

    /// Whether a control of this permission is shown.
    pub fn may(&self, permission: Permission) -> bool {
        self.may.contains(&permission)
    }

    /// Whether the entry of this name is lit.
    pub fn lit(&self, name: &str) -> bool {
        self.section.as_str() == name
    }

    /// Choices of the switch, and whether each is chosen.
    pub fn themes(&self) -> impl Iterator<Item = (&'static str, bool)> {
        Theme::ALL.into_iter().map(|t| (t.as_str(), t == self.visit.theme))
    }

    /// For templates: write controls of triage.
    pub fn may_triage(&self) -> bool {
        self.may(Permission::Triage)
    }

    /// For templates: configuration controls.
    pub fn may_tune(&self) -> bool {
        self.may(Permission::Tune)
    }

    /// For templates: raw events.
    pub fn may_export(&self) -> bool {
        self.may(Permission::Export)
    }

    /// For templates: users, tokens, sources.
    pub fn may_administer(&self) -> bool {
        self.may(Permission::Administer)
    }

    /// For templates: the audit log.
    pub fn may_audit(&self) -> bool {
        self.may(Permission::Audit)
    }

    /// Whether this program serves the page: what is not built is not linked.
    pub fn has(&self, path: &str) -> bool {
        super::TABLES.iter().flat_map(|table| table.iter()).any(|route| route.path == path && route.method == "get")
    }

    /// Address of a file of `static/`.
    pub fn asset(&self, name: &str) -> String {
        assets::url(name)
    }
}

/// Renders a page with a status.
pub fn render(status: StatusCode, page: &impl Template) -> Result<Response, Error> {
    let html = page.render()?;
    Ok((status, [(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"))], html).into_response())
}

/// Between a message and the number of what it is about.
const UNDO: char = '\u{1f}';

/// 303 to a page that shows the message once, with a button that takes the decision back.
pub fn go_with_undo(to: &impl fmt::Display, message: &str, number: Option<i64>) -> Response {
    match number {
        Some(number) => go(to, &format!("{message}{UNDO}{number}")),
        None => go(to, message),
    }
}

/// 303 to a page that shows the message once.
pub fn go(to: &impl fmt::Display, message: &str) -> Response {
    let mut response = Redirect::to(&to.to_string()).into_response();
    let flash = format!("{FLASH}={}; Path=/; Max-Age=60; HttpOnly; SameSite=Lax", URL_SAFE_NO_PAD.encode(message));
    if let Ok(value) = HeaderValue::from_str(&flash) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    response
}

/// Where to sign in, and come back from.
pub fn login_url(next: &str) -> String {
    if next == "/" {
        return "/login".to_owned();
    }
    let query: String = form_urlencoded::byte_serialize(next.as_bytes()).collect();
    format!("/login?next={query}")
}

/// A path of this site, or `/`: exactly one leading slash, no backslash, no control character.
pub fn safe_next(next: &str) -> String {
    let plain = next.starts_with('/') && !next.starts_with("//") && !next.contains(|c: char| c == '\\' || c.is_control());
    match next.parse::<axum::http::Uri>() {
        Ok(uri) if plain && uri.authority().is_none() => uri.to_string(),
        _ => "/".to_owned(),
    }
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    chrome: Chrome,
    status: StatusCode,
    title: String,
    advice: &'static str,
    fields: &'a [FieldError],
    request_id: &'a Arc<str>,
}

/// The page face of an error. Asks the database nothing: it may be what is broken.
pub fn error(error: &Error, id: &RequestId, asked: &Parts) -> Response {
    let status = error.status();
    let fields = if let Error::Invalid(fields) = error { fields.as_slice() } else { &[] };
    let text = error.to_string();
    let mut letters = text.chars();
    let title = letters.next().map(|c| c.to_uppercase().chain(letters).collect()).unwrap_or_default();
    let page = ErrorPage {
        chrome: Chrome::outside(Visit { flash: None, ..Visit::of(asked) }, DateTime::UNIX_EPOCH),
        status,
        title,
        advice: error.advice(),
        fields,
        request_id: &id.0,
    };
    render(status, &page).unwrap_or_else(|_| (status, text).into_response())
}

#[derive(Template)]
#[template(source = r#"<p class="toast bad" role="alert">{{ text }}. {{ advice }} <small>Request {{ id }}</small></p>"#, ext = "html")]
struct Toast<'a> {
    text: String,
    advice: &'static str,
    id: &'a Arc<str>,
}

/// The htmx face of an error: goes to the page's message area, whatever was to be swapped.
pub fn toast(error: &Error, id: &RequestId) -> Response {
    let toast = Toast { text: error.to_string(), advice: error.advice(), id: &id.0 };
    let mut response = render(error.status(), &toast).unwrap_or_else(|_| error.status().into_response());
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static("hx-retarget"), HeaderValue::from_static("#messages"));
    headers.insert(HeaderName::from_static("hx-reswap"), HeaderValue::from_static("innerHTML"));
    response
}

/// Why a password cannot be taken.
pub fn password_fault(password: &str, user: &str) -> Option<FieldError> {
    let length = password.chars().count();
    if !PASSWORD_LENGTH.contains(&length) {
        return Some(FieldError::new("password", format!("15 to 128 characters; this has {length}")));
    }
    let lower = password.to_lowercase();
    let letters = lower.chars().collect::<std::collections::BTreeSet<_>>().len();
    if letters < 6 || lower.replace(user, "").chars().count() < 10 {
        return Some(FieldError::new("password", "too easy to guess: use several words that are not your name"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_stays_on_this_site() {
        for (given, kept) in [
            ("/detections/1-00?a=b", "/detections/1-00?a=b"),
            ("//evil.example", "/"),
            ("/\\evil.example", "/"),
            ("https://evil.example/", "/"),
            ("/a\nb", "/"),
            ("", "/"),
            ("javascript:alert(1)", "/"),
        ] {
            assert_eq!(safe_next(given), kept, "{given}");
        }
    }

    #[test]
    fn passwords_are_long_and_not_one_letter() {
        assert!(password_fault("short", "kim").is_some());
        assert!(password_fault(&"a".repeat(20), "kim").is_some());
        assert!(password_fault("kimkimkimkimkimkimkim", "kim").is_some());
        assert!(password_fault("walnut river seven", "kim").is_none());
    }
}
