//! What is known of the images of a case's processes: by hash, or by the module that a start without hash loads first.

use crate::analytics::case::Instance;
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use std::collections::{BTreeSet, HashMap};

/// Adds what is known of the images by their hash.
pub(super) async fn describe_images(db: &mut PgConnection, host: i64, kin: &mut [Instance]) -> sqlx::Result<()> {
    own_modules(db, host, kin).await?;
    let hashes: Vec<String> = kin.iter().filter_map(|i| i.sha256.clone()).collect::<BTreeSet<_>>().into_iter().collect();
    let rows = sqlx::query!(
        "-- worker::images::describe_images
        select sha256, signer, signature, original_file_name, product, company from image where sha256 = any($1)",
        &hashes
    )
    .fetch_all(db)
    .await?;
    let known: HashMap<String, _> = rows.into_iter().map(|r| (r.sha256.clone(), r)).collect();
    for i in kin.iter_mut() {
        if let Some(k) = i.sha256.as_ref().and_then(|h| known.get(h)) {
            i.signer = i.signer.take().or_else(|| k.signer.clone());
            i.signature = i.signature.take().or_else(|| k.signature.clone());
            i.original_file_name = i.original_file_name.take().or_else(|| k.original_file_name.clone());
            i.product = i.product.take().or_else(|| k.product.clone());
            i.company = i.company.take().or_else(|| k.company.clone());
        }
    }
    Ok(())
}

/// A start that was reported without a hash: the program's own image is the first module that it loads.
async fn own_modules(db: &mut PgConnection, host: i64, kin: &mut [Instance]) -> sqlx::Result<()> {
    let bare: Vec<&Instance> = kin.iter().filter(|i| i.sha256.is_none() && i.start_observed && i.pid.is_some() && i.image.is_some()).collect();
    if bare.is_empty() {
        return Ok(());
    }
    let (ids, (pids, starts)): (Vec<i64>, (Vec<i64>, Vec<DateTime<Utc>>)) =
        bare.iter().map(|i| (i.id, (i.pid.unwrap_or_default(), i.started_at))).unzip();
    let rows = sqlx::query!(
        r#"-- worker::images::own_modules
        select distinct on (k.id) k.id as "id!", m.sha256, m.signer, m.signature, m.original_file_name, m.product, m.company
        from unnest($2::bigint[], $3::bigint[], $4::timestamptz[]) as k (id, pid, started_at)
        join module_load m on m.host_id = $1 and m.occurred_at >= k.started_at - interval '2 seconds' and m.occurred_at < k.started_at + interval '30 seconds'
          and m.pid = k.pid and lower(m.path) = lower(m.image)
        order by k.id, m.occurred_at, m.event_id"#,
        host,
        &ids,
        &pids,
        &starts
    )
    .fetch_all(db)
    .await?;
    let known: HashMap<i64, _> = rows.into_iter().map(|r| (r.id, r)).collect();
    for i in kin {
        if let Some(k) = known.get(&i.id) {
            i.sha256 = k.sha256.clone();
            i.signer = i.signer.take().or_else(|| k.signer.clone());
            i.signature = i.signature.take().or_else(|| k.signature.clone());
            i.original_file_name = i.original_file_name.take().or_else(|| k.original_file_name.clone());
            i.product = i.product.take().or_else(|| k.product.clone());
            i.company = i.company.take().or_else(|| k.company.clone());
        }
    }
    Ok(())
}
