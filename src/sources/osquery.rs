//! osquery result rows, routed by their columns, not by the name of the query; all columns are text.

use super::{
    Events,
    draft::{self, Decoder, Draft, first_label},
    json::Json,
    metrics::process_sample,
    scalar::{self, Stamp},
    shape::Context,
    windows::flat,
};
use crate::model::{
    event::Reject,
    fact::{
        Connection, CpuSample, DnsQuery, Fact, ModuleLoad, OtherEvent, Persistence, ProcessStart, ProcessStop, Script,
    },
};
use smallvec::{SmallVec, smallvec};
use std::borrow::Cow;

/// The body of a `log` request: rows under `data`.
pub(super) fn batch(decoder: &Decoder<'_>, doc: &Json<'_>, context: &Context<'_>) -> Result<Events, Reject> {
    let rows = doc.get("data").map(Json::elements).unwrap_or_default();
    decoder.batch(rows.iter().map(|row| decode(&decoder.of_parts(smallvec![row]), row, context)).collect())
}

/// A result with `columns`, or with several rows under `snapshot`.
pub(super) fn decode(decoder: &Decoder<'_>, row: &Json<'_>, context: &Context<'_>) -> Result<Events, Reject> {
    let hostname = row.str_at("decorations.hostname");
    let identifier = row.str_at("hostIdentifier");
    if let Some(columns) = row.get("columns").filter(|c| c.get("eventid").is_some() && c.get("data").is_some()) {
        return flat::osquery(
            decoder,
            columns,
            &Context { host: hostname.or(identifier).or(context.host), ..*context },
        );
    }
    let removed = row.str_at("action") == Some("removed");
    let snapshot = row.get("snapshot").map(Json::elements).unwrap_or_default();
    let rows = snapshot.iter().chain(row.get("columns"));
    let mut facts: SmallVec<[Fact; 1]> = rows.filter(|_| !removed).filter_map(|columns| fact(columns, row)).collect();
    if facts.is_empty() {
        let name = row.str_at("name").map(str::to_owned);
        facts.push(OtherEvent { provider: Some("osquery".to_owned()), channel: name, code: None }.into());
    }
    // The identifier may be the hardware's id or the host's name.
    let same = identifier.zip(hostname).is_some_and(|(a, b)| first_label(a).eq_ignore_ascii_case(first_label(b)));
    decoder.finish(Draft {
        time: draft::record_time([happened(row), row.get("unixTime").and_then(scalar::time), context.time]),
        name: hostname.or(identifier).or(context.host).map(str::to_owned),
        agent: identifier.filter(|_| hostname.is_some() && !same).map(str::to_owned),
        facts,
        ..Draft::default()
    })
}

/// When an evented row happened; `unixTime` is when its query ran. Scheduled tables have no such column.
fn happened(row: &Json<'_>) -> Option<Stamp> {
    let columns = row.get("columns")?;
    columns.get("datetime").and_then(scalar::time).filter(|stamp| stamp.has_zone())
}

