//! `/`: what is to be decided, worst first. The address is the state; nothing moves under the reader.

use crate::{
    app::App,
    http::{
        auth::{Allowed, Read},
        error::{Error, Result},
        filters,
        page::{self, Chrome, Section},
        paths,
        query::Fields,
        view,
    },
    model::detection::{Severity, Status},
    store::{
        accounts, detections,
        detections::{Filter, Pulse, Snoozed},
        queue::{self, BadCursor, Cursor, Direction, Group, Line, Order, Sort},
        terms::UnknownField,
        views,
    },
};
use askama::Template;
use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
};
use chrono::{DateTime, TimeDelta, Utc};
use std::{fmt::Write as _, sync::Arc};

/// Rows of a page. Source: interface design, section 13.
const SIZES: [i64; 4] = [25, 50, 100, 200];
/// Names that narrow, in the order of the canonical address; those of the API first.
const NAMES: &[&str] = &["host", "analytic", "verdict", "status", "severity", "owner", "q", "since", "until", "snoozed"];
/// Names that arrange, in the same order, and what goes without saying.
const ARRANGING: &[(&str, &str)] = &[("sort", "-severity"), ("group", ""), ("limit", "50"), ("cursor", "")];
/// Names whose value is one text, commas and all.
const TEXTS: &[&str] = &["host", "q", "since", "until", "cursor"];

/// A view: name, address, what it shows.
const VIEWS: &[(&str, &str)] = &[
    ("Open", "/"),
    ("Snoozed", "/?snoozed=1"),
    ("Candidates", "/?verdict=candidate"),
    ("Suppressed", "/?verdict=suppressed"),
    ("Closed", "/?status=closed"),
];

/// Choices of the form: value, words.
const SEVERITY_CHOICES: &[(&str, &str)] = &[
    ("critical", "critical"),
    ("high,critical", "high and up"),
    ("medium,high,critical", "medium and up"),
    ("low,medium,high,critical", "low and up"),
    ("info", "info"),
];
const VERDICT_CHOICES: &[(&str, &str)] = &[
    ("alert", "alert"),
    ("partial", "partial"),
    ("early_warning", "early warning"),
    ("candidate", "candidate"),
    ("suppressed", "suppressed"),
    ("alert,partial,early_warning,candidate,suppressed", "all"),
];
const STATUS_CHOICES: &[(&str, &str)] =
    &[("new", "new"), ("in_progress", "in progress"), ("closed", "closed"), ("new,in_progress,closed", "all")];
const OWNER_CHOICES: &[(&str, &str)] = &[("me,none", "me and nobody"), ("me", "me"), ("none", "nobody")];
/// Columns of the table: heading, what it is sorted by.
const COLUMNS: &[(&str, Option<Sort>, &str)] = &[
    ("Severity", Some(Sort::Severity), ""),
    ("Score", Some(Sort::Score), "num"),
    ("Detection", Some(Sort::Title), ""),
    ("Host", Some(Sort::Host), ""),
    ("Classes", None, ""),
    ("First \u{2192} last", Some(Sort::Last), ""),
    ("Owner", Some(Sort::Owner), ""),
];

/// Reads the filter of a queue address; without a status it is open, without a verdict what the queue is for.
pub(crate) fn filter(fields: &Fields, me: &str, now: DateTime<Utc>) -> Result<Filter> {
    let limit = fields.parsed("limit", "25, 50, 100 or 200")?.unwrap_or(50);
    if !SIZES.contains(&limit) {
        return Err(Error::Malformed("`limit`: expected 25, 50, 100 or 200".to_owned()));
    }
    let order: Order = fields.parsed("sort", "a column such as -severity, host or -last")?.unwrap_or_default();
    let after: Option<Cursor> = fields.parsed("cursor", "a cursor of this list")?;
    if after.as_ref().is_some_and(|cursor| !cursor.fits(order)) {
        return Err(Error::Malformed(format!("`cursor`: {BadCursor}")));
    }
    let owners = fields.all("owner").map(|owner| match owner {
        "me" => me.to_owned(),
        "none" => String::new(),
        name => name.to_lowercase(),
    });
    let mut filter = Filter {
        host: fields.one("host").map(str::to_owned),
        analytics: fields.words("analytic")?,
        verdicts: fields.words("verdict")?,
        statuses: fields.words("status")?,
        severities: fields.words("severity")?,
        terms: fields.one("q").unwrap_or_default().parse().map_err(|e: UnknownField| Error::Malformed(format!("`q`: {e}")))?,
        owners: owners.collect(),
        snoozed: if fields.one("snoozed").is_some() { Snoozed::Asleep(now) } else { Snoozed::Awake(now) },
        since: fields.time("since", now)?,
        until: fields.time("until", now)?,
        after,
        order,
        limit,
    };
    if filter.statuses.is_empty() {
        filter.statuses = vec![Status::New, Status::InProgress];
    }
    if filter.verdicts.is_empty() {
        filter.verdicts = detections::QUEUE.to_vec();
    }
    Ok(filter)
}

