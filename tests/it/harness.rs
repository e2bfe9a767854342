//! What tests stand on: the real program on a database of its own, with a clock that stands still, asked through its routers.

mod database;

pub(crate) use database::Db;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::ConnectInfo,
    http::{HeaderMap, Method, Request, StatusCode, header, request},
};
use chrono::{DateTime, TimeDelta, Utc};
use coalface::{
    app::App,
    config::Settings,
    http,
    model::permission::{Role, Scope},
    rules::Ruleset,
    store::{
        accounts::{self, Password},
        sessions, tokens,
    },
    time::Fixed,
    worker,
};
use http_body_util::BodyExt;
use serde_json::Value;
use std::{net::SocketAddr, sync::Arc};
use tower::ServiceExt;

/// Where the tests' clock stands unless a test says otherwise.
pub(crate) const NOW: &str = "2026-03-02T10:00:00Z";

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Who {
    /// Nobody known.
    Anonymous,
    /// A person signed in with a browser, named like their role.
    Person(Role),
    /// Another person of the same role.
    Other(Role),
    /// A program with a token of its own.
    Program(Scope),
    /// Another program of the same scope, made by somebody else.
    OtherProgram(Scope),
}

/// A person or program, known by now.
#[derive(Debug)]
struct Known {
    who: Who,
    /// Cookie or token.
    secret: String,
    /// Hidden field of a person's forms.
    csrf: String,
}

/// The program under test.
#[derive(Debug)]
pub(crate) struct TestApp {
    pub(crate) app: Arc<App>,
    browser: Router,
    ingest: Router,
    known: tokio::sync::Mutex<Vec<Arc<Known>>>,
    /// Dropped last.
    db: Db,
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {} {:?}", self.status, self.text()))
    }

    pub(crate) fn html(&self) -> scraper::Html {
        scraper::Html::parse_document(self.text())
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Fails the test, showing the answer, unless it has this status.
    #[track_caller]
    pub(crate) fn expect(self, status: StatusCode) -> Self {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self
    }
}

impl TestApp {
    pub(crate) async fn new() -> Self {
        Self::at(NOW.parse().unwrap()).await
    }

    /// With the clock standing elsewhere.
    pub(crate) async fn at(now: DateTime<Utc>) -> Self {
        Self::with(Settings::default(), now).await
    }

    pub(crate) async fn with(settings: Settings, now: DateTime<Utc>) -> Self {
        let db = Db::new().await;
        let rules = Ruleset::load(settings.rules.as_deref()).unwrap();
        let key: Arc<[u8]> = Arc::from(b"a key for tests, thirty-two bytes".as_slice());
        let app = App::assemble(Arc::new(settings), db.pools.clone(), Arc::new(Fixed(now)), rules, key);
        Self {
            browser: http::browser(app.clone()),
            ingest: http::ingest::router(app.clone()),
            app,
            known: tokio::sync::Mutex::default(),
            db,
        }
    }

    /// The same database seen by a program started later.
    pub(crate) fn later(&self, by: TimeDelta) -> Arc<App> {
        let clock = Arc::new(Fixed(self.now() + by));
        let rules = Ruleset::load(self.app.settings.rules.as_deref()).unwrap();
        App::assemble(self.app.settings.clone(), self.db.pools.clone(), clock, rules, self.app.audit_key.clone())
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.app.clock.now()
    }

    pub(crate) fn db(&self) -> &Db {
        &self.db
    }

    /// A request to the browser port, from this machine.
    pub(crate) async fn browser(&self, request: Request<Body>) -> Answer {
        ask(&self.browser, request).await
    }

