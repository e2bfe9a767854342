//! Saved views of the queue: a name for a canonical query, of one person or of the team.

use sqlx::PgConnection;

/// A saved view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Number, for `?view=17`.
    pub view_id: i64,
    /// Who made it.
    pub owner: String,
    /// Its name.
    pub name: String,
    /// Query without `?`.
    pub query: String,
    /// Everybody sees it.
    pub shared: bool,
    /// Its owner sees it instead of the usual queue.
    pub opens: bool,
}

/// Views a person sees: their own, then the team's, by name.
pub async fn of(conn: &mut PgConnection, owner: &str) -> sqlx::Result<Vec<View>> {
    sqlx::query_as!(
        View,
        "-- store::views::of
        select view_id, owner, name, query, shared, opens and owner = $1 as \"opens!\" from saved_view where owner = $1 or shared
        order by owner = $1 desc, name, view_id limit 50",
        owner
    )
    .fetch_all(conn)
    .await
}

/// Saves a view, in place of one of the same owner and name.
pub async fn save(conn: &mut PgConnection, view: &View) -> sqlx::Result<i64> {
    if view.opens {
        sqlx::query!(
            "-- store::views::save: one opens
            update saved_view set opens = false where owner = $1 and opens",
            view.owner
        )
        .execute(&mut *conn)
        .await?;
    }
    sqlx::query_scalar!(
        "-- store::views::save
        insert into saved_view (owner, name, query, shared, opens) values ($1, $2, $3, $4, $5)
        on conflict (owner, name) do update set query = excluded.query, shared = excluded.shared, opens = excluded.opens
        returning view_id",
        view.owner,
        view.name,
        view.query,
        view.shared,
        view.opens
    )
    .fetch_one(conn)
    .await
}

/// Deletes an own view. Answers whether there was one.
pub async fn delete(conn: &mut PgConnection, view_id: i64, owner: &str) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "-- store::views::delete
        delete from saved_view where view_id = $1 and owner = $2",
        view_id,
        owner
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() > 0)
}
