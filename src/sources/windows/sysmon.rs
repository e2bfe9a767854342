//! Sysmon: what its event ids mean.

use super::{Ends, Facts, Record, one, registry, wmi};
use crate::model::fact::{
    Connection, DnsQuery, Fact, FileWrite, ModuleLoad, ProcessStart, ProcessStop, ProcessTamper, SettingChange,
};
use crate::sources::{json::Json, scalar, values::Values};
use chrono::{DateTime, Utc};

pub(super) fn facts(record: &Record<'_>, at: Option<DateTime<Utc>>) -> Facts {
    let v = &record.values;
    match record.event_id {
        1 => one(process_start(v, at)),
        3 => one(connection(record, at)),
        5 => one(process_stop(v, at)),
        6 => one(module_load(v, "driver")),
        7 => one(module_load(v, "image")),
        8 => one(tamper(v, "remote_thread", "StartModule")),
        10 => one(tamper(v, "access", "GrantedAccess")),
        11 => one(file_write(v, "create")),
        15 => one(file_write(v, "stream")),
        23 | 26 => one(file_write(v, "delete")),
        27 => one(file_write(v, "blocked")),
        12..=14 => registry::sysmon_facts(v),
        19..=21 => wmi::sysmon_facts(v, record.event_id),
        22 => one(dns_query(v)),
        25 => one(image_tamper(v)),
        4 => one(coverage("Sysmon service", v.string("State"))),
        16 => one(coverage("Sysmon configuration", v.string("Configuration"))),
        255 => one(coverage("Sysmon error", v.string("Description").or_else(|| v.string("ID")))),
        _ => Facts::new(),
    }
}

fn coverage(name: &str, state: Option<String>) -> SettingChange {
    SettingChange {
        kind: Some("coverage".to_owned()),
        name: Some(name.to_owned()),
        new_value: state,
        ..SettingChange::default()
    }
}

/// Sysmon 1, and ECS process starts without an event log behind them.
pub(super) fn process_start(v: &Values<'_>, at: Option<DateTime<Utc>>) -> ProcessStart {
    let image = v.string("Image");
    let command_line = v.string("CommandLine");
    let sha256 = v.sha256();
    let (signer, signature) = code_signature(v.ecs, "process.code_signature");
    ProcessStart {
        guid: v.guid("ProcessGuid"),
        pid: v.pid("ProcessId"),
        started_at: at,
        original_file_name: v.string("OriginalFileName"),
        company: v.string("Company"),
        product: v.string("Product"),
        description: v.string("Description"),
        signer,
        signature,
        user_name: v
            .text("LogonId")
            .and_then(|id| scalar::well_known(&id))
            .map(str::to_owned)
            .or_else(|| v.account("User")),
        integrity: v.text("IntegrityLevel").and_then(|t| scalar::integrity(&t)).map(str::to_owned),
        session: v.number("TerminalSessionId"),
        parent_guid: v.guid("ParentProcessGuid"),
        parent_pid: v.pid("ParentProcessId").filter(|pid| *pid > 0),
        parent_image: v.string("ParentImage"),
        parent_command_line: v.string("ParentCommandLine"),
        image,
        command_line,
        sha256,
    }
}

/// Signer and state of an ECS `code_signature`.
fn code_signature(doc: Option<&Json<'_>>, path: &str) -> (Option<String>, Option<String>) {
    let Some(signature) = doc.and_then(|doc| doc.at(path)) else {
        return (None, None);
    };
    let flag = |name: &str| signature.get(name).and_then(|v| scalar::flag(v).ok().flatten());
    let trusted = flag("trusted").or_else(|| flag("valid"));
    match (flag("exists").or_else(|| flag("signed")), trusted) {
        (Some(false), _) => (None, Some("unsigned".to_owned())),
        (_, Some(true)) => (signature.str_at("subject_name").map(str::to_owned), Some("valid".to_owned())),
        (_, Some(false)) => (None, Some("invalid".to_owned())),
        _ => (None, None),
    }
}

pub(super) fn process_stop(v: &Values<'_>, at: Option<DateTime<Utc>>) -> ProcessStop {
    ProcessStop { guid: v.guid("ProcessGuid"), pid: v.pid("ProcessId"), image: v.string("Image"), ended_at: at }
}

fn connection(record: &Record<'_>, at: Option<DateTime<Utc>>) -> Connection {
    let v = &record.values;
    let mut connection = host_connection(v, at);
    let outbound = v.flag("Initiated").or_else(|| match v.ecs?.str_at("network.direction")? {
        "egress" | "outbound" => Some(true),
        "ingress" | "inbound" => Some(false),
        _ => None,
    });
    let protocol = v.text("Protocol").and_then(|p| scalar::protocol(&p));
    let ends = Ends {
        source: (v.ip("SourceIp"), v.pid("SourcePort")),
        destination: (v.ip("DestinationIp"), v.pid("DestinationPort")),
    };
    ends.apply(protocol, outbound, &record.addresses, &mut connection);
    connection.remote_host =
        v.text("DestinationHostname").filter(|_| outbound != Some(false)).map(|name| scalar::dns_name(&name));
    connection
}

