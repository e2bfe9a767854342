//! The built-in demo: a simulated day of 21 hosts with four attacks and their look-alikes, posted through the ingest port.
//!
//! Deterministic: the same time and seed give the same bytes. `fleet` holds the tables, `host` simulates one machine, `story`
//! says what happens, `shapes` writes documents as Winlogbeat, Metricbeat and Zeek do.

mod fleet;
mod host;
mod shapes;
mod story;

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::{Client, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;
use tokio::{sync::mpsc, task, time};
use tokio_stream::wrappers::ReceiverStream;

/// Documents of one request.
const BATCH: usize = 1_000;
/// Requests under way at once.
const CONNECTIONS: usize = 4;
/// How often a request is repeated while the server is busy.
const ATTEMPTS: u32 = 30;

/// Which route a document is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// `POST /_bulk`.
    Bulk,
    /// `POST /api/v1/events`.
    Native,
}

impl Protocol {
    fn path(self) -> &'static str {
        match self {
            Self::Bulk => "/_bulk",
            Self::Native => "/api/v1/events",
        }
    }

    fn append(self, body: &mut String, document: &str) {
        if self == Self::Bulk {
            body.push_str("{\"create\":{\"_index\":\"demo\"}}\n");
        }
        body.push_str(document);
        body.push('\n');
    }
}

/// What became of the documents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Posted {
    /// Stored.
    pub accepted: u64,
    /// Stored before.
    pub duplicate: u64,
    /// Not usable.
    pub quarantined: u64,
}

impl Posted {
    fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.duplicate += other.duplicate;
        self.quarantined += other.quarantined;
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.accepted + self.duplicate + self.quarantined
    }
}

/// Administration calls that belong to the demo: path on the browser port and JSON body, to be posted in this order with an
/// `admin` token. 409 means that it is there already.
pub fn setup(now: DateTime<Utc>) -> Vec<(&'static str, Value)> {
    story::setup(now)
}

/// Every document of the 24 hours before `now`, host by host, each host in order of time. Pure; a host is simulated when its
/// first document is asked for.
pub fn documents(now: DateTime<Utc>, seed: u64) -> impl Iterator<Item = (Protocol, String)> {
    fleet::MACHINES.iter().flat_map(move |machine| host::day_of(machine, now, seed))
}

struct Batch {
    protocol: Protocol,
    documents: usize,
    body: String,
}

