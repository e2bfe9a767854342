//! Script blocks that PowerShell logged in parts: put together and held against the rules as one text. Parts may come in any
//! order and in different requests; a block is judged when all are there.

use super::Spans;
use crate::{
    model::{
        fact::{Fact, Script},
        ids::{EventId, EventRef, HostId},
    },
    rules::{Hit, Ruleset},
    store::evidence::Found,
};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;
use std::collections::BTreeMap;

/// Parts of one block are logged at once; samplers and clocks allow for this much between them.
const APART: TimeDelta = TimeDelta::hours(1);
/// Longest block that is put together, bytes.
const LONGEST: usize = 4 << 20;

/// One part.
#[derive(Debug)]
struct Part {
    at: DateTime<Utc>,
    event: EventId,
    pid: i64,
    text: String,
}

/// What rules say of whole blocks and of none of their parts.
pub(super) async fn joined(db: &mut PgConnection, spans: &Spans, rules: &Ruleset) -> anyhow::Result<Vec<Found>> {
    let mut found = Vec::new();
    for ((host, script), parts) in blocks(db, spans).await? {
        let Some(last) = parts.iter().max_by_key(|part| (part.at, part.event)) else { continue };
        let hits = said(rules, &parts);
        if hits.is_empty() {
            continue;
        }
        let Some(owner) = owner(db, host, last.pid, last.at).await? else { continue };
        let mut events: Vec<EventRef> =
            parts.iter().map(|part| EventRef { host: HostId(host), at: part.at, id: part.event }).collect();
        events.sort_unstable();
        found.extend(hits.into_iter().map(|hit| Found {
            host: HostId(host),
            group: owner.group,
            code: hit.code,
            subject: format!("{} {:016x} {script}", hit.rule_id, owner.process),
            first_seen: owner.started_at.min(last.at),
            last_seen: owner.last_sign.max(last.at),
            known_at: last.at,
            points: hit.points,
            force: hit.force,
            process: Some(owner.process),
            summary: format!("{}: {} (script block in {} parts)", hit.code.entry().says, hit.excerpt, parts.len()),
            rule: Some(hit.rule_id),
            events: events.clone(),
        }));
    }
    Ok(found)
}

/// Hits on the whole text by rules that no part alone satisfies.
fn said(rules: &Ruleset, parts: &[Part]) -> Vec<Hit> {
    let of = |text: String| {
        let fact: Fact = Script { kind: Some("block".to_owned()), text: Some(text), ..Script::default() }.into();
        let mut hits = Vec::new();
        rules.hits_of(&fact, &mut hits);
        hits
    };
    let mut whole = of(parts.iter().map(|part| part.text.as_str()).collect());
    for part in parts {
        if whole.is_empty() {
            break;
        }
        let known = of(part.text.clone());
        whole.retain(|hit| known.iter().all(|k| k.rule_id != hit.rule_id));
    }
    whole
}

/// Blocks of which a part lies in the spans and all parts are there, by host and script; parts in their order.
async fn blocks(db: &mut PgConnection, spans: &Spans) -> sqlx::Result<BTreeMap<(i64, String), Vec<Part>>> {
    let a = spans.arrays();
    let rows = sqlx::query!(
        r#"-- worker::find::script::blocks: the parts of blocks that have one in the spans
        with touched as (
          select distinct f.host_id, f.script_id, f.parts
          from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
          join script f on f.host_id = s.host_id and f.occurred_at >= s.since and f.occurred_at < s.until
          where f.occurred_at between $4 and $5 and f.parts between 2 and 1000 and f.kind = 'block' and f.script_id is not null and f.pid is not null
        )
        select distinct on (f.host_id, f.script_id, f.part) f.host_id as "host_id!", f.script_id as "script_id!", f.parts as "parts!", f.part as "part!",
          f.occurred_at as "at!", f.event_id as "event: EventId", f.pid as "pid!", coalesce(f.text, '') as "text!"
        from touched t join script f using (host_id, script_id, parts)
        where f.occurred_at between $4::timestamptz - $6::interval and $5::timestamptz + $6::interval and f.part between 1 and f.parts
          and f.kind = 'block' and f.pid is not null
        order by f.host_id, f.script_id, f.part, f.occurred_at, f.event_id"#,
        &a.hosts,
        &a.since,
        &a.until,
        a.first,
        a.last,
        sqlx::postgres::types::PgInterval { months: 0, days: 0, microseconds: APART.num_microseconds().unwrap_or_default() }
    )
    .fetch_all(db)
    .await?;
    let mut blocks: BTreeMap<(i64, String), Vec<Part>> = BTreeMap::new();
    let mut wanted = BTreeMap::new();
    for r in rows {
        let key = (r.host_id, r.script_id);
        wanted.insert(key.clone(), usize::try_from(r.parts).unwrap_or_default());
        blocks.entry(key).or_default().push(Part { at: r.at, event: r.event, pid: r.pid, text: r.text });
    }
    blocks.retain(|key, parts| {
        wanted.get(key) == Some(&parts.len()) && parts.iter().map(|part| part.text.len()).sum::<usize>() <= LONGEST
    });
    Ok(blocks)
}

/// The process that ran a script.
struct Owner {
    process: i64,
    group: i64,
    started_at: DateTime<Utc>,
    last_sign: DateTime<Utc>,
}

async fn owner(db: &mut PgConnection, host: i64, pid: i64, at: DateTime<Utc>) -> sqlx::Result<Option<Owner>> {
    sqlx::query_as!(
        Owner,
        r#"-- worker::find::script::owner: the latest start of that pid before the script
        select process_id as process, group_key as "group", started_at, greatest(last_sign, coalesce(ended_at, last_sign)) as "last_sign!"
        from process
        where host_id = $1 and pid = $2 and started_at <= $3::timestamptz + interval '2 seconds'
          and (ended_at is null or ended_at > $3::timestamptz - interval '2 seconds')
        order by started_at desc, process_id limit 1"#,
        host,
        pid,
        at
    )
    .fetch_optional(db)
    .await
}
