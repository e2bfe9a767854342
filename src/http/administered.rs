//! What the small lists that people keep share: one API of five routes, described once. Windows, baselines and indicators are these.

/// The routes of a list whose store has `find`, `create`, `edit` and `remove` and whose body has `checked`; `list` is the module's own.
macro_rules! administered {
    ($path:literal, $one:literal, $body:ty) => {
        crate::http::route_table! {
            get    $path Read => list;
            post   $path Tune => create;
            get    $one  Read => show;
            patch  $one  Tune => edit;
            delete $one  Tune => remove;
        }

        async fn find(conn: &mut ::sqlx::PgConnection, at: &crate::http::paths::Numbered) -> Result<Stored> {
            store::find(conn, at.id.0).await?.ok_or(crate::http::Error::NotFound)
        }

        /// `GET` of one.
        pub(crate) async fn show(_: Allowed<Read>, at: crate::http::paths::Numbered, State(app): State<Arc<App>>) -> Result<Json<Stored>> {
            let mut conn = app.db.web.acquire().await?;
            Ok(Json(find(&mut conn, &at).await?))
        }

        /// `POST`: in force at once, for the event times it names; 409 if it is there already.
        pub(crate) async fn create(who: Allowed<Tune>, State(app): State<Arc<App>>, Body(body): Body<$body>) -> Result<::axum::response::Response> {
            let body = body.checked()?;
            let mut tx = app.db.web.begin().await?;
            let made = store::create(&mut tx, body, &who.actor, app.clock.now()).await?.map_err(crate::http::api::exists)?;
            crate::http::api::commit(&app, tx).await?;
            Ok(crate::http::api::created(&format!("{}/{}", $path, made.id), &made))
        }

        /// `PATCH`: replaces the fields that are given.
        pub(crate) async fn edit(
            who: Allowed<Tune>,
            at: crate::http::paths::Numbered,
            State(app): State<Arc<App>>,
            Body(patch): Body<::serde_json::Map<String, ::serde_json::Value>>,
        ) -> Result<Json<Stored>> {
            let mut tx = app.db.web.begin().await?;
            let before = find(&mut tx, &at).await?;
            let body: $body = crate::model::exceptions::amended(&before.body, patch).map_err(|e| crate::http::Error::Malformed(e.to_string()))?;
            let after = store::edit(&mut tx, &before, body.checked()?, &who.actor, app.clock.now()).await?.map_err(crate::http::api::exists)?;
            crate::http::api::commit(&app, tx).await?;
            Ok(Json(after))
        }

        /// `DELETE`: out of force for all event times.
        pub(crate) async fn remove(who: Allowed<Tune>, at: crate::http::paths::Numbered, State(app): State<Arc<App>>) -> Result<::axum::http::StatusCode> {
            let mut tx = app.db.web.begin().await?;
            let before = find(&mut tx, &at).await?;
            store::remove(&mut tx, &before, &who.actor, app.clock.now()).await?;
            crate::http::api::commit(&app, tx).await?;
            Ok(::axum::http::StatusCode::NO_CONTENT)
        }
    };
}
pub(crate) use administered;
