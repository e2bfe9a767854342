//! `/api/v1/openapi.json`: the API described in OpenAPI 3.1. Written by hand; a test holds it to the route tables.

use crate::http::{
    auth::{Allowed, Read},
    error::Error,
};
use axum::http::{HeaderName, header};

crate::http::route_table! {
    get "/api/v1/openapi.json" Read => document;
}

/// `GET /api/v1/openapi.json`
pub(crate) async fn document(_: Allowed<Read>) -> Result<([(HeaderName, &'static str); 1], &'static str), Error> {
    Ok(([(header::CONTENT_TYPE, "application/json")], include_str!("openapi.json")))
}
