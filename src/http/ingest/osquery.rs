//! osquery's TLS plugins: enrolment, configuration, result and status logs (wire formats, section 7).
//!
//! The client cannot set headers: its enroll secret is an ingest token, and the node key it gets is the same text. So nothing is
//! stored about nodes, and a revoked token ends all of them within a second.

use super::{Ingest, Refusal, Split, body, demand_text, holds_token, repaired};
use crate::intake::split;
use anyhow::Context as _;
use axum::{
    Json,
    body::{Body, Bytes},
    extract::State,
    http::Request,
    response::{IntoResponse, Response},
};
use body::Share;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{borrow::Cow, sync::Arc};

/// What proves a request, wherever it stands in the body.
#[derive(Deserialize)]
struct Proof<'a> {
    #[serde(borrow)]
    enroll_secret: Option<Cow<'a, str>>,
    #[serde(borrow)]
    node_key: Option<Cow<'a, str>>,
}

/// Gives a node its key.
pub(super) async fn enroll(State(ingest): State<Arc<Ingest>>, request: Request<Body>) -> Response {
    reply(enrolled(&ingest, request).await)
}

/// What a node shall query.
pub(super) async fn config(State(ingest): State<Arc<Ingest>>, request: Request<Body>) -> Response {
    reply(configured(&ingest, request).await)
}

/// Stores the rows of a result or status log.
pub(super) async fn log(State(ingest): State<Arc<Ingest>>, request: Request<Body>) -> Response {
    reply(logged(&ingest, request).await)
}

/// A node that is not known enrols again; every other refusal makes it repeat what it holds.
fn reply(answer: Result<Value, Refusal>) -> Response {
    match answer {
        Ok(body) => Json(body).into_response(),
        Err(Refusal::UnknownToken | Refusal::WrongScope | Refusal::NoCredentials) => {
            Json(json!({"node_invalid": true})).into_response()
        }
        Err(refusal) => refusal.plain(),
    }
}

async fn enrolled(ingest: &Ingest, request: Request<Body>) -> Result<Value, Refusal> {
    let (bytes, _held) = read(ingest, request).await?;
    let secret = proof(&bytes)?.enroll_secret.ok_or(Refusal::NoCredentials)?;
    ingest.admit_token(&secret).await?;
    Ok(json!({"node_key": secret, "node_invalid": false}))
}

async fn configured(ingest: &Ingest, request: Request<Body>) -> Result<Value, Refusal> {
    let (bytes, _held) = read(ingest, request).await?;
    ingest.admit_token(&proof(&bytes)?.node_key.ok_or(Refusal::NoCredentials)?).await?;
    let mut config = configuration(ingest).await.map_err(|error| {
        tracing::error!(error = format!("{error:#}"), "the configuration for osquery cannot be given");
        Refusal::Busy
    })?;
    config.insert("node_invalid".to_owned(), Value::Bool(false));
    Ok(Value::Object(config))
}

/// The file of the setting, read anew each time so that a change needs no restart.
async fn configuration(ingest: &Ingest) -> anyhow::Result<Map<String, Value>> {
    let Some(path) = &ingest.app.settings.osquery_config else {
        return Ok(Map::from_iter([("schedule".to_owned(), json!({}))]));
    };
    let text = tokio::fs::read(path).await.with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not a JSON object", path.display()))
}

async fn logged(ingest: &Ingest, request: Request<Body>) -> Result<Value, Refusal> {
    let (bytes, share) = read(ingest, request).await?;
    let forwarder = ingest.admit_token(&proof(&bytes)?.node_key.ok_or(Refusal::NoCredentials)?).await?;
    let split = |body: Bytes, defaults: &_| {
        // Never kept whole: the node key is in it.
        let rows = split::split_batch(&body).ok_or(Refusal::Malformed("expected log_type and data"))?;
        Ok(Split { records: super::collect(rows.into_iter(), defaults), refused: Vec::new(), notes: () })
    };
    ingest.keep(&forwarder, "osquery", bytes, share, split).await?;
    Ok(json!({"node_invalid": false}))
}

async fn read(ingest: &Ingest, request: Request<Body>) -> Result<(Bytes, Share), Refusal> {
    let (head, body) = request.into_parts();
    if holds_token(&head.uri) {
        return Err(Refusal::TokenInUrl);
    }
    demand_text(&head.headers)?;
    let (bytes, share) = body::read(&head.headers, body, ingest.budget.share(body::STRANGER)).await?;
    Ok((repaired(bytes), share))
}

fn proof(bytes: &Bytes) -> Result<Proof<'_>, Refusal> {
    serde_json::from_slice(bytes).map_err(|_| Refusal::Malformed("expected a JSON object"))
}
