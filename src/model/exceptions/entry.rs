//! Allowlist entries: what people expect, by attributes that must all hold. Source: detection design, section 9.2; the four-eyes
//! rules are the trust design's, section 7.

use super::{Invalid, Scope, invalid, same_destination, same_path, trim, wildcard};
use crate::model::code::{Class, Code};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::exceptions::digest;

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
}
