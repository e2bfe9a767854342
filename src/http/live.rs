//! `/live`: one stream per open queue that says how many new detections its filter would show. Nothing is inserted or moved: the
//! page puts up a banner (interface design, section 7.4).
//!
//! The stream asks the database each second; what is new is what was committed after the page's snapshot. Nothing notifies: a
//! `NOTIFY` takes a lock at COMMIT that all writers share.

use crate::{
    app::App,
    http::{
        auth::{self, Allowed, Read, session_cookie},
        error::{Error, Result},
        query::Fields,
        queue,
    },
    store::{queue as listing, sessions},
};
use axum::{
    extract::{RawQuery, State},
    http::{HeaderMap, HeaderName, HeaderValue},
    response::{
        IntoResponse as _, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use chrono::DateTime;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio_stream::{Stream, StreamExt as _};

crate::http::route_table! {
    get "/live" Read => stream;
}

/// Between two questions. Source: interface design, section 7.4: at most 2 s from commit to banner.
const EVERY: Duration = Duration::from_secs(1);
/// So that proxies do not end a quiet stream. Source: interface design, section 7.4.
const PING: Duration = Duration::from_secs(15);

/// `GET /live?topic=queue&snapshot=…&made=…&<filter>`: `new` events with a count, whenever it changes. Ends with the session.
pub(crate) async fn stream(
    who: Allowed<Read>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    State(app): State<Arc<App>>,
) -> Result<Response> {
    let fields = Fields::parse(query.as_deref());
    if fields.one("topic") != Some("queue") {
        return Err(Error::Malformed("`topic`: expected queue".to_owned()));
    }
    let snapshot = fields.one("snapshot").filter(|text| is_snapshot(text));
    let snapshot =
        snapshot.ok_or_else(|| Error::Malformed("`snapshot`: take the address from the page".to_owned()))?.to_owned();
    let made = fields.parsed::<i64>("made", "seconds since 1970")?.and_then(|s| DateTime::from_timestamp(s, 0));
    let made = made.ok_or_else(|| Error::Malformed("`made`: expected seconds since 1970".to_owned()))?;
    let cookie = auth::cookie(&headers, session_cookie(&app)).unwrap_or_default().to_owned();
    let me = who.name().to_owned();
    queue::filter(&fields, &me, app.clock.now())?;
    let ask = Arc::new(Asked { app: app.clone(), fields, me, cookie, snapshot, made });
    let answers = news(ask);
    let mut response = Sse::new(answers).keep_alive(KeepAlive::new().interval(PING)).into_response();
    response.headers_mut().insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

/// A text that PostgreSQL takes as a snapshot: `xmin:xmax:xip,..`, rising.
fn is_snapshot(text: &str) -> bool {
    let mut parts = text.splitn(3, ':');
    let mut number = || parts.next().and_then(|p| p.parse::<u64>().ok());
    let (Some(min), Some(max)) = (number(), number()) else { return false };
    let running: Option<Vec<u64>> = match parts.next() {
        Some("") => Some(Vec::new()),
        Some(list) => list.split(',').map(|p| p.parse().ok()).collect(),
        None => None,
    };
    running.is_some_and(|list| min > 0 && min <= max && list.is_sorted() && list.iter().all(|x| (min..max).contains(x)))
}

struct Asked {
    app: Arc<App>,
    fields: Fields,
    me: String,
    cookie: String,
    snapshot: String,
    made: DateTime<chrono::Utc>,
}

impl Asked {
    /// How many are new; nothing when the stream is over.
    async fn count(&self) -> Option<i64> {
        let now = self.app.clock.now();
        let filter = queue::filter(&self.fields, &self.me, now).ok()?;
        let mut conn = self.app.db.web.acquire().await.ok()?;
        if !sessions::alive(&mut conn, &self.cookie, now).await.ok()? {
            return None;
        }
        listing::arrived(&mut conn, &filter, &self.snapshot, self.made).await.ok()
    }
}

/// Asks until the program stops, the session ends or the database is away; browsers come back by themselves.
fn news(asked: Arc<Asked>) -> impl Stream<Item = std::result::Result<Event, Infallible>> {
    let stop = asked.app.stop.clone();
    let ticks = futures_util::stream::unfold((asked, None, true), |(asked, told, first)| async move {
        if !first {
            tokio::select! {
                () = asked.app.stop.cancelled() => return None,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
        let count = asked.count().await?;
        let news = (told != Some(count)).then(|| Event::default().event("new").data(count.to_string()));
        Some((news, (asked, Some(count), false)))
    });
    futures_util::StreamExt::take_until(ticks, stop.cancelled_owned()).filter_map(|news| news.map(Ok))
}

#[cfg(test)]
mod tests {
    use super::is_snapshot;

    #[test]
    fn only_snapshots_reach_the_database() {
        for (text, good) in [
            ("10:20:", true),
            ("10:20:10,14", true),
            ("10:20", false),
            ("20:10:", false),
            ("10:20:14,12", false),
            ("0:1:", false),
            ("10:20:x", false),
            ("", false),
        ] {
            assert_eq!(is_snapshot(text), good, "{text}");
        }
    }
}
