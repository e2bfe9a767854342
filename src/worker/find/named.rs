//! What settings of names say of programs, where they differ from the shipped rules: `ExecutableNamePatterns` and `Image`.

use super::super::{spans::Spans, tuning::Tuning};
use crate::{
    model::{
        code::Code,
        group::{base_name, comparable_path},
        ids::{EventId, EventRef, HostId},
        names,
        tunables::Tunables,
    },
    store::evidence::Found,
};
use sqlx::PgConnection;

/// Rules whose say ends where `ExecutableNamePatterns` differs from what they know.
const MINER_RULES: &[&str] = &["coalface-native-miner-name", "coalface-native-renamed-miner"];

/// Whether a rule's hit still counts on a host with these settings.
pub(super) fn stands(tunables: &Tunables, rule: &str, code: Code, image: Option<&str>) -> bool {
    !(tunables.miners.is_some() && MINER_RULES.contains(&rule)
        || code == Code::MSysPath && image.is_some_and(|i| tunables.placed(i) == Some(true)))
}

/// Programs started in the spans that settings call miners, or misplaced.
pub(super) async fn find(db: &mut PgConnection, spans: &Spans, tuning: &Tuning) -> sqlx::Result<Vec<Found>> {
    let mut found = Vec::new();
    for (tunables, spans) in tuning.groups(spans).into_iter().filter(|(t, _)| t.judges_names()) {
        let a = spans.arrays();
        let rows = sqlx::query!(
            r#"-- worker::find::named: which programs started?
            select p.host_id, p.process_id, p.group_key, p.started_at, greatest(p.last_sign, coalesce(p.ended_at, p.last_sign)) as "last!",
              p.image as "image!", p.original_file_name, p.product, p.description, p.event_at, p.event_id as "event_id: EventId"
            from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
            join process p on p.host_id = s.host_id and p.started_at >= s.since and p.started_at < s.until
            where p.image is not null order by p.host_id, p.started_at, p.process_id"#,
            &a.hosts,
            &a.since,
            &a.until
        )
        .fetch_all(&mut *db)
        .await?;
        for r in rows {
            let mut push = |code: Code, setting: &str, summary: String| {
                let host = HostId(r.host_id);
                found.push(Found {
                    host,
                    group: r.group_key,
                    code,
                    subject: format!("{setting} {:016x}", r.process_id),
                    first_seen: r.started_at,
                    last_seen: r.last.max(r.started_at),
                    known_at: r.started_at,
                    points: code.entry().points,
                    force: code.entry().force,
                    process: Some(r.process_id),
                    summary: format!("{}: {summary} ({setting})", code.entry().says),
                    rule: None,
                    events: r.event_at.zip(r.event_id).map(|(at, id)| EventRef { host, at, id }).into_iter().collect(),
                });
            };
            if let Some(miners) = &tunables.miners {
                let by_file = miners.matches(&r.image);
                let data = [&r.original_file_name, &r.product, &r.description].into_iter().flatten().find(|d| miners.matches(d));
                if by_file || data.is_some() {
                    push(Code::CMinerName, "ExecutableNamePatterns", data.filter(|_| !by_file).unwrap_or(&r.image).clone());
                }
                if let Some(data) = data.filter(|_| !by_file) {
                    push(Code::MOfnMiner, "ExecutableNamePatterns", format!("{}: {data}", base_name(&r.image)));
                }
            }
            let shipped = names::SYSTEM_NAMES.contains(&base_name(&comparable_path(&r.image)));
            if !shipped && r.image.contains('\\') && tunables.placed(&r.image) == Some(false) {
                push(Code::MSysPath, "Image", r.image.clone());
            }
        }
    }
    Ok(found)
}
