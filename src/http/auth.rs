//! Who asks, and whether they may: extractors that carry the permission in their type, so that a handler cannot forget it.
//!
//! Pages look at the session cookie only, `/api/v1` at the `Authorization` header only (trust design, section 2).

use crate::{
    app::App,
    http::{
        error::{Error, FieldError, RequestId, Result},
        page::Visit,
    },
    model::permission::{Permission, Role},
    store::{
        audit::Actor,
        sessions::{self, Session},
        tokens::{self, Token},
    },
};
use axum::{
    body::Bytes,
    extract::{ConnectInfo, FromRequest, FromRequestParts, Request},
    http::{HeaderMap, header, request::Parts},
};
use serde::de::DeserializeOwned;
use std::{marker::PhantomData, net::SocketAddr, ops::Deref, sync::Arc};

/// What a route demands of its visitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: `/login`, `/healthz`, `/static`.
    Nothing,
    /// Any account, even one that has to set its password first.
    Account,
    /// A permission.
    May(Permission),
}

/// A marker type that stands for [`Needs`].
pub trait Right: Send + Sync + 'static {
    /// What it stands for.
    const NEEDS: Needs;
}

macro_rules! rights {
    ($($name:ident => $needs:expr;)*) => { $(
        #[doc = concat!("Marker: see [`Permission`] and [`Needs`]; `", stringify!($name), "`.")]
        #[derive(Debug, Clone, Copy)]
        pub struct $name;
        impl Right for $name { const NEEDS: Needs = $needs; }
    )* };
}

rights! {
    Public => Needs::Nothing;
    SignedIn => Needs::Account;
    Read => Needs::May(Permission::Read);
    Export => Needs::May(Permission::Export);
    Triage => Needs::May(Permission::Triage);
    Propose => Needs::May(Permission::Propose);
    Tune => Needs::May(Permission::Tune);
    Approve => Needs::May(Permission::Approve);
    Audit => Needs::May(Permission::Audit);
    Administer => Needs::May(Permission::Administer);
    Metrics => Needs::May(Permission::Metrics);
}

/// How the visitor proved who they are.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A browser.
    Session(Session),
    /// A program.
    Token(Token),
}

/// A known visitor.
#[derive(Debug, Clone)]
pub struct Who {
    /// For the audit row of what they do. Of a token: its owner, so that several tokens of one person are one person.
    pub actor: Actor,
    /// Session or token.
    pub credential: Credential,
    /// What a page needs to know of the request.
    pub visit: Visit,
}

impl Who {
    /// Whether they hold the permission.
    pub fn may(&self, permission: Permission) -> bool {
        match &self.credential {
            Credential::Session(session) => session.role.may(permission),
            Credential::Token(token) => token.may(permission),
        }
    }

    /// Role of a person, or of the owner of a token.
    pub fn role(&self) -> Option<Role> {
        match &self.credential {
            Credential::Session(session) => Some(session.role),
            Credential::Token(token) => token.owner_role,
        }
    }

    /// Name of the account, or the owner of the token.
    pub fn name(&self) -> &str {
        &self.actor.name
    }

    /// The session of a browser.
    pub fn session(&self) -> Option<&Session> {
        match &self.credential {
            Credential::Session(session) => Some(session),
            Credential::Token(_) => None,
        }
    }
}

/// A visitor who holds the right `R`. Dereferences to [`Who`].
#[derive(Debug, Clone)]
pub struct Allowed<R>(Who, PhantomData<R>);

impl<R> Deref for Allowed<R> {
    type Target = Who;
    fn deref(&self) -> &Who {
        &self.0
    }
}

/// The hidden token of the session, left for [`Form`].
#[derive(Clone)]
struct Csrf(String);

impl<R: Right> FromRequestParts<Arc<App>> for Allowed<R> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        let who = if parts.uri.path().starts_with("/api/") { of_token(parts, app).await? } else { of_session(parts, app).await? };
        if let Needs::May(permission) = R::NEEDS {
            if !who.may(permission) {
                tracing::warn!(request.id = ?who.actor.request_id, permission = permission.words(), "a request was refused");
                return Err(Error::Forbidden(permission));
            }
            if who.session().is_some_and(|s| s.must_set_password) {
                return Err(Error::SetPassword);
            }
        }
        Ok(Self(who, PhantomData))
    }
}

