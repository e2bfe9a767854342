//! One machine's day: processes come and go, talk and load the processors; what its forwarders would send falls out.
//!
//! Knows nothing of attacks: `story` plays them through the same verbs that ordinary work uses.

#![expect(clippy::cast_sign_loss, reason = "shares, rates and lengths are never negative")]

use super::{
    Protocol,
    fleet::{ERRANDS, Errand, HABITS, Machine, POWERSHELL, Program, RESIDENTS, SYSTEM, SYSTEM_PROCESS, Site},
    shapes::{self, Data, Flow, Layout, ProcessSample, Sender, texts},
    story,
};
use base64::Engine as _;
use chrono::{DateTime, TimeDelta, Utc};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
};

/// How many processes Metricbeat lists (`process.include_top_n.by_cpu`).
const TOP: usize = 10;
/// Metricbeat's period.
const PERIOD: TimeDelta = TimeDelta::minutes(1);
/// A name stays in the resolver's cache with this chance, once it was looked up.
const CACHED: f64 = 0.7;

/// Points into [`Host::processes`].
pub(super) type Running = usize;

/// Load on top of the mean: percent of the host while it lasts, and how much it wavers (0 = flat).
#[derive(Debug, Clone, Copy)]
struct Burst {
    since: DateTime<Utc>,
    until: DateTime<Utc>,
    share: f64,
    wobble: f64,
}

#[derive(Debug)]
struct Process {
    pid: u32,
    parent_pid: u32,
    guid: String,
    image: String,
    command_line: String,
    account: String,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    load: f64,
    bursts: Vec<Burst>,
    used_ms: f64,
    rss_bytes: u64,
}

enum Draft {
    Windows { layout: &'static Layout, data: Data, logger: Option<u32> },
    Metric(String),
    Flow(String),
}

/// A machine under simulation.
pub(super) struct Host {
    pub(super) machine: &'static Machine,
    sender: Sender,
    now: DateTime<Utc>,
    pub(super) rng: StdRng,
    drafts: Vec<(DateTime<Utc>, Draft)>,
    processes: Vec<Process>,
    residents: HashMap<&'static str, Running>,
    signed: HashSet<&'static str>,
    resolved: HashSet<&'static str>,
    up_until: DateTime<Utc>,
    next_pid: u32,
    next_port: u16,
}

/// Hours as a duration.
pub(super) fn hours(hours: f64) -> TimeDelta {
    TimeDelta::milliseconds((hours * 3_600_000.0) as i64)
}

fn utc_time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

/// SHA-256 of a program's file, upper case: one build is one file, wherever it lies.
pub(super) fn sha256(program: &Program) -> String {
    let digest = Sha256::digest([program.path, program.version, program.original].join("\n"));
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02X}").expect("writing to a String cannot fail");
        text
    })
}

