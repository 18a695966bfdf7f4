//! What commands share: the configuration, read once and only by those that need it.

use std::path::PathBuf;

use super::exit::Fault;
use crate::config::{self, Loaded};
use crate::telemetry::logs;

/// The surroundings of one command.
#[derive(Debug)]
pub(super) struct Context {
    file: Option<PathBuf>,
}

impl Context {
    pub(super) fn new(file: Option<PathBuf>) -> Self {
        Self { file }
    }

    /// Reads the configuration from its file and the environment.
    pub(super) fn load(&self) -> Result<Loaded, Fault> {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Ok(config::load(self.file.as_deref(), variables)?)
    }

    /// The same, and logs as it says from here on.
    pub(super) fn start(&self) -> Result<Loaded, Fault> {
        let loaded = self.load()?;
        logs::start(&loaded.config.log).map_err(|error| config::ConfigError(error.to_string()))?;
        Ok(loaded)
    }
}