async fn of_session(parts: &mut Parts, app: &App) -> Result<Who> {
    let visit = Visit::of(parts);
    let sign_in = || Error::SignIn { next: visit.here.clone() };
    let Some(token) = cookie(&parts.headers, session_cookie(app)) else {
        return Err(sign_in());
    };
    let mut conn = app.db.web.acquire().await?;
    let session = sessions::find(&mut conn, token, app.clock.now()).await?.ok_or_else(sign_in)?;
    parts.extensions.insert(Csrf(session.csrf.clone()));
    Ok(Who { actor: actor(parts, app, session.name.clone()), credential: Credential::Session(session), visit })
}

async fn of_token(parts: &Parts, app: &App) -> Result<Who> {
    let mut given = parts.headers.get_all(header::AUTHORIZATION).iter();
    let value = given.next().and_then(|v| v.to_str().ok()).ok_or(Error::NoToken)?;
    if given.next().is_some() {
        return Err(Error::Malformed("send one `Authorization` header".to_owned()));
    }
    let (scheme, text) = value.split_once(' ').ok_or(Error::NoToken)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Error::NoToken);
    }
    let mut conn = app.db.web.acquire().await?;
    let token = tokens::authenticate(&mut conn, text.trim(), app.clock.now()).await?.ok_or(Error::NoToken)?;
    Ok(Who { actor: actor(parts, app, token.owner.clone()), credential: Credential::Token(token), visit: Visit::of(parts) })
}

/// Who acts in this request, before or after they are known.
pub fn actor(parts: &Parts, app: &App, name: String) -> Actor {
    let mut actor = Actor::new(name, app.audit_key.clone());
    actor.address = address(parts);
    actor.request_id = parts.extensions.get::<RequestId>().map(|id| id.0.to_string());
    actor
}

/// Address of the client, from the socket.
pub fn address(parts: &Parts) -> Option<String> {
    parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(at)| at.ip().to_canonical().to_string())
}

/// Name of the session cookie: browsers take `__Host-` over https only.
pub fn session_cookie(app: &App) -> &'static str {
    if super::is_https(app) { "__Host-cf_session" } else { "cf_session" }
}

/// Value of a cookie, if the browser sent exactly this name.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .find_map(|pair| pair.trim().split_once('=').filter(|(n, _)| *n == name).map(|(_, value)| value))
}

/// A form of a signed-in page: its hidden token must be that of the session. Blank fields count as absent. Take an
/// [`Allowed`] before it.
#[derive(Debug)]
pub struct Form<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Form<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        let csrf = request.extensions().get::<Csrf>().cloned().ok_or(Error::CrossSite)?;
        let fields = fields(request, state).await?;
        let given = fields.iter().find(|(name, _)| name == "csrf").map(|(_, value)| value.as_bytes()).unwrap_or_default();
        if !bool::from(subtle::ConstantTimeEq::ct_eq(given, csrf.0.as_bytes())) {
            return Err(Error::CrossSite);
        }
        parse(&fields).map(Self)
    }
}

/// A form of a page that has no session yet; guarded by the origin check alone.
#[derive(Debug)]
pub struct OpenForm<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for OpenForm<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        parse(&fields(request, state).await?).map(Self)
    }
}

async fn fields<S: Send + Sync>(request: Request, state: &S) -> Result<Vec<(String, String)>> {
    let body = Bytes::from_request(request, state).await.map_err(|_| Error::TooLarge)?;
    Ok(form_urlencoded::parse(&body).into_owned().collect())
}

fn parse<T: DeserializeOwned>(fields: &[(String, String)]) -> Result<T> {
    let mut text = form_urlencoded::Serializer::new(String::new());
    for (name, value) in fields.iter().filter(|(name, value)| name != "csrf" && !value.trim().is_empty()) {
        text.append_pair(name, value);
    }
    serde_html_form::from_str(&text.finish()).map_err(|e| Error::Invalid(vec![FieldError::new("form", e.to_string())]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, HeaderValue::from_static("xcf_session=1; cf_session=abc=; b=2"));
        assert_eq!(cookie(&headers, "cf_session"), Some("abc="));
        assert_eq!(cookie(&headers, "session"), None);
    }
}