fn batches(now: DateTime<Utc>, seed: u64, queue: &mpsc::Sender<Batch>) {
    let empty = |protocol| Batch { protocol, documents: 0, body: String::new() };
    let mut open = [empty(Protocol::Bulk), empty(Protocol::Native)];
    for (protocol, document) in documents(now, seed) {
        let [bulk, native] = &mut open;
        let batch = if protocol == Protocol::Bulk { bulk } else { native };
        protocol.append(&mut batch.body, &document);
        batch.documents += 1;
        if batch.documents == BATCH && queue.blocking_send(std::mem::replace(batch, empty(protocol))).is_err() {
            // The other side failed and tells its reason itself.
            return;
        }
    }
    for batch in open.into_iter().filter(|b| b.documents > 0) {
        if queue.blocking_send(batch).is_err() {
            return;
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Reply {
    Native { accepted: u64, duplicate: u64, quarantined: u64 },
    Bulk { items: Vec<std::collections::HashMap<String, Item>> },
}

#[derive(Deserialize)]
struct Item {
    status: u16,
}

impl From<Reply> for Posted {
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::Native { accepted, duplicate, quarantined } => Self { accepted, duplicate, quarantined },
            Reply::Bulk { items } => {
                let mut posted = Self::default();
                for item in items.iter().flat_map(|item| item.values()) {
                    match item.status {
                        201 => posted.accepted += 1,
                        200 => posted.duplicate += 1,
                        _ => posted.quarantined += 1,
                    }
                }
                posted
            }
        }
    }
}

async fn send(client: &Client, ingest_url: &str, token: &str, batch: Batch) -> anyhow::Result<Posted> {
    let url = format!("{}{}", ingest_url.trim_end_matches('/'), batch.protocol.path());
    for _ in 0..ATTEMPTS {
        let request = client.post(&url).bearer_auth(token).header("content-type", "application/x-ndjson").body(batch.body.clone());
        let reply = request.send().await.with_context(|| format!("posting to {url}"))?;
        match reply.status() {
            StatusCode::OK => {
                let posted = Posted::from(reply.json::<Reply>().await.context("reading the reply of the ingest port")?);
                if posted.total() != batch.documents as u64 {
                    bail!("{url} answered for {} of {} documents", posted.total(), batch.documents);
                }
                return Ok(posted);
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => time::sleep(Duration::from_millis(500)).await,
            status => bail!("{url} answered {status}: {}", reply.text().await.unwrap_or_default()),
        }
    }
    bail!("{url} was busy for {ATTEMPTS} attempts")
}

/// Posts the demo through the ingest port at `ingest_url` (such as `http://127.0.0.1:8088`); returns when every document is
/// acknowledged. Posting it again stores nothing new.
///
/// # Errors
/// The server cannot be reached, refuses the token, or stays busy.
pub async fn post(ingest_url: &str, token: &str, now: DateTime<Utc>, seed: u64) -> anyhow::Result<Posted> {
    let client = Client::builder().no_proxy().timeout(Duration::from_mins(1)).build().context("making an HTTP client")?;
    let (sender, receiver) = mpsc::channel(2 * CONNECTIONS);
    let generator = task::spawn_blocking(move || batches(now, seed, &sender));
    let style = ProgressStyle::with_template("{spinner} {human_pos} events posted ({per_sec})").context("progress style")?;
    let bar = ProgressBar::new_spinner().with_style(style);
    let mut posted = Posted::default();
    let mut replies = std::pin::pin!(
        ReceiverStream::new(receiver)
            .map(Ok::<_, anyhow::Error>)
            .map_ok(|batch| send(&client, ingest_url, token, batch))
            .try_buffer_unordered(CONNECTIONS)
    );
    while let Some(reply) = replies.try_next().await? {
        posted.add(reply);
        bar.set_position(posted.total());
    }
    generator.await.context("simulating the demo's hosts")?;
    bar.finish_and_clear();
    let Posted { accepted, duplicate, quarantined } = posted;
    tracing::info!(accepted, duplicate, quarantined, "posted the demo data set");
    Ok(posted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{
            code::Force,
            event::{HostKey, RawRecord},
            exceptions::{Baseline, EntryBody, Indicator},
        },
        rules::Ruleset,
        sources,
    };
    use chrono::TimeDelta;
    use std::{
        collections::{BTreeMap, BTreeSet},
        sync::Arc,
    };

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_770_000_000, 0).unwrap()
    }

    fn machine(name: &str) -> &'static fleet::Machine {
        fleet::MACHINES.iter().find(|m| m.name == name).unwrap()
    }

    fn texts(name: &str) -> Vec<String> {
        host::day_of(machine(name), now(), 7).into_iter().map(|(_, text)| text).collect()
    }

    fn record(text: &str) -> RawRecord {
        RawRecord { bytes: text.to_owned().into(), client_id: None, defaults: Arc::default() }
    }

    fn time_of(document: &Value) -> DateTime<Utc> {
        match document.get("@timestamp") {
            Some(stamp) => stamp.as_str().unwrap().parse().unwrap(),
            None => DateTime::from_timestamp_micros((document["ts"].as_f64().unwrap() * 1e6) as i64).unwrap(),
        }
    }

    /// One walk through all documents: making them takes seconds without optimisation.
    #[test]
    fn the_day_is_json_not_too_long_and_hard_rules_fire_on_the_attacked_hosts_only() {
        let rules = Ruleset::load(None).unwrap();
        let (mut count, mut hosts) = (0, BTreeSet::new());
        for (protocol, text) in documents(now(), 7) {
            count += 1;
            if count % 20 == 0 || protocol == Protocol::Native {
                let document: Value = serde_json::from_str(&text).unwrap();
                let at = time_of(&document);
                assert!(now() - TimeDelta::hours(24) - TimeDelta::seconds(1) <= at && at <= now(), "{text}");
                assert_eq!(protocol == Protocol::Native, document.get("uid").is_some());
            }
            if text.contains("event_data") {
                let mut hits = Vec::new();
                for event in sources::decode(&record(&text)).unwrap() {
                    rules.hits(&event, &mut hits);
                    if hits.iter().any(|hit| hit.force == Force::Hard)
                        && let HostKey::Agent { name, .. } = event.host
                    {
                        hosts.extend(name);
                    }
                }
            }
        }
        assert!((100_000..260_000).contains(&count), "{count} documents");
        // The third attack, on lt-201, has no hard trace: it must be found by what goes together.
        assert_eq!(hosts, BTreeSet::from(["lt-203", "srv-app-01", "web-02", "ws-103"].map(|name| format!("{name}.corp.example"))));
    }

    #[test]
    fn every_document_decodes_to_a_fact_of_its_host_without_field_errors() {
        let mut tables = BTreeMap::<&str, usize>::new();
        for name in ["ws-103", "lt-201", "srv-app-01", "web-02"] {
            for (_, text) in host::day_of(machine(name), now(), 7).into_iter().enumerate().filter(|(n, d)| n % 10 == 0 || !d.1.contains("system.process")).map(|(_, d)| d) {
                for event in sources::decode(&record(&text)).unwrap_or_else(|e| panic!("{e}: {text}")) {
                    assert!(event.field_errors.is_empty(), "{:?}: {text}", event.field_errors);
                    let ours = match &event.host {
                        HostKey::Agent { name: host, .. } => host.as_deref().is_some_and(|h| h.starts_with(name)),
                        HostKey::Name(host) => host.starts_with(name),
                        HostKey::Address(ip) => ip.to_string() == machine(name).ip,
                        HostKey::None => false,
                    };
                    assert!(ours, "{:?}: {text}", event.host);
                    *tables.entry(event.fact.table()).or_default() += 1;
                }
            }
        }
        for table in ["process_start", "process_stop", "module_load", "file_write", "connection", "dns_query", "cpu_sample", "host_sample", "persistence", "script"] {
            assert!(tables.contains_key(table), "no {table} among {tables:?}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
        let day = |seed| host::day_of(machine("ws-103"), now(), seed);
        assert!(day(1) == day(1));
        assert!(day(1) != day(2));
    }

    #[test]
    fn the_hosts_that_lack_a_source_lack_it() {
        assert!(!texts("lt-203").iter().any(|t| t.contains("system.process")));
        let silent = texts("ws-107");
        assert!(silent.iter().any(|t| t.contains("ParentProcessGuid")) && !silent.iter().any(|t| t.contains("\"CommandLine\"")));
    }

    #[test]
    fn attacks_leave_their_traces_and_the_planted_miner_is_one_file_on_both_hosts() {
        let days: BTreeMap<_, _> = ["ws-103", "srv-app-01", "lt-203", "lt-201", "web-02"].map(|name| (name, texts(name))).into();
        let has = |name: &str, parts: &[&str]| days[name].iter().any(|t| parts.iter().all(|p| t.contains(p)));
        assert!(has("ws-103", &["--donate-level=1", "\"event_id\":\"1\""]));
        for name in ["srv-app-01", "lt-203"] {
            assert!(has(name, &["BootTrigger", "\"event_id\":\"4698\""]), "{name}");
            assert!(has(name, &[&host::sha256(&fleet::FALSE_SVCHOST), "-s Schedule", "\"event_id\":\"1\""]), "{name}");
        }
        assert!(has("lt-201", &["ActiveScriptEventConsumer", "\"event_id\":\"21\""]));
        assert!(has("lt-201", &["scrcons.exe", "-Enc ", "\"event_id\":\"1\""]));
        assert!(has("web-02", &["w3wp.exe", "-Enc ", "\"event_id\":\"1\""]));
        assert!(has("web-02", &["WinRing0_1_2_0", "\"event_id\":\"7045\""]));
        // Open pool connections are seen with a length.
        assert!(has("srv-app-01", &["conn_long", "198.51.100.23"]));
    }

    #[test]
    fn a_miner_is_sampled_with_the_load_it_has() {
        let (mut count, mut sum) = (0.0, 0.0);
        for text in texts("web-02").iter().filter(|t| t.contains("wmiupd.exe") && t.contains("system.process")) {
            let document: Value = serde_json::from_str(text).unwrap();
            if let Some(share) = document["system"]["process"]["cpu"]["total"]["norm"]["pct"].as_f64() {
                count += 1.0;
                sum += share;
            }
        }
        assert!(count > 80.0 && (0.75..0.9).contains(&(sum / count)), "{count} samples, mean {}", sum / count);
    }

    #[test]
    fn administration_bodies_are_those_of_the_contract() {
        for (path, body) in setup(now()) {
            match path {
                "/api/v1/indicators" => drop(serde_json::from_value::<Indicator>(body).unwrap().checked().unwrap()),
                "/api/v1/baselines" => serde_json::from_value::<Baseline>(body).unwrap().check().unwrap(),
                "/api/v1/allowlist" => serde_json::from_value::<EntryBody>(body).unwrap().check(now()).unwrap(),
                other => assert_eq!(other, "/api/v1/hosts"),
            }
        }
    }
}
