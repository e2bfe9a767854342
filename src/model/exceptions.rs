//! What people say in advance: allowlist entries, approved baselines, maintenance windows, indicators. Parsed and checked here.
//!
//! Whether one covers a piece of evidence is judged in `analytics::exceptions`. Source: detection design, section 9, and the
//! bodies of the contract, section 3. Every validity is event time.

use crate::model::{
    code::{Class, Code},
    group::{base_name, comparable_path},
};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};

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

/// Attributes that must all hold; text without case, `*` = any text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are the contract's")]
pub struct Match {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_file_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_line: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_image: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_root: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
}

impl Match {
    /// Name and wanted text of every attribute that is set.
    pub fn attributes(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("sha256", &self.sha256),
            ("signer", &self.signer),
            ("image", &self.image),
            ("original_file_name", &self.original_file_name),
            ("command_line", &self.command_line),
            ("parent_image", &self.parent_image),
            ("launch_root", &self.launch_root),
            ("user", &self.user),
            ("destination", &self.destination),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.as_deref().map(|v| (name, v)))
    }
}

/// A class, or one code. A class never includes its hard codes: they must be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Cover {
    /// One code, hard or not.
    Code(Code),
    /// All codes of the class that are not hard.
    Class(Class),
}

impl fmt::Display for Cover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => code.fmt(f),
            Self::Class(class) => class.fmt(f),
        }
    }
}

/// A text that is neither a class nor a code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown class or code `{0}`: expected R, C, N, L, P, M, A, B or a code like C.MINERFLAG")]
pub struct UnknownCover(String);