fn fact(columns: &Json<'_>, row: &Json<'_>) -> Option<Fact> {
    let has = |name: &str| columns.get(name).is_some();
    let text = |name: &str| scalar::text(columns.get(name)?).map(Cow::into_owned);
    let number = |name: &str| scalar::number(columns.get(name)?).ok().flatten();
    let float = |name: &str| scalar::float(columns.get(name)?).ok().flatten();
    let ip = |name: &str| scalar::ip(columns.get(name)?).ok().flatten();
    if has("user_time") && has("system_time") && has("pid") {
        let (user, system) = (float("user_time")?, float("system_time")?);
        let sample = CpuSample {
            pid: number("pid"),
            started_at: columns.get("start_time").and_then(scalar::time).and_then(Stamp::utc),
            image: text("path"),
            name: text("name"),
            // Both are milliseconds.
            cpu_seconds: Some((user + system) / 1_000.0),
            raw_value: Some(user + system),
            raw_unit: Some("user_time + system_time ms".to_owned()),
            logical_cpus: row.at("decorations.cpu_logical_cores").and_then(|v| scalar::number(v).ok().flatten()),
            rss_bytes: number("resident_size"),
            command_line: text("cmdline"),
            parent_pid: number("parent"),
            ..CpuSample::default()
        };
        return Some(process_sample(sample).into());
    }
    if has("remote_address") && has("pid") {
        let remote_port = number("remote_port").filter(|port| *port > 0)?;
        let connection = Connection {
            kind: Some("socket".to_owned()),
            pid: number("pid"),
            image: text("path"),
            protocol: text("protocol").and_then(|p| scalar::protocol(&p)).map(str::to_owned),
            direction: Some("unknown".to_owned()),
            local_ip: ip("local_address"),
            local_port: number("local_port"),
            remote_ip: Some(ip("remote_address")?),
            remote_port: Some(remote_port),
            allowed: Some(true),
            ..Connection::default()
        };
        return Some(connection.into());
    }
    if let Some(event) = columns.str_at("type").filter(|_| has("pid") && has("ppid")) {
        return process_event(columns, event, row.get("unixTime").and_then(scalar::time));
    }
    let response = |name: &str| columns.get(name).and_then(scalar::text);
    if let (Some(query), Some(answers), true) = (text("name"), response("response"), has("pid")) {
        let (addresses, aliases) = scalar::query_results(&answers);
        let asked = DnsQuery {
            pid: number("pid"),
            image: text("path"),
            query: Some(scalar::dns_name(&query)),
            status: text("status"),
            addresses: Some(addresses),
            aliases: Some(aliases),
            ..DnsQuery::default()
        };
        return Some(asked.into());
    }
    if let Some(line) =
        text("command_line_template").or_else(|| text("executable_path").filter(|_| has("relative_path")))
    {
        let (command, arguments) = scalar::split_command(&line);
        let consumer = Persistence {
            kind: Some("wmi_consumer".to_owned()),
            action: Some("create".to_owned()),
            name: text("name"),
            command: Some(command),
            arguments,
            ..Persistence::default()
        };
        return Some(consumer.into());
    }
    if has("action") && has("next_run_time") {
        let (command, arguments) = text("action").map(|line| scalar::split_command(&line)).unzip();
        let task = Persistence {
            kind: Some("task".to_owned()),
            // What the table holds now: made or changed, it does not say which.
            action: Some("update".to_owned()),
            name: text("path").or_else(|| text("name")),
            command,
            arguments: arguments.flatten(),
            hidden: columns.get("hidden").and_then(|v| scalar::flag(v).ok().flatten()),
            ..Persistence::default()
        };
        return Some(task.into());
    }
    if has("subject_name") && has("result") && has("path") {
        let trusted = text("result").map(|result| match result.as_str() {
            "trusted" => "valid",
            "missing" => "unsigned",
            _ => "invalid",
        });
        let module = ModuleLoad {
            kind: Some("image".to_owned()),
            path: text("path"),
            original_file_name: text("original_program_name"),
            signer: text("subject_name").filter(|_| trusted == Some("valid")),
            signature: trusted.map(str::to_owned),
            ..ModuleLoad::default()
        };
        return Some(module.into());
    }
    if has("script_text") {
        return Some(
            Script {
                kind: Some("block".to_owned()),
                script_id: text("script_block_id"),
                part: Some(1),
                parts: Some(1),
                text: text("script_text"),
                path: text("script_path"),
                ..Script::default()
            }
            .into(),
        );
    }
    None
}

/// A row of `process_etw_events`.
fn process_event(columns: &Json<'_>, event: &str, queried: Option<Stamp>) -> Option<Fact> {
    let text = |name: &str| scalar::text(columns.get(name)?).map(Cow::into_owned);
    let pid = |name: &str| scalar::pid(columns.get(name)?).ok().flatten();
    let happened = columns.get("datetime").and_then(scalar::time).filter(|stamp| stamp.has_zone());
    let at = happened.or(queried).and_then(Stamp::utc);
    Some(match event {
        "ProcessStart" => ProcessStart {
            pid: pid("pid"),
            started_at: at,
            image: text("path"),
            command_line: text("cmdline"),
            user_name: text("username").and_then(|user| scalar::account(&user)),
            integrity: text("mandatory_label").and_then(|label| scalar::integrity(&label)).map(str::to_owned),
            session: columns.get("session_id").and_then(|v| scalar::number(v).ok().flatten()),
            parent_pid: pid("ppid").filter(|pid| *pid > 0),
            ..ProcessStart::default()
        }
        .into(),
        "ProcessStop" => {
            ProcessStop { pid: pid("pid"), image: text("path"), ended_at: at, ..ProcessStop::default() }.into()
        }
        _ => return None,
    })
}
