//! `coalface demo`: a server with a simulated day in it, for a first look and as a check that the whole line works.
//!
//! Everything goes the way of a real installation: configuration through the API, events through the ingest port.

use super::say;
use crate::{
    app::{self, App},
    config::{Part, Settings},
    model::permission::{Role, Scope},
    store::{
        accounts::{self, Password},
        audit::{self, Actor, Deed},
        status, tokens,
    },
};
use anyhow::{Context, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use reqwest::{Client, StatusCode};
use serde::Deserialize;
use serde_json::json;
use sqlx::Connection;
use std::{sync::Arc, time::Duration};
use tracing::info;

/// The account that people look around with.
const USER: &str = "demo";
/// Seed of the simulated day: the same every time, so that what people talk about is the same.
const SEED: u64 = 7;

pub(super) async fn run(settings: Settings, once: bool) -> anyhow::Result<()> {
    app::serve(settings, &[Part::Web, Part::Ingest, Part::Worker], async |app| {
        show(app).await?;
        if once {
            app.stop.cancel();
        }
        Ok(())
    })
    .await
}

async fn show(app: &Arc<App>) -> anyhow::Result<()> {
    let now = app.clock.now();
    let password = account(app, now).await?;
    let run = format!("{:08x}", rand::random::<u32>());
    let (forwarder, admin) = (format!("demo-forwarder-{run}"), format!("demo-setup-{run}"));
    let ingest_token = token(app, &forwarder, Scope::Ingest, now).await?;
    let admin_token = token(app, &admin, Scope::Admin, now).await?;

    let pages = format!("http://{}", app.settings.listen);
    let client = Client::builder().timeout(Duration::from_mins(1)).no_proxy().build()?;
    configure(&client, &pages, &admin_token, now).await.context("configuring the demo's fleet")?;
    let posted = crate::demo::post(&format!("http://{}", app.settings.ingest_listen), &ingest_token, now, SEED).await?;
    info!("waiting until {} events have been evaluated", posted.total());
    evaluated(app).await?;
    let found = detections(&client, &pages, &admin_token).await?;
    for name in [&forwarder, &admin] {
        let mut db = app.db.web.acquire().await?;
        tokens::revoke(&mut db, name, app.clock.now()).await?;
    }

    say(format_args!("\n{} events, {} detections:\n", posted.total(), found.len()))?;
    for item in &found {
        say(format_args!("  {:9} {:13} {:12} {}", item.severity, item.verdict, item.host.name, item.title))?;
    }
    say(format_args!("\n  {pages}\n  user      {USER}\n  password  {password}\n"))?;
    ensure!(
        !found.is_empty(),
        "nothing was found in a day with four attacks: the line from events to detections is broken"
    );
    Ok(())
}

/// Makes the demo's account, or gives it a new password; it works at once.
async fn account(app: &App, now: DateTime<Utc>) -> anyhow::Result<String> {
    let text =
        format!("demo-{}", (0..4).map(|_| format!("{:04x}", rand::random::<u16>())).collect::<Vec<_>>().join("-"));
    let password = Password { hash: accounts::hash(text.clone()).await?, one_time: false };
    let mut db = app.db.web.acquire().await?;
    let mut change = db.begin().await?;
    let made = accounts::create(&mut change, USER, Role::Admin, &password, "console", now).await?;
    let action = if made.is_some() { "account.create" } else { "account.password" };
    if made.is_none() {
        accounts::set_password(&mut change, USER, &password, now).await?;
    }
    let deed = Deed { action, object: USER, before: None, after: Some(json!({"role": Role::Admin.as_str()})) };
    audit::append(&mut change, &Actor::new("console", app.audit_key.clone()), deed, now).await?;
    change.commit().await?;
    Ok(text)
}

async fn token(app: &App, name: &str, scope: Scope, now: DateTime<Utc>) -> anyhow::Result<String> {
    let mut db = app.db.web.acquire().await?;
    let mut change = db.begin().await?;
    let new = tokens::New {
        name,
        scopes: &[scope],
        owner: &format!("console:{name}"),
        host: None,
        expires_at: now + TimeDelta::hours(12),
    };
    let text = tokens::create(&mut change, &new, now).await?.context("the name of a demo token is taken")?;
    let after = json!({"scopes": [scope.as_str()]});
    audit::append(
        &mut change,
        &Actor::new("console", app.audit_key.clone()),
        Deed { action: "token.create", object: name, before: None, after: Some(after) },
        now,
    )
    .await?;
    change.commit().await?;
    Ok(text)
}

async fn configure(client: &Client, pages: &str, token: &str, now: DateTime<Utc>) -> anyhow::Result<()> {
    for (path, body) in crate::demo::setup(now) {
        let reply = client.post(format!("{pages}{path}")).bearer_auth(token).json(&body).send().await?;
        let status = reply.status();
        // 409: there already, from an earlier demo on the same database
        ensure!(
            status.is_success() || status == StatusCode::CONFLICT,
            "{path} answered {status}: {}",
            reply.text().await.unwrap_or_default()
        );
    }
    Ok(())
}

async fn evaluated(app: &App) -> anyhow::Result<()> {
    while !app.stop.is_cancelled() {
        let pending = status::read(&mut *app.db.web.acquire().await?, app.clock.now()).await?.worker.pending;
        if pending == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// The parts of the contract's detection that fit on a line.
#[derive(Debug, Deserialize)]
struct Found {
    severity: String,
    verdict: String,
    title: String,
    host: Host,
}

#[derive(Debug, Deserialize)]
struct Host {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Items {
    items: Vec<Found>,
}

async fn detections(client: &Client, pages: &str, token: &str) -> anyhow::Result<Vec<Found>> {
    let reply = client
        .get(format!("{pages}/api/v1/detections?limit=100"))
        .bearer_auth(token)
        .send()
        .await?
        .error_for_status()?;
    Ok(reply.json::<Items>().await.context("reading the detections")?.items)
}
