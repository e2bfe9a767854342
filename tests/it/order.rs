//! The same events give the same detections: in any order, in any batching, sent more than once, evaluated in between or not.

use crate::{
    harness::{TestApp, Who},
    story,
};
use axum::http::StatusCode;
use coalface::model::permission::Scope;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde_json::Value;

/// What the facts decide of all detections; ids, versions and wall-clock times may differ.
async fn content(app: &TestApp) -> Value {
    let list = app.get(Who::Program(Scope::Read), "/api/v1/detections?verdict=all").await.expect(StatusCode::OK).json();
    let mut items = list["items"].clone();
    for item in items.as_array_mut().unwrap() {
        let object = item.as_object_mut().unwrap();
        for minted in ["id", "version", "detected_at", "host"] {
            object.remove(minted);
        }
    }
    // Public ids carry the host's key, which depends on who was named first.
    let host = list["items"][0]["host"]["id"].as_str().unwrap_or_default();
    serde_json::from_str(&items.to_string().replace(&format!("\"{host}-"), "\"H-")).unwrap()
}

async fn told(events: &[Value], rng: Option<&mut StdRng>) -> Value {
    let app = TestApp::new().await;
    let Some(rng) = rng else {
        app.send(events).await;
        app.settle().await;
        return content(&app).await;
    };
    let mut events = events.to_vec();
    let repeated: Vec<Value> = events.iter().filter(|_| rng.random_bool(0.1)).cloned().collect();
    events.extend(repeated);
    events.shuffle(rng);
    let mut rest = events.as_slice();
    while !rest.is_empty() {
        let (batch, after) = rest.split_at(rng.random_range(1..=rest.len().min(80)));
        app.send(batch).await;
        if rng.random_bool(0.5) {
            app.settle().await;
        }
        rest = after;
    }
    app.settle().await;
    content(&app).await
}

#[tokio::test]
async fn shuffled_split_and_repeated_events_give_identical_detections() {
    let mut events = story::renamed_miner();
    // One rule speaks of one process twice: the first time counts, whichever was evaluated first.
    events.extend([story::replaced(9_001, 20), story::replaced(9_002, 47)]);
    let straight = told(&events, None).await;
    assert_eq!(straight.as_array().unwrap().len(), 1, "{straight:#}");
    for seed in 0..6 {
        let shuffled = told(&events, Some(&mut StdRng::seed_from_u64(seed))).await;
        assert_eq!(straight, shuffled, "seed {seed}");
    }
}

#[tokio::test]
async fn a_batch_that_holds_its_events_twice_counts_each_once() {
    let app = TestApp::new().await;
    let events = story::renamed_miner();
    let twice: Vec<Value> = events.iter().chain(&events).cloned().collect();
    let receipt = app.send(&twice).await;
    assert_eq!((receipt["accepted"].as_u64(), receipt["duplicate"].as_u64()), (Some(events.len() as u64), Some(events.len() as u64)));
}

#[tokio::test]
async fn what_eight_senders_send_at_once_is_stored_once() {
    let app = TestApp::new().await;
    let events = story::renamed_miner();
    // In groups that follow each other closely: while one is committed, the next already holds the same events.
    let sent = (0..8).flat_map(|_| events.chunks(40)).map(|batch| app.send(batch));
    let answers = futures_util::future::join_all(sent).await;
    let sum = |key: &str| answers.iter().map(|a| a[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("accepted"), sum("duplicate"), sum("quarantined")), (events.len() as u64, events.len() as u64 * 7, 0));
    app.settle().await;
    let straight = told(&events, None).await;
    assert_eq!(content(&app).await, straight);
}
