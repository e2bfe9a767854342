//! What people say in advance: allowlist entries, approved baselines, maintenance windows, indicators, hosts. Parsed and checked here.
//!
//! Whether one covers a piece of evidence is judged in `analytics::exceptions`. Source: detection design, section 9, and the
//! bodies of the contract, section 3. Every validity is event time.

mod entry;
mod host;
mod indicator;
mod window;

pub use entry::{Cover, DEFAULT_VALIDITY, Entry, EntryBody, EntryKind, Match, Subject, UnknownCover};
pub use host::{HostBody, HostLine};
pub use indicator::{Indicator, IndicatorLine, STALE_AFTER, Standing};
pub use window::{Announced, GRACE, Window};

use crate::model::group::{base_name, comparable_path};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;

/// Which hosts a rule of people is for. Exactly one field is set; hosts by lower-case name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// These hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Hosts with one of these tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Hosts of this class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// All hosts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub everywhere: bool,
}

impl Scope {
    /// Whether a host with this name, class and tags is meant. Names match without case, short or full.
    pub fn holds(&self, name: &str, class: Option<&str>, tags: &[String]) -> bool {
        let short = |n: &str| n.split('.').next().unwrap_or(n).to_lowercase();
        self.everywhere
            || self.class.as_deref().is_some_and(|c| Some(c) == class)
            || self.tags.iter().any(|t| tags.contains(t))
            || self.hosts.iter().any(|h| h.eq_ignore_ascii_case(name) || (!h.contains('.') && short(name) == h.to_lowercase()))
    }
}

impl fmt::Display for Scope {
    /// `everywhere`, `class:server`, `tag:build`, `ws-1, ws-2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.class {
            _ if self.everywhere => f.write_str("everywhere"),
            Some(class) => write!(f, "class:{class}"),
            None if self.hosts.is_empty() => write!(f, "tag:{}", self.tags.join(", tag:")),
            None => f.write_str(&self.hosts.join(", ")),
        }
    }
}

/// What is wrong with a body: the field and the reason, in words for its author.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[error("{field}: {reason}")]
pub struct Invalid {
    /// Name of the field.
    pub field: &'static str,
    /// What is wrong and what would be right.
    pub reason: String,
}

fn invalid<T>(field: &'static str, reason: impl Into<String>) -> Result<T, Invalid> {
    Err(Invalid { field, reason: reason.into() })
}

impl Scope {
    /// Hosts in lower case, lists sorted, nothing twice.
    fn canonical(mut self) -> Self {
        for host in &mut self.hosts {
            *host = host.trim().to_lowercase();
        }
        for list in [&mut self.hosts, &mut self.tags] {
            list.sort_unstable();
            list.dedup();
        }
        self
    }

    fn check(&self) -> Result<(), Invalid> {
        let set = [!self.hosts.is_empty(), !self.tags.is_empty(), self.class.is_some(), self.everywhere];
        match set.iter().filter(|s| **s).count() {
            1 => Ok(()),
            0 => invalid("scope", "say which hosts: one of hosts, tags, class or everywhere"),
            _ => invalid("scope", "give exactly one of hosts, tags, class or everywhere"),
        }
    }
}

/// Paths compare without case, device prefix and kind of slash; a pattern without `\` is a file name.
pub fn same_path(pattern: &str, path: &str) -> bool {
    let (pattern, path) = (comparable_path(pattern), comparable_path(path));
    wildcard(&pattern, &path) || (!pattern.contains('\\') && wildcard(&pattern, base_name(&path)))
}

/// The same name or address, a name below it, or a pattern that says so.
fn same_destination(pattern: &str, destination: &str) -> bool {
    let (pattern, destination) = (pattern.trim().trim_end_matches('.'), destination.trim().trim_end_matches('.'));
    let is_name = destination.parse::<std::net::IpAddr>().is_err();
    wildcard(pattern, destination) || (is_name && wildcard(&format!("*.{pattern}"), destination))
}

fn trim(text: &mut String) {
    *text = text.trim().to_owned();
}

/// SHA-256 of the canonical JSON: equal bodies have equal digests.
pub fn digest(body: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    Ok(Sha256::digest(serde_json::to_vec(body)?).to_vec())
}

/// An approved baseline (contract, `POST /api/v1/baselines`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// Path without case; `*` = any text.
    pub image: String,
    /// Class of hosts.
    pub host_class: String,
    /// Percent of the host, 0 to 100.
    pub cpu_share: f64,
    /// Why.
    #[serde(default)]
    pub note: Option<String>,
}

impl Baseline {
    /// The same, checked.
    ///
    /// # Errors
    /// As for [`Self::check`].
    pub fn checked(self) -> Result<Self, Invalid> {
        self.check().map(|()| self)
    }

    /// Checks the values.
    ///
    /// # Errors
    /// Names the first field that is wrong.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.image.trim().trim_matches(['*', '\\']).is_empty() {
            return invalid("image", "name an image; `*` alone would cover everything");
        }
        if self.host_class.trim().is_empty() {
            return invalid("host_class", "name a class of hosts");
        }
        if !(0.0..=100.0).contains(&self.cpu_share) {
            return invalid("cpu_share", "percent of the host, 0 to 100");
        }
        Ok(())
    }
}

/// A body with some top-level fields replaced (RFC 7396, one level deep); `null` takes an optional field away.
///
/// # Errors
/// Names an unknown field, or one with the wrong type.
pub fn amended<T: Serialize + serde::de::DeserializeOwned>(
    body: &T,
    patch: serde_json::Map<String, serde_json::Value>,
) -> serde_json::Result<T> {
    let mut whole = serde_json::to_value(body)?;
    if let Some(fields) = whole.as_object_mut() {
        fields.extend(patch);
    }
    serde_json::from_value(whole)
}

/// Text match without case; `*` in the pattern stands for any text.
pub fn wildcard(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.trim().to_lowercase(), text.trim().to_lowercase());
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(middle) = last.replace(part) {
            let Some(at) = rest.find(middle) else { return false };
            rest = rest.get(at + middle.len()..).unwrap_or_default();
        }
    }
    last.map_or(rest.is_empty(), |end| rest.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, want) in [
            (r"C:\farm\jobs\*", r"c:\FARM\jobs\12\bin\step.exe", true),
            ("*\\link.exe", r"C:\x\link.exe", true),
            ("a*b*c", "aXXbYYc", true),
            ("a*b*c", "aXXcYYb", false),
            ("abc", "abcd", false),
            ("ab*ba", "aba", false),
            ("*", "", true),
        ] {
            assert_eq!(wildcard(pattern, text), want, "{pattern} on {text}");
        }
    }
}
