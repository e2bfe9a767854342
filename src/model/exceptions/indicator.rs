//! Indicators: one line of `DestinationIPList`. Source: detection design, section 9.4.

use super::{Invalid, invalid};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// An indicator (contract, `POST /api/v1/indicators`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Indicator {
    /// `DestinationIPList`.
    pub list: String,
    /// `ip`, `cidr` or `domain`.
    pub kind: String,
    /// `pool` (default), `proxy`, `tor`, `doh` or `sinkhole`.
    #[serde(default)]
    pub category: Option<String>,
    /// Address, network or name; a name covers its subdomains.
    pub value: String,
    /// Only on this port.
    #[serde(default)]
    pub port: Option<i32>,
    /// `low`, `medium` (default) or `high`.
    #[serde(default)]
    pub confidence: Option<String>,
    /// Who says so.
    pub source: String,
    /// When the source first saw it.
    #[serde(default)]
    pub first_seen: Option<DateTime<Utc>>,
    /// When the source last saw it; stale 180 days later.
    #[serde(default)]
    pub last_seen: Option<DateTime<Utc>>,
    /// Event time until which it counts as fresh.
    #[serde(default)]
    pub expires_at: Option<DateTime<Utc>>,
}

/// How long after it was last seen an indicator is believed. Source: detection design, section 9.4.
pub const STALE_AFTER: TimeDelta = TimeDelta::days(180);

/// How far an indicator is believed at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Counts in full.
    Fresh,
    /// Counts less: low confidence, or its source last saw it long ago.
    Stale,
    /// Counts less: past its expiry.
    Expired,
}

impl Indicator {
    /// The same with category and confidence spelt out, as it is stored.
    #[must_use]
    pub fn filled(self) -> Self {
        let category = self.category.or_else(|| Some("pool".to_owned()));
        let confidence = self.confidence.or_else(|| Some("medium".to_owned()));
        Self { category, confidence, ..self }
    }

    /// How far it is believed at an instant.
    pub fn standing(&self, at: DateTime<Utc>) -> Standing {
        if self.expires_at.is_some_and(|end| at >= end) {
            Standing::Expired
        } else if self.confidence.as_deref() == Some("low") || self.last_seen.is_some_and(|seen| at > seen + STALE_AFTER) {
            Standing::Stale
        } else {
            Standing::Fresh
        }
    }

    /// Checks and normalises (lower case, no last dot).
    ///
    /// # Errors
    /// Names the first field that is wrong.
    pub fn checked(mut self) -> Result<Self, Invalid> {
        if self.list != "DestinationIPList" {
            return invalid("list", "the only list is DestinationIPList");
        }
        self.value = self.value.trim().trim_end_matches('.').to_lowercase();
        match self.kind.as_str() {
            "ip" if self.value.parse::<std::net::IpAddr>().is_err() => return invalid("value", "not an IP address"),
            "cidr" if self.value.parse::<ipnet::IpNet>().is_err() => return invalid("value", "not a network like 203.0.113.0/24"),
            "domain" if !self.value.contains('.') || self.value.contains([' ', '/', ':', '*']) => {
                return invalid("value", "not a domain name like pool.example (its subdomains are included)");
            }
            "ip" | "cidr" | "domain" => {}
            _ => return invalid("kind", "ip, cidr or domain"),
        }
        if !matches!(self.category.as_deref().unwrap_or("pool"), "pool" | "proxy" | "tor" | "doh" | "sinkhole") {
            return invalid("category", "pool, proxy, tor, doh or sinkhole");
        }
        if !matches!(self.confidence.as_deref().unwrap_or("medium"), "low" | "medium" | "high") {
            return invalid("confidence", "low, medium or high");
        }
        if self.port.is_some_and(|p| !(1..=65_535).contains(&p)) {
            return invalid("port", "1 to 65535");
        }
        if self.source.trim().is_empty() {
            return invalid("source", "say who says so");
        }
        Ok(self)
    }
}

/// An indicator as a line of a table. The list is `DestinationIPList`; a kind that is not given is read from the value.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[expect(missing_docs, reason = "the columns are Indicator's fields")]
pub struct IndicatorLine {
    pub value: String,
    pub kind: Option<String>,
    pub category: Option<String>,
    pub port: Option<i32>,
    pub confidence: Option<String>,
    pub source: Option<String>,
    /// A day or an instant, as the next two.
    pub first_seen: Option<String>,
    pub last_seen: Option<String>,
    pub expires_at: Option<String>,
}

/// An instant, or the beginning of a day.
fn instant(field: &'static str, text: Option<String>) -> Result<Option<DateTime<Utc>>, Invalid> {
    let Some(text) = text else { return Ok(None) };
    let day = || text.parse::<chrono::NaiveDate>().ok().map(|d| d.and_time(chrono::NaiveTime::MIN).and_utc());
    match text.parse().ok().or_else(day) {
        Some(at) => Ok(Some(at)),
        None => invalid(field, "2026-03-01 or 2026-03-01T10:00:00Z"),
    }
}

impl IndicatorLine {
    /// Columns a table of indicators may have.
    pub const COLUMNS: &'static [&'static str] =
        &["value", "kind", "category", "port", "confidence", "source", "first_seen", "last_seen", "expires_at"];

    /// The indicator it stands for, checked; `source` is that of the table, for lines without one.
    ///
    /// # Errors
    /// As for [`Indicator::checked`].
    pub fn body(self, source: Option<&str>) -> Result<Indicator, Invalid> {
        let value = self.value.trim();
        let guessed = if value.parse::<std::net::IpAddr>().is_ok() {
            "ip"
        } else if value.contains('/') {
            "cidr"
        } else {
            "domain"
        };
        let kind = self.kind.unwrap_or_else(|| guessed.to_owned());
        let source = self.source.or_else(|| source.map(str::to_owned)).unwrap_or_default();
        let body = Indicator {
            list: "DestinationIPList".to_owned(),
            kind,
            category: self.category,
            value: self.value,
            port: self.port,
            confidence: self.confidence,
            source,
            first_seen: instant("first_seen", self.first_seen)?,
            last_seen: instant("last_seen", self.last_seen)?,
            expires_at: instant("expires_at", self.expires_at)?,
        };
        body.checked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_refused_by_name() {
        let err = serde_json::from_str::<Indicator>(r#"{"list":"DestinationIPList","kind":"ip","value":"1.2.3.4","source":"x","id":7}"#);
        assert!(err.unwrap_err().to_string().contains("unknown field `id`"));
    }
}
