//! Everything the judgement of one cluster reads: its processes and their kin, evidence, connections, launch artefacts, what the
//! fleet knows, what the host's telemetry can show, what people allowed.

use crate::model::{
    code::{Code, Force},
    exceptions::{Baseline, Entry, Window},
    ids::EventRef,
    profile::Profile,
    tunables::Tunables,
};
use crate::time::Span;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use std::{collections::HashMap, net::IpAddr, sync::Arc};

/// How long evidence stays active after it ended (`CorrelationWindow`).
pub const CARRY: TimeDelta = TimeDelta::minutes(60);

/// Stands for whatever on the host nobody could attribute: the process that has unattributed connections and load, and its group.
pub const UNATTRIBUTED: i64 = 0;

/// The host.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// Key.
    pub id: i64,
    /// Computer name.
    pub name: String,
    /// 1 to 4, if set.
    pub tier: Option<i16>,
    /// Class for baselines.
    pub class: Option<String>,
    /// Labels.
    pub tags: Vec<String>,
    /// Latest event time.
    pub last_seen: Option<DateTime<Utc>>,
    /// Logical processors.
    pub logical_cpus: Option<i32>,
    /// Whether it is a server, if known.
    pub server: Option<bool>,
}

/// A process of the cluster or of its kin.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "columns of `process`, documented there")]
pub struct Instance {
    pub id: i64,
    pub group: i64,
    pub started_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
    pub last_sign: DateTime<Utc>,
    pub start_observed: bool,
    pub guid: Option<String>,
    pub pid: Option<i64>,
    pub image: Option<String>,
    pub command_line: Option<String>,
    pub original_file_name: Option<String>,
    pub company: Option<String>,
    pub product: Option<String>,
    pub sha256: Option<String>,
    pub signer: Option<String>,
    pub signature: Option<String>,
    pub user: Option<String>,
    pub integrity: Option<String>,
    pub parent: Option<i64>,
    pub parent_image: Option<String>,
    pub parent_command_line: Option<String>,
    pub event: Option<EventRef>,
    /// Automation by the setting `ParentProcessName`.
    pub automation: bool,
}

impl Instance {
    /// What stands for the unattributed over a stretch of time.
    pub fn unattributed(since: DateTime<Utc>, until: DateTime<Utc>) -> Self {
        Self { id: UNATTRIBUTED, group: UNATTRIBUTED, started_at: since, last_sign: until, ..Self::default() }
    }

    /// Path for comparison.
    pub fn path(&self) -> String {
        crate::model::group::comparable_path(self.image.as_deref().unwrap_or_default())
    }

    /// Lower-case base name.
    pub fn name(&self) -> String {
        crate::model::group::base_name(&self.path()).to_owned()
    }

    /// End of its life as far as it is known.
    pub fn life_end(&self) -> DateTime<Utc> {
        self.ended_at.unwrap_or(self.last_sign).max(self.started_at)
    }
}

/// A piece of evidence under judgement.
#[derive(Debug, Clone)]
pub struct Item {
    /// What.
    pub code: Code,
    /// Points of the variant, before decay.
    pub points: f64,
    /// Force of the variant.
    pub force: Force,
    /// Factor by lineage distance.
    pub hop: f64,
    /// Lineage distance: beyond 2 neither hard nor discriminator.
    pub hops: u8,
    /// Owning group; 0 = not attributed.
    pub group: i64,
    /// Owning process.
    pub process: Option<i64>,
    /// Destination or the like.
    pub subject: String,
    /// Start of what it describes.
    pub first_seen: DateTime<Utc>,
    /// End of what it describes.
    pub last_seen: DateTime<Utc>,
    /// When its rule was first satisfied.
    pub known_at: DateTime<Utc>,
    /// One sentence.
    pub summary: String,
    /// Rule that matched.
    pub rule: Option<String>,
    /// Proof.
    pub events: Vec<EventRef>,
    /// Entry or window that covers it (set by `exceptions`).
    pub suppressed_by: Option<String>,
}

impl Item {
    /// An item of the usual variant, active over `[first_seen, last_seen]`, known at its start.
    pub fn new(code: Code, owner: &Instance, first_seen: DateTime<Utc>, last_seen: DateTime<Utc>, summary: String) -> Self {
        Self {
            code,
            points: code.entry().points,
            force: code.entry().force,
            hop: 1.0,
            hops: 0,
            group: owner.group,
            process: Some(owner.id),
            subject: String::new(),
            first_seen,
            last_seen: last_seen.max(first_seen),
            known_at: first_seen,
            summary,
            rule: None,
            events: owner.event.into_iter().collect(),
            suppressed_by: None,
        }
    }

