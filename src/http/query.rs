//! What a list page reads from its address: repeated or comma-separated words, times absolute or as `24h`.

use crate::http::error::{Error, Result};
use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use std::str::FromStr;

/// The query of an address, blank values left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads a raw query.
    pub fn parse(query: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned();
        Self(pairs.filter(|(_, value)| !value.trim().is_empty()).collect())
    }

    /// First value of a name.
    pub fn one(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.trim())
    }

    /// All values of a name, also those separated by commas.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(n, _)| n == name).flat_map(|(_, value)| value.split(',')).map(str::trim).filter(|v| !v.is_empty())
    }

    /// All values of a name as words of an enumeration.
    ///
    /// # Errors
    /// 400, naming the field and what it takes.
    pub fn words<T: FromStr<Err: std::fmt::Display>>(&self, name: &str) -> Result<Vec<T>> {
        self.all(name).map(|word| word.parse().map_err(|e| Error::Malformed(format!("`{name}`: {e}")))).collect()
    }

    /// First value of a name, parsed.
    ///
    /// # Errors
    /// 400, naming the field.
    pub fn parsed<T: FromStr>(&self, name: &str, expected: &str) -> Result<Option<T>> {
        self.one(name).map(|v| v.parse().map_err(|_| Error::Malformed(format!("`{name}`: expected {expected}")))).transpose()
    }

    /// An instant: RFC 3339, `2026-11-20`, `2026-11-20T17:00` (UTC), or a span before now such as `90m`, `24h`, `7d`.
    ///
    /// # Errors
    /// 400, naming the field.
    pub fn time(&self, name: &str, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>> {
        let Some(text) = self.one(name) else { return Ok(None) };
        time(text, now)
            .map(Some)
            .ok_or_else(|| Error::Malformed(format!("`{name}`: expected a time such as 2026-11-20T17:00Z, or a span such as 24h")))
    }

    /// The same address with one name set to another value, or without it.
    pub fn with(&self, name: &str, value: Option<&str>) -> String {
        let mut text = form_urlencoded::Serializer::new(String::new());
        for (n, v) in self.0.iter().filter(|(n, _)| n != name && n != "cursor") {
            text.append_pair(n, v);
        }
        if let Some(value) = value {
            text.append_pair(name, value);
        }
        let text = text.finish();
        if text.is_empty() { String::new() } else { format!("?{text}") }
    }

    /// Names that narrow, with their values.
    pub fn terms<'a>(&'a self, names: &'a [&'a str]) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().filter(|(n, _)| names.contains(&n.as_str())).map(|(n, v)| (n.as_str(), v.as_str()))
    }
}

fn time(text: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(at.to_utc());
    }
    let plain = text.trim_end_matches('Z');
    for format in ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M"] {
        if let Ok(at) = NaiveDateTime::parse_from_str(plain, format) {
            return Some(at.and_utc());
        }
    }
    if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Some(day.and_time(chrono::NaiveTime::MIN).and_utc());
    }
    let unit = text.chars().last()?;
    let count: i64 = text.get(..text.len() - unit.len_utf8())?.parse().ok()?;
    let span = match unit {
        'm' => TimeDelta::try_minutes(count),
        'h' => TimeDelta::try_hours(count),
        'd' => TimeDelta::try_days(count),
        _ => None,
    }?;
    now.checked_sub_signed(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_in_several_forms() {
        let now = time("2026-11-21T06:00:00Z", DateTime::UNIX_EPOCH).unwrap();
        for (text, expected) in [
            ("2026-11-20", Some("2026-11-20T00:00:00Z")),
            ("2026-11-20T17:00", Some("2026-11-20T17:00:00Z")),
            ("2026-11-20T18:00:00+01:00", Some("2026-11-20T17:00:00Z")),
            ("24h", Some("2026-11-20T06:00:00Z")),
            ("7d", Some("2026-11-14T06:00:00Z")),
            ("soon", None),
            ("é", None),
            ("9999999999999999d", None),
        ] {
            assert_eq!(time(text, now), expected.map(|e| time(e, now).unwrap()), "{text}");
        }
    }

    #[test]
    fn an_address_keeps_what_it_does_not_change() {
        let fields = Fields::parse(Some("severity=high&severity=low,info&q=a+b&cursor=x&host="));
        assert_eq!(fields.all("severity").collect::<Vec<_>>(), ["high", "low", "info"]);
        assert_eq!(fields.with("severity", None), "?q=a+b");
        assert_eq!(fields.with("cursor", Some("y")), "?severity=high&severity=low%2Cinfo&q=a+b&cursor=y");
        assert_eq!(Fields::default().with("q", None), "");
    }
}
