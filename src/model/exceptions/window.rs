//! Maintenance windows: load that people announced, once or by an RRULE that ends. Source: detection design, section 9.3.

use super::{Invalid, Scope, invalid, trim};
use crate::time::Span;
use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use rrule::{RRule, Tz, Unvalidated};
use serde::{Deserialize, Serialize};

/// A maintenance window (contract, `POST /api/v1/maintenance-windows`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Words for people.
    pub name: String,
    /// Which hosts.
    pub scope: Scope,
    /// Event time.
    pub starts_at: DateTime<Utc>,
    /// Event time.
    pub ends_at: DateTime<Utc>,
    /// RFC 5545 RRULE that ends by COUNT or UNTIL within 365 days; every occurrence is as long as the first. Days are those of UTC.
    #[serde(default)]
    pub recurrence: Option<String>,
    /// Only these images; `*` = any text.
    #[serde(default)]
    pub images: Vec<String>,
    /// Why.
    pub reason: String,
}

/// A run may end a little after its window. Source: detection design, section 9.3.
pub const GRACE: TimeDelta = TimeDelta::minutes(15);
/// Longest window without images, and most of such time in any seven days. Source: detection design, section 9.3.
const LONGEST_UNNAMED: TimeDelta = TimeDelta::hours(12);
const MOST_UNNAMED_IN_A_WEEK: TimeDelta = TimeDelta::hours(24);
/// How far a recurrence may reach. Source: detection design, section 9.3.
const FARTHEST: TimeDelta = TimeDelta::days(365);
/// Most occurrences of one window. Chosen: twice a day for a year, and some.
const MOST_OCCURRENCES: u16 = 1_000;

impl Window {
    /// Checks the values, the recurrence included.
    ///
    /// # Errors
    /// Names the first field that is wrong.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.name.trim().is_empty() {
            return invalid("name", "give it a name");
        }
        self.scope.check()?;
        if self.starts_at >= self.ends_at {
            return invalid("ends_at", "must be after starts_at");
        }
        if self.reason.trim().is_empty() {
            return invalid("reason", "say why");
        }
        let starts = self.starts()?;
        if self.images.is_empty() {
            if self.lasts() > LONGEST_UNNAMED {
                return invalid("ends_at", "a window without images lasts at most 12 hours");
            }
            if self.busiest_week(&starts) > MOST_UNNAMED_IN_A_WEEK {
                return invalid("recurrence", "windows without images cover at most 24 hours of any 7 days: name the images, or repeat less often");
            }
        }
        Ok(())
    }

    /// The same window in the one form that is stored and compared, checked.
    ///
    /// # Errors
    /// As for [`Self::check`].
    pub fn checked(self) -> Result<Self, Invalid> {
        let body = self.canonical();
        body.check().map(|()| body)
    }

    /// The same window in the one form that is stored and compared.
    #[must_use]
    pub fn canonical(mut self) -> Self {
        self.scope = self.scope.canonical();
        self.images.sort_unstable();
        self.images.dedup();
        trim(&mut self.name);
        trim(&mut self.reason);
        self.recurrence = self.recurrence.map(|rule| {
            let rule = rule.trim().to_uppercase();
            rule.strip_prefix("RRULE:").map_or(rule.clone(), str::to_owned)
        });
        self.recurrence = self.recurrence.filter(|rule| !rule.is_empty());
        self
    }

    fn lasts(&self) -> TimeDelta {
        self.ends_at - self.starts_at
    }

    /// When it opens: the first time, then by its rule.
    ///
    /// # Errors
    /// A rule that cannot be read, never ends, reaches further than a year or opens more than a thousand times.
    pub fn starts(&self) -> Result<Vec<DateTime<Utc>>, Invalid> {
        let Some(rule) = self.recurrence.as_deref() else { return Ok(vec![self.starts_at]) };
        if rule.chars().any(char::is_control) {
            return invalid("recurrence", "one RRULE, without line breaks");
        }
        let unreadable = |e: rrule::RRuleError| Invalid { field: "recurrence", reason: format!("not an RFC 5545 RRULE that can be followed: {e}") };
        let rule: RRule<Unvalidated> = rule.parse().map_err(unreadable)?;
        if rule.get_count().is_none() && rule.get_until().is_none() {
            return invalid("recurrence", "it never ends: add COUNT or UNTIL within 365 days of starts_at");
        }
        if matches!(rule.get_freq(), rrule::Frequency::Secondly | rrule::Frequency::Minutely) {
            return invalid("recurrence", "at most hourly");
        }
        let first = self.starts_at.trunc_subsecs(0);
        let found = rule.build(first.with_timezone(&Tz::UTC)).map_err(unreadable)?.all(MOST_OCCURRENCES + 1);
        if found.limited || found.dates.len() > usize::from(MOST_OCCURRENCES) {
            return invalid("recurrence", format!("it opens more than {MOST_OCCURRENCES} times: end it sooner"));
        }
        // RFC 5545, section 3.8.5.3: DTSTART is the first instance, whatever the rule says.
        let by_rule = found.dates.into_iter().map(|at| at.with_timezone(&Utc)).filter(|at| *at > first);
        let starts: Vec<DateTime<Utc>> = std::iter::once(self.starts_at).chain(by_rule).collect();
        if starts.last().is_some_and(|last| *last > self.starts_at + FARTHEST) {
            return invalid("recurrence", "it ends later than 365 days after starts_at");
        }
        Ok(starts)
    }

    /// Most time that lies in windows within any seven days; the fullest such week begins where a window does.
    fn busiest_week(&self, starts: &[DateTime<Utc>]) -> TimeDelta {
        let covered = |from: &DateTime<Utc>| {
            let until = *from + TimeDelta::days(7);
            starts
                .iter()
                .skip_while(|s| *s < from)
                .take_while(|s| **s < until)
                .fold((TimeDelta::zero(), *from), |(sum, reached), start| {
                    let (since, end) = ((*start).max(reached), (*start + self.lasts()).min(until));
                    (sum + (end - since).max(TimeDelta::zero()), end.max(reached))
                })
                .0
        };
        starts.iter().map(covered).max().unwrap_or_else(TimeDelta::zero)
    }
}