    /// An item true for the owner's life.
    pub fn for_life(code: Code, owner: &Instance, summary: String) -> Self {
        Self::new(code, owner, owner.started_at, owner.life_end(), summary)
    }

    /// What it describes, up to when it was known.
    pub fn span(&self) -> Option<Span> {
        Span::new(self.first_seen, self.last_seen.max(self.known_at) + TimeDelta::seconds(1))
    }

    /// Until when it counts: patterns over days longer than the rest.
    pub fn active_until(&self) -> DateTime<Utc> {
        self.last_seen + if matches!(self.code, Code::RDuty | Code::APause) { TimeDelta::hours(24) } else { CARRY }
    }

    /// Whether it counts at an instant.
    pub fn is_active(&self, at: DateTime<Utc>) -> bool {
        self.known_at <= at && at <= self.active_until()
    }

    /// Whether it is hard proof where it stands.
    pub fn is_hard(&self) -> bool {
        self.force == Force::Hard && self.hops <= 2
    }

    /// Whether it starts a case and carries its time: any R; N of 15 or more; P of 12 or more; hard C.
    pub fn is_anchor(&self) -> bool {
        use crate::model::code::Class;
        match self.code.class() {
            Class::R => true,
            Class::N => self.points >= 15.0,
            Class::P => self.points >= 12.0,
            Class::C => self.force == Force::Hard,
            Class::L | Class::M | Class::A | Class::B => false,
        }
    }
}

/// One connection.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "columns of `flow`, documented there")]
pub struct Flow {
    pub process: Option<i64>,
    pub group: Option<i64>,
    pub remote_ip: Option<IpAddr>,
    pub remote_port: Option<i32>,
    pub remote_host: Option<String>,
    pub destination: String,
    pub external: bool,
    pub outbound: bool,
    pub started_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
    pub bytes_out: Option<i64>,
    pub bytes_in: Option<i64>,
    pub event: EventRef,
    pub application: Option<String>,
    /// An internal destination on a pool's or wallet's port that is no infrastructure: counts as external.
    pub inside: bool,
    /// Category of a matching indicator, and whether it is fresh.
    pub listed: Option<(String, bool)>,
}

/// A task, service, WMI subscription or Run value.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "columns of `persistence`, documented there")]
pub struct Artefact {
    pub kind: String,
    pub action: String,
    pub at: DateTime<Utc>,
    pub name: String,
    pub command: Option<String>,
    pub arguments: Option<String>,
    pub run_as: Option<String>,
    pub run_level: Option<String>,
    pub hidden: bool,
    pub author: Option<String>,
    pub triggers: Option<String>,
    pub by_user: Option<String>,
    pub pid: Option<i64>,
    pub image: Option<String>,
    pub event: Option<EventRef>,
}

/// A file that was written.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "columns of `file_write`, documented there")]
pub struct Written {
    pub path: String,
    pub writer: Option<String>,
    pub at: DateTime<Utc>,
    pub event: EventRef,
}

/// What a rule saw on the host that counts only if it concerns the case's program.
#[derive(Debug, Clone)]
pub struct Trace {
    /// Code, points and force of the rule.
    pub code: Code,
    /// Points of the rule.
    pub points: f64,
    /// Force of the rule.
    pub force: Force,
    /// The rule.
    pub rule: String,
    /// When.
    pub at: DateTime<Utc>,
    /// Process that did it, if known.
    pub guid: Option<String>,
    /// The same by process id.
    pub pid: Option<i64>,
    /// Account concerned.
    pub user: Option<String>,
    /// Lower-case texts that tell what it is about, a line each.
    pub text: String,
    /// What matched.
    pub excerpt: String,
    /// Proof.
    pub event: EventRef,
}

/// A program that shows processes was open.
#[derive(Debug, Clone)]
pub struct Watched {
    /// From.
    pub since: DateTime<Utc>,
    /// To.
    pub until: DateTime<Utc>,
    /// Its name.
    pub by: String,
    /// Its start.
    pub event: Option<EventRef>,
}

/// The host was silent about processes and scripts while something else of it went on.
#[derive(Debug, Clone, Copy)]
pub struct Dark {
    /// From.
    pub since: DateTime<Utc>,
    /// To.
    pub until: DateTime<Utc>,
    /// What it usually says in an hour.
    pub hourly: f64,
}

/// Memory of a busy process that stayed within 5 percent for an hour.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// The process.
    pub process: i64,
    /// From.
    pub since: DateTime<Utc>,
    /// To.
    pub until: DateTime<Utc>,
    /// Mean.
    pub bytes: f64,
}

