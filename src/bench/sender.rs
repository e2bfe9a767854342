//! Sends the load over keep-alive connections, as fast as it is taken or at a given rate.

use super::{Route, load::Load};
use anyhow::{Context as _, bail};
use reqwest::{Client, StatusCode};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::sleep};

/// Connections of the benchmark. Source: performance design, P1.
const CONNECTIONS: u64 = 16;
/// Events of one request. Source: performance design, P1.
pub(super) const REQUEST: u64 = 500;
/// After a 503; the server asks for a second, which would measure the pause and not the server.
const PAUSE: Duration = Duration::from_millis(50);

/// Where the load goes and what was sent of it so far.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    pub(super) client: Client,
    pub(super) ingest: String,
    pub(super) token: String,
    pub(super) load: Arc<Load>,
    /// Number of the next event.
    pub(super) next: Arc<AtomicU64>,
}

/// What came back.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Acknowledged events.
    pub(super) events: u64,
    /// From the first request to the last acknowledgement.
    pub(super) seconds: f64,
    /// Times from the moment a request was due to its acknowledgement.
    pub(super) latencies: Vec<Duration>,
    /// Requests answered with 503 and sent again.
    pub(super) refused: u64,
}

impl Sent {
    /// Acknowledged events per second.
    pub(super) fn rate(&self) -> f64 {
        self.events as f64 / self.seconds
    }

    /// The latency below which this part (0 to 1) of the requests lies, in milliseconds.
    pub(super) fn percentile(&self, part: f64) -> f64 {
        percentile(&self.latencies, part)
    }
}

/// The value below which this part (0 to 1) lies, in milliseconds; 0 of nothing.
pub(super) fn percentile(times: &[Duration], part: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    #[expect(clippy::cast_sign_loss, reason = "part and length are not negative")]
    let at = ((sorted.len() as f64 * part).ceil() as usize).saturating_sub(1);
    sorted.get(at).map_or(0.0, |time| time.as_secs_f64() * 1_000.0)
}

impl Sender {
    /// Sends for so long; with a rate in events per second each request has its moment, and waiting for a free connection counts as
    /// latency.
    ///
    /// # Errors
    /// The server answers with anything but 200 and 503, or does not store an event.
    pub(super) async fn send(&self, route: Route, duration: Duration, rate: Option<f64>) -> anyhow::Result<Sent> {
        let begin = Instant::now();
        let gap = rate.map(|rate| Duration::from_secs_f64(CONNECTIONS as f64 * REQUEST as f64 / rate));
        let mut connections = JoinSet::new();
        for number in 0..CONNECTIONS {
            let sender = self.clone();
            let first = begin + gap.map_or(Duration::ZERO, |gap| gap.mul_f64(number as f64 / CONNECTIONS as f64));
            connections.spawn(async move { sender.connection(route, first, begin + duration, gap).await });
        }
        let mut all = Sent::default();
        while let Some(sent) = connections.join_next().await {
            let sent = sent.context("a sending task")??;
            all.events += sent.events;
            all.refused += sent.refused;
            all.latencies.extend(sent.latencies);
        }
        all.seconds = begin.elapsed().as_secs_f64();
        Ok(all)
    }

    async fn connection(&self, route: Route, first: Instant, end: Instant, gap: Option<Duration>) -> anyhow::Result<Sent> {
        let mut sent = Sent::default();
        let mut due = first;
        loop {
            match gap {
                Some(_) => sleep(due.saturating_duration_since(Instant::now())).await,
                None => due = Instant::now(),
            }
            if due >= end {
                return Ok(sent);
            }
            let from = self.next.fetch_add(REQUEST, Ordering::Relaxed);
            let body = bytes::Bytes::from(self.load.body(from..from + REQUEST, route));
            while !self.request(route, body.clone()).await? {
                sent.refused += 1;
                sleep(PAUSE).await;
            }
            sent.latencies.push(due.elapsed());
            sent.events += REQUEST;
            due += gap.unwrap_or_default();
        }
    }

    /// Whether it was stored; `false` = busy.
    async fn request(&self, route: Route, body: bytes::Bytes) -> anyhow::Result<bool> {
        let url = format!("{}{}", self.ingest, route.path());
        let request = self.client.post(&url).bearer_auth(&self.token).header("content-type", route.content_type()).body(body);
        let reply = request.send().await.with_context(|| format!("posting to {url}"))?;
        let status = reply.status();
        let text = reply.text().await.context("reading an acknowledgement")?;
        match status {
            StatusCode::OK if route.is_success(&text) => Ok(true),
            StatusCode::SERVICE_UNAVAILABLE => Ok(false),
            _ => bail!("{url} answered {status}: {}", text.chars().take(500).collect::<String>()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_sorted_list() {
        let times: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        assert!((percentile(&times, 0.5) - 50.0).abs() < 1e-9);
        assert!((percentile(&times, 0.99) - 99.0).abs() < 1e-9);
        assert!((percentile(&[], 0.5)).abs() < 1e-9);
    }
}