/// The one address of a view: known names in their order, each once, what goes without saying left out.
pub(crate) fn canonical(fields: &Fields) -> String {
    let mut text = form_urlencoded::Serializer::new(String::new());
    for (name, usual) in NAMES.iter().map(|n| (*n, "")).chain(ARRANGING.iter().copied()) {
        let value = if TEXTS.contains(&name) {
            fields.one(name).unwrap_or_default().to_owned()
        } else {
            let mut words: Vec<&str> = fields.all(name).collect();
            let mut seen = std::collections::BTreeSet::new();
            words.retain(|word| seen.insert(*word));
            words.join(",")
        };
        if !value.is_empty() && value != usual {
            text.append_pair(name, &value);
        }
    }
    let text = text.finish();
    // as people read and type it
    let text = [("%2C", ","), ("%3A", ":"), ("%2F", "/")].iter().fold(text, |text, (code, sign)| text.replace(code, sign));
    if text.is_empty() { text } else { format!("?{text}") }
}

/// Address of every detection that a text finds, closed ones too.
pub(crate) fn everything_with(text: &str) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("q", text).append_pair("status", "new,in_progress,closed").finish();
    format!("/{}", canonical(&Fields::parse(Some(&query))))
}

/// The canonical address with one name set to another value, or without it; from the first page on.
fn address(fields: &Fields, name: &str, value: Option<&str>) -> String {
    let query = fields.with(name, value);
    format!("/{}", canonical(&Fields::parse(query.strip_prefix('?'))))
}

/// The columns with their links and which is sorted how.
struct Column {
    heading: &'static str,
    class: &'static str,
    href: Option<String>,
    sorted: Option<&'static str>,
}

struct Row {
    line: Line,
    href: String,
    /// Without the host, which has a column of its own.
    title: String,
    verdict: String,
    status: &'static str,
    disposition: Option<String>,
    command: String,
    image: Option<String>,
    chips: Vec<view::Chip>,
    chip_words: String,
    lasted: TimeDelta,
    host: String,
    host_href: String,
}

impl Row {
    fn of(line: Line, from: &str) -> Self {
        let chips = view::chips(&line.classes);
        Self {
            href: format!("/detections/{}{from}", line.id),
            title: line.title.trim_end_matches(&format!(" on {}", line.host)).to_owned(),
            verdict: view::verdict_of(line.verdict, &line.classes, line.covered_by.as_deref()),
            status: view::status_words(line.status),
            disposition: line.disposition.as_ref().map(|d| d.replace('_', " ")),
            command: view::clipped(line.command.as_deref().unwrap_or_default(), 70),
            image: line.image.as_deref().map(|i| crate::model::group::base_name(i).to_owned()),
            chip_words: chips.iter().map(|c| c.words.replace(" of ", "/").replace("looked, found nothing", "nothing found")).collect::<Vec<_>>().join(", "),
            chips,
            lasted: line.last_seen - line.first_seen,
            host: view::short_host(&line.host).to_owned(),
            host_href: paths::Host { name: line.host.clone() }.to_string(),
            line,
        }
    }
}

/// A group as a row.
struct GroupRow {
    name: String,
    href: Option<String>,
    severity: &'static str,
    group: Group,
    past: String,
}

impl GroupRow {
    fn of(group: Group, by: usize, fields: &Fields) -> Self {
        let (_, _, field) = queue::GROUPS[by];
        let open = group.key.as_ref().map(|key| match field {
            "host" | "analytic" => address(&Fields::parse(fields.with("group", None).strip_prefix('?')), field, Some(key)),
            _ => {
                let text = fields.one("q").map(|q| format!("{q} ")).unwrap_or_default();
                let narrower = Fields::parse(fields.with("group", None).strip_prefix('?'));
                address(&narrower, "q", Some(&format!("{text}{field}:\"{key}\"")))
            }
        });
        let mut past = String::new();
        for (disposition, n) in &group.past {
            write!(past, "{}{n} {}", if past.is_empty() { "" } else { ", " }, disposition.replace('_', " ")).unwrap_or_default();
        }
        Self {
            name: match (&group.key, field) {
                (None, _) => "nothing in common".to_owned(),
                (Some(key), "hash") => format!("{} {}", group.images.join(", "), view::clipped(key, 12)),
                (Some(key), _) => key.clone(),
            },
            href: open,
            severity: Severity::ALL.get(usize::try_from(group.severity).unwrap_or(0)).map_or("info", |s| s.as_str()),
            past,
            group,
        }
    }
}

