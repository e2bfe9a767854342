//! `coalface user` and `coalface token`: who may use the product. Every change is in the audit log as made on the console.

use super::{Console, duration, say};
use crate::{
    model::permission::{Role, Scope},
    store::{
        accounts::{self, PASSWORD_LENGTH, Password},
        audit::{self, Deed},
        tokens,
    },
    time::Clock,
};
use anyhow::{Context, bail, ensure};
use chrono::TimeDelta;
use clap::Subcommand;
use serde_json::json;
use sqlx::Connection;
use std::io::{IsTerminal, Read};

/// What can be done with people.
#[derive(Debug, Subcommand)]
pub enum User {
    /// Make an account; the password is asked for, or read from standard input
    Create {
        /// Name to sign in with
        #[arg(long)]
        name: String,
        /// What they may do: viewer, analyst, lead, admin or auditor
        #[arg(long)]
        role: Role,
    },
    /// Print all accounts
    List,
    /// End an account and its sessions
    Disable {
        /// Name of the account
        name: String,
    },
    /// Give an account a new password, asked for or read from standard input, and end its sessions
    ResetPassword {
        /// Name of the account
        name: String,
    },
}

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make a token and print it, alone, once
    Create {
        /// Name for people, unique
        #[arg(long)]
        name: String,
        /// What it may do: ingest, read, triage, admin, metrics
        #[arg(long, value_delimiter = ',', required = true)]
        scope: Vec<Scope>,
        /// The only host it may report for, and the host of events that name none
        #[arg(long)]
        host: Option<String>,
        /// Its life, at most 365d
        #[arg(long, value_name = "TIME", value_parser = duration, default_value = "90d")]
        expires: TimeDelta,
    },
    /// Print all tokens, without their secrets
    List,
    /// End a token at once
    Revoke {
        /// Name of the token
        name: String,
    },
}

impl User {
    pub(super) async fn run(self, console: &mut Console) -> anyhow::Result<()> {
        match self {
            Self::Create { name, role } => {
                ensure!((1..=64).contains(&name.chars().count()), "a name has 1 to 64 characters");
                let password = password().await?;
                create(console, &name, role, &password).await
            }
            Self::List => {
                for account in accounts::list(&mut console.db).await? {
                    let state = match (account.disabled_at, account.must_set_password) {
                        (Some(_), _) => "disabled",
                        (None, true) => "has to set a password",
                        (None, false) => "active",
                    };
                    let seen = account
                        .last_sign_in
                        .map_or("never signed in".to_owned(), |at| format!("last signed in {}", at.to_rfc3339()));
                    say(format_args!("{}\t{}\t{state}\t{seen}", account.name, account.role.as_str()))?;
                }
                Ok(())
            }
            Self::Disable { name } => {
                let now = console.clock.now();
                let mut change = console.db.begin().await?;
                ensure!(accounts::disable(&mut change, &name, now).await?, "there is no account `{name}`");
                audit::append(
                    &mut change,
                    &console.actor,
                    Deed { action: "account.disable", object: &name, ..Deed::default() },
                    now,
                )
                .await?;
                Ok(change.commit().await?)
            }
            Self::ResetPassword { name } => {
                let password = password().await?;
                let now = console.clock.now();
                let mut change = console.db.begin().await?;
                ensure!(
                    accounts::set_password(&mut change, &name, &password, now).await?,
                    "there is no account `{name}`"
                );
                audit::append(
                    &mut change,
                    &console.actor,
                    Deed { action: "account.password", object: &name, ..Deed::default() },
                    now,
                )
                .await?;
                Ok(change.commit().await?)
            }
        }
    }
}

async fn create(console: &mut Console, name: &str, role: Role, password: &Password) -> anyhow::Result<()> {
    let now = console.clock.now();
    let mut change = console.db.begin().await?;
    let made = accounts::create(&mut change, name, role, password, "console", now).await?;
    ensure!(made.is_some(), "there is an account `{name}` already");
    let deed =
        Deed { action: "account.create", object: name, before: None, after: Some(json!({"role": role.as_str()})) };
    audit::append(&mut change, &console.actor, deed, now).await?;
    Ok(change.commit().await?)
}

impl Token {
    pub(super) async fn run(self, console: &mut Console) -> anyhow::Result<()> {
        let now = console.clock.now();
        match self {
            Self::Create { name, scope, host, expires } => {
                ensure!(
                    expires > TimeDelta::zero() && expires <= TimeDelta::days(365),
                    "a token lives at most 365 days"
                );
                let new = tokens::New {
                    name: &name,
                    scopes: &scope,
                    owner: &format!("console:{name}"),
                    host: host.as_deref(),
                    expires_at: now + expires,
                };
                let mut change = console.db.begin().await?;
                let Some(text) = tokens::create(&mut change, &new, now).await? else {
                    bail!("there is a token `{name}` already")
                };
                let scopes: Vec<_> = scope.iter().map(|scope| scope.as_str()).collect();
                let after = json!({"scopes": scopes, "host": host, "expires_at": new.expires_at});
                audit::append(
                    &mut change,
                    &console.actor,
                    Deed { action: "token.create", object: &name, before: None, after: Some(after) },
                    now,
                )
                .await?;
                change.commit().await?;
                say(text)
            }
            Self::List => {
                for token in tokens::list(&mut console.db).await? {
                    let state = if token.revoked_at.is_some() {
                        "revoked".to_owned()
                    } else {
                        format!(
                            "{} {}",
                            if token.expires_at <= now { "expired" } else { "until" },
                            token.expires_at.to_rfc3339()
                        )
                    };
                    let used =
                        token.last_used.map_or("never used".to_owned(), |at| format!("last used {}", at.to_rfc3339()));
                    say(format_args!(
                        "{}\t{}..\t{}\t{}\t{state}\t{used}",
                        token.name,
                        token.prefix,
                        token.scopes.join(","),
                        token.owner
                    ))?;
                }
                Ok(())
            }
            Self::Revoke { name } => {
                let mut change = console.db.begin().await?;
                ensure!(tokens::revoke(&mut change, &name, now).await?, "there is no token `{name}` that still counts");
                audit::append(
                    &mut change,
                    &console.actor,
                    Deed { action: "token.revoke", object: &name, ..Deed::default() },
                    now,
                )
                .await?;
                Ok(change.commit().await?)
            }
        }
    }
}

/// Asked for twice on a terminal, else the first line of standard input.
async fn password() -> anyhow::Result<Password> {
    let text = tokio::task::spawn_blocking(|| -> anyhow::Result<String> {
        if !std::io::stdin().is_terminal() {
            let mut text = String::new();
            std::io::stdin().take(4096).read_to_string(&mut text).context("reading the password")?;
            return Ok(text.lines().next().unwrap_or_default().to_owned());
        }
        let text = rpassword::prompt_password("Password: ")?;
        ensure!(rpassword::prompt_password("Once more: ")? == text, "the two differ");
        Ok(text)
    })
    .await??;
    let length = text.chars().count();
    ensure!(
        PASSWORD_LENGTH.contains(&length),
        "a password has {} to {} characters, this one has {length}",
        PASSWORD_LENGTH.start(),
        PASSWORD_LENGTH.end()
    );
    Ok(Password { hash: accounts::hash(text).await?, one_time: false })
}
