//! Event time: the clock as a parameter, five-minute buckets and half-open spans.
//!
//! Detection reads event time only (no function here asks the machine for the time except [`System`]); the wall clock is for
//! receipt, leases, sessions and what pages show as expired.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use std::fmt::Debug;

/// Where the present comes from. Tests hold it still.
pub trait Clock: Send + Sync + Debug {
    /// The present instant in UTC.
    fn now(&self) -> DateTime<Utc>;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Clock for System {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

/// A clock that stands still, for tests and replays.
#[derive(Debug, Clone, Copy)]
pub struct Fixed(pub DateTime<Utc>);

impl Clock for Fixed {
    fn now(&self) -> DateTime<Utc> {
        self.0
    }
}

/// Width of a bucket: the resolution at which load is judged. Source: AN0741 works in minutes; chosen five.
pub const BUCKET: TimeDelta = TimeDelta::minutes(5);

/// Start of the UTC-aligned five-minute bucket that holds `at`.
pub fn bucket(at: DateTime<Utc>) -> DateTime<Utc> {
    at.duration_trunc(BUCKET).unwrap_or(at)
}

/// A stretch of event time, `since` included, `until` not. Never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    since: DateTime<Utc>,
    until: DateTime<Utc>,
}

impl Span {
    /// `None` unless `since < until`.
    pub fn new(since: DateTime<Utc>, until: DateTime<Utc>) -> Option<Self> {
        (since < until).then_some(Self { since, until })
    }

    /// The bucket that holds `at`, as a span.
    pub fn of_bucket(at: DateTime<Utc>) -> Self {
        let since = bucket(at);
        Self { since, until: since + BUCKET }
    }

    /// First instant inside.
    pub fn since(&self) -> DateTime<Utc> {
        self.since
    }

    /// First instant after.
    pub fn until(&self) -> DateTime<Utc> {
        self.until
    }

    /// The same span, longer on both sides; durations must not be negative.
    #[must_use]
    pub fn widened(&self, before: TimeDelta, after: TimeDelta) -> Self {
        Self { since: self.since - before, until: self.until + after }
    }

    /// Whether both share an instant.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.since < other.until && other.since < self.until
    }

    /// Joins spans that overlap or touch; the result is sorted and disjoint.
    pub fn merge(mut spans: Vec<Self>) -> Vec<Self> {
        spans.sort_unstable();
        let mut out: Vec<Self> = Vec::with_capacity(spans.len());
        for span in spans {
            match out.last_mut() {
                Some(last) if span.since <= last.until => last.until = last.until.max(span.until),
                _ => out.push(span),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn a_bucket_starts_on_the_five_minute_grid() {
        assert_eq!(bucket(at(1_799)), at(1_500));
        assert_eq!(bucket(at(1_800)), at(1_800));
    }

    proptest! {
        #[test]
        fn merging_is_sorted_disjoint_and_keeps_every_instant(raw in prop::collection::vec((0i64..5_000, 1i64..300), 0..40)) {
            let spans: Vec<Span> = raw.iter().map(|&(s, d)| Span::new(at(s), at(s + d)).unwrap()).collect();
            let merged = Span::merge(spans.clone());
            for pair in merged.windows(2) {
                prop_assert!(pair[0].until() < pair[1].since());
            }
            for span in &spans {
                prop_assert!(merged.iter().any(|m| m.since() <= span.since() && span.until() <= m.until()));
            }
        }
    }
}
