//! What people said in advance that comes near a detection: baselines, entries, windows. Shown, not judged; judging is in
//! `analytics::exceptions`.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

/// An approved baseline of the image.
#[derive(Debug, Clone)]
pub struct Baseline {
    /// What it is for.
    pub image: String,
    /// Which hosts.
    pub host_class: String,
    /// Percent of the host that is expected.
    pub cpu_share: f32,
}

/// An entry with an attribute in common.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its number: `AL-17`.
    pub entry_id: i64,
    /// Name or reason.
    pub title: String,
    /// `proposed`, `active`, `revoked`.
    pub state: String,
    /// Event time until which it counts.
    pub expires_at: DateTime<Utc>,
    /// Attributes it shares with the detection.
    pub shared: Vec<String>,
    /// Attributes it has.
    pub attributes: i64,
}

/// A window that overlaps in time.
#[derive(Debug, Clone)]
pub struct Window {
    /// Its name.
    pub name: String,
    /// First occurrence.
    pub starts_at: DateTime<Utc>,
    /// End of the first occurrence.
    pub ends_at: DateTime<Utc>,
    /// RFC 5545, if it repeats.
    pub recurrence: Option<String>,
}

/// What is looked for.
#[derive(Debug, Clone, Default)]
pub struct Subject {
    /// Path of the image.
    pub image: Option<String>,
    /// Class of the host.
    pub host_class: Option<String>,
    /// Lower-case hex.
    pub sha256: Option<String>,
    /// Signer.
    pub signer: Option<String>,
    /// `DOMAIN\name`.
    pub user: Option<String>,
    /// Names and addresses.
    pub destinations: Vec<String>,
}

/// Baselines for the image, by path or base name, of any host class.
pub async fn baselines(conn: &mut PgConnection, subject: &Subject) -> sqlx::Result<Vec<Baseline>> {
    let Some(image) = subject.image.as_ref().map(|i| i.to_lowercase()) else { return Ok(Vec::new()) };
    sqlx::query_as!(
        Baseline,
        "select image, host_class, cpu_share from baseline where lower(image) in ($1, $2)
         order by host_class is not distinct from $3 desc, image, host_class limit 5",
        image,
        crate::model::group::base_name(&image),
        subject.host_class
    )
    .fetch_all(conn)
    .await
}

/// Entries in force or proposed that share hash, signer, user or destination, or whose image has the same name.
pub async fn entries(conn: &mut PgConnection, subject: &Subject) -> sqlx::Result<Vec<Entry>> {
    let name = subject.image.as_deref().map(|i| crate::model::group::base_name(i).to_lowercase());
    sqlx::query_as!(
        Entry,
        r#"with near as (
             select entry_id, coalesce(body->>'name', body->>'reason', '') as title, state, expires_at, body->'match' as wanted,
               array_remove(array[
                 case when lower(body->'match'->>'sha256') = $1 then 'sha256' end,
                 case when lower(body->'match'->>'signer') = lower($2) then 'signer' end,
                 case when lower(body->'match'->>'user') = lower($3) then 'user' end,
                 case when body->'match'->>'destination' = any($4) then 'destination' end,
                 case when lower(regexp_replace(body->'match'->>'image', '^.*[\\/*]', '')) = $5 then 'image' end], null) as shared
             from allowlist_entry where state <> 'revoked'
           )
           select entry_id, title as "title!", state, expires_at, shared as "shared!",
             (select count(*) from jsonb_object_keys(wanted)) as "attributes!"
           from near where cardinality(shared) > 0 order by cardinality(shared) desc, entry_id desc limit 5"#,
        subject.sha256,
        subject.signer,
        subject.user,
        &subject.destinations,
        name
    )
    .fetch_all(conn)
    .await
}

/// Windows with an occurrence that overlaps a span.
pub async fn windows(conn: &mut PgConnection, since: DateTime<Utc>, until: DateTime<Utc>) -> sqlx::Result<Vec<Window>> {
    sqlx::query_as!(
        Window,
        r#"select body->>'name' as "name!", starts_at, ends_at, body->>'recurrence' as recurrence from maintenance_window
           where exists (select from unnest(starts) as s where s < $2 and s + (ends_at - starts_at) > $1) order by starts_at desc limit 5"#,
        since,
        until
    )
    .fetch_all(conn)
    .await
}
