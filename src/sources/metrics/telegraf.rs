//! Telegraf metrics, as JSON or influx line: `procstat`, `cpu`, `system`, Windows performance counters, `win_eventlog`.
//!
//! `cpu_usage` of procstat is percent of one processor or of all, and the data does not tell which: kept raw, the counters
//! beside it count.

use super::{cores, gpu_sample, percent, process_sample};
use crate::model::{
    event::Reject,
    fact::{CpuSample, Fact, HostSample},
};
use crate::sources::{
    Events,
    draft::{self, Decoder, Draft},
    json::Json,
    scalar::{self, Stamp},
    shape::Context,
    windows::flat,
};
use chrono::{DateTime, TimeDelta, Utc};
use smallvec::smallvec;
use std::borrow::Cow;

/// `{"metrics": [..]}`.
pub(in crate::sources) fn batch(
    decoder: &Decoder<'_>,
    doc: &Json<'_>,
    context: &Context<'_>,
) -> Result<Events, Reject> {
    let metrics = doc.get("metrics").map(Json::elements).unwrap_or_default();
    decoder.batch(metrics.iter().map(|metric| decode(&decoder.of_parts(smallvec![metric]), metric, context)).collect())
}

/// A line of the influx protocol.
pub(in crate::sources) fn line(
    decoder: &Decoder<'_>,
    text: &str,
    context: &Context<'_>,
) -> Option<Result<Events, Reject>> {
    influx(text).map(|metric| decode(&decoder.of_parts(smallvec![&metric]), &metric, context))
}

pub(in crate::sources) fn decode(
    decoder: &Decoder<'_>,
    metric: &Json<'_>,
    context: &Context<'_>,
) -> Result<Events, Reject> {
    let tag = |name: &str| metric.get("tags")?.get(name)?.as_str();
    let name = metric.str_at("name").unwrap_or_default();
    if name == "win_eventlog" {
        return flat::telegraf(decoder, metric, context);
    }
    let stamp = metric.get("timestamp").and_then(scalar::time).or(context.time);
    let fact = match (name, tag("objectname")) {
        ("procstat", _) => procstat(metric),
        ("cpu", _) if tag("cpu") == Some("cpu-total") => {
            host(field(metric, "usage_idle").map(|idle| 100.0 - idle), None, None)
        }
        ("nvidia_smi", _) => field(metric, "utilization_gpu").map(|raw| {
            let source = Some("nvidia_smi".to_owned());
            HostSample { gpu_share: percent(raw), source, ..HostSample::default() }.into()
        }),
        ("system", _) => {
            let (cpus, uptime) = (whole(metric, "n_cpus"), whole(metric, "uptime"));
            if cpus.is_some() || uptime.is_some() { host(None, cpus, uptime) } else { None }
        }
        (_, Some("GPU Engine")) => tag("instance")
            .zip(field(metric, "Utilization_Percentage"))
            .and_then(|(instance, raw)| gpu_sample(instance, "GPU Engine Utilization_Percentage percent", raw, None))
            .map(Fact::from),
        (_, Some("Process")) => win_process(metric, tag("instance"), stamp.and_then(Stamp::utc)),
        (_, Some("Processor" | "Processor Information")) if tag("instance").is_some_and(|i| i.ends_with("_Total")) => {
            host(field(metric, "Percent_Processor_Time"), None, None)
        }
        _ => None,
    };
    decoder.finish(Draft {
        time: draft::record_time([stamp]),
        name: tag("host").or(context.host).map(str::to_owned),
        facts: smallvec![fact.unwrap_or_else(|| other(name))],
        ..Draft::default()
    })
}

fn other(name: &str) -> Fact {
    let fact = crate::model::fact::OtherEvent {
        provider: Some("telegraf".to_owned()),
        channel: Some(name.to_owned()),
        code: None,
    };
    fact.into()
}

fn field(metric: &Json<'_>, name: &str) -> Option<f64> {
    scalar::float(metric.get("fields")?.get(name)?).ok().flatten()
}

fn whole(metric: &Json<'_>, name: &str) -> Option<i64> {
    scalar::number(metric.get("fields")?.get(name)?).ok().flatten()
}

fn text(metric: &Json<'_>, name: &str) -> Option<String> {
    scalar::text(metric.get("fields")?.get(name)?).map(Cow::into_owned)
}

fn host(share: Option<f64>, logical_cpus: Option<i64>, uptime_seconds: Option<i64>) -> Option<Fact> {
    let known = share.is_some() || logical_cpus.is_some() || uptime_seconds.is_some();
    let source = Some("telegraf".to_owned());
    known.then(|| {
        HostSample { share: share.and_then(percent), logical_cpus, uptime_seconds, source, gpu_share: None }.into()
    })
}

fn procstat(metric: &Json<'_>) -> Option<Fact> {
    let pid = whole(metric, "pid")?;
    let counters = (field(metric, "cpu_time_user"), field(metric, "cpu_time_system"));
    let cpu_seconds = match counters {
        (None, None) => None,
        (user, system) => Some(user.unwrap_or(0.0) + system.unwrap_or(0.0)),
    };
    let raw_value = field(metric, "cpu_usage");
    let tags = metric.get("tags")?;
    let sample = CpuSample {
        pid: Some(pid),
        started_at: metric.get("fields")?.get("created_at").and_then(scalar::time).and_then(Stamp::utc),
        image: text(metric, "exe").or_else(|| tags.str_at("exe").map(str::to_owned)),
        name: tags.str_at("process_name").map(str::to_owned),
        cpu_seconds,
        raw_value,
        raw_unit: raw_value.map(|_| "procstat cpu_usage".to_owned()),
        rss_bytes: whole(metric, "memory_rss"),
        command_line: text(metric, "cmdline").or_else(|| tags.str_at("cmdline").map(str::to_owned)),
        parent_pid: whole(metric, "ppid"),
        ..CpuSample::default()
    };
    Some(process_sample(sample).into())
}

