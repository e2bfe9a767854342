//! Which sender wrote a document: the first rule that fits, then the wrappers are opened (wire formats, section 9).

use super::{
    Events,
    draft::{Decoder, Draft},
    json::Json,
    metrics, network, osquery, otlp,
    scalar::{self, Stamp},
    windows, xml,
};
use crate::model::{event::Reject, fact::OtherEvent};

/// Most wrappers that are opened. Source: wire formats, section 9.
const MOST_WRAPPERS: usize = 3;

/// What the wrappers around a record say, for what it does not say itself.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Context<'a> {
    /// Host of the envelope.
    pub(super) host: Option<&'a str>,
    /// Time of the envelope.
    pub(super) time: Option<Stamp>,
    /// Id of the host that `host` names, if its sender gives one.
    pub(super) agent: Option<&'a str>,
    pub(super) opened: usize,
}

/// A document's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Evtx,
    Winlogbeat,
    Wazuh,
    Nxlog,
    OtelBody,
    Fluentbit,
    Flat,
    Metricbeat,
    Ecs,
    OtlpLogs,
    OtlpMetrics,
    Telegraf,
    TelegrafBatch,
    Osquery,
    OsqueryBatch,
    Suricata,
    Zeek,
    Canonical,
}

impl Shape {
    fn of(doc: &Json<'_>) -> Option<Self> {
        let has = |path: &str| doc.at(path).is_some();
        let object = |key: &str| matches!(doc.get(key), Some(Json::Object(_)));
        Some(if has("Event.System") {
            Self::Evtx
        } else if object("winlog") || has("winlog.event_id") || has("winlog.channel") {
            Self::Winlogbeat
        } else if has("data.win.system") {
            Self::Wazuh
        } else if has("EventID") && (has("SourceModuleType") || has("EventReceivedTime")) {
            Self::Nxlog
        } else if has("event_id.id") && has("channel") {
            Self::OtelBody
        } else if has("ProviderName") && (has("StringInserts") || has("EventData")) {
            Self::Fluentbit
        } else if has("EventID") && has("Channel") && (has("SourceName") || has("ProviderName")) {
            Self::Flat
        } else if has("metricset.name") || doc.str_at("event.dataset").is_some_and(metrics::is_metric) {
            Self::Metricbeat
        } else if has("event.category")
            && ["process", "destination", "dns", "process.pid", "destination.ip"].into_iter().any(has)
        {
            Self::Ecs
        } else if matches!(doc.get("resourceLogs"), Some(Json::Array(_))) {
            Self::OtlpLogs
        } else if matches!(doc.get("resourceMetrics"), Some(Json::Array(_))) {
            Self::OtlpMetrics
        } else if matches!(doc.get("metrics"), Some(Json::Array(_))) {
            Self::TelegrafBatch
        } else if has("name") && object("tags") && object("fields") {
            Self::Telegraf
        } else if matches!(doc.get("data"), Some(Json::Array(_))) && has("log_type") {
            Self::OsqueryBatch
        } else if object("columns") || matches!(doc.get("snapshot"), Some(Json::Array(_))) {
            Self::Osquery
        } else if has("event_type") && has("src_ip") {
            Self::Suricata
        } else if has("uid") && (has("id.orig_h") || has("id_orig_h")) {
            Self::Zeek
        } else if has("kind") && has("occurred_at") {
            Self::Canonical
        } else {
            return None;
        })
    }
}