/// Why there is no row.
enum Empty {
    /// There are rows.
    No,
    /// Nothing was ever stored.
    NoEvents,
    /// Nothing is open.
    Done(Pulse),
    /// The filter excludes all.
    Filtered(Vec<Without>),
}

/// A term of the filter and what would match without it.
struct Without {
    name: String,
    value: String,
    href: String,
    count: i64,
}

#[derive(Template)]
#[template(path = "queue.html")]
struct QueuePage {
    chrome: Chrome,
    filter: Filter,
    fields: Fields,
    /// Canonical, without `?`.
    query: String,
    columns: Vec<Column>,
    rows: Vec<Row>,
    groups: Option<Vec<GroupRow>>,
    next: Option<String>,
    empty: Empty,
    view: usize,
    views: Vec<views::View>,
    people: Vec<String>,
    count: i64,
    narrowed: Vec<String>,
    live: String,
}

impl QueuePage {
    fn value(&self, name: &str) -> &str {
        self.fields.one(name).unwrap_or_default()
    }

    fn total(&self) -> String {
        match self.count {
            detections::COUNT_CAP.. => "1,000+ match".to_owned(),
            1 => "1 matches".to_owned(),
            n => format!("{n} match"),
        }
    }

    /// Whether `/` goes to a saved view.
    fn opens_elsewhere(&self) -> bool {
        self.views.iter().any(|v| v.opens)
    }

    fn own_view(&self, view: &views::View) -> bool {
        self.chrome.user.as_ref() == Some(&view.owner)
    }
}

/// `GET /`
pub(crate) async fn show(who: Allowed<Read>, RawQuery(query): RawQuery, State(app): State<Arc<App>>) -> Result<Response> {
    let now = app.clock.now();
    let fields = Fields::parse(query.as_deref());
    let mut conn = app.db.web.acquire().await?;
    let views = views::of(&mut conn, who.name()).await?;
    let canonical = canonical(&fields);
    let raw = query.unwrap_or_default();
    if let Some(number) = fields.parsed::<i64>("view", "the number of a saved view")? {
        let Some(view) = views.iter().find(|v| v.view_id == number) else {
            return if number == 0 { list(&mut conn, &who, Fields::default(), views, now).await } else { Err(Error::NotFound) };
        };
        return Ok(Redirect::to(&format!("/?{}", view.query)).into_response());
    }
    if raw.is_empty() && let Some(view) = views.iter().find(|v| v.opens) {
        return Ok(Redirect::to(&format!("/?{}", view.query)).into_response());
    }
    if canonical.strip_prefix('?').unwrap_or_default() != raw {
        return Ok(Redirect::to(&format!("/{canonical}")).into_response());
    }
    list(&mut conn, &who, fields, views, now).await
}

