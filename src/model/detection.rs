//! Detections as they are stored, shown and served: one struct for the page, the API and the database (contract, section 3).
//!
//! [`Content`] is a function of facts, configuration and triage state; only id, version, `detected_at` and triage fields are
//! minted around it. It is stored as one JSON document, so equal facts give equal bytes.

use crate::model::{
    code::{Class, Code},
    ids::{DetectionId, EventRef, ProcessId},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $( $(#[$vdoc:meta])* $variant:ident = $text:literal, )* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $( $(#[$vdoc])* $variant, )* }

        impl $name {
            /// All, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// As stored and served.
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $text, )* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = UnknownWord;
            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                Self::ALL.iter().copied().find(|w| w.as_str() == text).ok_or_else(|| UnknownWord {
                    text: text.to_owned(),
                    expected: &[$($text),*],
                })
            }
        }
    };
}

/// A text that is none of the expected words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown value `{text}`: expected one of {}", expected.join(", "))]
pub struct UnknownWord {
    text: String,
    expected: &'static [&'static str],
}

words! {
    /// Verdict of an analytic or detection, weakest first.
    Verdict {
        /// Nothing to say.
        None = "none",
        /// Too much of the needed telemetry is missing.
        NotAssessable = "not_assessable",
        /// Would be in the queue but for an entry or window.
        Suppressed = "suppressed",
        /// Too imprecise for the queue.
        Candidate = "candidate",
        /// Known pool before the load.
        EarlyWarning = "early_warning",
        /// One class cannot be observed, the rest is met.
        Partial = "partial",
        /// All gates passed.
        Alert = "alert",
    }
}

impl Verdict {
    /// Whether the queue shows it.
    pub fn in_queue(self) -> bool {
        self >= Self::EarlyWarning
    }
}

words! {
    /// How certain an alert is, by score.
    Band {
        /// 50 to 64.9.
        Tentative = "tentative",
        /// 65 to 79.9.
        Probable = "probable",
        /// 80 and more.
        Strong = "strong",
    }
}

words! {
    /// How much it matters here, least first.
    Severity {
        /// Candidates and suppressed ones.
        Info = "info",
        /// Lab machines, weak verdicts.
        Low = "low",
        /// Worth a look today.
        Medium = "medium",
        /// Worth a look now.
        High = "high",
        /// Drop everything.
        Critical = "critical",
    }
}

words! {
    /// Triage status.
    Status {
        /// Nobody has looked.
        New = "new",
        /// Somebody is at it.
        InProgress = "in_progress",
        /// Decided.
        Closed = "closed",
    }
}

words! {
    /// Why it was closed.
    Disposition {
        /// Hijacked compute.
        TruePositive = "true_positive",
        /// Real but expected.
        BenignPositive = "benign_positive",
        /// The rule is wrong.
        FalsePositiveLogic = "false_positive_logic",
        /// The telemetry is wrong.
        FalsePositiveData = "false_positive_data",
        /// Same as another.
        Duplicate = "duplicate",
        /// Cannot tell.
        Undetermined = "undetermined",
    }
}

words! {
    /// State of an evidence class (contract `classes.*.state`).
    State {
        /// Effective score reaches the minimum.
        Met = "met",
        /// Some evidence, not enough.
        Below = "below",
        /// Looked, found nothing.
        ObservedAbsent = "observed_absent",
        /// The host's telemetry cannot show it.
        Unobservable = "unobservable",
        /// Raw score reaches the minimum, an entry or window covers it.
        Suppressed = "suppressed",
        /// Met, and an entry that would cover it is void.
        Void = "void",
    }
}

words! {
    /// The two analytics.
    Analytic {
        /// High CPU + command line + mining or proxy network.
        An0741 = "AN0741",
        /// Long load, suspicious launch, persistent connection, masquerade.
        An1489 = "AN1489",
    }
}

/// What one analytic says of a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// `AN0741` or `AN1489`.
    pub id: String,
    /// After entries and windows.
    pub verdict: Verdict,
    /// 0 to 100, one decimal; respects entries and windows.
    pub score: f64,
    /// The same without them.
    pub raw_score: f64,
    /// Only for alerts.
    pub band: Option<Band>,
    /// Event time at which the gate of an alert first opened.
    pub first_alert_at: Option<DateTime<Utc>>,
    /// What is missing for the next better verdict, in words.
    pub nearest_miss: Option<String>,
}

