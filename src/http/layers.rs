//! What every answer of the browser port has in common: headers, origin, host name, a face for panics.
//!
//! Source: trust design, section 5; the policy is that of the interface design, section 11.

use crate::{
    app::App,
    http::{
        error::Error,
        is_https, is_write,
        page::FLASH,
    },
};
use axum::{
    extract::{Request, State},
    http::{HeaderName, HeaderValue, StatusCode, Uri, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::{any::Any, sync::Arc};

/// Policy of HTML answers: nothing inline, nothing from elsewhere.
pub(super) const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'; object-src 'none'; require-trusted-types-for 'script'; \
    trusted-types default";
/// Policy of everything else: inert.
pub(super) const DATA_POLICY: &str = "default-src 'none'; frame-ancestors 'none'; sandbox";

const FIXED: [(HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // With no-referrer browsers send `Origin: null` on posts of our own forms.
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), magnetometer=(), microphone=(), \
         midi=(), payment=(), usb=()",
    ),
];

/// Address people use, if the settings name one.
pub(super) fn public_url(app: &App) -> Option<&str> {
    app.settings.public_url.as_deref()
}

/// Security and cache headers of every answer.
pub(super) async fn headers(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let had_flash = super::auth::cookie(request.headers(), FLASH).is_some();
    let mut response = next.run(request).await;
    let is_html = response.headers().get(header::CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"text/html"));
    let set = response.headers_mut();
    for (name, value) in FIXED {
        set.insert(name, HeaderValue::from_static(value));
    }
    set.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(if is_html { PAGE_POLICY } else { DATA_POLICY }));
    if !set.contains_key(header::CACHE_CONTROL) {
        set.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        set.insert(header::VARY, HeaderValue::from_static("HX-Request, HX-Target, Cookie"));
    }
    if is_https(&app) {
        set.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    // A message is shown once: the page that could show it takes it away.
    if had_flash && is_html {
        set.append(header::SET_COOKIE, HeaderValue::from_static("cf_flash=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"));
    }
    response
}

/// The origin layer lets writes pass that name no origin at all; only programs with a token may do that.
pub(super) async fn demand_origin(request: Request, next: Next) -> Response {
    let sent = request.headers();
    let named = sent.contains_key(header::ORIGIN) || sent.contains_key("sec-fetch-site");
    if is_write(request.method()) && !named && !request.uri().path().starts_with("/api/") {
        return Error::CrossSite.into_response();
    }
    next.run(request).await
}

/// Refuses other host names than the public one, against DNS rebinding. Probes come by address and are exempt.
pub(super) async fn right_host(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let wanted = public_url(&app).and_then(|url| url.parse::<Uri>().ok());
    let wanted = wanted.as_ref().and_then(Uri::authority).map(Authority::as_str);
    let header = request.headers().get(header::HOST).and_then(|v| v.to_str().ok());
    let asked = header.or_else(|| request.uri().authority().map(Authority::as_str));
    let exempt = matches!(request.uri().path(), "/healthz" | "/readyz" | "/metrics");
    if !exempt && wanted.is_some_and(|w| !asked.is_some_and(|a| a.eq_ignore_ascii_case(w))) {
        return StatusCode::MISDIRECTED_REQUEST.into_response();
    }
    next.run(request).await
}

/// A panic is an internal error like others.
#[expect(clippy::needless_pass_by_value, reason = "the layer gives it away")]
pub(super) fn panicked(cause: Box<dyn Any + Send>) -> Response {
    let text = cause.downcast_ref::<String>().map(String::as_str).or_else(|| cause.downcast_ref::<&str>().copied());
    Error::Internal(anyhow::anyhow!("panic: {}", text.unwrap_or("without a message"))).into_response()
}
