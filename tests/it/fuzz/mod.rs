//! Decoders, splitters and protocols under mutated telemetry: no panic, no slow input, no growth of memory, the same answer twice.
//!
//! Each target runs for `COALFACE_FUZZ_SECONDS` (default 1; `make fuzz` runs longer) from `COALFACE_FUZZ_SEED` (default 0). Seeds
//! are the documents below and, where it is present, the telemetry folder. A failure keeps the input that made it.

mod protocols;

use bytes::Bytes;
use coalface::{
    intake::split,
    model::event::{Defaults, RawRecord},
    rules::Ruleset,
    sources,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    fs,
    io::Read,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

/// Slowest input allowed; the largest that mutation makes are below 300 kB.
const SLOWEST: Duration = Duration::from_secs(5);
/// Growth of the largest resident size allowed, kB: seeds, rules and one input at a time.
const MOST_MEMORY: u64 = 256 * 1024;
const LONGEST_SEED: u64 = 64 * 1024;

/// Pieces that decoders look for.
const TOKENS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    ":",
    ",",
    "\n",
    "\0",
    "\\ud800",
    "\\u0000",
    "1e999",
    "-0",
    "99999999999999999999",
    "null",
    "<Event>",
    "</Event>",
    "<Event xmlns='x'>",
    "<?xml",
    "<![CDATA[",
    "]]>",
    "&amp;",
    "&#0;",
    "&#x110000;",
    "&x;",
    "0x",
    "%%1936",
    "type:  5 ",
    "::ffff:",
    "#fields\t",
    "#separator \\x09\n",
    "\t",
    "=",
    "date=",
    "1,2026/03/02 09:14:05,",
    "instance of ",
    "<Task>",
    "<Exec><Command>",
    "S-1-5-18",
    "9999-12-31T23:59:59Z",
    "1601-01-01",
    "+9999",
    "-26:00",
    "\u{feff}",
    "\u{1e}",
    "ä",
    "𝄞",
    "pid_1_luid_",
    "{\"event\":",
    "{\"message\":\"{",
    "\"resourceLogs\":[",
    "\"metrics\":[",
    "\"log_type\":\"result\",\"data\":[",
];

/// Documents of this project's own, one for each reader.
const OWN: &[&str] = &[
    r#"{"@timestamp":"2026-03-02T09:14:05.1Z","host":{"name":"ws-0412"},"winlog":{"channel":"Security","computer_name":"ws-0412","provider_name":"Microsoft-Windows-Security-Auditing","event_id":"4698","record_id":5,"event_data":{"TaskName":"\\x","TaskContent":"<Task><Actions><Exec><Command>a.exe</Command></Exec></Actions></Task>"}}}"#,
    r#"{"@timestamp":"2026-03-02T09:14:05.1Z","winlog":{"channel":"Microsoft-Windows-PowerShell/Operational","computer_name":"ws-0412","provider_name":"Microsoft-Windows-PowerShell","event_id":4104,"record_id":6,"process":{"pid":3},"event_data":{"MessageNumber":"1","MessageTotal":"2","ScriptBlockText":"powershell -enc SQBFAFgA"}}}"#,
    "<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'><System><Provider Name='Microsoft-Windows-Sysmon'/><EventID>1</EventID><TimeCreated SystemTime='2026-03-02T09:14:05.1Z'/><EventRecordID>7</EventRecordID><Channel>Microsoft-Windows-Sysmon/Operational</Channel><Computer>ws-0412</Computer></System><EventData><Data Name='ProcessId'>4</Data><Data Name='CommandLine'>x &gt; y</Data></EventData></Event>",
    "#separator \\x09\n#path\tdns\n#fields\tts\tuid\tid.orig_h\tquery\tanswers\n#types\ttime\tstring\taddr\tstring\tvector[string]\n1772442845.25\tC1\t10.0.0.5\tpool.example\t203.0.113.9,203.0.113.8\n",
    "<189>date=2026-03-02 time=09:15:05 logid=\"1\" type=\"traffic\" tz=\"+0000\" srcip=192.168.0.5 srcport=5 dstip=203.0.113.9 dstport=3333 proto=6 duration=60 app=\"x\"",
    "Mar  2 09:15:06 fw 1,2026/03/02 09:15:06,0,THREAT,url,1,2026/03/02 09:15:06,192.168.0.5,203.0.113.9,,,\"a, \"\"b\"\"\",,,ssl,v,t,u,a,b,f,x,1,1,5,443,0,0,0x0,tcp,alert,\"pool.example/\",(9999),any,informational,client-to-server",
    "1772442845.049 5006 192.168.0.5 TCP_TUNNEL/200 19763 CONNECT pool.example:443 - HIER_DIRECT/203.0.113.9 -",
    r#"{"uid":"C1","ts":1772442845.25,"id.orig_h":"10.0.0.5","id.orig_p":5,"id.resp_h":"203.0.113.9","id.resp_p":3333,"proto":"tcp","conn_state":"SF","duration":60.5}"#,
    r#"{"timestamp":"2026-03-02T09:14:05.820360-0400","event_type":"dns","src_ip":"10.0.0.5","src_port":5,"dest_ip":"10.0.0.4","dest_port":53,"dns":{"rrname":"a.example","answers":[{"rdata":"203.0.113.9"}]}}"#,
    "procstat,host=ws-0412,process_name=x.exe pid=4i,cpu_time_user=1.5,created_at=1772442845000000000i 1772443145000000000",
    r#"{"metrics":[{"name":"win_gpu","tags":{"host":"ws-0412","instance":"pid_4_luid_0x0_0x1_phys_0_eng_1_engtype_Compute_0","objectname":"GPU Engine"},"fields":{"Utilization_Percentage":97.2},"timestamp":1772443145}]}"#,
    r#"{"name":"q","hostIdentifier":"ws-0412","unixTime":"1772443145","action":"added","columns":{"pid":"4","user_time":"5","system_time":"6","path":"x"}}"#,
];

