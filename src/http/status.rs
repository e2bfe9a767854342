//! Probes: words only, no detail, for anybody.

use crate::app::App;
use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use std::{sync::Arc, time::Duration};

/// `GET /healthz`: the process answers.
pub(crate) async fn health() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: the database answers and its schema is there.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response {
    let asked = tokio::time::timeout(Duration::from_secs(2), async {
        let mut conn = app.db.web.acquire().await?;
        crate::store::accounts::any(&mut conn).await
    });
    match asked.await {
        Ok(Ok(_)) => "ready\n".into_response(),
        Ok(Err(_)) | Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the database is not ready\n").into_response(),
    }
}
