//! CPU, memory and GPU samples. Shares are percent of the whole host; the conversion is by field, never by size (wire
//! formats, section 12).

pub(super) mod metricbeat;
pub(super) mod telegraf;

use crate::model::{fact::CpuSample, group};

/// Whether an `event.dataset` is one of Metricbeat's that we read.
pub(super) fn is_metric(dataset: &str) -> bool {
    dataset.starts_with("system.") || dataset == "windows.perfmon"
}

/// A share as percent of the host, or none where it cannot be one. A little over 100 is rounding of the sampler.
pub(super) fn percent(value: f64) -> Option<f64> {
    (value.is_finite() && (0.0..=110.0).contains(&value)).then(|| value.min(100.0))
}

/// Processors kept busy, if that many can be.
pub(super) fn cores(value: f64) -> Option<f64> {
    (0.0..=4_096.0).contains(&value).then_some(value)
}

/// A GPU engine instance: `pid_4120_luid_0x.._phys_0_eng_1_engtype_Compute_0`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Engine<'a> {
    pid: i64,
    /// Adapter and engine: `luid_.._phys_0_eng_1_engtype_Compute_0`.
    name: &'a str,
}

impl<'a> Engine<'a> {
    fn parse(instance: &'a str) -> Option<Self> {
        let (pid, name) = instance.strip_prefix("pid_")?.split_once('_')?;
        Some(Self { pid: pid.parse().ok().filter(|pid| (0..=i64::from(u32::MAX)).contains(pid))?, name })
    }

    /// Engines that compute: mining shows on Compute, CUDA or 3D, never on video engines.
    fn computes(&self) -> bool {
        let kind = self.name.rsplit_once("engtype_").map_or("", |(_, kind)| kind).to_ascii_lowercase();
        ["compute", "cuda", "3d"].iter().any(|k| kind.starts_with(k))
    }
}

/// One engine's sample; its value is percent already. None for engines that do not compute.
pub(super) fn gpu_sample(instance: &str, unit: &str, raw: f64, interval_ms: Option<i64>) -> Option<CpuSample> {
    let engine = Engine::parse(instance).filter(Engine::computes)?;
    Some(CpuSample {
        pid: Some(engine.pid),
        raw_value: Some(raw),
        raw_unit: Some(unit.to_owned()),
        interval_ms,
        gpu_share: percent(raw),
        gpu_engine: Some(engine.name.to_owned()),
        ..CpuSample::default()
    })
}

/// A process sample with what follows from its image.
pub(super) fn process_sample(sample: CpuSample) -> CpuSample {
    let image = sample.image.as_deref();
    let name = sample.name.clone().or_else(|| image.map(|i| group::base_name(i).to_owned()));
    CpuSample { name, ..sample }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Section 15, case 72.
    #[test]
    fn an_engine_names_its_process_and_adapter() {
        let engine = Engine::parse("pid_4120_luid_0x00000000_0x0000C5F1_phys_0_eng_4_engtype_Compute_0").unwrap();
        assert_eq!((engine.pid, engine.name), (4120, "luid_0x00000000_0x0000C5F1_phys_0_eng_4_engtype_Compute_0"));
        assert!(engine.computes());
        assert!(Engine::parse("pid_1_luid_0_phys_0_eng_1_engtype_VideoDecode").is_some_and(|e| !e.computes()));
        assert_eq!(Engine::parse("_Total"), None);
    }
}