    /// `GET` of a stream: its status and body, unread.
    pub(crate) async fn stream(&self, who: Who, path: &str) -> (StatusCode, Body) {
        let mut request = self.request(who, Method::GET, path).await.body(Body::empty()).unwrap();
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 50_000))));
        let response = self.browser.clone().oneshot(request).await.unwrap();
        (response.status(), response.into_body())
    }

    /// `GET` of a page or API route.
    pub(crate) async fn get(&self, who: Who, path: &str) -> Answer {
        let request = self.request(who, Method::GET, path).await.body(Body::empty()).unwrap();
        self.browser(request).await
    }

    /// A form as a browser posts it, hidden token included.
    pub(crate) async fn post_form(&self, who: Who, path: &str, fields: &[(&str, &str)]) -> Answer {
        let csrf = self.known(who.clone()).await.map(|known| known.csrf.clone()).unwrap_or_default();
        let fields = fields.iter().copied().chain([("csrf", csrf.as_str())]);
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = self
            .request(who, Method::POST, path)
            .await
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.browser(request.body(Body::from(body)).unwrap()).await
    }

    /// An API call with a JSON body.
    pub(crate) async fn api(&self, who: Who, method: Method, path: &str, body: &Value) -> Answer {
        let request = self.request(who, method, path).await.header(header::CONTENT_TYPE, "application/json");
        self.browser(request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// The beginning of a request that carries who asks.
    pub(crate) async fn request(&self, who: Who, method: Method, path: &str) -> request::Builder {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "coalface.example")
            .header("sec-fetch-site", "same-origin");
        match self.known(who.clone()).await {
            None => request,
            Some(known) if matches!(who, Who::Program(_) | Who::OtherProgram(_)) => {
                request.header(header::AUTHORIZATION, format!("Bearer {}", known.secret))
            }
            Some(known) => {
                request.header(header::COOKIE, format!("{}={}", http::auth::session_cookie(&self.app), known.secret))
            }
        }
    }

    /// Text of a program's token.
    pub(crate) async fn token(&self, scope: Scope) -> String {
        self.known(Who::Program(scope)).await.unwrap().secret.clone()
    }

    /// Makes the account and session, or the token, when first needed.
    async fn known(&self, who: Who) -> Option<Arc<Known>> {
        let mut all = self.known.lock().await;
        if let Some(known) = all.iter().find(|known| known.who == who) {
            return Some(known.clone());
        }
        let now = self.now();
        let mut db = self.db.pool().acquire().await.unwrap();
        let (secret, csrf) = match &who {
            Who::Anonymous => return None,
            Who::Person(role) | Who::Other(role) => {
                let name = if matches!(who, Who::Other(_)) {
                    format!("other-{}", role.as_str())
                } else {
                    role.as_str().to_owned()
                };
                // nobody signs in with it
                let password = Password { hash: "none".into(), one_time: false };
                let account = accounts::create(&mut db, &name, *role, &password, "system", now).await.unwrap().unwrap();
                let secret = sessions::begin(&mut db, account, None, now).await.unwrap();
                let csrf = sessions::find(&mut db, &secret, now).await.unwrap().unwrap().csrf;
                (secret, csrf)
            }
            Who::Program(scope) | Who::OtherProgram(scope) => {
                let other = if matches!(who, Who::OtherProgram(_)) { "other-" } else { "" };
                let (name, expires_at) = (format!("{other}program-{}", scope.as_str()), now + TimeDelta::days(90));
                let new = tokens::New {
                    name: &name,
                    scopes: &[*scope],
                    owner: &format!("console:{name}"),
                    host: None,
                    expires_at,
                };
                (tokens::create(&mut db, &new, now).await.unwrap().unwrap(), String::new())
            }
        };
        let known = Arc::new(Known { who, secret, csrf });
        all.push(known.clone());
        Some(known)
    }

    /// A request to the ingest port.
    pub(crate) async fn ingest(&self, request: Request<Body>) -> Answer {
        ask(&self.ingest, request).await
    }

    /// Posts documents by the native route; the answer counts them.
    pub(crate) async fn send(&self, events: &[Value]) -> Value {
        let body = events.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
        let token = self.token(Scope::Ingest).await;
        let request = Request::post("/api/v1/events")
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/x-ndjson");
        self.ingest(request.body(Body::from(body)).unwrap()).await.expect(StatusCode::OK).json()
    }

    /// Evaluates until nothing is pending; answers how many passes it took.
    pub(crate) async fn settle(&self) -> usize {
        for passes in 0..1_000 {
            let done = worker::pass(&self.app, TimeDelta::zero()).await.unwrap();
            if done.marks == 0 && done.bands == 0 {
                assert_eq!(self.count("select count(*) from mark").await, 0, "nothing to do, but marks are left");
                return passes;
            }
        }
        panic!("evaluation does not come to an end");
    }

    /// One number from the database.
    pub(crate) async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(self.db.pool()).await.unwrap()
    }
}

async fn ask(router: &Router, mut request: Request<Body>) -> Answer {
    request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 50_000))));
    let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
    Answer { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes() }
}

#[tokio::test]
async fn people_and_programs_are_known_by_what_they_carry() {
    let app = TestApp::new().await;
    app.get(Who::Anonymous, "/help/keys").await.expect(StatusCode::SEE_OTHER);
    app.get(Who::Person(Role::Viewer), "/help/keys").await.expect(StatusCode::OK);
    let status = app.get(Who::Program(Scope::Read), "/api/v1/status").await.expect(StatusCode::OK);
    assert_eq!(status.json()["worker"]["pending"], 0);
}