impl FromStr for Cover {
    type Err = UnknownCover;
    fn from_str(text: &str) -> Result<Self, UnknownCover> {
        let class = Class::ALL.into_iter().find(|c| c.to_string() == text).map(Self::Class);
        class.or_else(|| text.parse().ok().map(Self::Code)).ok_or_else(|| UnknownCover(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Cover {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What kind of entry it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// Expected behaviour.
    #[default]
    Allow,
    /// Compute that somebody approved; never everywhere.
    ApprovedCompute,
    /// A test of the SOC's own: one host list, at most 24 h.
    Exercise,
}

/// An allowlist entry as people write it (contract, `POST /api/v1/allowlist`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryBody {
    /// Words for people.
    #[serde(default)]
    pub name: Option<String>,
    /// See [`EntryKind`].
    #[serde(default)]
    pub kind: EntryKind,
    /// Two or more attributes, one of them hash or signer.
    #[serde(rename = "match")]
    pub matches: Match,
    /// Which hosts.
    pub scope: Scope,
    /// Which evidence.
    pub covers: Vec<Cover>,
    /// Why.
    pub reason: String,
    /// Where it was decided.
    #[serde(default)]
    pub ticket: Option<String>,
    /// Event time from which it counts; unbounded by default.
    #[serde(default)]
    pub valid_from: Option<DateTime<Utc>>,
    /// Event time until which it counts; 90 days after creation by default.
    #[serde(default)]
    pub expires_at: Option<DateTime<Utc>>,
}

/// An entry in force, as analytics use it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its number; shown as `AL-17`.
    pub id: i64,
    /// What was written.
    pub body: EntryBody,
    /// Event time until which it counts.
    pub expires_at: DateTime<Utc>,
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

impl EntryBody {
    /// Checks everything that does not need the database; `now` bounds the expiry.
    ///
    /// # Errors
    /// Names the first field that is wrong.
    pub fn check(&self, now: DateTime<Utc>) -> Result<(), Invalid> {
        let attributes: Vec<_> = self.matches.attributes().collect();
        if attributes.len() < 2 {
            return invalid("match", "give at least two attributes");
        }
        if !attributes.iter().any(|(name, _)| matches!(*name, "sha256" | "signer")) {
            return invalid("match", "one of the attributes must be sha256 or signer: a name alone is what attackers choose");
        }
        if let Some((name, _)) = attributes.iter().find(|(_, value)| value.trim().trim_matches('*').is_empty()) {
            return invalid("match", format!("`{name}` would match anything"));
        }
        if let Some(hash) = &self.matches.sha256
            && (hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_hexdigit()))
        {
            return invalid("match", "sha256 must be 64 hex digits");
        }
        self.scope.check()?;
        if self.kind == EntryKind::ApprovedCompute && self.scope.everywhere {
            return invalid("scope", "approved compute cannot cover every host");
        }
        if self.covers.is_empty() {
            return invalid("covers", "name at least one class or code");
        }
        if self.covers.iter().any(|c| matches!(c, Cover::Class(Class::N))) && self.matches.destination.is_none() {
            return invalid("match", "an entry that covers N must name the destination");
        }
        if self.reason.trim().is_empty() {
            return invalid("reason", "say why");
        }
        let expires_at = self.expires_at.unwrap_or(now);
        if expires_at > now + chrono::TimeDelta::days(365) {
            return invalid("expires_at", "at most 365 days from now");
        }
        if let Some(from) = self.valid_from
            && from >= self.expires_at.unwrap_or(from + chrono::TimeDelta::days(90))
        {
            return invalid("valid_from", "must be before expires_at");
        }
        if self.kind == EntryKind::Exercise {
            let bounded = self.valid_from.zip(self.expires_at).is_some_and(|(a, b)| b - a <= chrono::TimeDelta::hours(24));
            if !bounded || self.scope.hosts.is_empty() {
                return invalid("kind", "an exercise names its hosts, valid_from and expires_at at most 24 hours apart");
            }
        }
        Ok(())
    }

    /// Whether it names evidence that is hard.
    pub fn names_hard_code(&self) -> bool {
        self.covers.iter().any(|c| matches!(c, Cover::Code(code) if code.is_hard()))
    }

    /// Whether every attribute holds for the subject. What is not known of the subject does not match.
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        let Match { sha256, signer, image, original_file_name, command_line, parent_image, launch_root, user, destination } =
            &self.matches;
        let holds = |wanted: &Option<String>, found: Option<&str>, same: fn(&str, &str) -> bool| {
            wanted.as_deref().is_none_or(|w| found.is_some_and(|f| same(w, f)))
        };
        holds(sha256, subject.sha256, wildcard)
            && holds(signer, subject.signer, wildcard)
            && holds(image, subject.image, same_path)
            && holds(original_file_name, subject.original_file_name, wildcard)
            && holds(command_line, subject.command_line, wildcard)
            && holds(parent_image, subject.parent_image, same_path)
            && holds(launch_root, subject.launch_root, wildcard)
            && holds(user, subject.user, wildcard)
            && destination.as_deref().is_none_or(|w| subject.destinations.iter().any(|d| same_destination(w, d)))
    }

    /// Whether it covers a found variant of a code. Hard evidence must be named by its code: a class never includes it.
    pub fn covers_code(&self, code: Code, hard: bool) -> bool {
        self.covers.iter().any(|cover| match cover {
            Cover::Code(named) => *named == code,
            Cover::Class(class) => !hard && *class == code.class(),
        })
    }

    /// The same entry in the one form that is stored and compared: trimmed, hosts in lower case, lists sorted, nothing twice.
    #[must_use]
    pub fn canonical(mut self) -> Self {
        self.scope = self.scope.canonical();
        self.covers.sort_unstable_by_key(ToString::to_string);
        self.covers.dedup();
        trim(&mut self.reason);
        self
    }

    /// How many leads or administrators must stand behind it before it counts, the author included if `author_leads`.
    /// Source: trust design, section 7. `until` is its expiry, `hides_true_positive` what a preview found.
    pub fn approvals_needed(&self, until: DateTime<Utc>, now: DateTime<Utc>, author_leads: bool, hides_true_positive: bool) -> i16 {
        let wide = self.scope.class.is_some() || self.scope.everywhere || until > now + DEFAULT_VALIDITY;
        match (self.names_hard_code(), hides_true_positive, wide) {
            (true, _, _) => 2,
            (_, true, _) => 1 + i16::from(author_leads),
            (_, _, true) => 1,
            _ => 0,
        }
    }
}

/// How long an entry counts if its author does not say; longer ones need approval. Source: trust design, section 7.
pub const DEFAULT_VALIDITY: TimeDelta = TimeDelta::days(90);

/// What is known of a process and its destinations, for entries to match.
#[derive(Debug, Clone, Copy, Default)]
pub struct Subject<'a> {
    /// Hex.
    pub sha256: Option<&'a str>,
    /// Only if the signature is valid.
    pub signer: Option<&'a str>,
    /// Path.
    pub image: Option<&'a str>,
    /// Version resource.
    pub original_file_name: Option<&'a str>,
    /// Arguments and all.
    pub command_line: Option<&'a str>,
    /// Path of the parent.
    pub parent_image: Option<&'a str>,
    /// Task, service, WMI consumer or Run value that started it or its nearest ancestor.
    pub launch_root: Option<&'a str>,
    /// `DOMAIN\name`.
    pub user: Option<&'a str>,
    /// Names and addresses it talked to, without ports.
    pub destinations: &'a [&'a str],
}

