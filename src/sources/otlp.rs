//! OTLP as JSON: log records of the `windowseventlog` receiver, metrics of `hostmetrics` and `windowsperfcounters`.
//!
//! A document may hold many records; each is identified by itself and its resource, so that re-framing changes nothing.

use super::{
    Events,
    draft::{self, Decoder, Draft},
    json::Json,
    metrics::{cores, gpu_sample, percent, process_sample},
    scalar::{self, Stamp},
    shape::Context,
};
use crate::model::{
    event::Reject,
    fact::{CpuSample, Fact, HostSample, OtherEvent},
};
use smallvec::smallvec;
use std::{borrow::Cow, collections::BTreeMap};

/// A protobuf `AnyValue` as plain JSON.
fn plain<'d>(value: &'d Json<'_>) -> Json<'d> {
    let Some((kind, inner)) = value.members().first() else { return Json::Null };
    match (kind.as_ref(), inner) {
        ("stringValue" | "bytesValue", Json::Str(text)) => Json::Str(Cow::Borrowed(text)),
        ("intValue", n) => scalar::float(n).ok().flatten().map_or(Json::Null, |float| match n {
            Json::Str(text) => text.trim().parse().map_or(Json::Float(float), Json::Int),
            Json::Int(n) => Json::Int(*n),
            _ => Json::Float(float),
        }),
        ("doubleValue", n) => scalar::float(n).ok().flatten().map_or(Json::Null, Json::Float),
        ("boolValue", Json::Bool(b)) => Json::Bool(*b),
        ("kvlistValue", list) => attributes(list.get("values")),
        ("arrayValue", list) => {
            Json::Array(list.get("values").map(Json::elements).unwrap_or_default().iter().map(plain).collect())
        }
        _ => Json::Null,
    }
}

/// A list of keys and `AnyValue`s as an object.
fn attributes<'d>(list: Option<&'d Json<'_>>) -> Json<'d> {
    let pairs = list.map(Json::elements).unwrap_or_default().iter();
    let members = pairs.filter_map(|pair| Some((Cow::Borrowed(pair.str_at("key")?), plain(pair.get("value")?))));
    Json::Object(members.collect())
}

fn list<'d, 'a>(value: &'d Json<'a>, key: &str) -> &'d [Json<'a>] {
    value.get(key).map(Json::elements).unwrap_or_default()
}

pub(super) fn logs(decoder: &Decoder<'_>, doc: &Json<'_>, context: &Context<'_>) -> Result<Events, Reject> {
    let mut records = Vec::new();
    for group in list(doc, "resourceLogs") {
        let resource = attributes(group.get("resource").and_then(|r| r.get("attributes")));
        for record in list(group, "scopeLogs").iter().flat_map(|scope| list(scope, "logRecords")) {
            let body = record.get("body").map_or(Json::Null, plain);
            let own = attributes(record.get("attributes"));
            let inner = Context {
                host: resource.str_at("host.name").or(context.host),
                agent: resource.str_at("host.id"),
                time: ["timeUnixNano", "observedTimeUnixNano"].iter().find_map(|key| scalar::time(record.get(key)?)),
                ..*context
            };
            let part = decoder.of_parts(smallvec![&resource, record]);
            // The receiver's copy of the event XML says more than its own reading.
            let original = own.str_at("log.record.original").filter(|text| text.trim_start().starts_with("<Event"));
            records.push(match (original, &body) {
                (Some(xml), _) => part.line(xml, &inner),
                (None, Json::Object(_)) => part.document(&body, &inner),
                (None, Json::Str(text)) => part.line(text, &inner).or_else(|_| part.other(&body, &inner)),
                _ => part.other(&body, &inner),
            });
        }
    }
    decoder.batch(records)
}

/// What the points of one resource say at one time.
#[derive(Debug, Default)]
struct Moment {
    cpu_seconds: Option<f64>,
    rss_bytes: Option<i64>,
    utilization: Option<f64>,
    utilization_of: Whole,
    started_at: Option<Stamp>,
    /// Busy share of each processor.
    busy: Vec<f64>,
    idle: Vec<f64>,
    logical_cpus: Option<i64>,
    uptime_seconds: Option<i64>,
    engines: Vec<(String, f64)>,
    /// Busy part of each graphics card.
    cards: Vec<f64>,
    unread: usize,
}

pub(super) fn metrics(decoder: &Decoder<'_>, doc: &Json<'_>) -> Result<Events, Reject> {
    let mut records = Vec::new();
    for group in list(doc, "resourceMetrics") {
        let resource = attributes(group.get("resource").and_then(|r| r.get("attributes")));
        let mut canonical = Vec::new();
        resource.canonical(&mut canonical);
        for (nanos, moment) in moments(group) {
            let stamp = scalar::time(&Json::Int(nanos));
            let facts = moment.facts(&resource);
            let mut content = canonical.clone();
            content.extend_from_slice(format!("{nanos} {moment:?}").as_bytes());
            records.push(decoder.finish(Draft {
                time: draft::record_time([stamp]),
                name: resource.str_at("host.name").map(str::to_owned),
                agent: resource.str_at("host.id").map(str::to_owned),
                content: Some(content),
                facts: facts.into(),
                ..Draft::default()
            }));
        }
    }
    decoder.batch(records)
}

/// Points of all metrics of a resource by their time.
fn moments(group: &Json<'_>) -> BTreeMap<i64, Moment> {
    let mut moments: BTreeMap<i64, Moment> = BTreeMap::new();
    for scope in list(group, "scopeMetrics") {
        let version = scope.get("scope").and_then(|s| s.str_at("version"));
        for metric in list(scope, "metrics") {
            let name = metric.str_at("name").unwrap_or_default();
            let data = metric.get("sum").or_else(|| metric.get("gauge")).unwrap_or(&Json::Null);
            for point in list(data, "dataPoints") {
                let Some(nanos) = point.get("timeUnixNano").and_then(|t| scalar::number(t).ok().flatten()) else {
                    continue;
                };
                moments.entry(nanos).or_default().add(name, version, point);
            }
        }
    }
    moments
}

