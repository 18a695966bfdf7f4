//! Structured logs on stderr: one line a fact, readable alone, with its coordinates as fields.

use std::io::IsTerminal;

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

/// `[log]` in the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogOptions {
    /// `text` for people, `json` for collectors.
    pub format: LogFormat,
    /// A filter such as `info` or `orderflow=debug,info`.
    pub level: String,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
}

impl LogOptions {
    /// The filter that `level` describes.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn filter(&self) -> Result<EnvFilter, LogError> {
        EnvFilter::try_new(&self.level)
            .map_err(|error| LogError::BadFilter { level: self.level.clone(), reason: error.to_string() })
    }
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging couldn't be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter doesn't parse.
    #[error("log.level {level:?} isn't a filter: {reason}")]
    BadFilter {
        /// What was given.
        level: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody set up logging before.
    #[error("logging is already set up")]
    AlreadySet,
}

/// Sends logs to stderr as `options` say. Call once, from `main` or `cli`.
///
/// # Errors
/// When the filter is malformed or logging was set up before.
pub fn start(options: &LogOptions) -> Result<(), LogError> {
    let builder = tracing_subscriber::fmt().with_env_filter(options.filter()?).with_writer(std::io::stderr);
    // Colours are for terminals; a file or a collector would keep their codes.
    let builder = builder.with_ansi(std::io::stderr().is_terminal());
    let set = match options.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    set.map_err(|_| LogError::AlreadySet)
}
