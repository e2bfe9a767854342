//! The canonical form: `kind`, `occurred_at`, `host.name` and the names of sections 10 to 12 of the wire formats.

use super::{Facts, one};
use crate::model::{
    event::Reject,
    fact::{
        Connection, CpuSample, DnsQuery, FileWrite, HostSample, ModuleLoad, Persistence, ProcessStart, ProcessStop,
        Script, SecurityAlert,
    },
    group,
};
use crate::sources::{
    Events,
    draft::{self, Decoder, Draft},
    json::Json,
    scalar::{self, Bad, Read},
    shape::Context,
};
use chrono::{DateTime, Utc};
use std::cell::RefCell;

/// Fields of a document by path; what cannot be used is noted.
struct Fields<'d, 'a> {
    doc: &'d Json<'a>,
    errors: RefCell<Vec<String>>,
}

impl Fields<'_, '_> {
    fn read<T>(&self, path: &str, reader: impl Fn(&Json<'_>) -> Read<T>) -> Option<T> {
        reader(self.doc.at(path)?).unwrap_or_else(|Bad| {
            self.errors.borrow_mut().push(path.to_owned());
            None
        })
    }
    fn text(&self, path: &str) -> Option<String> {
        scalar::text(self.doc.at(path)?).map(std::borrow::Cow::into_owned)
    }
    fn time(&self, path: &str) -> Option<DateTime<Utc>> {
        self.read(path, |v| scalar::time(v).and_then(scalar::Stamp::utc).map(Some).ok_or(Bad))
    }
    fn account(&self, path: &str) -> Option<String> {
        self.text(path).and_then(|text| scalar::account(&text))
    }
    fn pid(&self, path: &str) -> Option<i64> {
        self.read(path, scalar::pid)
    }
}

pub(in crate::sources) fn decode(
    decoder: &Decoder<'_>,
    doc: &Json<'_>,
    context: &Context<'_>,
) -> Result<Events, Reject> {
    let when = draft::record_time([doc.at("occurred_at").and_then(scalar::time)]);
    let at = when.as_ref().ok().map(|(at, _)| *at);
    let fields = Fields { doc, errors: RefCell::default() };
    let facts = facts(&fields, at);
    if facts.is_empty() {
        return decoder.other(doc, context);
    }
    let name = doc.str_at("host.name");
    decoder.finish(Draft {
        time: when,
        name: name.or(context.host).map(str::to_owned),
        agent: doc.str_at("host.id").filter(|id| !scalar::is_null(id)).map(str::to_owned),
        addresses: super::winlogbeat::own_addresses(doc, name),
        facts,
        errors: fields.errors.take(),
        ..Draft::default()
    })
}

fn facts(f: &Fields<'_, '_>, at: Option<DateTime<Utc>>) -> Facts {
    let Some(kind) = f.doc.str_at("kind") else { return Facts::new() };
    let given = |text: &str| Some(text.to_owned());
    match kind {
        "process_start" => one(process_start(f, at)),
        "process_stop" => one(ProcessStop {
            guid: f.read("process.guid", scalar::guid),
            pid: f.pid("process.pid"),
            image: f.text("process.image"),
            ended_at: at,
        }),
        "process_sample" | "cpu_sample" => one(process_sample(f)),
        "host_sample" => one(HostSample {
            share: f.read("sample.cpu_share", scalar::float),
            logical_cpus: f.read("sample.logical_cpus", scalar::number),
            uptime_seconds: f.read("sample.uptime_s", scalar::number),
            source: given("canonical"),
            gpu_share: f.read("sample.gpu_share", scalar::float),
        }),
        "network_connection" => one(connection(f, at, "socket")),
        "network_flow" => one(connection(f, at, "flow")),
        "dns_query" => one(DnsQuery {
            guid: f.read("process.guid", scalar::guid),
            pid: f.pid("process.pid"),
            image: f.text("process.image"),
            query: f.text("dns.query").map(|name| scalar::dns_name(&name)),
            status: f.text("dns.status"),
            addresses: f
                .doc
                .at("dns.addresses")
                .map(|a| a.elements().iter().filter_map(|a| scalar::ip_text(a.as_str()?)).collect()),
            aliases: f
                .doc
                .at("dns.aliases")
                .map(|a| a.elements().iter().filter_map(|a| Some(scalar::dns_name(a.as_str()?))).collect()),
        }),
        "scheduled_task" => one(persistence(f, "task", "task")),
        "service_install" => one(persistence(f, "service", "service")),
        "wmi_filter" | "wmi_consumer" | "wmi_binding" => one(persistence(f, kind, "wmi")),
        "run_key" => one(persistence(f, kind, "registry")),
        "script_block" => one(Script {
            kind: given("block"),
            pid: f.pid("process.pid"),
            script_id: f.text("script.id"),
            part: f.read("script.part", scalar::number).or(Some(1)),
            parts: f.read("script.parts", scalar::number).or(Some(1)),
            text: f.text("script.text"),
            path: f.text("script.path"),
            command_line: f.text("process.command_line"),
            user_name: f.account("process.user"),
        }),
        "image_load" | "driver_load" => one(ModuleLoad {
            kind: given(if kind == "image_load" { "image" } else { "driver" }),
            guid: f.read("process.guid", scalar::guid),
            pid: f.pid("process.pid"),
            image: f.text("process.image"),
            path: f.text("file.path"),
            sha256: f.text("file.sha256").and_then(|hex| scalar::sha256_hex(&hex)),
            original_file_name: f.text("file.original_file_name"),
            company: f.text("file.company"),
            product: f.text("file.product"),
            description: f.text("file.description"),
            signer: f.text("file.signer"),
            signature: f.text("file.signature"),
        }),
        "file_create" => one(FileWrite {
            kind: given("create"),
            guid: f.read("process.guid", scalar::guid),
            pid: f.pid("process.pid"),
            image: f.text("process.image"),
            path: f.text("file.path"),
            sha256: f.text("file.sha256").and_then(|hex| scalar::sha256_hex(&hex)),
        }),
        "av_alert" => one(SecurityAlert {
            detection_id: f.text("alert.detection_id"),
            threat: f.text("alert.threat"),
            severity: f.text("alert.severity"),
            category: f.text("alert.category"),
            path: f.text("alert.path"),
            process: f.text("alert.process"),
            user_name: f.account("alert.user"),
            action: f.text("alert.action"),
        }),
        _ => Facts::new(),
    }
}

fn process_start(f: &Fields<'_, '_>, at: Option<DateTime<Utc>>) -> ProcessStart {
    let image = f.text("process.image");
    let command_line = f.text("process.command_line");
    let sha256 = f.text("process.sha256").and_then(|hex| scalar::sha256_hex(&hex));
    ProcessStart {
        guid: f.read("process.guid", scalar::guid),
        pid: f.pid("process.pid"),
        started_at: f.time("process.started_at").or(at),
        original_file_name: f.text("process.original_file_name"),
        company: f.text("process.company"),
        product: f.text("process.product"),
        description: f.text("process.description"),
        signer: f.text("process.signer"),
        signature: f.text("process.signature"),
        user_name: f.account("process.user"),
        integrity: f.text("process.integrity").and_then(|t| scalar::integrity(&t)).map(str::to_owned),
        session: f.read("process.session", scalar::number),
        parent_guid: f.read("process.parent.guid", scalar::guid),
        parent_pid: f.pid("process.parent.pid"),
        parent_image: f.text("process.parent.image"),
        parent_command_line: f.text("process.parent.command_line"),
        image,
        command_line,
        sha256,
    }
}

fn process_sample(f: &Fields<'_, '_>) -> CpuSample {
    let image = f.text("process.image");
    let command_line = f.text("process.command_line");
    let share = f.read("sample.cpu_share", scalar::float);
    CpuSample {
        guid: f.read("process.guid", scalar::guid),
        pid: f.pid("process.pid"),
        started_at: f.time("process.started_at"),
        name: f.text("process.name").or_else(|| image.as_deref().map(|i| group::base_name(i).to_owned())),
        share: share.filter(|share| (0.0..=110.0).contains(share)).map(|share| share.min(100.0)),
        cpu_seconds: f.read("sample.cpu_seconds", scalar::float),
        raw_value: share,
        raw_unit: share.map(|_| "sample.cpu_share percent of host".to_owned()),
        logical_cpus: f.read("sample.logical_cpus", scalar::number),
        interval_ms: f.read("sample.interval_s", scalar::float).map(|seconds| (seconds * 1_000.0) as i64),
        rss_bytes: f.read("sample.rss_bytes", scalar::number),
        gpu_share: f.read("sample.gpu_share", scalar::float),
        gpu_engine: f.text("sample.gpu_engine"),
        cores: None,
        parent_pid: f.pid("process.parent.pid"),
        image,
        command_line,
    }
}

fn connection(f: &Fields<'_, '_>, at: Option<DateTime<Utc>>, kind: &str) -> Connection {
    Connection {
        kind: Some(kind.to_owned()),
        guid: f.read("process.guid", scalar::guid),
        pid: f.pid("process.pid"),
        image: f.text("process.image"),
        protocol: f.text("network.transport").and_then(|p| scalar::protocol(&p)).map(str::to_owned),
        direction: f.text("network.direction"),
        local_ip: f.read("network.local_ip", scalar::ip),
        local_port: f.pid("network.local_port"),
        remote_ip: f.read("network.remote_ip", scalar::ip),
        remote_port: f.pid("network.remote_port"),
        remote_host: f.text("network.remote_host").map(|name| scalar::dns_name(&name)),
        started_at: f.time("network.started_at").or(at),
        ended_at: f.time("network.ended_at"),
        bytes_out: f.read("network.bytes_out", scalar::number),
        bytes_in: f.read("network.bytes_in", scalar::number),
        application: f.text("network.application"),
        allowed: f.read("network.allowed", scalar::flag).or(Some(true)),
    }
}

fn persistence(f: &Fields<'_, '_>, kind: &str, group: &str) -> Persistence {
    let field = |name: &str| f.text(&format!("{group}.{name}"));
    Persistence {
        kind: Some(kind.to_owned()),
        action: field("action").or_else(|| Some("create".to_owned())),
        name: field("name"),
        command: field("command"),
        arguments: field("arguments"),
        com_class: field("com_class"),
        run_as: field("run_as").and_then(|user| scalar::account(&user)),
        run_level: field("run_level"),
        hidden: f.read(&format!("{group}.hidden"), scalar::flag),
        author: field("author"),
        triggers: field("triggers"),
        detail: field("detail").or_else(|| field("filter")).or_else(|| field("query")),
        by_user: field("by").and_then(|user| scalar::account(&user)),
        guid: f.read("process.guid", scalar::guid),
        pid: f.pid(&format!("{group}.pid")).or_else(|| f.pid("process.pid")),
        image: f.text("process.image"),
    }
}