/// How common a destination, image or signer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Common {
    /// At most 3 hosts or 2 % of the active ones.
    #[default]
    Rare,
    /// Between.
    Some,
    /// Half of a fleet of 20 or more hosts.
    Prevalent,
}

/// What the fleet knows of one thing on the day of the case.
#[derive(Debug, Clone, Copy, Default)]
pub struct Prevalence {
    /// Hosts that had it in the 30 days.
    pub hosts: i64,
    /// Coarse.
    pub common: Common,
    /// First UTC day on which any host had it; only of images.
    pub since: Option<NaiveDate>,
    /// Names under which it ran in the 30 days; only of images.
    pub names: i64,
}

/// Fleet facts for the days of the case.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    /// Hosts with any event in the 30 days.
    pub active: i64,
    /// First UTC day of the fleet.
    pub since: Option<NaiveDate>,
    /// By destination.
    pub destinations: HashMap<String, Prevalence>,
    /// By hash.
    pub images: HashMap<String, Prevalence>,
    /// By valid signer.
    pub signers: HashMap<String, Prevalence>,
}

impl Fleet {
    /// Few hosts have it, and it is not well-known.
    pub fn is_rare(&self, destination: &str) -> bool {
        self.destinations.get(destination).is_none_or(|p| p.common == Common::Rare) && !crate::model::networks::is_well_known(destination)
    }

    /// As for destinations.
    pub fn is_rare_image(&self, sha256: &str) -> bool {
        self.images.get(sha256).is_none_or(|p| p.common == Common::Rare)
    }

    /// Well-known, or half of the fleet has it.
    pub fn is_prevalent(&self, destination: &str) -> bool {
        self.destinations.get(destination).is_some_and(|p| p.common == Common::Prevalent) || crate::model::networks::is_well_known(destination)
    }

    /// A signer on at least a tenth of the active hosts.
    pub fn is_common_signer(&self, signer: &str) -> bool {
        self.signers.get(signer).is_some_and(|p| p.hosts * 10 >= self.active.max(1))
    }
}

/// What the host's telemetry could show around the case.
#[derive(Debug, Clone, Copy, Default)]
pub struct Coverage {
    /// Five-minute buckets with any event.
    pub alive: i64,
    /// Of these, with per-process CPU.
    pub cpu: i64,
    /// Process starts.
    pub starts: i64,
    /// With a command line.
    pub with_command: i64,
    /// With a parent.
    pub with_parent: i64,
    /// Connections with a process.
    pub connections: i64,
    /// Flows with a duration.
    pub flows: i64,
    /// Name look-ups.
    pub dns: i64,
    /// Task, WMI, service or Run-key events.
    pub persistence: i64,
    /// Script blocks.
    pub scripts: i64,
}

/// Parents that start work for administrators: base name, part of the path, signer. Settings `ParentProcessName`.
#[derive(Debug, Clone)]
pub struct GoodParent {
    /// Lower-case base name.
    pub name: &'static str,
    /// Must be part of the lower-case path.
    pub folder: &'static str,
}

/// Input of one judgement.
#[derive(Debug, Clone, Default)]
pub struct Case {
    /// The host.
    pub host: Host,
    /// The group the case is about.
    pub primary: i64,
    /// All groups that the case joins.
    pub groups: Vec<i64>,
    /// Processes of the groups and their kin.
    pub instances: Vec<Instance>,
    /// Lineage distance from the primary group's processes, by process.
    pub hops: HashMap<i64, u8>,
    /// Evidence that finders found.
    pub found: Vec<Item>,
    /// Connections of the processes.
    pub flows: Vec<Flow>,
    /// Launch artefacts of the host, up to 45 days before.
    pub artefacts: Vec<Artefact>,
    /// Files written beside images.
    pub written: Vec<Written>,
    /// Traces of the host, up to 45 days before.
    pub traces: Vec<Trace>,
    /// When somebody looked at the processes, up to 14 days before.
    pub watched: Vec<Watched>,
    /// When the host was silent.
    pub dark: Vec<Dark>,
    /// Constant memory of busy processes.
    pub memory: Vec<Memory>,
    /// CPU buckets of the primary group: start, percent.
    pub cpu: Vec<(DateTime<Utc>, f64)>,
    /// Fleet facts.
    pub fleet: Fleet,
    /// Coverage.
    pub coverage: Coverage,
    /// Entries in force for the host.
    pub entries: Vec<Entry>,
    /// Windows for the host, with their number.
    pub windows: Vec<(i64, Window)>,
    /// Baselines of the host's class.
    pub baselines: Vec<Baseline>,
    /// Learned baselines of the primary group for the host's class, of the weeks of the case.
    pub profiles: Vec<Profile>,
    /// Settings of the host's class.
    pub tunables: Arc<Tunables>,
    /// What is stored of the case already.
    pub standing: Standing,
}