/// A PowerShell `-EncodedCommand` argument.
pub(super) fn encoded(script: &str) -> String {
    let bytes: Vec<u8> = script.encode_utf16().flat_map(u16::to_le_bytes).collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// All documents of a machine's last 24 hours, in the order of time.
pub(super) fn day_of(machine: &'static Machine, now: DateTime<Utc>, seed: u64) -> Vec<(Protocol, String)> {
    let own = Sha256::digest(machine.name);
    let own = own.iter().take(8).fold(0, |all, byte| all << 8 | u64::from(*byte));
    let mut host = Host {
        machine,
        sender: Sender::new(machine),
        now,
        rng: StdRng::seed_from_u64(seed ^ own),
        drafts: Vec::new(),
        processes: Vec::new(),
        residents: HashMap::new(),
        signed: HashSet::new(),
        resolved: HashSet::new(),
        up_until: now,
        next_pid: 400,
        next_port: 49_700,
    };
    for &(on, off) in machine.up {
        let jitter = if on > -24.0 && !machine.user.is_empty() { hours(host.rng.random_range(0.0..0.4)) } else { TimeDelta::zero() };
        let (on, off) = (now + hours(on) + jitter, now + hours(off));
        host.up_until = off;
        host.boot(on);
        host.ordinary_work(on, off);
        story::play(&mut host, now, on, off);
        host.sample(on, off);
        host.shut_down(off);
    }
    host.finish()
}

impl Host {
    fn note(&mut self, at: DateTime<Utc>, draft: Draft) {
        if at <= self.now && at >= self.now - TimeDelta::hours(24) {
            self.drafts.push((at, draft));
        }
    }

    /// An event of the machine's logs.
    pub(super) fn log(&mut self, at: DateTime<Utc>, layout: &'static Layout, data: Data) {
        self.note(at, Draft::Windows { layout, data, logger: None });
    }

    /// A Sysmon event about a process: rule name, time, process, then `more`.
    fn sysmon(&mut self, at: DateTime<Utc>, layout: &'static Layout, process: Running, more: Data) {
        let p = &self.processes[process];
        let mut data: Data = vec![
            ("RuleName", "-".to_owned()),
            ("UtcTime", utc_time(at)),
            ("ProcessGuid", p.guid.clone()),
            ("ProcessId", p.pid.to_string()),
            ("Image", p.image.clone()),
            ("User", p.account.clone()),
        ];
        data.extend(more);
        self.log(at + TimeDelta::milliseconds(3), layout, data);
    }

    fn filled(&mut self, text: &str) -> String {
        let number = self.rng.random_range(100..100_000).to_string();
        text.replace("%user%", self.machine.user).replace("%n%", &number)
    }

    /// A process that stays until the machine goes down; `%user%` and `%n%` are filled in.
    pub(super) fn start(&mut self, at: DateTime<Utc>, parent: Running, program: &'static Program, arguments: &str, account: &str) -> Running {
        let (image, arguments, account) = (self.filled(program.path), self.filled(arguments), self.filled(account));
        self.next_pid = (self.next_pid + 4 * self.rng.random_range(1..60)) % 30_000 + 400;
        let pid = self.next_pid;
        let machine = u32::from_be_bytes(Sha256::digest(self.machine.name)[..4].try_into().unwrap_or_default());
        let guid = {
            let seconds = at.timestamp().cast_unsigned() as u32;
            format!("{{{machine:08X}-{:04X}-{:04X}-{:04X}-{:04X}{pid:08X}}}", seconds >> 16, seconds & 0xffff, self.processes.len(), self.rng.random::<u16>())
        };
        let command_line = format!("\"{image}\" {arguments}").trim_end().to_owned();
        let process = self.processes.len();
        let parent_pid = self.processes[parent].pid;
        self.processes.push(Process {
            pid, parent_pid, guid, image, command_line, account,
            start: at, end: self.up_until, load: 0.0, bursts: Vec::new(), used_ms: 0.0, rss_bytes: self.rng.random_range(8..400) << 20,
        });
        self.log_start(at, process, parent, program);
        process
    }

    fn log_start(&mut self, at: DateTime<Utc>, process: Running, parent: Running, program: &'static Program) {
        let (p, parent) = (&self.processes[process], &self.processes[parent]);
        let hashes = format!("SHA256={},IMPHASH=00000000000000000000000000000000", sha256(program));
        let (session, integrity, logon) = match p.account.as_str() {
            SYSTEM => ("0", "System", "0x3e7"),
            other if other.starts_with("NT AUTHORITY") => ("0", "System", "0x3e4"),
            other if other.ends_with(self.machine.user) && self.machine.kind.interactive() => ("1", "Medium", "0x4a1f2"),
            _ => ("0", "High", "0x8c3e1"),
        };
        let version = texts([
            ("FileVersion", program.version), ("Description", program.description), ("Product", program.product),
            ("Company", program.company), ("OriginalFileName", program.original),
        ]);
        let mut more = version.clone();
        if self.machine.arguments {
            more.push(("CommandLine", p.command_line.clone()));
            more.push(("ParentCommandLine", parent.command_line.clone()));
        }
        more.extend(texts([
            ("CurrentDirectory", r"C:\Windows\System32\"), ("LogonId", logon), ("TerminalSessionId", session), ("IntegrityLevel", integrity),
            ("Hashes", &hashes), ("ParentProcessGuid", &parent.guid), ("ParentProcessId", &parent.pid.to_string()),
            ("ParentImage", &parent.image), ("ParentUser", &parent.account),
        ]));
        let image = p.image.clone();
        self.sysmon(at, &shapes::PROCESS_START, process, more);
        // The configuration logs the signature of each main image once.
        if self.signed.insert(program.path) {
            let (signed, signature, status) = match program.signer {
                "" => ("false", "-", "Unavailable"),
                signer => ("true", signer, "Valid"),
            };
            let mut more = version;
            more.extend([("ImageLoaded", image), ("Hashes", hashes)]);
            more.extend(texts([("Signed", signed), ("Signature", signature), ("SignatureStatus", status)]));
            self.sysmon(at + TimeDelta::milliseconds(12), &shapes::IMAGE_LOAD, process, more);
        }
    }

    /// A process that ends by itself, after so many seconds and with so many percent of the host.
    pub(super) fn run(&mut self, at: DateTime<Utc>, parent: Running, program: &'static Program, arguments: &str, account: &str, (seconds, load): (i64, f64)) -> Running {
        let process = self.start(at, parent, program, arguments, account);
        let end = at + TimeDelta::seconds(seconds);
        self.processes[process].load = load;
        if end < self.up_until {
            self.processes[process].end = end;
            self.sysmon(end, &shapes::PROCESS_STOP, process, Vec::new());
        }
        process
    }

    /// Keeps processors busy: `share` percent of the host, wavering by `wobble` (0 = flat).
    pub(super) fn busy(&mut self, process: Running, since: DateTime<Utc>, until: DateTime<Utc>, share: f64, wobble: f64) {
        self.processes[process].bursts.push(Burst { since, until, share, wobble });
    }

    /// A connection with its name look-up, as Sysmon and the sensor see it.
    pub(super) fn connect(&mut self, process: Running, at: DateTime<Utc>, site: &'static Site, seconds: i64) {
        if !site.name.is_empty() && (self.resolved.insert(site.name) || !self.rng.random_bool(CACHED)) {
            let answer = texts([("QueryName", site.name), ("QueryStatus", "0"), ("QueryResults", &format!("::ffff:{};", site.ip))]);
            self.sysmon(at - TimeDelta::milliseconds(60), &shapes::DNS_QUERY, process, answer);
        }
        self.next_port = if self.next_port > 65_000 { 49_700 } else { self.next_port + 1 };
        let (ip, port) = (self.machine.ip, self.next_port);
        let data = texts([
            ("Protocol", if site.udp { "udp" } else { "tcp" }), ("Initiated", "true"), ("SourceIsIpv6", "false"), ("SourceIp", ip),
            ("SourceHostname", self.machine.name), ("SourcePort", &port.to_string()), ("SourcePortName", "-"), ("DestinationIsIpv6", "false"),
            ("DestinationIp", site.ip), ("DestinationHostname", "-"), ("DestinationPort", &site.port.to_string()), ("DestinationPortName", "-"),
        ]);
        self.sysmon(at, &shapes::CONNECTION, process, data);

        let end = (at + TimeDelta::seconds(seconds)).min(self.up_until);
        let seen = end.min(self.now - TimeDelta::seconds(20));
        if seen <= at {
            return;
        }
        let seconds = (seen - at).as_seconds_f64();
        let vary = self.rng.random_range(0.8..1.2);
        let flow = Flow {
            uid: format!("C{:016x}", self.rng.random::<u64>()), start: at, seconds, from: (ip, port), to: (site.ip, site.port), udp: site.udp,
            bytes: ((site.rate.0 * seconds * vary) as u64 + 400, (site.rate.1 * seconds * vary) as u64 + 900), open: end >= self.now,
        };
        self.note(seen, Draft::Flow(shapes::zeek_conn(&flow)));
        if site.port == 443 && !site.udp {
            self.note(at, Draft::Flow(shapes::zeek_ssl(&flow, site.name)));
        }
    }

    /// A file that a process wrote.
    pub(super) fn write_file(&mut self, process: Running, at: DateTime<Utc>, path: &str) {
        let path = self.filled(path);
        self.sysmon(at, &shapes::FILE_CREATE, process, vec![("TargetFilename", path), ("CreationUtcTime", utc_time(at))]);
    }

    /// A script block that a PowerShell process ran.
    pub(super) fn script(&mut self, process: Running, at: DateTime<Utc>, text: &str) {
        let id = format!("{:08x}-{:04x}-4{:03x}-9a52-{:012x}", self.rng.random::<u32>(), self.rng.random::<u16>(), 0x0abu16, at.timestamp_millis());
        let data = texts([("MessageNumber", "1"), ("MessageTotal", "1"), ("ScriptBlockText", text), ("ScriptBlockId", &id), ("Path", "")]);
        self.note(at, Draft::Windows { layout: &shapes::SCRIPT_BLOCK, data, logger: Some(self.processes[process].pid) });
    }

    /// The Task Scheduler says what it started for a task.
    pub(super) fn task_started(&mut self, process: Running, at: DateTime<Utc>, task: &str) {
        let (image, pid) = (self.processes[process].image.clone(), self.processes[process].pid.to_string());
        self.log(at, &shapes::TASK_PROCESS, texts([("TaskName", task), ("Path", &image), ("ProcessID", &pid), ("Priority", "16384")]));
        let data = texts([("TaskName", task), ("ActionName", &image), ("TaskInstanceId", "{6E7A2F19-3C55-4E0B-8D14-52D6B1A0C7E3}"), ("EnginePID", "1360")]);
        self.log(at + TimeDelta::milliseconds(4), &shapes::TASK_ACTION, data);
    }

    /// The resident process of that name; the system process where this machine has none.
    pub(super) fn resident(&self, key: &str) -> Running {
        self.residents.get(key).copied().unwrap_or_default()
    }

    fn boot(&mut self, at: DateTime<Utc>) {
        self.resolved.clear();
        self.residents.clear();
        self.log(at, &shapes::BOOT, texts([("MajorVersion", "10"), ("MinorVersion", "0"), ("BuildVersion", "22621")]));
        let root = self.processes.len();
        self.processes.push(Process {
            pid: 4, parent_pid: 0, guid: format!("{{00000000-0000-0000-0000-{root:012X}}}"), image: SYSTEM_PROCESS.path.to_owned(), command_line: String::new(),
            account: SYSTEM.to_owned(), start: at, end: self.up_until, load: 0.6, bursts: Vec::new(), used_ms: 0.0, rss_bytes: 144 << 10,
        });
        self.residents.insert("system", root);
        let mut at = at + TimeDelta::seconds(2);
        for resident in RESIDENTS.iter().filter(|r| r.on.contains(&self.machine.kind)) {
            // The user signs in a while after the boot.
            at += TimeDelta::milliseconds(self.rng.random_range(150..1_400)) + TimeDelta::seconds(if resident.key == "userinit" { 70 } else { 0 });
            let process = self.start(at, self.resident(resident.parent), resident.program, resident.arguments, resident.account);
            self.processes[process].load = resident.load;
            self.residents.insert(resident.key, process);
        }
    }

    /// Times that come by chance, so many an hour.
    fn now_and_then(&mut self, since: DateTime<Utc>, until: DateTime<Utc>, per_hour: f64) -> Vec<DateTime<Utc>> {
        let mut times = Vec::new();
        let mut at = since;
        loop {
            at += hours(-f64::ln(self.rng.random_range(1e-6..1.0)) / per_hour);
            if at >= until {
                return times;
            }
            times.push(at);
        }
    }

    fn ordinary_work(&mut self, on: DateTime<Utc>, off: DateTime<Utc>) {
        let settled = on + TimeDelta::minutes(4);
        for errand in ERRANDS.iter().filter(|e| e.on.contains(&self.machine.kind)) {
            for at in self.now_and_then(settled, off, errand.per_hour) {
                self.do_errand(errand, at);
            }
        }
        for (key, site, per_hour, (least, most)) in HABITS {
            if let Some(&process) = self.residents.get(key) {
                for at in self.now_and_then(settled, off, *per_hour) {
                    let seconds = self.rng.random_range(*least..=*most);
                    self.connect(process, at, site, seconds);
                }
            }
        }
    }

    fn do_errand(&mut self, errand: &'static Errand, at: DateTime<Utc>) {
        let (least, most) = errand.seconds;
        let seconds = self.rng.random_range(least..=most);
        let arguments = match errand.arguments {
            "%ccm%" => format!("-NoLogo -Noninteractive -NoProfile -ExecutionPolicy Bypass -EncodedCommand {}", encoded(errand.script)),
            other => other.to_owned(),
        };
        let process = self.run(at, self.resident(errand.parent), errand.program, &arguments, errand.account, (seconds, errand.load));
        if !errand.task.is_empty() {
            self.task_started(process, at + TimeDelta::milliseconds(30), errand.task);
        }
        if !errand.script.is_empty() && std::ptr::eq(errand.program, &raw const POWERSHELL) {
            self.script(process, at + TimeDelta::milliseconds(900), errand.script);
        }
    }

    fn sample(&mut self, on: DateTime<Utc>, off: DateTime<Utc>) {
        if !self.machine.cpu {
            return;
        }
        let mut at = on + TimeDelta::minutes(2);
        while at < off.min(self.now) {
            self.sample_at(at);
            at += PERIOD;
        }
    }

    fn sample_at(&mut self, at: DateTime<Utc>) {
        let before = at - PERIOD;
        let mut shares: Vec<(f64, Running)> = Vec::new();
        for (index, p) in self.processes.iter().enumerate().filter(|(_, p)| p.start < at && p.end > at) {
            let overlap = |since: DateTime<Utc>, until: DateTime<Utc>| {
                (until.min(at) - since.max(before)).as_seconds_f64().max(0.0) / PERIOD.as_seconds_f64()
            };
            let mut share = p.load * self.rng.random_range(0.4..1.6) * overlap(p.start, at);
            for burst in &p.bursts {
                share += burst.share * (1.0 + burst.wobble * self.rng.random_range(-1.0..1.0)) * overlap(burst.since, burst.until);
            }
            shares.push((share, index));
        }
        // A host has no more than all of its processors.
        let total: f64 = shares.iter().map(|(share, _)| share).sum();
        let scale = (97.0 / total).min(1.0);
        let period_ms = PERIOD.as_seconds_f64() * 1_000.0 * f64::from(self.machine.cores);
        for (share, index) in &mut shares {
            *share *= scale / 100.0;
            self.processes[*index].used_ms += *share * period_ms;
        }
        shares.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut documents = vec![self.sender.host_sample(at, (total * scale / 100.0).min(1.0))];
        for &(share, index) in shares.iter().take(TOP) {
            let p = &self.processes[index];
            documents.push(self.sender.process_sample(at, &ProcessSample {
                pid: p.pid, parent_pid: p.parent_pid, image: &p.image, command_line: if self.machine.arguments { &p.command_line } else { "" }, user: &p.account, start: p.start,
                share: (p.start <= before).then_some(share), used_ms: p.used_ms as u64, rss_bytes: p.rss_bytes,
            }));
        }
        for document in documents {
            self.note(at, Draft::Metric(document));
        }
    }

    fn shut_down(&mut self, at: DateTime<Utc>) {
        if at < self.now {
            self.log(at, &shapes::SHUTDOWN, vec![("StopTime", at.to_rfc3339())]);
        }
    }

    /// Puts everything in order of time and numbers the records of each log.
    fn finish(mut self) -> Vec<(Protocol, String)> {
        self.drafts.sort_by_key(|(at, _)| *at);
        let mut records: HashMap<&'static str, u64> = HashMap::new();
        let mut document = |(at, draft): (DateTime<Utc>, Draft)| match draft {
            Draft::Metric(text) => (Protocol::Bulk, text),
            Draft::Flow(text) => (Protocol::Native, text),
            Draft::Windows { layout, data, logger } => {
                let record = records.entry(layout.channel).or_insert(120_000);
                *record += 1;
                (Protocol::Bulk, self.sender.windows_event(layout, at, *record, &data, logger))
            }
        };
        self.drafts.into_iter().map(&mut document).collect()
    }
}
