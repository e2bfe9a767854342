//! Metricbeat: `system.process`, `system.cpu`; processors and the `GPU Engine` object of `windows.perfmon`.

use super::{cores, gpu_sample, percent, process_sample};
use crate::model::{
    event::Reject,
    fact::{CpuSample, Fact, HostSample},
};
use crate::sources::{
    Events,
    draft::{self, Decoder, Draft},
    json::Json,
    scalar,
    shape::Context,
    windows::winlogbeat,
};

pub(in crate::sources) fn decode(
    decoder: &Decoder<'_>,
    doc: &Json<'_>,
    context: &Context<'_>,
) -> Result<Events, Reject> {
    let dataset = doc.str_at("event.dataset").or_else(|| doc.str_at("metricset.name")).unwrap_or_default();
    let fact = match dataset {
        "system.process" | "process" => process(doc),
        "system.cpu" | "cpu" => Some(host(doc)),
        "windows.perfmon" | "perfmon" => counter(doc),
        _ => None,
    };
    let Some(fact) = fact else { return decoder.other(doc, context) };
    let name = doc.str_at("host.name").or_else(|| doc.str_at("host.hostname")).or_else(|| doc.str_at("agent.name"));
    decoder.finish(Draft {
        time: draft::record_time([doc.at("@timestamp").and_then(scalar::time), context.time]),
        name: name.or(context.host).map(str::to_owned),
        agent: winlogbeat::agent_of(doc, name).map(str::to_owned),
        addresses: winlogbeat::own_addresses(doc, name),
        facts: smallvec::smallvec![fact],
        ..Draft::default()
    })
}

fn float(doc: &Json<'_>, path: &str) -> Option<f64> {
    scalar::float(doc.at(path)?).ok().flatten()
}

fn number(doc: &Json<'_>, path: &str) -> Option<i64> {
    scalar::number(doc.at(path)?).ok().flatten()
}

fn text(doc: &Json<'_>, path: &str) -> Option<String> {
    scalar::text(doc.at(path)?).map(std::borrow::Cow::into_owned)
}

/// A share, or the processors it keeps busy, with the field it came from; the normalised field first, it needs no number of
/// processors.
fn process_share(doc: &Json<'_>, cpus: Option<i64>) -> CpuSample {
    for path in ["system.process.cpu.total.norm.pct", "process.cpu.pct"] {
        if let Some(raw) = float(doc, path) {
            let raw_unit = Some(path.to_owned());
            return CpuSample { share: percent(raw * 100.0), raw_value: Some(raw), raw_unit, ..CpuSample::default() };
        }
    }
    let path = "system.process.cpu.total.pct";
    let Some(raw) = float(doc, path) else { return CpuSample::default() };
    let cpus = cpus.filter(|cpus| *cpus > 0);
    CpuSample {
        share: cpus.and_then(|cpus| percent(raw * 100.0 / cpus as f64)),
        cores: if cpus.is_none() { cores(raw) } else { None },
        raw_value: Some(raw),
        raw_unit: Some(path.to_owned()),
        ..CpuSample::default()
    }
}

fn process(doc: &Json<'_>) -> Option<Fact> {
    let pid = scalar::pid(doc.at("process.pid").or_else(|| doc.at("system.process.pid"))?).ok().flatten()?;
    let logical_cpus = number(doc, "system.cpu.cores");
    let image = text(doc, "process.executable").or_else(|| text(doc, "system.process.exe"));
    let command_line = text(doc, "process.command_line").or_else(|| text(doc, "system.process.cmdline"));
    let started = ["process.cpu.start_time", "system.process.cpu.start_time", "process.start"];
    let sample = process_sample(CpuSample {
        guid: doc.at("process.entity_id").and_then(|v| scalar::guid(v).ok().flatten()),
        pid: Some(pid),
        started_at: started.iter().find_map(|path| scalar::time(doc.at(path)?)?.utc()),
        name: text(doc, "process.name"),
        cpu_seconds: float(doc, "system.process.cpu.total.value").map(|ms| ms / 1_000.0),
        logical_cpus,
        interval_ms: number(doc, "metricset.period"),
        rss_bytes: number(doc, "system.process.memory.rss.bytes"),
        parent_pid: number(doc, "process.parent.pid").or_else(|| number(doc, "system.process.ppid")),
        image,
        command_line,
        ..process_share(doc, logical_cpus)
    });
    Some(sample.into())
}

fn host(doc: &Json<'_>) -> Fact {
    let logical_cpus = number(doc, "system.cpu.cores");
    let normalised = float(doc, "system.cpu.total.norm.pct").or_else(|| float(doc, "host.cpu.usage"));
    let share = normalised.map(|part| part * 100.0).or_else(|| {
        let cpus = logical_cpus.filter(|n| *n > 0)?;
        Some(float(doc, "system.cpu.total.pct")? * 100.0 / cpus as f64)
    });
    let sample = HostSample {
        share: share.and_then(percent),
        logical_cpus,
        uptime_seconds: None,
        source: Some("system.cpu".to_owned()),
        gpu_share: None,
    };
    sample.into()
}

/// A performance counter: an engine of one process, or all processors. Both are percent already.
fn counter(doc: &Json<'_>) -> Option<Fact> {
    let perfmon = doc.at("windows.perfmon")?;
    let (object, instance) = (perfmon.str_at("object")?, perfmon.str_at("instance")?);
    let metrics = perfmon.at("metrics")?;
    let named = |part: &str| {
        let (name, value) = metrics.members().iter().find(|(name, _)| name.to_ascii_lowercase().contains(part))?;
        let value = ["percentage", "pct"].iter().find_map(|key| value.at(key)).unwrap_or(value);
        Some((name, scalar::float(value).ok().flatten()?))
    };
    match object {
        "GPU Engine" => {
            let (name, raw) = named("util")?;
            let unit = format!("GPU Engine {name} percent");
            gpu_sample(instance, &unit, raw, number(doc, "metricset.period")).map(Fact::from)
        }
        "Processor" | "Processor Information" if instance.ends_with("_Total") => {
            let raw = float(metrics, "processor.time.total.pct").or_else(|| Some(named("processor_time")?.1))?;
            let source = Some("windows.perfmon".to_owned());
            Some(HostSample { share: percent(raw), source, ..HostSample::default() }.into())
        }
        _ => None,
    }
}
