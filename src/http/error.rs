//! What goes wrong for a visitor. The only place that knows status codes.
//!
//! An error has three faces: a page, RFC 9457 `application/problem+json` under `/api/`, an htmx toast. Handlers return it without
//! knowing which; [`face`] looks at the request, adds the request id and logs what is ours to repair. Inner text stays inside.

use crate::{http::{page, paths}, model::permission::Permission};
use axum::{
    Json,
    extract::Request,
    http::{HeaderName, HeaderValue, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use serde::Serialize;
use std::sync::Arc;

/// Result of a handler.
pub type Result<T> = std::result::Result<T, Error>;

/// One field of a form or body that cannot be taken as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Name of the field.
    pub field: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl FieldError {
    /// One error.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing of that name, or nothing for this visitor.
    #[error("there is nothing at this address")]
    NotFound,
    /// The path exists, the method does not.
    #[error("this address does not take that method")]
    Method,
    /// No session, or it is over.
    #[error("sign in first")]
    SignIn {
        /// Where to go after.
        next: String,
    },
    /// An API request without a token that counts.
    #[error("a valid API token is needed: `Authorization: Bearer cf_…`")]
    NoToken,
    /// Signed in with a one-time password: only the set-password page opens.
    #[error("set your own password first")]
    SetPassword,
    /// The visitor is known and may not.
    #[error("this needs the permission `{}`", .0.words())]
    Forbidden(Permission),
    /// The request comes from another site, or its form from another session.
    #[error("the request did not come from a page of this session: reload the page and try again")]
    CrossSite,
    /// The request cannot be read: unknown keys, bad JSON, a bad filter.
    #[error("{0}")]
    Malformed(String),
    /// Read, and some fields are wrong.
    #[error("some fields are not right")]
    Invalid(Vec<FieldError>),
    /// It is there already.
    #[error("this exists already")]
    Exists {
        /// Public id of what is there.
        id: String,
    },
    /// Somebody else was faster.
    #[error("somebody changed this in the meantime")]
    Stale(Stale),
    /// Body over the limit.
    #[error("the request is larger than this address takes")]
    TooLarge,
    /// The database is away or busy.
    #[error("busy: try again in a few seconds")]
    Overloaded,
    /// Ours to repair.
    #[error("something went wrong here, not with what you did")]
    Internal(#[source] anyhow::Error),
}

/// How the caller said which version it had read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stale {
    /// By `version` in the body: 409.
    Version,
    /// By `If-Match`: 412.
    Precondition,
}

impl Permission {
    /// As named in refusals.
    pub fn words(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Export => "export",
            Self::Triage => "triage",
            Self::Propose => "propose",
            Self::Tune => "tune",
            Self::Approve => "approve",
            Self::Audit => "audit",
            Self::Administer => "administer",
            Self::Metrics => "metrics",
        }
    }
}

impl Error {
    /// Status code of the page and API face.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::SignIn { .. } | Self::SetPassword | Self::NoToken => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) | Self::CrossSite => StatusCode::FORBIDDEN,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Exists { .. } | Self::Stale(Stale::Version) => StatusCode::CONFLICT,
            Self::Stale(Stale::Precondition) => StatusCode::PRECONDITION_FAILED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Page that repairs it, where one does.
    fn elsewhere(&self) -> Option<String> {
        match self {
            Self::SignIn { next } => Some(page::login_url(next)),
            Self::SetPassword => Some(paths::Password.to_string()),
            _ => None,
        }
    }

    /// What the reader can do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::NotFound => "Check the address, or start from the queue or the list of hosts.",
            Self::Method => "Use the forms and links of the pages.",
            Self::SignIn { .. } => "Your session is over.",
            Self::SetPassword => "The password you signed in with is good for this alone.",
            Self::NoToken => "Ask an administrator for a token of the right scope.",
            Self::Forbidden(_) => "Ask an administrator if you should have it.",
            Self::CrossSite | Self::Exists { .. } => "Nothing was changed.",
            Self::Malformed(_) | Self::Invalid(_) | Self::TooLarge => "Nothing was changed. Correct it and send it again.",
            Self::Stale(_) => "Nothing was changed. Reload to see what it is now.",
            Self::Overloaded => "Nothing is lost: events keep arriving and are evaluated later.",
            Self::Internal(_) => "Try again. If it stays, give the request id to whoever runs Coalface.",
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed => Self::Overloaded,
            other => Self::Internal(other.into()),
        }
    }
}

impl From<anyhow::Error> for Error {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<sqlx::Error>() {
            Ok(sql) => sql.into(),
            Err(other) => Self::Internal(other),
        }
    }
}

impl From<askama::Error> for Error {
    fn from(error: askama::Error) -> Self {
        Self::Internal(error.into())
    }
}

impl IntoResponse for Error {
    /// Only a note for [`face`], which knows the request.
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

/// Identity of a request: in every answer, log line and audit row.
#[derive(Debug, Clone)]
pub struct RequestId(pub Arc<str>);

/// Name of the header that carries it.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives every request an id and every error the face its reader expects. Outermost layer but for the headers.
pub async fn face(mut request: Request, next: Next) -> Response {
    let id = RequestId(format!("{:016x}", rand::random::<u64>()).into());
    request.extensions_mut().insert(id.clone());
    let (parts, body) = request.into_parts();
    let asked = Parts::from(Asked(&parts));
    let mut response = next.run(Request::from_parts(parts, body)).await;
    if let Some(error) = response.extensions_mut().remove::<Arc<Error>>() {
        response = dress(&error, &asked, &id);
    }
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// What of a request decides the face of its error.
struct Asked<'a>(&'a Parts);

impl From<Asked<'_>> for Parts {
    fn from(Asked(parts): Asked<'_>) -> Self {
        let (mut copy, ()) = axum::http::Request::new(()).into_parts();
        copy.method = parts.method.clone();
        copy.uri = parts.uri.clone();
        copy.headers = parts.headers.clone();
        copy
    }
}

fn dress(error: &Error, asked: &Parts, id: &RequestId) -> Response {
    if let Error::Internal(cause) = error {
        tracing::error!(request.id = %id.0, http.path = asked.uri.path(), error = format!("{cause:#}"), "a request failed");
    }
    let status = error.status();
    let fragment = page::Hx::of(&asked.headers).is_fragment();
    let mut response = if asked.uri.path().starts_with("/api/") {
        problem(error, id)
    } else if let Some(to) = error.elsewhere() {
        let by_htmx = (status, [(HeaderName::from_static("hx-redirect"), to.clone())]);
        if fragment { by_htmx.into_response() } else { Redirect::to(&to).into_response() }
    } else if fragment {
        page::toast(error, id)
    } else {
        page::error(error, id, asked)
    };
    match error {
        Error::Overloaded => drop(response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"))),
        Error::NoToken => drop(response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
        _ => {}
    }
    response
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

fn problem(error: &Error, id: &RequestId) -> Response {
    let status = error.status();
    let mut body = Problem {
        r#type: "about:blank",
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        detail: error.to_string(),
        request_id: &id.0,
        id: None,
        errors: &[],
    };
    match error {
        Error::Exists { id } => body.id = Some(id),
        Error::Invalid(errors) => {
            body.errors = errors;
            if let [one] = errors.as_slice() {
                body.detail = format!("{}: {}", one.field, one.reason);
            }
        }
        _ => {}
    }
    (status, [(header::CONTENT_TYPE, "application/problem+json")], Json(body)).into_response()
}