impl Decoder<'_> {
    /// Decodes a JSON document.
    pub(super) fn document(&self, doc: &Json<'_>, context: &Context<'_>) -> Result<Events, Reject> {
        match doc {
            Json::Object(_) => {}
            Json::Str(text) if context.opened < MOST_WRAPPERS => return self.line(text, context),
            _ => return Err(Reject::BadJson("expected an object".to_owned())),
        }
        if let Some(text) = event_xml(doc) {
            return self.line(text, &opened(doc, context));
        }
        match Shape::of(doc) {
            Some(Shape::Evtx) => windows::evtx::decode(self, doc, context),
            Some(Shape::Winlogbeat) => windows::winlogbeat::decode(self, doc, context),
            Some(Shape::Wazuh) => windows::wazuh::decode(self, doc, context),
            Some(Shape::Nxlog) => windows::nxlog::decode(self, doc, context),
            Some(Shape::OtelBody) => windows::otel::decode(self, doc, context),
            Some(Shape::Fluentbit) => windows::fluentbit::decode(self, doc, context),
            Some(Shape::Flat) => windows::flat::decode(self, doc, context),
            Some(Shape::Metricbeat) => metrics::metricbeat::decode(self, doc, context),
            Some(Shape::OtlpLogs) => otlp::logs(self, doc, context),
            Some(Shape::OtlpMetrics) => otlp::metrics(self, doc),
            Some(Shape::Telegraf) => metrics::telegraf::decode(self, doc, context),
            Some(Shape::TelegrafBatch) => metrics::telegraf::batch(self, doc, context),
            Some(Shape::Osquery) => osquery::decode(self, doc, context),
            Some(Shape::OsqueryBatch) => osquery::batch(self, doc, context),
            Some(Shape::Ecs) => windows::ecs::decode(self, doc, context),
            Some(Shape::Suricata) => network::suricata::decode(self, doc, context),
            Some(Shape::Zeek) => network::zeek::decode(self, doc, context),
            Some(Shape::Canonical) => windows::canonical::decode(self, doc, context),
            None => self.wrapped(doc, context),
        }
    }

    /// A document that is none of the shapes: what it wraps, else kept raw.
    fn wrapped(&self, doc: &Json<'_>, context: &Context<'_>) -> Result<Events, Reject> {
        let inner_context = opened(doc, context);
        if inner_context.opened <= MOST_WRAPPERS {
            for path in ["_source", "event", "body", "message", "event.original", "log"] {
                let inner = match doc.at(path) {
                    Some(inner @ Json::Object(_)) if path != "message" && path != "log" => {
                        self.recognised(inner, &inner_context)
                    }
                    Some(Json::Str(text)) => self.recognised_line(text, &inner_context),
                    _ => None,
                };
                if let Some(events) = inner {
                    return events;
                }
            }
        }
        self.other(doc, context)
    }

    /// Decodes an inner object, unless it would only be kept raw: then the outer one says more.
    fn recognised(&self, doc: &Json<'_>, context: &Context<'_>) -> Option<Result<Events, Reject>> {
        if Shape::of(doc).is_some() || event_xml(doc).is_some() {
            return Some(self.document(doc, context));
        }
        let deeper = opened(doc, context);
        if deeper.opened > MOST_WRAPPERS {
            return None;
        }
        ["_source", "event", "body", "message"].into_iter().find_map(|path| match doc.at(path)? {
            inner @ Json::Object(_) => self.recognised(inner, &deeper),
            Json::Str(text) => self.recognised_line(text, &deeper),
            _ => None,
        })
    }

    fn recognised_line(&self, text: &str, context: &Context<'_>) -> Option<Result<Events, Reject>> {
        let text = text.trim();
        if text.starts_with("<Event") {
            return Some(self.line(text, context));
        }
        if text.starts_with('{') {
            return super::json::read(text.as_bytes(), |tree, _| self.recognised(tree, context)).ok().flatten();
        }
        if let Some(access) = network::squid::line(text) {
            return Some(access.decode(self));
        }
        network::firewall::line(text).map(|entry| entry.decode(self, context))
    }

    /// Decodes text: event XML, a JSON document, or a line of a log we know.
    pub(super) fn line(&self, text: &str, context: &Context<'_>) -> Result<Events, Reject> {
        let text = text.trim();
        if text.starts_with('<') && (text.starts_with("<Event") || text.starts_with("<?xml")) {
            let tree = xml::event(text).map_err(Reject::BadXml)?;
            return windows::evtx::decode(self, &tree, context);
        }
        match self.recognised_line(text, context).or_else(|| metrics::telegraf::line(self, text, context)) {
            Some(events) => events,
            None => Err(Reject::BadJson("expected an object or a known log line".to_owned())),
        }
    }

    /// Well formed, but not ours to judge.
    pub(super) fn other(&self, doc: &Json<'_>, context: &Context<'_>) -> Result<Events, Reject> {
        let first = |paths: &[&str]| {
            paths.iter().find_map(|path| scalar::text(doc.at(path)?).map(std::borrow::Cow::into_owned))
        };
        let stamp =
            ["@timestamp", "timestamp", "ts", "time", "EventTime"].iter().find_map(|path| scalar::time(doc.at(path)?));
        let fact = OtherEvent {
            provider: first(&["event.provider", "event.module", "source", "SourceName"]),
            channel: first(&[
                "event.dataset",
                "log.file.path",
                "sourcetype",
                "Channel",
                "event_type",
                "_path",
                "@stream",
            ]),
            code: first(&["event.code", "EventID"]),
        };
        let name = first(&["host.name", "host.hostname", "host", "Hostname", "hostname"]);
        self.finish(Draft {
            time: super::draft::record_time([stamp.or(context.time)]),
            name: name.or_else(|| context.host.map(str::to_owned)),
            facts: smallvec::smallvec![fact.into()],
            ..Draft::default()
        })
    }
}

/// Text of a field that begins with `<Event`.
fn event_xml<'d>(doc: &'d Json<'_>) -> Option<&'d str> {
    ["event", "message", "original", "System", "log.record.original", "body"].into_iter().find_map(|path| {
        let text = doc.at(path)?.as_str()?;
        text.trim_start().starts_with("<Event").then_some(text)
    })
}

/// The context inside this document: inner wrappers win over outer ones.
fn opened<'a>(doc: &'a Json<'_>, outer: &Context<'a>) -> Context<'a> {
    let host = doc.str_at("host").or_else(|| doc.str_at("host.name")).filter(|name| !scalar::is_null(name));
    let time = ["time", "@timestamp", "timeUnixNano", "timestamp"].iter().find_map(|path| scalar::time(doc.at(path)?));
    Context {
        host: host.or(outer.host),
        time: time.or(outer.time),
        agent: outer.agent,
        opened: outer.opened.saturating_add(1),
    }
}
