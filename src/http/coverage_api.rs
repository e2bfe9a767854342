//! `/api/v1/coverage`: telemetry health per host and class. A silent host is not a clean one.

use crate::{
    app::App,
    http::{
        api::{self, Filter, Items},
        auth::{Allowed, Read},
        error::Result,
    },
    model::{
        code::Class,
        coverage::{self, Assessable, ClassHealth},
    },
    store::coverage::{self as store, HostSeen},
};
use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

crate::http::route_table! {
    get "/api/v1/coverage" Read => list;
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Query {
    host: Option<String>,
    class: Option<String>,
    limit: Option<i64>,
    cursor: Option<String>,
}

/// Telemetry of one host.
#[derive(Debug, Serialize)]
pub(crate) struct Coverage {
    host: String,
    class: Option<String>,
    tier: Option<i16>,
    last_event_at: Option<DateTime<Utc>>,
    /// Per evidence class.
    pub(crate) classes: BTreeMap<Class, ClassHealth>,
    /// Per analytic.
    pub(crate) analytics: [Assessable; 2],
}

impl Coverage {
    /// Judged now.
    pub(crate) fn of(host: HostSeen, now: DateTime<Utc>) -> Self {
        let classes = coverage::judge(&host.seen, now);
        Self {
            analytics: coverage::assessable(&classes),
            classes,
            host: host.name,
            class: host.class,
            tier: host.tier,
            last_event_at: host.seen.last_seen,
        }
    }
}

/// `GET /api/v1/coverage`
pub(crate) async fn list(_: Allowed<Read>, Filter(query): Filter<Query>, State(app): State<Arc<App>>) -> Result<Json<Items<Coverage>>> {
    let limit = api::limit(query.limit);
    let name = query.host.map(|h| h.to_lowercase());
    let filter = store::Filter { name, class: query.class, after: query.cursor, limit: limit + 1 };
    let mut conn = app.db.web.acquire().await?;
    let hosts = store::hosts(&mut conn, &filter).await?;
    let now = app.clock.now();
    Ok(Items::keyed(hosts.into_iter().map(|h| Coverage::of(h, now)).collect(), limit, |c: &Coverage| c.host.clone()))
}
