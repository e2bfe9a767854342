//! Documents that carry many records, cut into one document per record before the limits of one record apply.
//!
//! A record keeps the resource and scope it was sent with, re-encoded around it; its identity does not depend on its batch.

use super::metrics::telegraf;
use bytes::Bytes;
use memchr::{memchr, memchr_iter};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Most bytes of records cut from one document, and a little more: a resource of a megabyte around thousands of empty records
/// would become gigabytes. Source: trust design, section 9 (body decoded); the caller refuses what is over it.
pub(super) const ROOM: usize = 64 << 20;
/// How far into a document the key of a batch must begin.
const KEY_WITHIN: usize = 1_024;
/// Most values in a document that is opened, by its commas: the place of each is noted before any is cut out. Chosen: more than a
/// body of 64 MiB with content has.
const MOST_VALUES: usize = 4 << 20;
/// Most lines that one metric is looked for in. Chosen: longer event messages are rare, and the search is per broken line.
const MOST_JOINED: usize = 64;
const KEYS: &[&str] = &["\"resourceLogs\"", "\"resourceMetrics\"", "\"metrics\"", "\"log_type\""];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Batch<'a> {
    #[serde(borrow)]
    resource_logs: Option<Vec<ResourceLogs<'a>>>,
    #[serde(borrow)]
    resource_metrics: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    metrics: Option<Vec<&'a RawValue>>,
    #[serde(borrow, rename = "log_type")]
    log_type: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceLogs<'a> {
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
    #[serde(borrow, default)]
    scope_logs: Vec<ScopeLogs<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScopeLogs<'a> {
    #[serde(borrow)]
    scope: Option<&'a RawValue>,
    #[serde(borrow, default)]
    log_records: Vec<&'a RawValue>,
}

/// The records of an OTLP request (`resourceLogs`, `resourceMetrics`), a Telegraf batch (`metrics`) or an osquery log request
/// (`data`), each as a document that [`super::decode`] takes. `None` if the document is no such batch, does not parse or has too
/// many values: then it is a record itself.
pub fn split_batch(document: &Bytes) -> Option<Vec<Bytes>> {
    let head = document.get(..document.len().min(KEY_WITHIN))?;
    if !KEYS.iter().any(|key| memchr::memmem::find(head, key.as_bytes()).is_some()) {
        return None;
    }
    if memchr_iter(b',', document).count() > MOST_VALUES {
        return None;
    }
    let batch: Batch<'_> = serde_json::from_slice(document).ok()?;
    let raw = |value: &RawValue| document.slice_ref(value.get().as_bytes());
    if let Some(groups) = batch.resource_logs {
        return Some(within_room(groups.iter().flat_map(log_records)));
    }
    if let Some(groups) = batch.resource_metrics {
        return Some(groups.iter().map(|group| resource_metrics(group.get())).collect());
    }
    if let Some(metrics) = batch.metrics {
        return Some(metrics.into_iter().map(raw).collect());
    }
    batch.log_type.and(batch.data).map(|rows| rows.into_iter().map(raw).collect())
}

fn log_records<'a>(group: &'a ResourceLogs<'_>) -> impl Iterator<Item = Bytes> + 'a {
    let text = |value: Option<&'a RawValue>| value.map_or("{}", RawValue::get);
    let resource = text(group.resource);
    group.scope_logs.iter().flat_map(move |scope| {
        let name = text(scope.scope);
        scope.log_records.iter().map(move |record| log_record(resource, name, record.get()))
    })
}

/// One log record with its context, all three as OTLP JSON.
pub(super) fn log_record(resource: &str, scope: &str, record: &str) -> Bytes {
    Bytes::from(format!(
        "{{\"resourceLogs\":[{{\"resource\":{resource},\"scopeLogs\":[{{\"scope\":{scope},\"logRecords\":[{record}]}}]}}]}}"
    ))
}

/// All metrics of one resource, as OTLP JSON.
pub(super) fn resource_metrics(group: &str) -> Bytes {
    Bytes::from(format!("{{\"resourceMetrics\":[{group}]}}"))
}

/// Pieces until they are more than [`ROOM`] together.
fn within_room(pieces: impl Iterator<Item = Bytes>) -> Vec<Bytes> {
    let mut left = ROOM;
    let mut taken = Vec::new();
    for piece in pieces {
        let length = piece.len();
        taken.push(piece);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => break,
        }
    }
    taken
}

