//! The ingest port: who sends, what it says, and the reply each protocol wants to hear. What the records mean is the business of
//! `sources`; a protocol here only splits, and answers after COMMIT.
//!
//! A protocol is a file with a handler: [`Ingest::admit`], then [`Ingest::store`], and a face for each [`Refusal`].

mod body;
mod elastic;
mod hec;
mod native;
mod osquery;
mod otlp;
mod telegraf;

use crate::{
    app::App,
    intake::{self, Origin, Outcome, Receipt},
    model::{
        event::{Defaults, RawRecord, Reject},
        permission::Scope,
    },
    store::tokens,
};
use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, StatusCode, Uri, header, request::Parts, uri::PathAndQuery},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use body::{Budget, Share};
use std::{
    any::Any,
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, time::timeout};
use tower_http::catch_panic::CatchPanicLayer;

/// Most records of one request. Source: trust design, section 9.
const MOST_RECORDS: usize = 100_000;
/// How long a token is believed without asking the database. Source: trust design, section 6 (revoked within 1 s).
const BELIEVED: Duration = Duration::from_secs(1);
/// Longest wait for the database to say whose token it is. Source: trust design, section 9.
const ASKING: Duration = Duration::from_secs(2);
/// Longest wait for a processor.
const QUEUEING: Duration = Duration::from_secs(10);

/// Everything the ingest port serves.
pub fn router(app: Arc<App>) -> Router {
    let routes = [
        ("/api/v1/events", post(native::events)),
        ("/services/collector", post(hec::event)),
        ("/services/collector/event", post(hec::event)),
        ("/services/collector/event/1.0", post(hec::event)),
        ("/services/collector/raw", post(hec::raw)),
        ("/services/collector/raw/1.0", post(hec::raw)),
        ("/services/collector/ack", post(hec::ack)),
        ("/services/collector/health", get(hec::health)),
        ("/services/collector/health/1.0", get(hec::health)),
        ("/v1/logs", post(otlp::logs)),
        ("/v1/metrics", post(otlp::metrics)),
        ("/v1/traces", post(otlp::traces)),
        ("/telegraf", post(telegraf::metrics)),
        ("/osquery/enroll", post(osquery::enroll)),
        ("/osquery/config", post(osquery::config)),
        ("/osquery/log", post(osquery::log)),
    ];
    let with_and_without_slash = |router: Router<Arc<Ingest>>, (path, handler): (&str, MethodRouter<Arc<Ingest>>)| {
        router.route(path, handler.clone()).route(&format!("{path}/"), handler)
    };
    routes
        .into_iter()
        .fold(Router::new(), with_and_without_slash)
        // Elasticsearch clients ask for too much to list, under any index name.
        .fallback(elastic::any)
        .layer(CatchPanicLayer::custom(|_: Box<dyn Any + Send>| {
            tracing::error!("a handler of the ingest port panicked");
            Refusal::Busy.plain()
        }))
        .with_state(Arc::new(Ingest::new(app)))
}

