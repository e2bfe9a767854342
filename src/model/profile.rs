//! Learned baselines: the load that hosts of a class usually have from a group at an hour of the week. Source: detection design, section 9.1.

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Timelike, Utc};
use serde::Serialize;

/// Days a group must have been there before a profile counts.
pub const KNOWN_DAYS: i32 = 14;
/// A profile needs so many hosts, or so many host-days; an hour of its own needs the host-days.
pub const ENOUGH_HOSTS: i32 = 5;
/// See [`ENOUGH_HOSTS`].
pub const ENOUGH_HOST_DAYS: i32 = 50;
/// Robust score from which a run is an anomaly (R.ANOM).
const ANOMALY: f64 = 3.5;
/// Least median deviation, percent of the host.
const LEAST_MAD: f64 = 2.0;
/// What a run may have above the 95th percentile and still be covered (B.BASELINE), percent of the host.
const SLACK: f64 = 5.0;

/// What was learned for one event week.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Profile {
    /// Monday (UTC) of the week it is for; learned from the four weeks before.
    pub week: NaiveDate,
    /// Hour of the week, 0 = Monday 0:00 UTC; -1 = all hours.
    pub hour: i16,
    /// Percent of the host.
    pub median: f64,
    /// Median deviation from it.
    pub mad: f64,
    /// 95th percentile.
    pub p95: f64,
    /// Hosts it was learned from.
    pub hosts: i32,
    /// Days times hosts it was learned from.
    pub host_days: i32,
    /// Hosts of the class with load data in those weeks.
    pub class_hosts: i32,
    /// From the first day of the group in those weeks to the week.
    pub days: i32,
}

/// Monday of the week that holds an instant.
pub fn week_of(at: DateTime<Utc>) -> NaiveDate {
    let day = at.date_naive();
    day - TimeDelta::days(i64::from(day.weekday().num_days_from_monday()))
}

/// Hour of the week, 0 to 167.
pub fn hour_of(at: DateTime<Utc>) -> i16 {
    let hour = at.weekday().num_days_from_monday() * 24 + at.hour();
    i16::try_from(hour).unwrap_or(0)
}

impl Profile {
    /// The profile for an instant: of its hour, else of all hours of its week.
    pub fn at(profiles: &[Self], at: DateTime<Utc>) -> Option<&Self> {
        let (week, hour) = (week_of(at), hour_of(at));
        let of = |hour: i16| profiles.iter().find(|p| p.week == week && p.hour == hour);
        of(hour).or_else(|| of(-1))
    }

    /// Robust score of a run's mean share: how many deviations it lies above the median.
    pub fn score(&self, mean: f64) -> f64 {
        0.6745 * (mean - self.median) / self.mad.max(LEAST_MAD)
    }

    /// Whether a run's mean share is out of the ordinary.
    pub fn is_anomaly(&self, mean: f64) -> bool {
        self.score(mean) >= ANOMALY
    }

    /// Whether it covers a run: known long enough, on a tenth of the class, and not more than usual.
    pub fn covers(&self, mean: f64) -> bool {
        self.days >= KNOWN_DAYS && self.hosts * 10 >= self.class_hosts && mean <= self.p95 + SLACK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(hour: i16, median: f64, mad: f64, p95: f64) -> Profile {
        let week = NaiveDate::from_ymd_opt(2026, 3, 2).unwrap();
        Profile { week, hour, median, mad, p95, hosts: 5, host_days: 60, class_hosts: 40, days: 20 }
    }

    #[test]
    fn the_hour_goes_before_the_week_and_other_weeks_say_nothing() {
        let all = [profile(-1, 10.0, 1.0, 20.0), profile(26, 40.0, 1.0, 50.0)];
        let at = |text: &str| Profile::at(&all, text.parse().unwrap()).map(|p| p.hour);
        assert_eq!(at("2026-03-03T02:59:00Z"), Some(26));
        assert_eq!(at("2026-03-03T03:00:00Z"), Some(-1));
        assert_eq!(at("2026-03-08T23:59:00Z"), Some(-1));
        assert_eq!(at("2026-03-09T00:00:00Z"), None);
    }

    #[test]
    fn covering_and_standing_out_have_their_limits() {
        let p = profile(-1, 10.0, 0.5, 20.0);
        assert!(p.covers(25.0) && !p.covers(25.1));
        assert!(!Profile { hosts: 3, ..p.clone() }.covers(10.0), "not on a tenth of the class");
        assert!(!Profile { days: 13, ..p.clone() }.covers(10.0));
        // 3.5 deviations of at least 2: 10.38 above the median.
        assert!(p.is_anomaly(20.4) && !p.is_anomaly(20.3));
    }
}
