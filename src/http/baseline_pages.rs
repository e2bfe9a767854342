//! `/baselines`: the load that people expect. JSON is in `baselines`; both call the same functions of the store.

use crate::{
    app::App,
    http::{
        auth::{Allowed, Form, Read, Tune},
        error::{Error, FieldError, Result},
        filters,
        page::{self, Chrome, Section},
        paths,
    },
    model::exceptions::Baseline,
    store::baselines::{self as store, Stored},
};
use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

crate::http::route_table! {
    get  "/baselines"             Read => list;
    post "/baselines"             Tune => create;
    post "/baselines/{id}/remove" Tune => remove;
}

#[derive(Template)]
#[template(path = "baselines.html")]
struct BaselinesPage {
    chrome: Chrome,
    rows: Vec<Stored>,
    form: BaselineForm,
    fault: Option<FieldError>,
}

/// A new baseline as typed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BaselineForm {
    image: String,
    host_class: String,
    cpu_share: String,
    note: String,
}

impl BaselineForm {
    fn body(&self) -> std::result::Result<Baseline, FieldError> {
        let share = self.cpu_share.trim().trim_end_matches('%').trim().parse::<f64>();
        let share = share.map_err(|_| FieldError::new("cpu_share", "percent of the host, 0 to 100"))?;
        let body = json!({
            "image": self.image.trim(), "host_class": self.host_class.trim(),
            "cpu_share": share, "note": Some(self.note.trim()).filter(|n| !n.is_empty()),
        });
        let body: Baseline = serde_json::from_value(body).map_err(|e| FieldError::new("form", e.to_string()))?;
        body.check().map_err(|e| FieldError::new(e.field, e.reason))?;
        Ok(body)
    }
}

async fn answer(app: &App, who: &crate::http::auth::Who, form: BaselineForm, fault: Option<FieldError>) -> Result<Response> {
    let mut conn = app.db.web.acquire().await?;
    let status = if fault.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let chrome = Chrome::load(&mut conn, who, Section::Tuning, app.clock.now()).await?;
    page::render(status, &BaselinesPage { chrome, rows: store::list(&mut conn).await?, form, fault })
}

/// `GET /baselines`
pub(crate) async fn list(who: Allowed<Read>, State(app): State<Arc<App>>) -> Result<Response> {
    answer(&app, &who, BaselineForm::default(), None).await
}

/// `POST /baselines`
pub(crate) async fn create(who: Allowed<Tune>, State(app): State<Arc<App>>, Form(form): Form<BaselineForm>) -> Result<Response> {
    let body = match form.body() {
        Ok(body) => body,
        Err(fault) => return answer(&app, &who, form, Some(fault)).await,
    };
    let mut tx = app.db.web.begin().await?;
    if store::create(&mut tx, body, &who.actor, app.clock.now()).await?.is_err() {
        drop(tx);
        return answer(&app, &who, form, Some(FieldError::new("image", "there is a baseline for this image and class already"))).await;
    }
    tx.commit().await?;
    app.marked.notify_one();
    Ok(page::go(&paths::Baselines, "The baseline is in force. What it touches is being evaluated again."))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

/// `POST /baselines/{id}/remove`
pub(crate) async fn remove(at: paths::Numbered, who: Allowed<Tune>, State(app): State<Arc<App>>, Form(Nothing {}): Form<Nothing>) -> Result<Response> {
    let mut tx = app.db.web.begin().await?;
    let before = store::find(&mut tx, at.id.0).await?.ok_or(Error::NotFound)?;
    store::remove(&mut tx, &before, &who.actor, app.clock.now()).await?;
    tx.commit().await?;
    app.marked.notify_one();
    Ok(page::go(&paths::Baselines, "The baseline is gone. What it lowered is being evaluated again."))
}
