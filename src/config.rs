//! Settings: flag = environment variable = `coalface.toml`; the field docs are the manual. Only reader of the environment.

/// Settings of one process.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Address under which people open the pages, e.g. `https://coalface.corp.example`.
    pub public_url: Option<String>,
}