#[expect(clippy::disallowed_methods, reason = "how long to run is the tester's business")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn number(name: &str, default: u64) -> u64 {
    variable(name).and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// Documents to begin with, and what is mixed into them.
#[derive(Debug)]
struct Seeds {
    base: Vec<Vec<u8>>,
    all: Vec<Vec<u8>>,
}

impl Seeds {
    /// Begins with the documents below these folders of the telemetry, or with the project's own where there are none.
    fn of(folders: &[&str]) -> Self {
        let found = telemetry();
        let own = || OWN.iter().map(|text| text.as_bytes().to_vec());
        let mut base: Vec<_> =
            found.iter().filter(|(path, _)| folders.iter().any(|f| path.starts_with(f))).map(|(_, bytes)| bytes.clone()).collect();
        if base.is_empty() {
            base = own().collect();
        }
        Self { base, all: own().chain(found.into_iter().map(|(_, bytes)| bytes)).collect() }
    }
}

/// Documents of the telemetry folder by relative path: samples without their wrapper, heads of everything else.
#[expect(clippy::print_stderr, reason = "a missing folder is said")]
fn telemetry() -> Vec<(PathBuf, Vec<u8>)> {
    let folder = variable("COALFACE_TELEMETRY")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/telemetry"), PathBuf::from);
    if !folder.is_dir() {
        eprintln!("only own seeds: {} is absent", folder.display());
    }
    let mut paths = Vec::new();
    files(&folder, &mut paths);
    let mut found = Vec::new();
    for path in paths {
        let mut head = Vec::new();
        let Ok(file) = fs::File::open(&path) else { continue };
        let read = match path.extension().and_then(|e| e.to_str()) {
            Some("gz") => flate2::read::GzDecoder::new(file).take(LONGEST_SEED).read_to_end(&mut head),
            Some("json" | "log" | "ndjson" | "xml") => file.take(LONGEST_SEED).read_to_end(&mut head),
            _ => continue,
        };
        if read.is_err() {
            continue;
        }
        let document =
            serde_json::from_slice::<serde_json::Value>(&head).ok().and_then(|mut sample| Some(sample.get_mut("document")?.take()));
        let bytes = match document {
            Some(serde_json::Value::String(text)) => text.into_bytes(),
            Some(document) => document.to_string().into_bytes(),
            _ => head,
        };
        found.push((path.strip_prefix(&folder).unwrap_or(&path).to_owned(), bytes));
    }
    found
}

fn mutated(rng: &mut StdRng, Seeds { base, all }: &Seeds) -> Vec<u8> {
    let mut bytes = base[rng.random_range(0..base.len())].clone();
    for _ in 0..rng.random_range(0..8) {
        let at = rng.random_range(0..=bytes.len());
        let end = (at + rng.random_range(0..200)).min(bytes.len());
        match rng.random_range(0..9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = rng.random(),
            2 => drop(bytes.drain(at..end)),
            3 => bytes.truncate(at),
            4 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece.repeat(rng.random_range(1..50)));
            }
            5 => {
                let token =
                    TOKENS[rng.random_range(0..TOKENS.len())].repeat(if rng.random_bool(0.1) { 3_000 } else { 1 });
                bytes.splice(at..at, token.into_bytes());
            }
            6 => {
                let other = &all[rng.random_range(0..all.len())];
                let from = rng.random_range(0..=other.len());
                let to = (from + rng.random_range(0..2_000)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            7 => {
                // as a text inside JSON, where wrappers are opened
                let text = serde_json::Value::String(String::from_utf8_lossy(&bytes).into_owned());
                bytes = format!("{{\"message\":{text}}}").into_bytes();
            }
            _ => {
                let token = TOKENS[rng.random_range(0..TOKENS.len())].as_bytes();
                bytes.splice(at..end, token.iter().copied());
            }
        }
        bytes.truncate(300_000);
    }
    bytes
}

/// Largest resident size so far, kB; 0 where the system does not tell.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