/// State and score of one class at the deciding point in time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassState {
    /// See [`State`].
    pub state: State,
    /// Effective class score.
    pub score: f64,
    /// Score without entries and windows.
    pub raw_score: f64,
    /// Why unobservable, or which entry suppresses or is void.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One piece of evidence with its proof.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Catalogue code.
    pub code: Code,
    /// Its class.
    pub class: Class,
    /// Points before hop decay and class sum.
    pub points: f64,
    /// Factor for evidence owned by another process of the lineage, 0 to 1.
    pub hop: f64,
    /// Start of what it describes.
    pub first_seen: DateTime<Utc>,
    /// End of what it describes.
    pub last_seen: DateTime<Utc>,
    /// When its rule was first satisfied, event time.
    pub known_at: DateTime<Utc>,
    /// One sentence with value and threshold.
    pub summary: String,
    /// Cannot be hidden by an entry that does not name it.
    pub hard: bool,
    /// See [`crate::model::code::Force`].
    pub force: crate::model::code::Force,
    /// Entry or window that covers it.
    pub suppressed_by: Option<String>,
    /// Process it is owned by, if one.
    pub process: Option<ProcessId>,
    /// Rule that matched, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Raw events that prove it (at most 20; the first and last are always among them).
    pub events: Vec<EventRef>,
}

/// The process a detection is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Address of its page.
    pub id: ProcessId,
    /// Entity id of the sensor.
    pub guid: Option<String>,
    /// Process id.
    pub pid: Option<i64>,
    /// Path.
    pub image: Option<String>,
    /// Arguments and all.
    pub command_line: Option<String>,
    /// Version resource.
    pub original_file_name: Option<String>,
    /// Lower-case hex.
    pub sha256: Option<String>,
    /// Only if the signature is valid.
    pub signer: Option<String>,
    /// `DOMAIN\name`.
    pub user: Option<String>,
    /// Path of the parent.
    pub parent_image: Option<String>,
    /// Start, if it was seen.
    pub started_at: Option<DateTime<Utc>>,
    /// End, if it was seen.
    pub ended_at: Option<DateTime<Utc>>,
}

/// A network destination of the cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Destination {
    /// Name, if known.
    pub host: Option<String>,
    /// Address, if known.
    pub ip: Option<String>,
    /// Port.
    pub port: Option<i64>,
    /// First connection.
    pub first_seen: DateTime<Utc>,
    /// End of the last connection.
    pub last_seen: DateTime<Utc>,
    /// Both directions; absent = no source counts bytes.
    pub bytes: Option<i64>,
    /// Connections.
    pub connections: i64,
    /// Hosts of the fleet that talked to it in 30 days.
    pub hosts: Option<i64>,
    /// Matching indicator: `pool`, `proxy`, `tor` ...
    pub indicator: Option<String>,
}

/// Something that starts the cluster's processes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Persistence {
    /// `scheduled_task`, `wmi_subscription`, `service`, `run_key`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// When it was made, if that was seen.
    pub created_at: Option<DateTime<Utc>>,
    /// Who made it.
    pub by: Option<String>,
    /// What it runs.
    pub command: Option<String>,
    /// The event that shows it.
    pub event: EventRef,
}

/// Everything about a detection that follows from facts and configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Content {
    /// One line.
    pub title: String,
    /// Why it fired, in sentences.
    pub story: String,
    /// Strongest of the analytics.
    pub verdict: Verdict,
    /// See [`Severity`].
    pub severity: Severity,
    /// How the severity came about.
    pub severity_reasons: Vec<String>,
    /// Both analytics.
    pub analytics: Vec<Judged>,
    /// The primary process.
    pub process: Option<Process>,
    /// One state per class.
    pub classes: BTreeMap<Class, ClassState>,
    /// All evidence, by class and size.
    pub evidence: Vec<Evidence>,
    /// Destinations, most telling first.
    pub destinations: Vec<Destination>,
    /// Launch artefacts.
    pub persistence: Vec<Persistence>,
    /// First anchor evidence.
    pub first_seen: DateTime<Utc>,
    /// Last anchor evidence.
    pub last_seen: DateTime<Utc>,
    /// No anchor for 24 h before the host's latest event. Said when it is read; false as stored.
    pub quiet: bool,
    /// Version of the settings it was judged by; 0 = as shipped.
    #[serde(default)]
    pub tunables: i64,
}

/// The host of a detection, as shown beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostSummary {
    /// Key.
    pub id: String,
    /// Computer name.
    pub name: String,
    /// 1 crown jewel to 4 lab; absent = not set.
    pub tier: Option<i16>,
    /// What it does.
    pub role: Option<String>,
    /// Labels.
    pub tags: Vec<String>,
    /// Class for baselines.
    pub class: Option<String>,
}

/// A detection as the contract serves it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// Public id.
    pub id: DetectionId,
    /// Rises with every visible change.
    pub version: i32,
    /// The host.
    pub host: HostSummary,
    /// Triage status.
    pub status: Status,
    /// Set when closed.
    pub disposition: Option<Disposition>,
    /// Account name.
    pub assignee: Option<String>,
    /// Latest note.
    pub note: Option<String>,
    /// The detection this one repeats.
    pub duplicate_of: Option<DetectionId>,
    /// What was found.
    #[serde(flatten)]
    pub content: Content,
    /// Wall clock of the first pass that saw it.
    pub detected_at: DateTime<Utc>,
    /// Earlier detection of the same cluster.
    pub recurrence_of: Option<DetectionId>,
    /// Name of the campaign.
    pub campaign: Option<String>,
}