fn host_connection(v: &Values<'_>, at: Option<DateTime<Utc>>) -> Connection {
    Connection {
        kind: Some("socket".to_owned()),
        guid: v.guid("ProcessGuid"),
        pid: v.pid("ProcessId"),
        image: v.string("Image"),
        started_at: at,
        allowed: Some(true),
        ..Connection::default()
    }
}

/// ECS network events without an event log behind them.
pub(super) fn ecs_connection(v: &Values<'_>, at: Option<DateTime<Utc>>, own: &[std::net::IpAddr]) -> Connection {
    let mut connection = host_connection(v, at);
    let outbound = v.ecs.and_then(|doc| match doc.str_at("network.direction")? {
        "egress" | "outbound" => Some(true),
        "ingress" | "inbound" => Some(false),
        _ => None,
    });
    let ends = Ends {
        source: (v.ip("SourceIp"), v.pid("SourcePort")),
        destination: (v.ip("DestinationIp"), v.pid("DestinationPort")),
    };
    ends.apply(v.text("Protocol").and_then(|p| scalar::protocol(&p)), outbound, own, &mut connection);
    connection.remote_host = v.text("DestinationHostname").map(|name| scalar::dns_name(&name));
    connection
}

fn module_load(v: &Values<'_>, kind: &str) -> ModuleLoad {
    // The version resource is the module's, never that of the loading process.
    let of_module = |name: &str| if kind == "image" { v.string(name) } else { None };
    let (signer, signature) = signature(v);
    ModuleLoad {
        kind: Some(kind.to_owned()),
        guid: v.guid("ProcessGuid"),
        pid: v.pid("ProcessId"),
        image: v.string("Image").filter(|_| kind == "image"),
        path: v.string("ImageLoaded"),
        sha256: v.sha256(),
        original_file_name: of_module("OriginalFileName"),
        company: of_module("Company"),
        product: of_module("Product"),
        description: of_module("Description"),
        signer,
        signature,
    }
}

/// Signer, only if signed and valid; and the state.
fn signature(v: &Values<'_>) -> (Option<String>, Option<String>) {
    let status = v.text("SignatureStatus");
    let valid = status.as_deref().is_some_and(|s| s.eq_ignore_ascii_case("valid"));
    match v.flag("Signed") {
        Some(true) if valid => (v.string("Signature"), Some("valid".to_owned())),
        Some(true) => (None, Some("invalid".to_owned())),
        Some(false) => (None, Some("unsigned".to_owned())),
        None => (None, None),
    }
}

fn tamper(v: &Values<'_>, kind: &str, detail: &str) -> ProcessTamper {
    let guid = |end: &str| v.guid(&format!("{end}ProcessGuid")).or_else(|| v.guid(&format!("{end}ProcessGUID")));
    ProcessTamper {
        kind: Some(kind.to_owned()),
        guid: guid("Target"),
        pid: v.pid("TargetProcessId"),
        image: v.string("TargetImage"),
        source_guid: guid("Source"),
        source_pid: v.pid("SourceProcessId"),
        source_image: v.string("SourceImage"),
        detail: v.string(detail),
    }
}

fn image_tamper(v: &Values<'_>) -> ProcessTamper {
    ProcessTamper {
        kind: Some("tamper".to_owned()),
        guid: v.guid("ProcessGuid"),
        pid: v.pid("ProcessId"),
        image: v.string("Image"),
        detail: v.string("Type"),
        ..ProcessTamper::default()
    }
}

fn file_write(v: &Values<'_>, kind: &str) -> FileWrite {
    FileWrite {
        kind: Some(kind.to_owned()),
        guid: v.guid("ProcessGuid"),
        pid: v.pid("ProcessId"),
        image: v.string("Image"),
        path: v.string("TargetFilename"),
        sha256: v.sha256(),
    }
}

pub(super) fn dns_query(v: &Values<'_>) -> Fact {
    let (addresses, aliases) = match v.text("QueryResults") {
        Some(results) => scalar::query_results(&results),
        None => ecs_answers(v.ecs),
    };
    let status = v.string("QueryStatus").or_else(|| {
        let status = v.ecs?.str_at("sysmon.dns.status").or_else(|| v.ecs?.str_at("dns.response_code"))?;
        Some(if matches!(status, "SUCCESS" | "NOERROR") { "0".to_owned() } else { status.to_owned() })
    });
    DnsQuery {
        guid: v.guid("ProcessGuid"),
        pid: v.pid("ProcessId"),
        image: v.string("Image"),
        query: v.text("QueryName").map(|name| scalar::dns_name(&name)),
        status,
        addresses: Some(addresses),
        aliases: Some(aliases),
    }
    .into()
}

pub(super) fn ecs_answers(doc: Option<&Json<'_>>) -> (Vec<std::net::IpAddr>, Vec<String>) {
    let answers = doc.and_then(|doc| doc.at("dns.answers")).map(Json::elements).unwrap_or_default();
    let mut found = (Vec::new(), Vec::new());
    for data in answers.iter().filter_map(|answer| answer.str_at("data")) {
        match scalar::ip_text(data) {
            Some(address) => found.0.push(address),
            None => found.1.push(scalar::dns_name(data)),
        }
    }
    if found.0.is_empty() {
        let resolved = doc.and_then(|doc| doc.at("dns.resolved_ip")).map(Json::elements).unwrap_or_default();
        found.0.extend(resolved.iter().filter_map(|a| scalar::ip_text(a.as_str()?)));
    }
    found
}