impl Moment {
    fn add(&mut self, name: &str, version: Option<&str>, point: &Json<'_>) {
        let value = point.get("asDouble").or_else(|| point.get("asInt")).and_then(|v| scalar::float(v).ok().flatten());
        let Some(value) = value else { return };
        let tags = attributes(point.get("attributes"));
        let sum = |total: &mut Option<f64>| *total = Some(total.unwrap_or(0.0) + value);
        match name {
            "process.cpu.time" => {
                sum(&mut self.cpu_seconds);
                self.started_at = point.get("startTimeUnixNano").and_then(scalar::time);
            }
            "process.cpu.utilization" => {
                sum(&mut self.utilization);
                self.utilization_of = version.map_or(Whole::Unknown, Whole::of);
            }
            "process.memory.usage" => self.rss_bytes = Some(value as i64),
            "system.cpu.logical.count" => self.logical_cpus = Some(value as i64),
            "system.uptime" => self.uptime_seconds = Some(value as i64),
            "system.cpu.utilization" if tags.str_at("state") == Some("idle") => self.idle.push(value),
            "system.cpu.utilization" => self.busy.push(value),
            // One card has several of them beside the general one: decoder, encoder.
            "hw.gpu.utilization" if tags.str_at("hw.gpu.task").is_none_or(|task| task == "general") => {
                self.cards.push(value);
            }
            _ if name.to_ascii_lowercase().contains("gpu engine") => {
                self.engines.extend(tags.str_at("instance").map(|instance| (instance.to_owned(), value)));
            }
            _ => self.unread = self.unread.saturating_add(1),
        }
    }

    /// Facts of a process, of the host, or of GPU engines.
    fn facts(&self, resource: &Json<'_>) -> Vec<Fact> {
        let text = |name: &str| scalar::text(resource.at(name)?).map(Cow::into_owned);
        let pid = resource.at("process.pid").and_then(|v| scalar::pid(v).ok().flatten());
        let mut facts: Vec<Fact> = Vec::new();
        if pid.is_some() && (self.cpu_seconds.is_some() || self.utilization.is_some() || self.rss_bytes.is_some()) {
            let created = resource.at("process.creation.time").and_then(scalar::time).or(self.started_at);
            let sample = CpuSample {
                pid,
                started_at: created.and_then(Stamp::utc),
                image: text("process.executable.path"),
                name: text("process.executable.name"),
                share: self.utilization.filter(|_| self.utilization_of == Whole::Host).and_then(|u| percent(u * 100.0)),
                cores: self.utilization.filter(|_| self.utilization_of == Whole::Processor).and_then(cores),
                cpu_seconds: self.cpu_seconds,
                raw_value: self.utilization.or(self.cpu_seconds),
                raw_unit: Some(
                    match (self.utilization, self.utilization_of) {
                        (None, _) => "process.cpu.time seconds",
                        (_, Whole::Host) => "process.cpu.utilization of the host",
                        (_, Whole::Processor) => "process.cpu.utilization of a processor",
                        (_, Whole::Unknown) => "process.cpu.utilization of a processor or the host",
                    }
                    .to_owned(),
                ),
                rss_bytes: self.rss_bytes,
                command_line: text("process.command_line"),
                parent_pid: resource.at("process.parent_pid").and_then(|v| scalar::pid(v).ok().flatten()),
                ..CpuSample::default()
            };
            facts.push(process_sample(sample).into());
        }
        let idle = (!self.idle.is_empty()).then(|| self.idle.iter().sum::<f64>() / self.idle.len() as f64);
        if idle.is_some() || self.logical_cpus.is_some() || self.uptime_seconds.is_some() {
            let share = idle.and_then(|idle| percent((1.0 - idle) * 100.0));
            let source = Some("system.cpu.utilization".to_owned());
            let (logical_cpus, uptime_seconds) = (self.logical_cpus, self.uptime_seconds);
            facts.push(HostSample { share, logical_cpus, uptime_seconds, source, gpu_share: None }.into());
        }
        facts.extend(self.cards.iter().map(|part| {
            let source = Some("hw.gpu.utilization".to_owned());
            HostSample { gpu_share: percent(part * 100.0), source, ..HostSample::default() }.into()
        }));
        let engines = self.engines.iter();
        facts.extend(
            engines.filter_map(|(instance, raw)| Some(gpu_sample(instance, "GPU Engine percent", *raw, None)?.into())),
        );
        if facts.is_empty() {
            facts.push(
                OtherEvent { provider: Some("otlp".to_owned()), channel: Some("metrics".to_owned()), code: None }
                    .into(),
            );
        }
        facts
    }
}

/// What `process.cpu.utilization` is a share of. Before 0.102 of the receiver one processor, from 0.120 on all, between them
/// either (wire formats, section 12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Whole {
    Host,
    Processor,
    #[default]
    Unknown,
}

impl Whole {
    fn of(version: &str) -> Self {
        let mut numbers = version.trim_start_matches('v').split('.').map(str::parse::<u32>);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(0)), Some(Ok(minor))) if minor < 102 => Self::Processor,
            (Some(Ok(0)), Some(Ok(minor))) if minor < 120 => Self::Unknown,
            (Some(Ok(_)), Some(Ok(_))) => Self::Host,
            _ => Self::Unknown,
        }
    }
}
