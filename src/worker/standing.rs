//! What is stored of a host's cases already, as far as it raises their severity: outbreaks and recurrence. Read once for each host.

use crate::{
    analytics::case::Standing,
    store::record::{EPISODE_GAP, RECURS_AFTER},
};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;

/// A stored detection of the host.
#[derive(Debug)]
struct Known {
    id: i64,
    groups: Vec<i64>,
    first_seen: DateTime<Utc>,
    last_seen: DateTime<Utc>,
    open: bool,
    recurrence: bool,
    /// Event time that a true positive had reached when it was closed.
    ended: Option<DateTime<Utc>>,
    outbreak: Option<String>,
}

/// The stored detections of one host.
#[derive(Debug, Default)]
pub(super) struct Stored(Vec<Known>);

impl Stored {
    pub(super) async fn read(db: &mut PgConnection, host: i64) -> sqlx::Result<Self> {
        let rows = sqlx::query!(
            r#"-- worker::standing::read
            select d.detection_id, d.groups, d.first_seen, d.last_seen, d.status <> 'closed' as "open!", d.recurrence_of is not null as "recurrence!",
              case when d.status = 'closed' and d.disposition = 'true_positive' then d.closed_reach end as ended, f.thing as "outbreak?"
            from detection d
            left join lateral (
              select kind || ' ' || value as thing from fingerprint f
              where f.host_id = d.host_id and f.detection_id = d.detection_id and f.spread order by kind, value limit 1
            ) f on true
            where d.host_id = $1"#,
            host
        )
        .fetch_all(db)
        .await?;
        let known = rows.into_iter().map(|r| Known {
            id: r.detection_id,
            groups: r.groups,
            first_seen: r.first_seen,
            last_seen: r.last_seen,
            open: r.open,
            recurrence: r.recurrence,
            ended: r.ended,
            outbreak: r.outbreak,
        });
        Ok(Self(known.collect()))
    }

    /// Of the case that the recorder will find to be the same: see `store::record`.
    pub(super) fn of(&self, groups: &[i64], since: DateTime<Utc>, until: DateTime<Utc>) -> Standing {
        let mine = |k: &&Known| {
            k.groups.iter().any(|g| groups.contains(g)) && k.first_seen <= until + EPISODE_GAP && since <= k.last_seen + EPISODE_GAP
        };
        let Some(k) = self.0.iter().filter(mine).max_by_key(|k| (k.open, k.last_seen, k.id)) else { return Standing::default() };
        Standing {
            outbreak: k.outbreak.clone(),
            recurrence: k.recurrence || k.ended.is_some_and(|reach| until > reach + RECURS_AFTER),
        }
    }
}
