//! The browser port: pages and API. One table says which path needs which right; handlers take the right as an extractor.
//!
//! Features keep their own table (`route_table!`) next to their handlers and are merged in [`browser`].

pub mod assets;
pub mod auth;
pub mod error;
pub mod filters;
pub mod ingest;
pub mod page;
pub mod paths;

mod administered;
mod admin;
mod advice;
mod allowlist;
mod allowlist_pages;
mod api;
mod assessment;
mod baseline_pages;
mod baselines;
mod campaigns;
mod coverage;
mod coverage_api;
mod destinations_api;
mod detections_api;
mod hosts_api;
mod imports;
mod hunt;
mod indicator_pages;
mod indicators;
mod learned;
mod maintenance;
mod rule_pages;
mod window_pages;
mod openapi;
mod processes_api;
mod runbook;
mod status_api;
mod tunables;

mod account;
mod bulk;
mod live;
mod destinations;
mod detections;
mod events;
mod export;
mod help;
mod hosts;
mod layers;
mod serve;
mod processes;
mod metrics_report;
mod reauth;
pub mod query;
mod queue;
mod report;
mod status;
mod timeline;
mod tree;
pub mod view;

pub use error::{Error, FieldError, Result};
pub use serve::serve;

use crate::app::App;
use auth::Needs;
use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{Method, StatusCode},
    middleware,
    response::IntoResponse as _,
};
use std::{sync::Arc, time::Duration};
use tower_http::{
    catch_panic::CatchPanicLayer,
    csrf::{CsrfLayer, ProtectionError},
    timeout::TimeoutLayer,
};

/// One row of a route table.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// `GET`, `POST` ..
    pub method: &'static str,
    /// As registered, with captures.
    pub path: &'static str,
    /// What it demands; the handler's extractor says the same, a test compares.
    pub needs: Needs,
}

/// A route table: `method "path" Right => handler;` per line. Makes `ROUTES` and `routes()` of a module.
macro_rules! route_table {
    ($($method:ident $path:literal $right:ident => $handler:path;)*) => {
        /// The table of this module.
        pub(crate) const ROUTES: &[$crate::http::Route] = &[$($crate::http::Route {
            method: stringify!($method),
            path: $path,
            needs: <$crate::http::auth::$right as $crate::http::auth::Right>::NEEDS,
        }),*];

        /// Router of the table.
        pub(crate) fn routes() -> ::axum::Router<::std::sync::Arc<$crate::app::App>> {
            ::axum::Router::new()$(.route($path, ::axum::routing::$method($handler)))*
        }
    };
}
pub(crate) use route_table;

route_table! {
    get  "/"                                Read     => queue::show;
    get  "/detections/{id}"                 Read     => detections::show;
    post "/detections/{id}"                 Triage   => detections::change;
    get  "/detections/{id}/events"          Export   => events::of_detection;
    get  "/detections/{id}/events/{event}"  Export   => events::of_detection_one;
    get  "/events/{event}"                  Export   => events::show;
    get  "/processes/{id}"                  Read     => processes::show;
    get  "/_f/processes/{id}/children"      Read     => processes::children;
    get  "/hosts"                           Read     => hosts::list;
    post "/hosts"                           Tune     => hosts::describe;
    get  "/hosts/{name}"                    Read     => hosts::show;
    get  "/destinations"                    Read     => destinations::list;
    get  "/help/keys"                       Read     => help::keys;
    get  "/healthz"                         Public   => status::health;
    get  "/readyz"                          Public   => status::ready;
    get  "/static/{version}/{name}"         Public   => assets::file;
}

/// Tables of all features, for the tests that walk them.
pub const TABLES: &[&[Route]] = &[
    ROUTES,
    account::ROUTES,
    allowlist::ROUTES,
    allowlist_pages::ROUTES,
    admin::TABLES[0],
    admin::TABLES[1],
    admin::TABLES[2],
    admin::TABLES[3],
    admin::TABLES[4],
    admin::TABLES[5],
    baseline_pages::ROUTES,
    coverage::ROUTES,
    hunt::ROUTES,
    indicator_pages::ROUTES,
    metrics_report::ROUTES,
    rule_pages::ROUTES,
    window_pages::ROUTES,
    assessment::ROUTES,
    baselines::ROUTES,
    campaigns::ROUTES,
    learned::ROUTES,
    bulk::ROUTES,
    live::ROUTES,
    coverage_api::ROUTES,
    destinations_api::ROUTES,
    detections_api::ROUTES,
    hosts_api::ROUTES,
    imports::ROUTES,
    indicators::ROUTES,
    maintenance::ROUTES,
    openapi::ROUTES,
    processes_api::ROUTES,
    runbook::ROUTES,
    report::ROUTES,
    status_api::ROUTES,
    tunables::ROUTES,
    // further features: their `ROUTES` here ..
];

/// Largest body of the browser port. Source: trust design, section 9.
const BODY: usize = 1024 * 1024;

/// Everything the browser port serves.
pub fn browser(app: Arc<App>) -> Router {
    Router::new()
        .merge(routes())
        .merge(account::routes())
        .merge(allowlist::routes())
        .merge(allowlist_pages::routes())
        .merge(admin::routes())
        .merge(baseline_pages::routes())
        .merge(coverage::routes())
        .merge(hunt::routes())
        .merge(indicator_pages::routes())
        .merge(metrics_report::routes())
        .merge(rule_pages::routes())
        .merge(window_pages::routes())
        .merge(assessment::routes())
        .merge(baselines::routes())
        .merge(campaigns::routes())
        .merge(learned::routes())
        .merge(bulk::routes())
        .merge(live::routes())
        .merge(coverage_api::routes())
        .merge(destinations_api::routes())
        .merge(detections_api::routes())
        .merge(hosts_api::routes())
        .merge(imports::routes())
        .merge(indicators::routes())
        .merge(maintenance::routes())
        .merge(openapi::routes())
        .merge(processes_api::routes())
        .merge(runbook::routes())
        .merge(report::routes())
        .merge(status_api::routes())
        .merge(tunables::routes())
        // .. and their `routes()` here
        .fallback(|| async { Error::NotFound })
        .method_not_allowed_fallback(|| async { Error::Method })
        .layer(DefaultBodyLimit::max(BODY))
        .layer(middleware::from_fn(layers::demand_origin))
        .layer(CsrfLayer::new().with_rejection_response(|_: ProtectionError| Error::CrossSite.into_response()))
        .layer(middleware::from_fn_with_state(app.clone(), layers::right_host))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(20)))
        .layer(CatchPanicLayer::custom(layers::panicked))
        .layer(middleware::from_fn(error::face))
        .layer(middleware::from_fn_with_state(app.clone(), layers::headers))
        .with_state(app)
}

/// Whether browsers reach us by https, possibly through a proxy.
pub fn is_https(app: &App) -> bool {
    layers::public_url(app).is_some_and(|url| url.starts_with("https://"))
}

/// Whether a request with this method may change something.
fn is_write(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}
