//! `/admin/users`: accounts, their roles and their end. A new password is good for one sign-in, to set another.

use super::{NAME_RULE, is_name};
use crate::{
    app::App,
    http::{
        auth::{Administer, Allowed, Form},
        error::{Error, FieldError, Result},
        filters,
        page::{self, Chrome, Section},
        paths, reauth,
    },
    model::permission::Role,
    store::{
        accounts::{self, Account, Password},
        audit::{self, Deed},
        sessions,
    },
};
use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::json;
use std::{collections::HashMap, sync::Arc};

crate::http::route_table! {
    get  "/admin/users"        Administer => list;
    post "/admin/users"        Administer => create;
    post "/admin/users/{name}" Administer => change;
}

/// Roles with what they may do.
const ROLES: [(&str, &str); 5] = [
    ("viewer", "reads"),
    ("analyst", "decides detections, proposes narrow entries"),
    ("lead", "also tunes and approves"),
    ("admin", "also accounts, tokens, sources"),
    ("auditor", "reads everything, the audit log too; changes nothing"),
];

#[derive(Template)]
#[template(path = "admin/users.html")]
struct UsersPage {
    chrome: Chrome,
    accounts: Vec<(Account, i64)>,
    form: NewUser,
    fault: Option<FieldError>,
    /// Name and one-time password.
    made: Option<(String, String)>,
    ask_password: bool,
}

impl UsersPage {
    fn is_me(&self, account: &Account) -> bool {
        self.chrome.user.as_deref() == Some(account.name.as_str())
    }
}

/// A new account as typed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewUser {
    name: Option<String>,
    role: Option<String>,
    password: Option<String>,
}

impl NewUser {
    fn is(&self, role: &str) -> bool {
        self.role.as_deref().unwrap_or("analyst") == role
    }
}

/// `GET /admin/users`
pub(crate) async fn list(who: Allowed<Administer>, State(app): State<Arc<App>>) -> Result<Response> {
    answer(&app, &who, NewUser::default(), None, None).await
}

async fn answer(app: &App, who: &Allowed<Administer>, mut form: NewUser, fault: Option<FieldError>, made: Option<(String, String)>) -> Result<Response> {
    let now = app.clock.now();
    form.password = None;
    let mut conn = app.db.web.acquire().await?;
    let sessions: HashMap<i64, i64> = sessions::counts(&mut conn, now).await?.into_iter().collect();
    let accounts = accounts::list(&mut conn).await?.into_iter().map(|a| {
        let n = sessions.get(&a.account_id).copied().unwrap_or(0);
        (a, n)
    });
    let page = UsersPage {
        accounts: accounts.collect(),
        chrome: Chrome::load(&mut conn, who, Section::Admin, now).await?,
        ask_password: reauth::is_due(who, now),
        form,
        fault,
        made,
    };
    let status = match (&page.fault, &page.made) {
        (Some(_), _) => StatusCode::UNPROCESSABLE_ENTITY,
        (_, Some(_)) => StatusCode::CREATED,
        _ => StatusCode::OK,
    };
    page::render(status, &page)
}

/// 128 random bits: text for one sign-in, and how it is stored.
async fn one_time() -> Result<(String, Password)> {
    let text = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>());
    let hash = accounts::hash(text.clone()).await?;
    Ok((text, Password { hash, one_time: true }))
}

/// `POST /admin/users`
pub(crate) async fn create(who: Allowed<Administer>, State(app): State<Arc<App>>, Form(form): Form<NewUser>) -> Result<Response> {
    let now = app.clock.now();
    let name = form.name.as_deref().unwrap_or_default().trim().to_lowercase();
    let role = form.role.as_deref().unwrap_or_default().parse::<Role>();
    let fault = match &role {
        _ if !is_name(&name) => Some(FieldError::new("name", NAME_RULE)),
        Err(unknown) => Some(FieldError::new("role", unknown.to_string())),
        Ok(_) => None,
    };
    let (None, Ok(role)) = (&fault, role) else { return answer(&app, &who, form, fault, None).await };
    match reauth::demand(&app, &who, form.password.clone()).await {
        Err(Error::Invalid(mut faults)) => return answer(&app, &who, form, faults.pop(), None).await,
        other => other?,
    }
    let (text, password) = one_time().await?;
    let mut tx = app.db.web.begin().await?;
    if accounts::create(&mut tx, &name, role, &password, who.name(), now).await?.is_none() {
        drop(tx);
        return answer(&app, &who, form, Some(FieldError::new("name", "an account of this name exists already")), None).await;
    }
    let after = json!({"role": role.as_str()});
    audit::append(&mut tx, &who.actor, Deed { action: "account.create", object: &name, before: None, after: Some(after) }, now).await?;
    tx.commit().await?;
    answer(&app, &who, NewUser::default(), None, Some((name, text))).await
}

/// What to do with an account.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Act {
    Disable,
    Enable,
    Role,
    Password,
    Sessions,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    act: Act,
    role: Option<String>,
    password: Option<String>,
}

/// `POST /admin/users/{name}`: nobody locks themselves out, and one administrator always stays.
pub(crate) async fn change(at: paths::UserDeed, who: Allowed<Administer>, State(app): State<Arc<App>>, Form(form): Form<Change>) -> Result<Response> {
    reauth::demand(&app, &who, form.password).await?;
    let now = app.clock.now();
    let refused = |field: &str, reason: &str| Err(Error::Invalid(vec![FieldError::new(field, reason)]));
    let secret = if matches!(form.act, Act::Password) { Some(one_time().await?) } else { None };
    let mut tx = app.db.web.begin().await?;
    let before = accounts::find(&mut tx, &at.name).await?.ok_or(Error::NotFound)?;
    let name = before.name.clone();
    if name == who.name() && !matches!(form.act, Act::Sessions) {
        return refused("name", "this is your own account: another administrator has to do that");
    }
    let (action, was, is, message) = match form.act {
        Act::Disable => {
            accounts::disable(&mut tx, &name, now).await?;
            ("account.disable", None, None, format!("`{name}` is disabled, its sessions and tokens have ended."))
        }
        Act::Enable => {
            accounts::enable(&mut tx, &name).await?;
            ("account.enable", None, None, format!("`{name}` may sign in again."))
        }
        Act::Role => {
            let role: Role = match form.role.as_deref().unwrap_or_default().parse() {
                Ok(role) => role,
                Err(unknown) => return Err(Error::Invalid(vec![FieldError::new("role", format!("{unknown}"))])),
            };
            accounts::set_role(&mut tx, &name, role).await?;
            let text = format!("`{name}` is {} now and has to sign in again.", role.as_str());
            ("account.role", Some(json!({"role": before.role.as_str()})), Some(json!({"role": role.as_str()})), text)
        }
        Act::Password => {
            if let Some((_, password)) = &secret {
                accounts::set_password(&mut tx, &name, password, now).await?;
            }
            ("account.password", None, Some(json!({"one_time": true})), String::new())
        }
        Act::Sessions => {
            let ended = sessions::end_all(&mut tx, before.account_id).await?;
            ("account.sessions", None, Some(json!({"ended": ended})), format!("{ended} sessions of `{name}` have ended."))
        }
    };
    audit::append(&mut tx, &who.actor, Deed { action, object: &name, before: was, after: is }, now).await?;
    tx.commit().await?;
    match secret {
        Some((text, _)) => answer(&app, &who, NewUser::default(), None, Some((name, text))).await,
        None => Ok(page::go(&paths::Users, &message)),
    }
}