#[expect(clippy::print_stdout, reason = "how far it came is what the tester wants to know")]
fn fuzz(name: &str, seeds: &Seeds, mut target: impl FnMut(&Bytes, &mut StdRng)) {
    let (seconds, first) = (number("COALFACE_FUZZ_SECONDS", 1), number("COALFACE_FUZZ_SEED", 0));
    let (before, began) = (peak(), Instant::now());
    let (mut runs, mut total, mut slowest) = (0u64, 0u64, Duration::ZERO);
    while began.elapsed() < Duration::from_secs(seconds) {
        let seed = first.wrapping_mul(1 << 40).wrapping_add(runs);
        let mut rng = StdRng::seed_from_u64(seed);
        let input = Bytes::from(mutated(&mut rng, seeds));
        let at = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| target(&input, &mut rng)));
        let took = at.elapsed();
        if outcome.is_err() || took > SLOWEST {
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}-{seed}"));
            fs::write(&kept, &input).unwrap();
            panic!("{name}: input {seed} of {} bytes took {took:?}; kept in {}", input.len(), kept.display());
        }
        (runs, total, slowest) = (runs + 1, total + input.len() as u64, slowest.max(took));
    }
    let grown = peak().saturating_sub(before);
    println!("{name}: {runs} inputs, {} kB, slowest {slowest:?}, memory grew {grown} kB", total / 1_024);
    assert!(grown < MOST_MEMORY, "{name}: memory grew {grown} kB");
    assert!(runs > 0);
}

fn record(bytes: Bytes) -> RawRecord {
    RawRecord { bytes, client_id: None, defaults: Arc::new(Defaults::default()) }
}

/// A decoder and the rules: recognised by content, as in the program; the same record gives the same events.
fn decoder(name: &str, folders: &[&str]) {
    let rules = Ruleset::load(None).unwrap();
    fuzz(name, &Seeds::of(folders), |input, _| {
        let record = record(input.clone());
        let (once, twice) = (sources::decode(&record), sources::decode(&record));
        let Ok(events) = once else { return assert!(twice.is_err()) };
        let again = twice.unwrap();
        assert_eq!(events.len(), again.len());
        for (event, other) in events.iter().zip(&again) {
            assert_eq!(event.identity, other.identity);
            rules.hits(event, &mut Vec::new());
        }
    });
}

macro_rules! decoders {
    ($($test:ident $name:literal $folders:expr;)*) => { $(
        #[test]
        fn $test() {
            decoder($name, &$folders);
        }
    )* };
}

decoders! {
    fuzz_decode_own "own" [];
    fuzz_decode_samples "samples" ["samples"];
    fuzz_decode_evtx_json "evtx json" ["evtx_attack", "sigma_regression"];
    fuzz_decode_winlogbeat "winlogbeat" ["winlogbeat_golden", "benign", "mordor_attack"];
    fuzz_decode_nxlog "nxlog" ["splunk_attack_range_nxlog"];
    fuzz_decode_metricbeat "metricbeat" ["metricbeat"];
    fuzz_decode_osquery "osquery" ["osquery"];
    fuzz_decode_zeek "zeek" ["zeek_json", "zeek_tsv", "filebeat_network/zeek_http", "filebeat_network/zeek_x509"];
    fuzz_decode_suricata "suricata" ["filebeat_network/suricata_eve"];
    fuzz_decode_squid "squid" ["filebeat_network/squid_log"];
    fuzz_decode_fortigate "fortigate" ["filebeat_network/fortinet_firewall"];
    fuzz_decode_panos "panos" ["filebeat_network/panw_panos"];
}

/// Records lie in the body, in order and apart, and a stream read in small steps gives the same.
#[test]
fn fuzz_splitter() {
    fuzz("split", &Seeds::of(&[""]), |input, rng| {
        let whole: Vec<Bytes> = split::records(input).collect();
        let is_table = memchr::memmem::find(input, b"#").is_some();
        if !is_table {
            let mut end = 0;
            for record in &whole {
                let start = record.as_ptr() as usize - input.as_ptr() as usize;
                assert!(start >= end && !record.is_empty());
                end = start + record.len();
            }
            assert!(end <= input.len());
        }
        let chunk = rng.random_range(1..5_000);
        let stream: Vec<Bytes> = split::Records::new(Slow(input, chunk)).map(|r| r.unwrap()).collect();
        assert_eq!(stream.iter().map(Bytes::len).sum::<usize>(), whole.iter().map(Bytes::len).sum::<usize>());
    });
}

/// A reader that gives little at a time.
struct Slow<'b>(&'b [u8], usize);

impl Read for Slow<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let length = self.0.len().min(self.1).min(into.len());
        let (now, rest) = self.0.split_at(length);
        into[..length].copy_from_slice(now);
        self.0 = rest;
        Ok(length)
    }
}

/// A body on its whole way: split, cut into records, decoded.
#[test]
fn fuzz_bodies() {
    fuzz("bodies", &Seeds::of(&[""]), |input, _| {
        for document in split::records(input).take(2_000) {
            for part in
                sources::split_batch(&document).unwrap_or_else(|| vec![document.clone()]).into_iter().take(2_000)
            {
                drop(sources::decode(&record(part)));
            }
        }
    });
}
