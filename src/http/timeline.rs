//! Lanes over one time axis, drawn by the server: life, load, network, evidence. Each lane has its numbers as a table.
//!
//! Positions are percent of the width, so that nothing is scaled but the load (interface design, section 9).

use crate::{
    http::query::Fields,
    model::{code::Class, detection::Evidence},
    store::{cpu::Lane, flows::Flow, processes::Process},
};
use chrono::{DateTime, TimeDelta, Utc};
use std::{collections::BTreeMap, fmt::Write as _};

/// Free time on both sides. Source: interface design, section 9.
const MARGIN: TimeDelta = TimeDelta::minutes(10);
/// Percent of the host at which load counts. Source: AN0741 `CPUThreshold`, default of the detection design.
pub(crate) const THRESHOLD: f64 = 30.0;
/// Rows of the life lane.
const LIVES: usize = 6;

/// A horizontal bar, in percent of the width; `row` counts from 0.
#[derive(Debug, Clone)]
pub(crate) struct Bar {
    pub(crate) x: String,
    pub(crate) width: String,
    pub(crate) row: usize,
    pub(crate) label: String,
    pub(crate) href: String,
    /// Its end was not seen.
    pub(crate) open: bool,
}

/// A tick with a word.
#[derive(Debug, Clone)]
pub(crate) struct Tick {
    pub(crate) x: String,
    pub(crate) label: String,
}

/// A piece of evidence on the axis.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    pub(crate) x: String,
    pub(crate) y: usize,
    pub(crate) class: Class,
    pub(crate) label: String,
    pub(crate) href: String,
}

/// A row of the load table: consecutive equal words are one row.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) at: DateTime<Utc>,
    pub(crate) share: Option<f32>,
    pub(crate) max: Option<f32>,
    pub(crate) cores: Option<f32>,
    pub(crate) sampled: bool,
}

/// The lanes of a page.
#[derive(Debug, Clone)]
pub(crate) struct Timeline {
    pub(crate) axis: Axis,
    /// Not the whole time is shown.
    pub(crate) zoomed: bool,
    /// List the page was opened from, kept by the form.
    pub(crate) from: Option<String>,
    pub(crate) ticks: Vec<Tick>,
    pub(crate) lives: Vec<Bar>,
    pub(crate) lives_more: usize,
    pub(crate) load: Vec<Load>,
    pub(crate) load_step: TimeDelta,
    /// Path of the load in a box of 1000 x 100.
    pub(crate) load_path: String,
    /// Stretches without data.
    pub(crate) gaps: Vec<Bar>,
    pub(crate) mean: Option<f32>,
    pub(crate) peak: Option<f32>,
    pub(crate) connections: Vec<Bar>,
    pub(crate) marks: Vec<Mark>,
    pub(crate) mark_rows: usize,
}

/// The axis of some event time, with a margin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axis {
    pub(crate) since: DateTime<Utc>,
    pub(crate) until: DateTime<Utc>,
}

impl Axis {
    pub(crate) fn around(first: DateTime<Utc>, last: DateTime<Utc>) -> Self {
        Self { since: first - MARGIN, until: last.max(first) + MARGIN }
    }

    /// The part of it that an address asks for by `since` and `until`.
    pub(crate) fn zoomed(self, fields: &Fields, now: DateTime<Utc>) -> crate::http::Result<(Self, bool)> {
        let since = fields.time("since", now)?.unwrap_or(self.since).clamp(self.since, self.until);
        let until = fields.time("until", now)?.unwrap_or(self.until).clamp(self.since, self.until);
        let part = Self { since, until };
        let whole = until - since < TimeDelta::minutes(1) || (since <= self.since && until >= self.until);
        Ok(if whole { (self, false) } else { (part, true) })
    }

    fn share(&self, at: DateTime<Utc>) -> f64 {
        let all = (self.until - self.since).num_milliseconds().max(1) as f64;
        ((at - self.since).num_milliseconds() as f64 / all).clamp(0.0, 1.0)
    }

    fn percent(&self, at: DateTime<Utc>) -> String {
        format!("{:.2}%", self.share(at) * 100.0)
    }

