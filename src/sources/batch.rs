//! Documents that carry many records, cut into one document per record before the limits of one record apply.
//!
//! A record keeps the resource and scope it was sent with, re-encoded around it; its identity does not depend on its batch.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

/// How far into a document the key of a batch must begin.
const KEY_WITHIN: usize = 1_024;
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
/// (`data`), each as a document that [`super::decode`] takes. `None` if the document is no such batch or does not parse: then
/// it is a record itself.
pub fn split_batch(document: &Bytes) -> Option<Vec<Bytes>> {
    let head = document.get(..document.len().min(KEY_WITHIN))?;
    if !KEYS.iter().any(|key| memchr::memmem::find(head, key.as_bytes()).is_some()) {
        return None;
    }
    let batch: Batch<'_> = serde_json::from_slice(document).ok()?;
    let raw = |value: &RawValue| document.slice_ref(value.get().as_bytes());
    if let Some(groups) = batch.resource_logs {
        return Some(groups.iter().flat_map(log_records).collect());
    }
    if let Some(groups) = batch.resource_metrics {
        let one = |group: &&RawValue| Bytes::from(format!("{{\"resourceMetrics\":[{}]}}", group.get()));
        return Some(groups.iter().map(one).collect());
    }
    if let Some(metrics) = batch.metrics {
        return Some(metrics.into_iter().map(raw).collect());
    }
    batch.log_type.and(batch.data).map(|rows| rows.into_iter().map(raw).collect())
}

fn log_records(group: &ResourceLogs<'_>) -> Vec<Bytes> {
    let text = |value: Option<&RawValue>| value.map_or("{}", RawValue::get).to_owned();
    let resource = text(group.resource);
    let mut records = Vec::new();
    for scope in &group.scope_logs {
        let name = text(scope.scope);
        records.extend(scope.log_records.iter().map(|record| {
            let record = record.get();
            Bytes::from(format!(
                "{{\"resourceLogs\":[{{\"resource\":{resource},\"scopeLogs\":[{{\"scope\":{name},\"logRecords\":[{record}]}}]}}]}}"
            ))
        }));
    }
    records
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
    fn other_documents_are_records_themselves() {
        for document in
            [json!({"winlog": {"event_id": "1"}}), json!({"metrics": {"a": 1}}), json!({"data": [1]}), json!([1])]
        {
            assert_eq!(split(&document), None, "{document}");
        }
        assert_eq!(split_batch(&Bytes::from_static(b"{\"resourceLogs\": [")), None);
    }
}