/// Why a request is not taken. Each protocol puts it in its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("more than one Authorization header")]
    TwoCredentials,
    #[error("a token is needed: Authorization: Bearer TOKEN")]
    NoCredentials,
    #[error("the Authorization header cannot be read")]
    BadCredentials,
    #[error("a token in the URL is refused and counts as leaked: revoke it")]
    TokenInUrl,
    #[error("this token is unknown, expired or revoked")]
    UnknownToken,
    #[error("this token lacks the scope `ingest`")]
    WrongScope,
    #[error("{0}")]
    Malformed(&'static str),
    #[error("{0}")]
    TooLarge(&'static str),
    #[error("this Content-Encoding is not supported: send identity, gzip, deflate or zstd")]
    UnsupportedEncoding,
    #[error("this Content-Type is not supported: send JSON or XML, to /v1/ JSON or protobuf")]
    UnsupportedType,
    #[error("the body came too slowly")]
    Slow,
    #[error("this token has too much in flight")]
    Quota,
    #[error("busy")]
    Busy,
}

impl Refusal {
    fn status(self) -> StatusCode {
        match self {
            Self::TwoCredentials | Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::NoCredentials | Self::BadCredentials | Self::TokenInUrl | Self::UnknownToken => {
                StatusCode::UNAUTHORIZED
            }
            Self::WrongScope => StatusCode::FORBIDDEN,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedEncoding | Self::UnsupportedType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Quota => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Whether the same request may succeed later; the reply is then plain text on every route: some clients drop what they
    /// sent when it is JSON or empty (wire formats, sections 1.2 and 8).
    fn is_temporary(self) -> bool {
        matches!(self, Self::Quota | Self::Busy)
    }

    fn plain(self) -> Response {
        if self.is_temporary() {
            return (self.status(), [(header::RETRY_AFTER, "1")], "busy, retry later\n").into_response();
        }
        (self.status(), format!("{self}\n")).into_response()
    }
}

impl From<intake::Refused> for Refusal {
    fn from(_: intake::Refused) -> Self {
        Self::Busy
    }
}

/// A sender that passed.
#[derive(Debug)]
struct Forwarder {
    token_id: i64,
    defaults: Arc<Defaults>,
}

/// What a protocol makes of a body: its records, those refused before decoding, and what it needs for the reply.
#[derive(Debug)]
struct Split<T> {
    records: Vec<RawRecord>,
    refused: Vec<(usize, Reject)>,
    notes: T,
}

type Believed = HashMap<Vec<u8>, (Instant, Arc<Forwarder>)>;

/// State of the ingest port.
#[derive(Debug)]
struct Ingest {
    app: Arc<App>,
    budget: Arc<Budget>,
    /// One decoder per processor.
    processors: Arc<Semaphore>,
    /// Senders by digest of their token, with the time of the look-up. Never holds a refusal.
    believed: Mutex<Believed>,
}

impl Ingest {
    fn new(app: Arc<App>) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            app,
            budget: Arc::default(),
            processors: Arc::new(Semaphore::new(processors)),
            believed: Mutex::default(),
        }
    }

    /// Who sends this.
    async fn admit(&self, head: &Parts) -> Result<Arc<Forwarder>, Refusal> {
        if holds_token(&head.uri) {
            tracing::warn!("a token was sent in a URL: it counts as leaked");
            return Err(Refusal::TokenInUrl);
        }
        self.admit_token(&presented(&head.headers)?).await
    }

    /// Whose token this is.
    async fn admit_token(&self, token: &str) -> Result<Arc<Forwarder>, Refusal> {
        if !tokens::is_well_formed(token) {
            return Err(Refusal::UnknownToken);
        }
        let digest = tokens::digest(token);
        if let Some(known) = self.known(&digest) {
            return Ok(known);
        }
        let token = timeout(ASKING, async {
            let mut db = self.app.db.ingest.acquire().await?;
            tokens::authenticate(&mut db, token, self.app.clock.now()).await
        })
        .await
        .map_err(|_| Refusal::Busy)?
        .map_err(|error| {
            tracing::warn!(%error, "a token could not be looked up");
            Refusal::Busy
        })?
        .ok_or(Refusal::UnknownToken)?;
        if !token.scopes.contains(&Scope::Ingest) {
            return Err(Refusal::WrongScope);
        }
        let forwarder = Arc::new(Forwarder {
            token_id: token.token_id,
            defaults: Arc::new(Defaults {
                host: token.default_host,
                utc_offset_minutes: token.utc_offset_minutes,
                allowed_hosts: token.allowed_hosts,
                token: token.name,
            }),
        });
        let mut believed = self.believed.lock().unwrap_or_else(PoisonError::into_inner);
        believed.retain(|_, (since, _)| since.elapsed() < BELIEVED);
        believed.insert(digest, (Instant::now(), Arc::clone(&forwarder)));
        Ok(forwarder)
    }

    fn known(&self, digest: &[u8]) -> Option<Arc<Forwarder>> {
        let believed = self.believed.lock().unwrap_or_else(PoisonError::into_inner);
        believed.get(digest).filter(|(since, _)| since.elapsed() < BELIEVED).map(|(_, forwarder)| Arc::clone(forwarder))
    }

    /// Reads the body, splits, decodes and stores it. The receipt exists only after COMMIT.
    async fn store<T: Send + 'static>(
        &self,
        forwarder: &Forwarder,
        protocol: &'static str,
        head: &Parts,
        body: Body,
        split: impl FnOnce(Bytes, &Arc<Defaults>) -> Result<Split<T>, Refusal> + Send + 'static,
    ) -> Result<(Receipt, T), Refusal> {
        demand_text(&head.headers)?;
        let (bytes, share) = body::read(&head.headers, body, self.budget.share(forwarder.token_id)).await?;
        self.keep(forwarder, protocol, bytes, share, split).await
    }

    /// Splits, decodes and stores what was read. The share is held until then: the records are slices of these bytes.
    async fn keep<T: Send + 'static>(
        &self,
        forwarder: &Forwarder,
        protocol: &'static str,
        bytes: Bytes,
        mut share: Share,
        split: impl FnOnce(Bytes, &Arc<Defaults>) -> Result<Split<T>, Refusal> + Send + 'static,
    ) -> Result<(Receipt, T), Refusal> {
        let origin = Origin { token: forwarder.defaults.token.clone(), protocol, request_id: request_id() };
        let processor = timeout(QUEUEING, self.processors.acquire()).await.map_err(|_| Refusal::Busy)?;
        let (rules, defaults, now) =
            (Arc::clone(&self.app.rules), Arc::clone(&forwarder.defaults), self.app.clock.now());
        let prepared = self.app.tasks.spawn_blocking(move || {
            let came = bytes.len();
            let Split { records, refused, notes } = split(bytes, &defaults)?;
            let weight = within_limits(&records)?;
            // Records that are copies weigh more than the body that they came in.
            share.grow(weight.saturating_sub(came))?;
            let mut batch = intake::prepare(records, &rules, origin, now);
            for (index, reject) in refused {
                if let Some(prepared) = batch.records.get_mut(index) {
                    prepared.outcome = Err(reject);
                }
            }
            Ok::<_, Refusal>((batch, notes, share))
        });
        let (batch, notes, _held) = prepared.await.map_err(|error| {
            tracing::error!(%error, protocol, "decoding a request panicked");
            Refusal::Busy
        })??;
        drop(processor);
        let receipt = self.app.writer.submit(batch).await?;
        tracing::debug!(protocol, records = receipt.outcomes.len(), "stored a request");
        Ok((receipt, notes))
    }
}

