//! Every URL, typed: router, links and redirects use the same struct. Ids that do not parse are a 404 page.

use crate::{
    http::error::Error,
    model::ids::{DetectionId, EventRef, ProcessId},
};
use axum::extract::rejection::PathRejection;
use axum_extra::routing::TypedPath;
use serde::Deserialize;

impl From<PathRejection> for Error {
    fn from(_: PathRejection) -> Self {
        Self::NotFound
    }
}

macro_rules! paths {
    ($($(#[$doc:meta])* $name:ident $({ $($field:ident: $ty:ty),* })? $path:literal;)*) => { $(
        paths!(@one $(#[$doc])* $name $({ $($field: $ty),* })? $path);
    )* };
    (@one $(#[$doc:meta])* $name:ident $path:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, TypedPath)]
        #[typed_path($path)]
        pub struct $name;
    };
    (@one $(#[$doc:meta])* $name:ident { $($field:ident: $ty:ty),* } $path:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, TypedPath, Deserialize)]
        #[typed_path($path, rejection(Error))]
        #[expect(missing_docs, reason = "fields are the captures of the path")]
        pub struct $name { $(pub $field: $ty),* }
    };
}

paths! {
    /// Open detections.
    Queue "/";
    /// One detection, and where its form posts.
    Detection { id: DetectionId } "/detections/{id}";
    /// Its raw events.
    DetectionEvents { id: DetectionId } "/detections/{id}/events";
    /// One raw event, seen from its detection.
    DetectionEvent { id: DetectionId, event: EventRef } "/detections/{id}/events/{event}";
    /// Its report, to print.
    DetectionReport { id: DetectionId } "/detections/{id}/report";
    /// The same as Markdown.
    DetectionMarkdown { id: DetectionId } "/detections/{id}/report.md";
    /// The same as JSON.
    DetectionJson { id: DetectionId } "/detections/{id}/report.json";
    /// Its raw records, a line each.
    DetectionRecords { id: DetectionId } "/detections/{id}/events.jsonl";
    /// The record of one event, as it was sent.
    EventRaw { event: EventRef } "/events/{event}/raw";
    /// Its story in the row of a list.
    DetectionPeek { id: DetectionId } "/_f/detections/{id}/peek";
    /// One raw event.
    Event { event: EventRef } "/events/{event}";
    /// One process.
    Process { id: ProcessId } "/processes/{id}";
    /// Its children, page by page.
    ProcessChildren { id: ProcessId } "/_f/processes/{id}/children";
    /// Machines.
    Hosts "/hosts";
    /// One machine by name.
    Host { name: String } "/hosts/{name}";
    /// Who talks where.
    Destinations "/destinations";
    /// Sign in.
    Login "/login";
    /// Sign out.
    Logout "/logout";
    /// Set the own password.
    Password "/account/password";
    /// Choose light, dark or the system's.
    Theme "/account/theme";
    /// Keys.
    Keys "/help/keys";
    /// Process up.
    Health "/healthz";
    /// Database reachable and migrated.
    Ready "/readyz";
    /// Entries of the allowlist; a form posts here.
    Allowlist "/allowlist";
    /// A new entry, pre-filled from a detection.
    NewEntry "/allowlist/new";
    /// Expected load.
    Baselines "/baselines";
    /// Announced load.
    Windows "/maintenance-windows";
    /// Lists of pools and proxies.
    Indicators "/indicators";
    /// Questions over the stored facts.
    Hunt "/hunt";
    /// What a token's forwarder sends.
    Source { name: String } "/admin/sources/{name}";
    /// Records that could not be used.
    Quarantine "/admin/quarantine";
    /// One of them, as it was sent.
    QuarantineOne { digest: uuid::Uuid } "/admin/quarantine/{digest}";
    /// Tokens of programs.
    Tokens "/admin/tokens";
    /// A token, and what is done to it.
    TokenDeed { name: String } "/admin/tokens/{name}/revoke";
    /// Accounts.
    Users "/admin/users";
    /// An account, and what is done to it.
    UserDeed { name: String } "/admin/users/{name}";
    /// API: one detection.
    ApiDetection { id: DetectionId } "/api/v1/detections/{id}";
    /// API: what to do about a detection.
    ApiRunbook { id: DetectionId } "/api/v1/detections/{id}/runbook";
    /// API: one step of it.
    ApiRunbookStep { id: DetectionId, name: String } "/api/v1/detections/{id}/runbook/{name}";
    /// API: one campaign by name.
    ApiCampaign { name: String } "/api/v1/campaigns/{name}";
    /// API: one process.
    ApiProcess { id: ProcessId } "/api/v1/processes/{id}/tree";
    /// API: one machine by name.
    ApiHost { name: String } "/api/v1/hosts/{name}";
    /// API: somebody stands behind an entry.
    EntryApproval { id: Number } "/api/v1/allowlist/{id}/approve";
    /// API: what the engine thinks of one machine.
    ApiHostAssessment { name: String } "/api/v1/hosts/{name}/assessment";
    /// API and pages: one entry, window, baseline or indicator by its number.
    Numbered { id: Number } "/api/v1/allowlist/{id}";
}

/// Number of an entry, window, baseline or indicator: `17` or, as evidence names it, `AL-17`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number(pub i64);

impl std::str::FromStr for Number {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let digits = text.strip_prefix("AL-").or_else(|| text.strip_prefix("MW-")).unwrap_or(text);
        digits.parse().map(Self)
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