/// Paths compare without case, device prefix and kind of slash; a pattern without `\` is a file name.
fn same_path(pattern: &str, path: &str) -> bool {
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
    /// RFC 5545 RRULE; not supported yet, refused if given.
    #[serde(default)]
    pub recurrence: Option<String>,
    /// Only these images; `*` = any text.
    #[serde(default)]
    pub images: Vec<String>,
    /// Why.
    pub reason: String,
}

impl Window {
    /// Checks the values.
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
        if self.images.is_empty() && self.ends_at - self.starts_at > chrono::TimeDelta::hours(12) {
            return invalid("ends_at", "a window without images lasts at most 12 hours");
        }
        if self.recurrence.is_some() {
            return invalid("recurrence", "recurring windows are not supported yet: post one window per occurrence");
        }
        if self.reason.trim().is_empty() {
            return invalid("reason", "say why");
        }
        Ok(())
    }

    /// The same window in the one form that is stored and compared.
    #[must_use]
    pub fn canonical(mut self) -> Self {
        self.scope = self.scope.canonical();
        self.images.sort_unstable();
        self.images.dedup();
        trim(&mut self.name);
        trim(&mut self.reason);
        self
    }
}

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

/// What people say of a host (contract, `POST /api/v1/hosts`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostBody {
    /// Computer name, short or full.
    pub name: String,
    /// 1 crown jewel to 4 lab.
    #[serde(default)]
    pub tier: Option<i16>,
    /// Class for baselines and scopes.
    #[serde(default)]
    pub class: Option<String>,
    /// What it does.
    #[serde(default)]
    pub role: Option<String>,
    /// Labels.
    #[serde(default)]
    pub tags: Option<Vec<String>>,
}