async fn list(
    conn: &mut sqlx::PgConnection,
    who: &crate::http::auth::Who,
    fields: Fields,
    views: Vec<views::View>,
    now: DateTime<Utc>,
) -> Result<Response> {
    let filter = filter(&fields, who.name(), now)?;
    let by = match fields.one("group") {
        None => None,
        Some(word) => Some(queue::GROUPS.iter().position(|(name, ..)| *name == word).ok_or_else(|| {
            Error::Malformed(format!("`group`: expected {}", queue::GROUPS.map(|(name, ..)| name).join(", ")))
        })?),
    };
    // before the rows: what is committed between the two is announced rather than missed
    let snapshot = queue::snapshot(conn).await?;
    let (lines, next) = queue::lines(conn, &filter).await?;
    let groups = match by {
        Some(by) if !lines.is_empty() => {
            Some(queue::groups(conn, &filter, by).await?.into_iter().map(|g| GroupRow::of(g, by, &fields)).collect())
        }
        _ => None,
    };
    let narrowed: Vec<(&str, &str)> = fields.terms(NAMES).collect();
    let view = view_of(&fields);
    let empty = if !lines.is_empty() {
        Empty::No
    } else if !detections::any_event(conn).await? {
        Empty::NoEvents
    } else if narrowed.is_empty() || view.is_some_and(|v| v > 0) {
        Empty::Done(detections::pulse(conn).await?)
    } else {
        let mut terms = Vec::new();
        for (name, value) in &narrowed {
            let href = address(&fields, name, None);
            let wider = self::filter(&Fields::parse(href.strip_prefix("/?")), who.name(), now)?;
            let count = queue::count(conn, &wider).await?;
            terms.push(Without { name: (*name).to_owned(), value: (*value).to_owned(), href, count });
        }
        Empty::Filtered(terms)
    };
    let from = from_query(&fields);
    let query = canonical(&fields).strip_prefix('?').unwrap_or_default().to_owned();
    let may_triage = who.may(crate::model::permission::Permission::Triage);
    let page = QueuePage {
        rows: lines.into_iter().map(|line| Row::of(line, &from)).collect(),
        groups,
        next: next.map(|cursor| address(&fields, "cursor", Some(&cursor.to_string()))),
        view: view.unwrap_or(VIEWS.len()),
        columns: columns(&fields, filter.order),
        live: live(&fields, &snapshot, now),
        count: queue::count(conn, &filter).await?,
        people: if may_triage { accounts::names(conn).await?.into_iter().filter(|n| n != who.name()).collect() } else { Vec::new() },
        narrowed: narrowed.into_iter().map(|(name, _)| name.to_owned()).collect(),
        chrome: Chrome::load(conn, who, Section::Queue, now).await?,
        query,
        views,
        filter,
        fields,
        empty,
    };
    page::render(StatusCode::OK, &page)
}

fn columns(fields: &Fields, order: Order) -> Vec<Column> {
    let column = |(heading, sort, class): &(&'static str, Option<Sort>, &'static str)| {
        let sorted = sort.filter(|s| *s == order.by).map(|_| if order.direction == Direction::Down { "descending" } else { "ascending" });
        let href = sort.map(|by| {
            // what is large matters first, what is text reads from its beginning
            let direction = if matches!(by, Sort::Title | Sort::Host | Sort::Owner) { Direction::Up } else { Direction::Down };
            let wanted = if sorted.is_some() { order.reversed() } else { Order { by, direction } };
            address(fields, "sort", Some(&wanted.to_string()))
        });
        Column { heading, class, href, sorted }
    };
    COLUMNS.iter().map(column).collect()
}

/// Address of the stream that says what is new to this page.
fn live(fields: &Fields, snapshot: &str, now: DateTime<Utc>) -> String {
    let narrow = canonical(&Fields::parse(fields.with("limit", None).strip_prefix('?')));
    let mut text = form_urlencoded::Serializer::new(String::new());
    text.append_pair("topic", "queue").append_pair("snapshot", snapshot).append_pair("made", &now.timestamp().to_string());
    format!("/live?{}&{}", text.finish(), narrow.strip_prefix('?').unwrap_or_default()).trim_end_matches('&').to_owned()
}

/// Which of [`VIEWS`] the address is, if it is one as it stands.
fn view_of(fields: &Fields) -> Option<usize> {
    let here = address(fields, "limit", None);
    VIEWS.iter().position(|(_, href)| *href == here)
}

/// `?from=…`: the filter a detection was opened from, for "next".
fn from_query(fields: &Fields) -> String {
    let query = canonical(&Fields::parse(fields.with("group", None).strip_prefix('?')));
    let query = query.strip_prefix('?').unwrap_or_default();
    if query.is_empty() { String::new() } else { format!("?from={}", form_urlencoded::byte_serialize(query.as_bytes()).collect::<String>()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_views_have_one_address() {
        let of = |query: &str| canonical(&Fields::parse(Some(query)));
        for query in ["severity=high&severity=critical&q=a+b&status=", "q=a+b&severity=high,critical,high&sort=-severity&limit=50&x=1"] {
            assert_eq!(of(query), "?severity=high,critical&q=a+b", "{query}");
        }
        assert_eq!(of("q=image:*svchost*,a%26b&since=2026-11-20T17:00Z"), "?q=image:*svchost*,a%26b&since=2026-11-20T17:00Z");
        assert_eq!(of(""), "");
        for query in ["q=%F0%9F%99%82+%25+%22x%22&host=a%2Cb", "sort=host&group=image&cursor=abc"] {
            let once = of(query);
            assert_eq!(of(once.trim_start_matches('?')), once);
        }
    }
}
