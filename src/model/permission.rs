//! Roles of people, scopes of tokens, and the permissions both carry. Deny by default (trust design, section 2).

/// What a person may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Reads, exports, triages, proposes entries.
    Analyst,
    /// Also tunes and approves.
    Lead,
    /// Also administers.
    Admin,
    /// Reads everything, the audit log included; changes nothing.
    Auditor,
}

/// What a route demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Pages and `GET /api/v1`.
    Read,
    /// Raw events and files.
    Export,
    /// Disposition, note, assignment, preview.
    Triage,
    /// An allowlist entry of narrow scope.
    Propose,
    /// Allowlist, baselines, windows, hosts, indicators.
    Tune,
    /// Second pair of eyes.
    Approve,
    /// The audit log.
    Audit,
    /// Users, tokens, sources.
    Administer,
    /// The metrics endpoint.
    Metrics,
}

/// What a token may be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The ingest port.
    Ingest,
    /// Read API.
    Read,
    /// Read and triage API.
    Triage,
    /// Read, triage and administration API (never users or tokens).
    Admin,
    /// The metrics endpoint.
    Metrics,
}

impl Role {
    /// All roles with their names.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Viewer, "viewer"),
        (Self::Analyst, "analyst"),
        (Self::Lead, "lead"),
        (Self::Admin, "admin"),
        (Self::Auditor, "auditor"),
    ];

    /// As stored.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(role, _)| *role == self).map_or("viewer", |(_, name)| name)
    }

    /// Whether a person of this role holds the permission.
    pub fn may(self, permission: Permission) -> bool {
        use Permission as P;
        match permission {
            P::Read => true,
            P::Export => self != Self::Viewer,
            P::Triage | P::Propose => matches!(self, Self::Analyst | Self::Lead | Self::Admin),
            P::Tune | P::Approve => matches!(self, Self::Lead | Self::Admin),
            P::Audit => matches!(self, Self::Admin | Self::Auditor),
            P::Administer | P::Metrics => self == Self::Admin,
        }
    }
}

impl Scope {
    /// All scopes with their names.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Ingest, "ingest"),
        (Self::Read, "read"),
        (Self::Triage, "triage"),
        (Self::Admin, "admin"),
        (Self::Metrics, "metrics"),
    ];

    /// As stored.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(scope, _)| *scope == self).map_or("read", |(_, name)| name)
    }

    /// Whether a token of this scope holds the permission. `read` < `triage` < `admin`.
    pub fn may(self, permission: Permission) -> bool {
        use Permission as P;
        match permission {
            P::Read | P::Export => matches!(self, Self::Read | Self::Triage | Self::Admin),
            P::Triage => matches!(self, Self::Triage | Self::Admin),
            P::Propose | P::Tune | P::Approve => self == Self::Admin,
            P::Metrics => self == Self::Metrics,
            P::Audit | P::Administer => false,
        }
    }
}

/// A text that is no role or scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} `{text}`: expected {expected}")]
pub struct UnknownName {
    what: &'static str,
    text: String,
    expected: &'static str,
}

impl std::str::FromStr for Role {
    type Err = UnknownName;
    fn from_str(text: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|(_, name)| *name == text).map(|(role, _)| role).ok_or_else(|| UnknownName {
            what: "role",
            text: text.to_owned(),
            expected: "viewer, analyst, lead, admin or auditor",
        })
    }
}

impl std::str::FromStr for Scope {
    type Err = UnknownName;
    fn from_str(text: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|(_, name)| *name == text).map(|(scope, _)| scope).ok_or_else(|| UnknownName {
            what: "scope",
            text: text.to_owned(),
            expected: "ingest, read, triage, admin or metrics",
        })
    }
}