/// Bytes of the records, unless they are too many.
fn within_limits(records: &[RawRecord]) -> Result<usize, Refusal> {
    if records.len() > MOST_RECORDS {
        return Err(Refusal::TooLarge("more than 100,000 records"));
    }
    let weight = records.iter().map(|record| record.bytes.len()).sum();
    if weight > body::DECODED {
        Err(Refusal::TooLarge("the records are larger than 64 MiB with their context"))
    } else {
        Ok(weight)
    }
}

/// Records made of these pieces; ends early where they become too many.
fn collect(pieces: impl Iterator<Item = Bytes>, defaults: &Arc<Defaults>) -> Vec<RawRecord> {
    let mut weight = 0;
    let mut records = Vec::new();
    for bytes in pieces {
        weight += bytes.len();
        records.push(RawRecord { bytes, client_id: None, defaults: Arc::clone(defaults) });
        if records.len() > MOST_RECORDS || weight > body::DECODED {
            break;
        }
    }
    records
}

/// Ties storage to one request in segments, quarantine and log.
fn request_id() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// How many records came to each fate.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    accepted: usize,
    duplicate: usize,
    quarantined: usize,
}

impl Tally {
    fn of(outcomes: &[Outcome]) -> Self {
        let mut tally = Self::default();
        for outcome in outcomes {
            match outcome {
                Outcome::Accepted => tally.accepted += 1,
                Outcome::Duplicate => tally.duplicate += 1,
                Outcome::Quarantined(_) => tally.quarantined += 1,
            }
        }
        tally
    }
}

/// The body with invalid UTF-8 replaced: one broken text must not cost the batch around it.
fn repaired(body: Bytes) -> Bytes {
    match String::from_utf8_lossy(&body) {
        Cow::Borrowed(_) => body,
        Cow::Owned(repaired) => Bytes::from(repaired),
    }
}

/// Refuses bodies in binary forms; apart from those `Content-Type` is often wrong and not believed.
fn demand_text(headers: &HeaderMap) -> Result<(), Refusal> {
    const BINARY: [&str; 5] = ["msgpack", "messagepack", "cbor", "smile", "protobuf"];
    let named =
        headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    if BINARY.iter().any(|form| named.contains(form)) { Err(Refusal::UnsupportedType) } else { Ok(()) }
}

