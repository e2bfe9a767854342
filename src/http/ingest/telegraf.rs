//! Telegraf `outputs.http`: a JSON batch, single metrics, or influx lines, told apart by the first byte (wire formats, section 6).

use super::{Ingest, native};
use crate::intake::split;
use axum::{body::Body, extract::State, http::Request, response::Response};
use std::sync::Arc;

/// Stores metrics; the reply is that of the native route.
pub(super) async fn metrics(State(ingest): State<Arc<Ingest>>, request: Request<Body>) -> Response {
    native::answer(&ingest, "telegraf", request, |body, defaults| {
        let text = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body).trim_ascii_start();
        match text.first() {
            Some(b'{' | b'[') => super::collect(split::documents(body), defaults),
            _ => super::collect(split::influx_lines(&body.slice_ref(text)), defaults),
        }
    })
    .await
}