/// A window in force: what was written, and when it opens.
#[derive(Debug, Clone, PartialEq)]
pub struct Announced {
    /// Its number; shown as `MW-3`.
    pub id: i64,
    /// What was written.
    pub body: Window,
    /// Start of every occurrence.
    pub starts: Vec<DateTime<Utc>>,
}

impl Announced {
    /// The occurrences that share an instant with a span, [`GRACE`] included, each as a window of its own.
    pub fn during(&self, span: Span) -> impl Iterator<Item = (i64, Window)> {
        let lasts = self.body.lasts();
        self.starts.iter().filter(move |start| **start < span.until() && **start + lasts + GRACE >= span.since()).map(move |start| {
            (self.id, Window { starts_at: *start, ends_at: *start + lasts, recurrence: None, ..self.body.clone() })
        })
    }

    /// From the first opening to the last end, [`GRACE`] included.
    pub fn reach(&self) -> Option<Span> {
        Span::new(*self.starts.first()?, *self.starts.last()? + self.body.lasts() + GRACE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(recurrence: Option<&str>, hours: i64, images: &[&str]) -> Window {
        let starts_at: DateTime<Utc> = "2026-03-03T22:00:00Z".parse().unwrap();
        Window {
            name: "patch night".to_owned(),
            scope: Scope { everywhere: true, ..Scope::default() },
            starts_at,
            ends_at: starts_at + TimeDelta::hours(hours),
            recurrence: recurrence.map(str::to_owned),
            images: images.iter().map(|i| (*i).to_owned()).collect(),
            reason: "patches".to_owned(),
        }
    }

    #[test]
    fn a_rule_opens_the_window_again_each_time_as_long_as_the_first() {
        // The second Tuesday of the month; 2026-03-03 is the first and counts as the beginning.
        let monthly = window(Some("rrule:freq=monthly;byday=2tu;count=3"), 4, &[]).checked().unwrap();
        let days: Vec<String> = monthly.starts().unwrap().iter().map(|s| s.format("%m-%d %H").to_string()).collect();
        assert_eq!(days, ["03-03 22", "03-10 22", "04-14 22", "05-12 22"]);
        let announced = Announced { id: 7, starts: monthly.starts().unwrap(), body: monthly };
        let april = Span::new("2026-04-15T02:10:00Z".parse().unwrap(), "2026-04-20T00:00:00Z".parse().unwrap()).unwrap();
        let open: Vec<_> = announced.during(april).collect();
        assert_eq!(open.len(), 1, "a quarter of an hour after its end it still counts");
        assert_eq!(open[0].1.ends_at, "2026-04-15T02:00:00Z".parse::<DateTime<Utc>>().unwrap());
    }

    #[test]
    fn a_rule_that_never_ends_or_hides_too_much_is_refused() {
        for (rule, hours, images, field, says) in [
            ("FREQ=WEEKLY;BYDAY=TU", 4, &[][..], "recurrence", "never ends"),
            ("FREQ=WEEKLY;BYDAY=TU;UNTIL=20280101T000000Z", 4, &[], "recurrence", "365 days"),
            ("FREQ=DAILY;COUNT=30", 4, &[], "recurrence", "24 hours of any 7 days"),
            ("FREQ=HOURLY;COUNT=5000", 1, &["x.exe"], "recurrence", "1000 times"),
            ("FREQ=SECONDLY;COUNT=5", 1, &["x.exe"], "recurrence", "hourly"),
            ("FREQ=NEVER;COUNT=5", 1, &[], "recurrence", "not an RFC 5545 RRULE"),
            ("FREQ=DAILY;COUNT=5\nDTSTART:19700101T000000Z", 1, &[], "recurrence", "line breaks"),
            ("FREQ=YEARLY;COUNT=1", 13, &[], "ends_at", "12 hours"),
        ] {
            let refused = window(Some(rule), hours, images).check().unwrap_err();
            assert_eq!(refused.field, field, "{rule}: {refused}");
            assert!(refused.reason.contains(says), "{rule}: {refused}");
        }
        window(Some("FREQ=DAILY;COUNT=30"), 4, &["*\\tiworker.exe"]).check().unwrap();
        window(Some("FREQ=WEEKLY;COUNT=52"), 12, &[]).check().unwrap();
        window(None, 12, &[]).check().unwrap();
    }
}
