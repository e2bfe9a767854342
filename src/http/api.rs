//! What JSON handlers share: bodies, filters, pages of a list, and how refusals of the stores become answers.

use crate::{
    app::App,
    http::{
        auth::Who,
        error::{Error, FieldError, Result, Stale},
    },
    model::{exceptions::Invalid, permission::Permission},
    store::{allowlist::{Person, Refusal}, triage::ChangeError},
};
use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Postgres, Transaction};
use std::str::FromStr;

/// Most items of one page of a list.
const MOST: i64 = 200;
/// Items of a page when the caller does not say.
const USUAL: i64 = 50;

/// How many items a caller gets.
pub(crate) fn limit(asked: Option<i64>) -> i64 {
    asked.unwrap_or(USUAL).clamp(1, MOST)
}

/// A JSON body. Unknown keys are refused by name; an empty body counts as `{}`.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        let bytes = Bytes::from_request(request, state).await.map_err(|_| Error::TooLarge)?;
        let bytes = if bytes.is_empty() { b"{}".as_slice() } else { &bytes };
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(malformed)?;
        if holds_nul(&value) {
            return Err(Error::Malformed("text must not hold the character NUL".to_owned()));
        }
        serde_json::from_slice(bytes).map(Self).map_err(malformed)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape map_err wants")]
fn malformed(error: serde_json::Error) -> Error {
    Error::Malformed(error.to_string())
}

/// PostgreSQL cannot store it.
fn holds_nul(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::String(text) => text.contains('\0'),
        serde_json::Value::Array(items) => items.iter().any(holds_nul),
        serde_json::Value::Object(fields) => fields.iter().any(|(key, item)| key.contains('\0') || holds_nul(item)),
        _ => false,
    }
}

/// The query of a list. Blank fields count as absent, unknown ones are refused by name.
#[derive(Debug)]
pub(crate) struct Filter<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Filter<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let mut text = form_urlencoded::Serializer::new(String::new());
        for (name, value) in form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
            if value.contains('\0') {
                return Err(Error::Malformed(format!("{name}: text must not hold the character NUL")));
            }
            if !value.trim().is_empty() {
                text.append_pair(&name, value.trim());
            }
        }
        serde_html_form::from_str(&text.finish()).map(Self).map_err(|e| Error::Malformed(e.to_string()))
    }
}

/// Words of a closed list, separated by commas.
pub(crate) fn words<T: FromStr<Err: std::fmt::Display>>(text: Option<&str>) -> Result<Vec<T>> {
    text.into_iter().flat_map(|t| t.split(',')).map(|w| w.trim().parse().map_err(|e: T::Err| Error::Malformed(e.to_string()))).collect()
}

/// A page of a list.
#[derive(Debug, Serialize)]
pub(crate) struct Items<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

impl<T> Items<T> {
    /// The whole list.
    pub(crate) fn all(items: Vec<T>) -> Json<Self> {
        Json(Self { items, next_cursor: None })
    }

    /// One page, and where the next begins.
    pub(crate) fn page(items: Vec<T>, next_cursor: Option<String>) -> Json<Self> {
        Json(Self { items, next_cursor })
    }

    /// A page of a list asked for with one item more than `limit`; `key` names the place of an item.
    pub(crate) fn keyed(mut items: Vec<T>, limit: i64, key: impl Fn(&T) -> String) -> Json<Self> {
        let limit = usize::try_from(limit).unwrap_or(0);
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items.last().filter(|_| more).map(key);
        Json(Self { items, next_cursor })
    }
}

/// 201 with what was made and where it is.
pub(crate) fn created(place: &str, made: &impl Serialize) -> Response {
    let mut response = (StatusCode::CREATED, Json(made)).into_response();
    if let Ok(place) = HeaderValue::from_str(place) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

/// Something with its version, for `If-Match`.
pub(crate) fn versioned(version: i32, value: &impl Serialize) -> Response {
    ([(header::ETAG, format!("\"{version}\""))], Json(value)).into_response()
}

/// Version a caller says it has read, by `If-Match`. `*` is any.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IfMatch(pub(crate) Option<i32>);

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        const IF_MATCH: HeaderName = header::IF_MATCH;
        let Some(value) = parts.headers.get(IF_MATCH) else { return Ok(Self(None)) };
        let text = value.to_str().unwrap_or_default().trim();
        if text == "*" {
            return Ok(Self(None));
        }
        let number = text.trim_start_matches("W/").trim_matches('"').parse();
        // A tag that was never ours matches nothing.
        number.map(|v| Self(Some(v))).map_err(|_| Error::Stale(Stale::Precondition))
    }
}

/// The visitor as author or approver of an entry.
pub(crate) fn person(who: &Who) -> Person<'_> {
    Person { actor: &who.actor, leads: who.may(Permission::Approve) }
}

/// Makes a change last and tells the worker, who looks at what it marked.
pub(crate) async fn commit(app: &App, tx: Transaction<'_, Postgres>) -> Result<()> {
    tx.commit().await?;
    app.marked.notify_one();
    Ok(())
}

/// One is there already.
pub(crate) fn exists(id: i64) -> Error {
    Error::Exists { id: id.to_string() }
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(vec![FieldError::new(invalid.field, invalid.reason)])
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound => Self::NotFound,
            Refusal::Stale(_) => Self::Stale(Stale::Version),
            Refusal::Exists(id) => exists(id),
            Refusal::Invalid(invalid) => invalid.into(),
            Refusal::Body(error) => malformed(error),
            Refusal::NotProposed(_) | Refusal::Twice | Refusal::Creature => {
                Self::Invalid(vec![FieldError::new("approvals", refusal.to_string())])
            }
            Refusal::Other(error) => error.into(),
        }
    }
}

impl From<ChangeError> for Error {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::NotFound => Self::NotFound,
            ChangeError::Stale(_) => Self::Stale(Stale::Version),
            ChangeError::Invalid(invalid) => invalid.into(),
            ChangeError::Other(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::detection::Verdict;

    #[test]
    fn words_are_separated_by_commas_and_unknown_ones_named() {
        assert_eq!(words::<Verdict>(Some("alert, candidate")).unwrap(), [Verdict::Alert, Verdict::Candidate]);
        assert!(words::<Verdict>(None).unwrap().is_empty());
        assert!(words::<Verdict>(Some("alarm")).unwrap_err().to_string().contains("`alarm`"));
    }

    #[test]
    fn nul_is_found_wherever_it_hides() {
        assert!(holds_nul(&serde_json::json!({"a":[{"b":"x\0"}]})));
        assert!(!holds_nul(&serde_json::json!({"a":["\\u0000"]})));
    }
}