    fn width(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> String {
        format!("{:.2}%", (self.share(to) - self.share(from)).max(0.0) * 100.0)
    }

    /// Round times, about six of them.
    fn ticks(&self) -> Vec<Tick> {
        const STEPS: [i64; 10] = [5, 10, 15, 30, 60, 120, 240, 480, 1_440, 10_080];
        let minutes = (self.until - self.since).num_minutes().max(1);
        let step = TimeDelta::minutes(STEPS.into_iter().find(|s| minutes / s <= 7).unwrap_or(minutes / 6));
        let first = self.since.timestamp() / step.num_seconds() * step.num_seconds();
        let format = if step.num_days() > 0 { "%m-%d" } else { "%H:%M" };
        let mut day = None;
        (1..=9)
            .map(|n| DateTime::from_timestamp(first, 0).unwrap_or(self.since) + step * n)
            .take_while(|at| *at < self.until)
            .filter(|at| self.share(*at) < 0.97)
            .map(|at| {
                // The day is said where it changes.
                let label = if day.replace(at.date_naive()) == Some(at.date_naive()) { at.format(format) } else { at.format("%m-%d %H:%M") };
                Tick { x: self.percent(at), label: label.to_string() }
            })
            .collect()
    }
}

/// Draws the lanes.
pub(crate) fn draw(axis: Axis, lives: &[Process], load: &Lane, flows: &[Flow], evidence: &[Evidence]) -> Timeline {
    let alive_until = |p: &Process| p.ended_at.unwrap_or(p.last_sign).min(axis.until);
    let bars = lives.iter().take(LIVES).enumerate().map(|(row, p)| Bar {
        x: axis.percent(p.started_at),
        width: axis.width(p.started_at, alive_until(p)),
        row,
        label: format!(
            "{} pid {}, {} to {}",
            p.image.as_deref().map_or("process", crate::model::group::base_name),
            p.pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string()),
            p.started_at.format("%m-%d %H:%M:%SZ"),
            p.ended_at.map_or_else(|| "running".to_owned(), |at| at.format("%m-%d %H:%M:%SZ").to_string())
        ),
        href: format!("/processes/{}", p.id),
        open: p.ended_at.is_none(),
    });
    let connections = flows.iter().map(|f| Bar {
        x: axis.percent(f.started_at),
        width: f.ended_at.map_or_else(|| "0%".to_owned(), |end| axis.width(f.started_at, end)),
        row: 0,
        label: format!(
            "{}{} at {}{}",
            crate::http::filters::reveal(&f.destination),
            f.port.map(|p| format!(":{p}")).unwrap_or_default(),
            f.started_at.format("%m-%d %H:%M:%SZ"),
            f.ended_at.map(|end| format!(", held {}", crate::http::filters::span_text(end - f.started_at))).unwrap_or_default()
        ),
        href: format!("/events/{}", f.event),
        open: f.ended_at.is_none(),
    });
    let shares: Vec<f32> = load.points.iter().filter_map(|p| p.share).collect();
    let (marks, mark_rows) = marks(&axis, evidence);
    Timeline {
        axis,
        zoomed: false,
        from: None,
        ticks: axis.ticks(),
        lives: bars.collect(),
        lives_more: lives.len().saturating_sub(LIVES),
        load_path: load_path(&axis, load),
        gaps: gaps(&axis, load),
        load: load
            .points
            .iter()
            .map(|p| Load { at: p.at, share: p.share, max: p.share_max, cores: p.cores, sampled: p.sampled })
            .collect(),
        load_step: load.step,
        mean: (!shares.is_empty()).then(|| shares.iter().sum::<f32>() / shares.len() as f32),
        peak: load.points.iter().filter_map(|p| p.share_max.or(p.share)).reduce(f32::max),
        connections: connections.collect(),
        marks,
        mark_rows,
    }
}

