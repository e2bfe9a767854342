//! Identifiers. Each prints as one URL-safe string and parses back; public ids of host-owned things carry the host, so that
//! every look-up is a primary-key hit on one shard.

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};
use uuid::Uuid;

/// Key of a `host` row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type, Serialize)]
#[sqlx(transparent)]
pub struct HostId(pub i64);

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Serializes a number as text: public ids are strings, since JSON readers round long numbers.
pub fn as_text<T: fmt::Display, S: Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(value)
}

/// Identity of an event by its content (wire formats, section 1.3): the first 16 bytes of a SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
#[sqlx(transparent)]
pub struct EventId(pub Uuid);

impl EventId {
    /// Hash of length-prefixed parts, so that no two lists of parts collide by concatenation.
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let digest = hash.finalize();
        let mut id = [0u8; 16];
        id.copy_from_slice(&digest[..16]);
        Self(Uuid::from_bytes(id))
    }
}

/// A process entity id as its sensor gave it. Sysmon's 8-4-4-4-12 form loses braces and case; any other text is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
#[sqlx(transparent)]
pub struct ProcessGuid(pub Uuid);

impl ProcessGuid {
    /// `None` for blank text and for the all-zero GUID, which sensors send for "no process".
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let bare = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
        if bare.is_empty() || bare == "-" {
            return None;
        }
        match Uuid::try_parse(bare) {
            Ok(id) if id.is_nil() => None,
            Ok(id) if bare.len() == 36 => Some(Self(id)),
            _ => Some(Self(EventId::of_parts([b"entity".as_slice(), text.as_bytes()]).0)),
        }
    }
}

/// Identity of what runs, whatever its instances: the unit of evidence and baseline (see [`crate::model::group`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
#[sqlx(transparent)]
pub struct GroupKey(pub i64);

/// Key of a raw segment: milliseconds of arrival shifted left by 20, plus random bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
#[sqlx(transparent)]
pub struct SegmentId(pub i64);

/// What went wrong while reading an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an identifier: expected {expected}")]
pub struct BadId {
    expected: &'static str,
}

macro_rules! host_owned {
    ($(#[$doc:meta])* $name:ident, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            /// The owning host.
            pub host: HostId,
            /// Key within the host.
            pub own: i64,
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}-{:016x}", self.host.0, self.own)
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                let bad = BadId { expected: $expected };
                let (host, own) = text.split_once('-').ok_or(bad)?;
                if own.len() != 16 || !own.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(bad);
                }
                Ok(Self {
                    host: HostId(host.parse().map_err(|_| bad)?),
                    own: u64::from_str_radix(own, 16).map_err(|_| bad)?.cast_signed(),
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

host_owned! {
    /// A process instance: host and a hash of its GUID, else of its pid and start.
    ProcessId, "HOST-16 hex digits of a process"
}
host_owned! {
    /// A detection.
    DetectionId, "HOST-16 hex digits of a detection"
}

/// Points at one stored event: its fact row and, through it, its raw record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventRef {
    /// The owning host.
    pub host: HostId,
    /// The stamp in the key of the fact.
    pub at: DateTime<Utc>,
    /// Identity by content.
    pub id: EventId,
}

impl fmt::Display for EventRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.host.0, self.at.timestamp_micros(), self.id.0.simple())
    }
}

impl FromStr for EventRef {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let bad = BadId { expected: "HOST-microseconds-32 hex digits of an event" };
        let mut parts = text.splitn(3, '-');
        let mut next = || parts.next().ok_or(bad);
        let host = HostId(next()?.parse().map_err(|_| bad)?);
        let at = DateTime::from_timestamp_micros(next()?.parse().map_err(|_| bad)?).ok_or(bad)?;
        let id = EventId(Uuid::try_parse(next()?).map_err(|_| bad)?);
        Ok(Self { host, at, id })
    }
}

impl Serialize for EventRef {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for EventRef {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_guid_is_the_same_with_or_without_braces_in_any_case() {
        let bare = ProcessGuid::parse("5770385f-c22a-43e0-bf4c-06f5698ffbd9");
        assert_eq!(bare, ProcessGuid::parse("{5770385F-C22A-43E0-BF4C-06F5698FFBD9}"));
        assert_eq!(ProcessGuid::parse("{00000000-0000-0000-0000-000000000000}"), None);
        assert!(ProcessGuid::parse("ZGZhLTEyMy00NTY=").is_some());
    }

    proptest! {
        #[test]
        fn public_ids_print_and_parse(host in 0i64..i64::MAX, own: i64, micros in 0i64..4_000_000_000_000_000, id: u128) {
            let d = DetectionId { host: HostId(host), own };
            prop_assert_eq!(d.to_string().parse::<DetectionId>(), Ok(d));
            let e = EventRef { host: HostId(host), at: DateTime::from_timestamp_micros(micros).unwrap(), id: EventId(Uuid::from_u128(id)) };
            prop_assert_eq!(e.to_string().parse::<EventRef>(), Ok(e));
        }
    }
}
