//! What people say of a host: tier, class, role, tags.

use super::{Invalid, invalid};
use serde::{Deserialize, Serialize};

/// What people say of a host (contract, `POST /api/v1/hosts`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostBody {
    /// Computer name, short or full.
    pub name: String,
    /// 1 crown jewel to 4 lab.
    #[serde(default)]
    pub tier: Option<i16>,
    /// Class for baselines and scopes.
    #[serde(default)]
    pub class: Option<String>,
    /// What it does.
    #[serde(default)]
    pub role: Option<String>,
    /// Labels.
    #[serde(default)]
    pub tags: Option<Vec<String>>,
}

impl HostBody {
    /// Checks the values.
    ///
    /// # Errors
    /// Names the first field that is wrong.
    pub fn check(&self) -> Result<(), Invalid> {
        let name = self.name.trim();
        if name.is_empty() || name.len() > 253 || name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '/') {
            return invalid("name", "a computer name of at most 253 characters, without spaces");
        }
        if self.tier.is_some_and(|t| !(1..=4).contains(&t)) {
            return invalid("tier", "1 (crown jewel) to 4 (lab)");
        }
        if self.tags.iter().flatten().any(|t| t.trim().is_empty()) {
            return invalid("tags", "a tag is not empty");
        }
        Ok(())
    }
}

/// A host as a line of a table; what is empty stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the columns are HostBody's fields")]
pub struct HostLine {
    pub name: String,
    pub tier: Option<i16>,
    pub class: Option<String>,
    pub role: Option<String>,
    /// Separated by `;` or `|`.
    pub tags: Option<String>,
}

impl HostLine {
    /// Columns a table of hosts may have.
    pub const COLUMNS: &'static [&'static str] = &["name", "tier", "class", "role", "tags"];

    /// The body it stands for, checked.
    ///
    /// # Errors
    /// As for [`HostBody::check`].
    pub fn body(self) -> Result<HostBody, Invalid> {
        let tags = self.tags.map(|t| t.split([';', '|']).map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect());
        let body = HostBody { name: self.name, tier: self.tier, class: self.class, role: self.role, tags };
        body.check().map(|()| body)
    }
}