/// A counter of the `Process` object. Names like `svchost#7` move between processes, the id does not.
fn win_process(metric: &Json<'_>, instance: Option<&str>, at: Option<DateTime<Utc>>) -> Option<Fact> {
    let name = instance?;
    let pid = whole(metric, "ID_Process").filter(|pid| *pid > 0)?;
    if matches!(name, "_Total" | "Idle") {
        return None;
    }
    let raw_value = field(metric, "Percent_Processor_Time");
    let started_at = at.zip(field(metric, "Elapsed_Time")).and_then(|(at, seconds)| {
        at.checked_sub_signed(TimeDelta::try_milliseconds((seconds.clamp(0.0, 1.0e9) * 1_000.0) as i64)?)
    });
    let base = name.split_once('#').map_or(name, |(base, _)| base);
    let sample = CpuSample {
        pid: Some(pid),
        started_at,
        name: Some(if base.contains('.') { base.to_owned() } else { format!("{base}.exe") }),
        // Counted in 100 ns.
        cpu_seconds: field(metric, "Percent_Processor_Time_Raw").map(|ticks| ticks / 1.0e7),
        raw_value,
        raw_unit: raw_value.map(|_| "Process Percent_Processor_Time, 100 per processor".to_owned()),
        cores: raw_value.and_then(|raw| cores(raw / 100.0)),
        rss_bytes: field(metric, "Working_Set").map(|bytes| bytes as i64),
        parent_pid: whole(metric, "Creating_Process_ID"),
        ..CpuSample::default()
    };
    Some(process_sample(sample).into())
}

/// Whether this is one line of the influx protocol.
pub(in crate::sources) fn is_metric_line(text: &str) -> bool {
    influx(text).is_some()
}

/// `measurement,tag=value field=value,field="text" time` as the JSON form.
fn influx(text: &str) -> Option<Json<'static>> {
    let (head, rest) = cut(text.trim(), ' ')?;
    let (fields, time) = cut(rest, ' ').unwrap_or((rest, ""));
    let mut head = pieces(head, ',').into_iter();
    let name = unescaped(head.next()?);
    let pair = |piece: &str| cut(piece, '=').map(|(key, value)| (unescaped(key), value.to_owned()));
    let tags: Option<Vec<_>> =
        head.map(|p| pair(p).map(|(key, value)| (Cow::Owned(key), Json::Str(Cow::Owned(unescaped(&value)))))).collect();
    let fields: Option<Vec<_>> = pieces(fields, ',')
        .into_iter()
        .map(|p| pair(p).and_then(|(key, value)| Some((Cow::Owned(key), influx_value(&value)?))))
        .collect();
    let mut members = vec![
        (Cow::Borrowed("name"), Json::Str(Cow::Owned(name))),
        (Cow::Borrowed("tags"), Json::Object(tags?)),
        (Cow::Borrowed("fields"), Json::Object(fields?)),
    ];
    if !time.is_empty() {
        members.push((Cow::Borrowed("timestamp"), Json::Int(time.parse().ok()?)));
    }
    Some(Json::Object(members))
}

fn influx_value(text: &str) -> Option<Json<'static>> {
    if let Some(quoted) = text.strip_prefix('"') {
        return Some(Json::Str(Cow::Owned(unescaped(quoted.strip_suffix('"')?))));
    }
    Some(match text {
        "t" | "T" | "true" | "True" | "TRUE" => Json::Bool(true),
        "f" | "F" | "false" | "False" | "FALSE" => Json::Bool(false),
        _ => match text.strip_suffix(['i', 'u']) {
            Some(whole) => Json::Int(whole.parse().ok()?),
            None => Json::Float(text.parse().ok().filter(|n: &f64| n.is_finite())?),
        },
    })
}

/// Cuts at the first separator that is neither escaped nor quoted.
fn cut(text: &str, separator: char) -> Option<(&str, &str)> {
    let (mut escaped, mut quoted) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            c if c == separator && !quoted => return Some((text.get(..at)?, text.get(at.checked_add(1)?..)?)),
            _ => {}
        }
    }
    None
}

fn pieces(text: &str, separator: char) -> Vec<&str> {
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some((piece, after)) = cut(rest, separator) {
        found.push(piece);
        rest = after;
    }
    found.push(rest);
    found
}

/// Undoes `\ `, `\,`, `\=`, `\"`; any other backslash stands for itself.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some(next @ (' ' | ',' | '=' | '"' | '\\'))) => {
                out.push(*next);
                chars.next();
            }
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_influx_line_reads_like_the_json_metric() {
        let metric = influx(r#"procstat,host=WS-0412,user=NT\ AUTHORITY\SYSTEM pid=4120i,cpu=380.4,exe="C:\\a b,c.exe",up=t 1772443145000000000"#).unwrap();
        assert_eq!(metric.str_at("tags.user"), Some(r"NT AUTHORITY\SYSTEM"));
        assert_eq!(metric.at("fields.pid"), Some(&Json::Int(4120)));
        assert_eq!(metric.str_at("fields.exe"), Some(r"C:\a b,c.exe"));
        assert_eq!(metric.at("timestamp"), Some(&Json::Int(1_772_443_145_000_000_000)));
        for text in ["hello", "hello world", "a b=c", "2026-03-02 09:14:05 GET /"] {
            assert_eq!(influx(text), None, "{text}");
        }
    }
}
