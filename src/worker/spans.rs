//! Stretches of event time per host that a pass has to look at, and their form as array parameters.

use crate::{model::ids::HostId, time::Span};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::BTreeMap;

/// Disjoint spans per host.
#[derive(Debug, Clone, Default)]
pub(super) struct Spans(BTreeMap<HostId, Vec<Span>>);

/// The same as parallel arrays for `unnest`, with the outer bounds that partition pruning needs.
#[derive(Debug)]
pub(super) struct Arrays {
    pub(super) hosts: Vec<i64>,
    pub(super) since: Vec<DateTime<Utc>>,
    pub(super) until: Vec<DateTime<Utc>>,
    pub(super) first: DateTime<Utc>,
    pub(super) last: DateTime<Utc>,
}

impl Spans {
    pub(super) fn add(&mut self, host: HostId, span: Span) {
        self.0.entry(host).or_default().push(span);
    }

    pub(super) fn extend(&mut self, other: &Self) {
        for (host, spans) in &other.0 {
            self.0.entry(*host).or_default().extend_from_slice(spans);
        }
    }

    /// Widened on both sides and joined.
    pub(super) fn widened(&self, before: TimeDelta, after: TimeDelta) -> Self {
        Self(
            self.0
                .iter()
                .map(|(host, spans)| (*host, Span::merge(spans.iter().map(|s| s.widened(before, after)).collect())))
                .collect(),
        )
    }

    /// Grown to whole buckets, since rows of a bucket are recomputed whole.
    pub(super) fn aligned(&self) -> Self {
        let whole = |s: &Span| {
            let last = Span::of_bucket(s.until() - TimeDelta::microseconds(1));
            Span::new(Span::of_bucket(s.since()).since(), last.until()).unwrap_or(last)
        };
        Self(self.0.iter().map(|(host, spans)| (*host, Span::merge(spans.iter().map(whole).collect()))).collect())
    }

    pub(super) fn merged(&self) -> Self {
        self.widened(TimeDelta::zero(), TimeDelta::zero())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (HostId, &[Span])> {
        self.0.iter().map(|(host, spans)| (*host, spans.as_slice()))
    }

    pub(super) fn hosts(&self) -> Vec<i64> {
        self.0.keys().map(|h| h.0).collect()
    }

    pub(super) fn holds(&self, host: HostId, at: DateTime<Utc>) -> bool {
        self.0.get(&host).is_some_and(|spans| spans.iter().any(|s| s.since() <= at && at < s.until()))
    }

    pub(super) fn arrays(&self) -> Arrays {
        let flat: Vec<(i64, Span)> = self.0.iter().flat_map(|(host, spans)| spans.iter().map(|s| (host.0, *s))).collect();
        Arrays {
            hosts: flat.iter().map(|f| f.0).collect(),
            since: flat.iter().map(|f| f.1.since()).collect(),
            until: flat.iter().map(|f| f.1.until()).collect(),
            first: flat.iter().map(|f| f.1.since()).min().unwrap_or_default(),
            last: flat.iter().map(|f| f.1.until()).max().unwrap_or_default(),
        }
    }
}
