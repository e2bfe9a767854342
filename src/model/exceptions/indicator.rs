//! Indicators: one line of `DestinationIPList`. Source: detection design, section 9.4.

use super::{Invalid, invalid};
use chrono::{DateTime, Utc};
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

impl Indicator {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_refused_by_name() {
        let err = serde_json::from_str::<Indicator>(r#"{"list":"DestinationIPList","kind":"ip","value":"1.2.3.4","source":"x","id":7}"#);
        assert!(err.unwrap_err().to_string().contains("unknown field `id`"));
    }
}