/// What earlier judgements of a case and those of other hosts add to its severity.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// What at least two other hosts have within a day, as `destination pool.example`.
    pub outbreak: Option<String>,
    /// It goes on after it was closed as a true positive.
    pub recurrence: bool,
}

/// Factor for evidence of another process, by hops (`HopDecay`).
pub const HOP_DECAY: [f64; 5] = [1.0, 0.85, 0.7, 0.55, 0.4];

impl Case {
    /// The process with this id.
    pub fn instance(&self, id: i64) -> Option<&Instance> {
        self.instances.iter().find(|i| i.id == id)
    }

    /// Processes of the primary group, first start first.
    pub fn own(&self) -> impl Iterator<Item = &Instance> {
        self.instances.iter().filter(|i| i.group == self.primary)
    }

    /// Factor and hops of a process; `None` if it is no kin.
    pub fn distance(&self, process: i64) -> Option<(f64, u8)> {
        let hops = *self.hops.get(&process)?;
        HOP_DECAY.get(usize::from(hops)).map(|f| (*f, hops))
    }

    /// The process and its ancestors, up to 4 hops, not through barriers; the last one may be a barrier's child.
    pub fn chain<'a>(&'a self, process: &'a Instance) -> Vec<&'a Instance> {
        let mut chain = vec![process];
        while chain.len() <= 4 {
            let Some(parent) = chain.last().and_then(|p| p.parent).and_then(|id| self.instance(id)) else { break };
            if is_barrier(parent) || chain.iter().any(|c| c.id == parent.id) {
                break;
            }
            chain.push(parent);
        }
        chain
    }
}

const BARRIERS: &[&str] = &[
    "system", "smss.exe", "csrss.exe", "wininit.exe", "winlogon.exe", "services.exe", "lsass.exe", "svchost.exe", "explorer.exe",
    "userinit.exe", "sihost.exe", "taskhostw.exe", "taskeng.exe", "wmiprvse.exe", "scrcons.exe", "runtimebroker.exe",
];

/// Nothing is inherited from or through these: system processes in their place, good parents, interactive shells.
pub fn is_barrier(process: &Instance) -> bool {
    use crate::model::names::in_system_folder;
    let (path, name) = (process.path(), process.name());
    if BARRIERS.contains(&name.as_str()) && (in_system_folder(&path) || !path.contains('\\')) {
        return true;
    }
    if process.automation || is_good_parent(&path) && process.signature.as_deref().is_none_or(|s| s == "valid") {
        return true;
    }
    is_interactive_shell(&name, process.command_line.as_deref())
}

/// `cmd` or PowerShell without a command to run.
pub fn is_interactive_shell(name: &str, command_line: Option<&str>) -> bool {
    let Some(line) = command_line else { return false };
    let line = line.to_lowercase();
    match name {
        "cmd.exe" => !line.contains("/c") && !line.contains("/k") && !line.contains("/r"),
        "powershell.exe" | "pwsh.exe" => {
            let rest = line.trim().trim_start_matches('"').split_once("exe").map_or("", |(_, r)| r).trim_start_matches('"').trim();
            rest.is_empty() || rest.split_whitespace().all(|w| matches!(w, "-nologo" | "-noexit" | "-noprofile"))
        }
        "bash.exe" => !line.contains("-c"),
        _ => false,
    }
}

/// `ParentProcessName`: automation that administrators run. No remote-support agents. Source: detection design, section 2;
/// folders are the products' own.
pub const GOOD_PARENTS: &[GoodParent] = &[
    GoodParent { name: "ccmexec.exe", folder: "\\windows\\ccm\\" },
    GoodParent { name: "agentexecutor.exe", folder: "\\microsoft intune management extension\\" },
    GoodParent { name: "microsoft.management.services.intunewindowsagent.exe", folder: "\\microsoft intune management extension\\" },
    GoodParent { name: "wsmprovhost.exe", folder: "\\windows\\system32\\" },
    GoodParent { name: "runner.listener.exe", folder: "\\bin\\" },
    GoodParent { name: "runner.worker.exe", folder: "\\bin\\" },
    GoodParent { name: "agent.listener.exe", folder: "\\bin\\" },
    GoodParent { name: "agent.worker.exe", folder: "\\bin\\" },
    GoodParent { name: "gitlab-runner.exe", folder: "\\" },
];

/// Whether the path is that of a good parent in its place.
pub fn is_good_parent(path: &str) -> bool {
    let name = crate::model::group::base_name(path);
    GOOD_PARENTS.iter().any(|g| g.name == name && path.contains(g.folder))
}