impl HostBody {
    /// Checks the values.
    ///
    /// # Errors
    /// Names the first field that is wrong.
    pub fn check(&self) -> Result<(), Invalid> {
        let name = self.name.trim();
        if name.is_empty() || name.len() > 253 || name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '/') {
            return invalid("name", "a computer name of at most 253 characters, without spaces");
        }
        if self.tier.is_some_and(|t| !(1..=4).contains(&t)) {
            return invalid("tier", "1 (crown jewel) to 4 (lab)");
        }
        if self.tags.iter().flatten().any(|t| t.trim().is_empty()) {
            return invalid("tags", "a tag is not empty");
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

    #[test]
    fn an_entry_by_name_alone_is_refused() {
        let body: EntryBody = serde_json::from_str(
            r#"{"match":{"image":"C:\\x.exe","user":"kim"},"scope":{"hosts":["ws-1"]},"covers":["R"],"reason":"r"}"#,
        )
        .unwrap();
        assert_eq!(body.check(DateTime::UNIX_EPOCH).unwrap_err().field, "match");
    }

    fn entry(json: &serde_json::Value) -> EntryBody {
        let mut body = serde_json::json!({"scope":{"hosts":["ws-1"]},"covers":["R","C.MINERFLAG"],"reason":"r"});
        body["match"] = json.clone();
        serde_json::from_value(body).unwrap()
    }

    #[test]
    fn every_attribute_must_hold_and_the_unknown_does_not() {
        let subject = Subject {
            sha256: Some("AB12"),
            image: Some(r"C:\agent\_work\7\cl.exe"),
            parent_image: Some(r"\\?\C:\Windows\System32\svchost.exe"),
            user: Some(r"CORP\svc_build"),
            destinations: &["cache.corp.example", "192.0.2.7"],
            ..Subject::default()
        };
        for (json, want) in [
            (serde_json::json!({"sha256":"ab12","image":r"C:\AGENT\_work\*"}), true),
            (serde_json::json!({"sha256":"ab12","image":"cl.exe"}), true),
            (serde_json::json!({"sha256":"ab12","image":"link.exe"}), false),
            (serde_json::json!({"sha256":"ab13","image":"cl.exe"}), false),
            (serde_json::json!({"sha256":"ab12","signer":"*"}), false),
            (serde_json::json!({"sha256":"ab12","parent_image":"C:/Windows/System32/svchost.exe"}), true),
            (serde_json::json!({"sha256":"ab12","user":r"corp\svc_*"}), true),
            (serde_json::json!({"sha256":"ab12","destination":"corp.example"}), true),
            (serde_json::json!({"sha256":"ab12","destination":"CACHE.corp.example."}), true),
            (serde_json::json!({"sha256":"ab12","destination":"orp.example"}), false),
            (serde_json::json!({"sha256":"ab12","destination":"*.example"}), true),
            (serde_json::json!({"sha256":"ab12","destination":"192.0.2.7"}), true),
            (serde_json::json!({"sha256":"ab12","destination":"2.7"}), false),
            (serde_json::json!({"sha256":"ab12","destination":"192.0.2.*"}), true),
        ] {
            assert_eq!(entry(&json).matches(&subject), want, "{json}");
        }
    }

    #[test]
    fn a_class_never_covers_hard_evidence() {
        let body = entry(&serde_json::json!({}));
        assert!(body.covers_code(Code::RPersistent, false));
        assert!(!body.covers_code(Code::RPersistent, true));
        assert!(body.covers_code(Code::CMinerFlag, true));
        assert!(!body.covers_code(Code::CWallet, true));
    }

    #[test]
    fn equal_entries_have_equal_digests() {
        let one: EntryBody = serde_json::from_str(r#"{"match":{},"scope":{"tags":["b","a"]},"covers":["R","M"],"reason":" r "}"#).unwrap();
        let two: EntryBody = serde_json::from_str(r#"{"covers":["M","R","M"],"scope":{"tags":["a","b"]},"match":{},"kind":"allow","reason":"r"}"#).unwrap();
        assert_eq!(digest(&one.canonical()).unwrap(), digest(&two.canonical()).unwrap());
    }

    #[test]
    fn four_eyes_follow_width_length_and_hardness() {
        let now = DateTime::UNIX_EPOCH;
        let (soon, late) = (now + DEFAULT_VALIDITY, now + TimeDelta::days(91));
        let mut body = entry(&serde_json::json!({}));
        assert_eq!(body.approvals_needed(soon, now, true, false), 2, "names C.MINERFLAG");
        body.covers = vec![Cover::Class(Class::R)];
        assert_eq!(body.approvals_needed(soon, now, false, false), 0);
        assert_eq!(body.approvals_needed(late, now, true, false), 1);
        assert_eq!(body.approvals_needed(soon, now, true, true), 2, "another lead than the author");
        assert_eq!(body.approvals_needed(soon, now, false, true), 1);
        body.scope = Scope { everywhere: true, ..Scope::default() };
        assert_eq!(body.approvals_needed(soon, now, true, false), 1);
    }

    #[test]
    fn an_unknown_code_is_named() {
        let err = serde_json::from_str::<Vec<Cover>>(r#"["R","C.NOPE"]"#).unwrap_err();
        assert!(err.to_string().contains("unknown class or code `C.NOPE`"));
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        let err = serde_json::from_str::<Indicator>(r#"{"list":"DestinationIPList","kind":"ip","value":"1.2.3.4","source":"x","id":7}"#);
        assert!(err.unwrap_err().to_string().contains("unknown field `id`"));
    }
}