/// Base64 with or without padding: both are common in hand-made headers.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The token of the one `Authorization` header.
fn presented(headers: &HeaderMap) -> Result<String, Refusal> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let value = all.next().ok_or(Refusal::NoCredentials)?;
    if all.next().is_some() {
        return Err(Refusal::TwoCredentials);
    }
    let (scheme, rest) = value.to_str().ok().and_then(|v| v.trim().split_once(' ')).ok_or(Refusal::BadCredentials)?;
    let rest = rest.trim();
    match scheme.to_ascii_lowercase().as_str() {
        "bearer" | "splunk" => Ok(rest.to_owned()),
        "apikey" | "basic" => {
            let pair = BASE64
                .decode(rest)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .ok_or(Refusal::BadCredentials)?;
            pair.split_once(':').map(|(_, token)| token.to_owned()).ok_or(Refusal::BadCredentials)
        }
        _ => Err(Refusal::BadCredentials),
    }
}

/// Whether the URL carries credentials, as a parameter so named or as the text of a token anywhere.
fn holds_token(uri: &Uri) -> bool {
    const NAMES: [&str; 4] = ["token", "access_token", "api_key", "apikey"];
    let text = uri.path_and_query().map_or("", PathAndQuery::as_str);
    let mut names =
        uri.query().unwrap_or_default().split('&').map(|parameter| parameter.split('=').next().unwrap_or_default());
    names.any(|name| NAMES.iter().any(|n| name.eq_ignore_ascii_case(n)))
        || text
            .match_indices("cf_")
            .any(|(at, _)| text.get(at..at + tokens::LENGTH).is_some_and(tokens::is_well_formed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use base64::engine::general_purpose;
    use proptest::prelude::*;

    fn with(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_token_is_found_under_every_scheme() {
        let token = tokens::mint(&[Scope::Ingest]);
        let pair = general_purpose::STANDARD.encode(format!("any one:{token}"));
        let bare = general_purpose::STANDARD_NO_PAD.encode(format!(":{token}"));
        for value in [
            format!("Bearer {token}"),
            format!("bearer  {token} "),
            format!("SPLUNK {token}"),
            format!("ApiKey {pair}"),
            format!("Basic {pair}"),
            format!("basic {bare}"),
        ] {
            assert_eq!(presented(&with(&[&value])), Ok(token.clone()), "{value}");
        }
    }

    #[test]
    fn other_headers_say_what_is_wrong_with_them() {
        assert_eq!(presented(&with(&[])), Err(Refusal::NoCredentials));
        assert_eq!(presented(&with(&["Bearer a", "Bearer a"])), Err(Refusal::TwoCredentials));
        for value in ["", "Bearer", "Digest x", "Basic %%%", "Basic YWJj", "token abc"] {
            assert_eq!(presented(&with(&[value])), Err(Refusal::BadCredentials), "{value}");
        }
    }

    #[test]
    fn a_token_in_the_url_is_seen() {
        let token = tokens::mint(&[Scope::Ingest]);
        for url in [
            format!("/_bulk?x={token}"),
            format!("/{token}/_bulk"),
            "/_bulk?Token=x".to_owned(),
            format!("/_bulk?a=1&b=Bearer%20{token}"),
        ] {
            assert!(holds_token(&url.parse().unwrap()), "{url}");
        }
        assert!(!holds_token(&"/winlogbeat-9/_bulk?timeout=60s&filter_path=errors".parse().unwrap()));
    }

    #[test]
    fn what_may_succeed_later_is_plain_text_with_a_pause() {
        for refusal in [Refusal::Busy, Refusal::Quota] {
            let reply = refusal.plain();
            assert_eq!(reply.headers().get(header::RETRY_AFTER).unwrap(), "1");
            assert!(reply.headers().get(header::CONTENT_TYPE).unwrap().to_str().unwrap().starts_with("text/plain"));
        }
    }

    proptest! {
        #[test]
        fn no_header_panics(value in prop::collection::vec(32u8..=255, 0..80), scheme in "(?i)(bearer |basic |apikey |splunk )?") {
            let mut all = scheme.into_bytes();
            all.extend(value.into_iter().filter(|b| *b != 127));
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_bytes(&all).unwrap());
            prop_assert!(presented(&headers).is_ok_and(|t| t.len() <= all.len()) || presented(&headers).is_err());
        }
    }
}
