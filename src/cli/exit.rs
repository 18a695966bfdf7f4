//! How a command ends: its exit code, and one sentence when it failed.

use std::process::ExitCode;

use crate::admin::topology::AdminError;
use crate::config::ConfigError;
use crate::event::RegistryError;
use crate::store::StoreError;
use crate::topology::TopologyError;

/// The exit codes of the program. The numbers from 64 on are those of `sysexits.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All is done.
    Fine = 0,
    /// The work had failures; what failed was told.
    Failures = 1,
    /// The command line makes no sense (given by the parser, too).
    Usage = 2,
    /// The configuration or the topology is wrong.
    Configuration = 64,
    /// A service that is needed doesn't answer.
    Unavailable = 69,
    /// A fault of our own.
    Internal = 70,
    /// The shutdown deadline passed with work undone: nothing is lost, it will be repeated.
    Unfinished = 75,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Why a command failed.
#[derive(Debug)]
pub struct Fault {
    /// With which code the program ends.
    pub exit: Exit,
    /// What happened, where, and what to do: one sentence without full stop.
    pub sentence: String,
}

impl Fault {
    /// A fault that ends the program with `exit`.
    pub(super) fn new(exit: Exit, sentence: impl Into<String>) -> Self {
        Self { exit, sentence: sentence.into() }
    }

    /// What the program was told can't be used.
    pub(super) fn configuration(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Configuration, sentence)
    }

    /// The work had failures.
    pub(super) fn failures(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Failures, sentence)
    }

    /// What was typed can't be used.
    pub(super) fn usage(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Usage, sentence)
    }

    /// A needed service doesn't answer.
    pub(super) fn unavailable(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Unavailable, sentence)
    }

    /// A promise of our own was broken.
    pub(super) fn internal(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Internal, sentence)
    }
}

impl From<ConfigError> for Fault {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Configuration, error.to_string())
    }
}

impl From<TopologyError> for Fault {
    fn from(error: TopologyError) -> Self {
        Self::new(Exit::Configuration, error.to_string())
    }
}

impl From<AdminError> for Fault {
    fn from(error: AdminError) -> Self {
        let exit = match error {
            AdminError::Settings(_) => Exit::Configuration,
            AdminError::Unavailable { .. } => Exit::Unavailable,
            AdminError::Refused { .. } => Exit::Failures,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        let exit = match error {
            StoreError::Unavailable(_) => {
                return Self::unavailable(format!("{error}; start it or set store.url"));
            }
            StoreError::Settings(_) => Exit::Configuration,
            StoreError::Constraint(_)
            | StoreError::Data(_)
            | StoreError::Migration(_)
            | StoreError::Corrupt { .. } => Exit::Failures,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<RegistryError> for Fault {
    fn from(error: RegistryError) -> Self {
        let exit = match error {
            RegistryError::Unavailable { .. } => {
                return Self::unavailable(format!("{error}; start it or set registry.url"));
            }
            RegistryError::Unknown(_) | RegistryError::Refused { .. } | RegistryError::Unusable { .. } => {
                Exit::Failures
            }
        };
        Self::new(exit, error.to_string())
    }
}