/// The lines of the influx protocol without blank ones and comments. A quoted value may hold line ends, if the lines it joins
/// make a whole metric; else a broken line stands alone and its neighbours are whole.
pub fn influx_lines(body: &Bytes) -> impl Iterator<Item = Bytes> {
    let mut rest = body.clone();
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() {
                return None;
            }
            let line = rest.split_to(line_length(&rest));
            let text = line.trim_ascii();
            if !text.is_empty() && text.first() != Some(&b'#') {
                return Some(line.slice_ref(text));
            }
        }
    })
}

/// Bytes of the first line, with those it goes on in.
fn line_length(text: &[u8]) -> usize {
    let first = memchr(b'\n', text).map_or(text.len(), |at| at.saturating_add(1));
    let line = text.get(..first).unwrap_or(text);
    if memchr_iter(b'"', line).count().is_multiple_of(2) {
        return first;
    }
    let mut ends =
        memchr_iter(b'\n', text).map(|at| at.saturating_add(1)).chain([text.len()]).skip(1).take(MOST_JOINED);
    let whole = |end: &usize| {
        text.get(..*end).and_then(|joined| std::str::from_utf8(joined).ok()).is_some_and(telegraf::is_metric_line)
    };
    ends.find(whole).unwrap_or(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn split(document: &Value) -> Option<Vec<Value>> {
        let parts = split_batch(&Bytes::from(document.to_string()))?;
        Some(parts.iter().map(|part| serde_json::from_slice(part).unwrap()).collect())
    }

    #[test]
    fn a_batch_is_cut_into_records_with_their_context() {
        let logs = |records: Value| json!({"resourceLogs": [{"resource": {"a": 1}, "scopeLogs": [{"scope": {"b": 2}, "logRecords": records}]}]});
        assert_eq!(
            split(&logs(json!([{"x": 1}, {"x": 2}]))),
            Some(vec![logs(json!([{"x": 1}])), logs(json!([{"x": 2}]))])
        );
        let metrics = json!({"resourceMetrics": [{"m": 1}, {"m": 2}]});
        assert_eq!(split(&metrics).map(|parts| parts.len()), Some(2));
        assert_eq!(
            split(&json!({"metrics": [{"name": "a"}, {"name": "b"}]})),
            Some(vec![json!({"name": "a"}), json!({"name": "b"})])
        );
        assert_eq!(
            split(&json!({"node_key": "k", "log_type": "result", "data": [{"columns": {}}]})),
            Some(vec![json!({"columns": {}})])
        );
    }

    #[test]
    fn a_resource_is_not_multiplied_without_end() {
        let records = vec![json!({}); 10_000];
        let resource = json!({"x": "y".repeat(1 << 20)});
        let document = json!({"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": records}]}]});
        let parts = split_batch(&Bytes::from(document.to_string())).unwrap();
        let bytes: usize = parts.iter().map(Bytes::len).sum();
        assert!(bytes > ROOM && bytes < ROOM + (2 << 20), "{bytes}");
    }

    #[test]
    fn influx_lines_may_go_on_inside_quotes_and_a_broken_one_stands_alone() {
        let lines = |text: &'static str| -> Vec<String> {
            influx_lines(&Bytes::from_static(text.as_bytes()))
                .map(|l| String::from_utf8_lossy(&l).into_owned())
                .collect()
        };
        assert_eq!(lines("a x=1 1\n\n# c\r\nb x=2 2\r\n"), ["a x=1 1", "b x=2 2"]);
        assert_eq!(lines("a m=\"one\ntwo\" 1\nb x=2 2"), ["a m=\"one\ntwo\" 1", "b x=2 2"]);
        assert_eq!(lines("a m=\"cut\nb x=2 2\nc m=\"whole\" 3"), ["a m=\"cut", "b x=2 2", "c m=\"whole\" 3"]);
    }

    #[test]
    fn other_documents_are_records_themselves() {
        for document in
            [json!({"winlog": {"event_id": "1"}}), json!({"metrics": {"a": 1}}), json!({"data": [1]}), json!([1])]
        {
            assert_eq!(split(&document), None, "{document}");
        }
        assert_eq!(split_batch(&Bytes::from_static(b"{\"resourceLogs\": [")), None);
        let empty = format!("{{\"metrics\": [0{}]}}", ",0".repeat(MOST_VALUES + 1));
        assert_eq!(split_batch(&Bytes::from(empty)), None);
    }
}