fn load_path(axis: &Axis, load: &Lane) -> String {
    let mut path = String::new();
    for point in &load.points {
        if let Some(share) = point.share {
            let (from, to) = (axis.share(point.at) * 1_000.0, axis.share(point.at + load.step) * 1_000.0);
            let top = 100.0 - f64::from(share).clamp(0.0, 100.0);
            write!(path, "M{from:.1} 100V{top:.1}H{to:.1}V100Z").unwrap_or_default();
        }
    }
    path
}

fn gaps(axis: &Axis, load: &Lane) -> Vec<Bar> {
    let mut stretches: Vec<(DateTime<Utc>, DateTime<Utc>)> = Vec::new();
    for point in load.points.iter().filter(|p| !p.sampled) {
        match stretches.last_mut() {
            Some((_, end)) if *end == point.at => *end = point.at + load.step,
            _ => stretches.push((point.at, point.at + load.step)),
        }
    }
    stretches
        .into_iter()
        .map(|(from, to)| Bar {
            x: axis.percent(from),
            width: axis.width(from, to),
            row: 0,
            label: format!("no data from {} to {}", from.format("%m-%d %H:%MZ"), to.format("%m-%d %H:%MZ")),
            href: String::new(),
            open: false,
        })
        .collect()
}

/// Percent of the width a mark needs.
const APART: f64 = 2.4;

/// Marks in rows, so that none covers another; neighbours of one class are one mark.
fn marks(axis: &Axis, evidence: &[Evidence]) -> (Vec<Mark>, usize) {
    let mut sorted: Vec<&Evidence> = evidence.iter().filter(|e| e.class != Class::B).collect();
    sorted.sort_by_key(|e| (e.first_seen, e.code));
    let mut ends: Vec<f64> = Vec::new();
    let mut out: Vec<Mark> = Vec::new();
    let mut latest: BTreeMap<Class, (f64, usize)> = BTreeMap::new();
    for e in sorted.into_iter().take(100) {
        let at = axis.share(e.first_seen) * 100.0;
        if let Some((_, index)) = latest.get(&e.class).filter(|(near, _)| at - near < APART) {
            write!(out[*index].label, "; {}: {}", e.code, crate::http::filters::reveal(&e.summary)).unwrap_or_default();
            continue;
        }
        let row = ends.iter().position(|end| *end + APART < at).unwrap_or(ends.len());
        if row == ends.len() {
            ends.push(at);
        } else {
            ends[row] = at;
        }
        latest.insert(e.class, (at, out.len()));
        out.push(Mark {
            x: format!("{at:.2}%"),
            y: 14 + 20 * row,
            class: e.class,
            label: format!("{} at {}: {}", e.code, e.first_seen.format("%m-%d %H:%M:%SZ"), crate::http::filters::reveal(&e.summary)),
            href: e.events.first().map_or_else(|| format!("#code-{}", e.code), |event| format!("#{}", super::view::event_anchor(event))),
        });
    }
    (out, ends.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::cpu::Point;

    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_100 / 300 * 300 + minute * 60, 0).unwrap()
    }

    #[test]
    fn a_gap_is_not_zero() {
        let sample = |minute, share, sampled| Point { at: at(minute), share, share_max: share, cores: None, sampled };
        let load = Lane {
            points: vec![sample(0, Some(90.0), true), sample(5, None, true), sample(10, None, false), sample(15, None, false), sample(20, Some(3.0), true)],
            step: TimeDelta::minutes(5),
        };
        let drawn = draw(Axis { since: at(0), until: at(25) }, &[], &load, &[], &[]);
        assert_eq!(drawn.load_path, "M0.0 100V10.0H200.0V100ZM800.0 100V97.0H1000.0V100Z");
        assert_eq!(drawn.gaps.len(), 1);
        assert_eq!((drawn.gaps[0].x.as_str(), drawn.gaps[0].width.as_str()), ("40.00%", "40.00%"));
    }

    #[test]
    fn an_axis_of_any_length_has_few_ticks() {
        for minutes in [1, 30, 300, 3_000, 30_000, 300_000] {
            let ticks = Axis { since: at(0), until: at(minutes) }.ticks();
            assert!(ticks.len() <= 8, "{minutes}: {}", ticks.len());
        }
    }
}
