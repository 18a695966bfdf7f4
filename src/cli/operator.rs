//! What every command that changes a running system asks for: who does it, and why. Both end up in the audit.

use super::exit::Fault;
use crate::admin::{OperationError, Operator};

#[derive(Debug, clap::Args)]
pub(super) struct By {
    /// Who does this, for the audit [default: the user of this machine]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Why, for the audit and for whoever looks next
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

impl By {
    pub(super) fn operator(self) -> Operator {
        let user = || std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).ok();
        let name = self.by.or_else(user).unwrap_or_else(|| "somebody at the command line".to_owned());
        Operator { name, reason: self.reason }
    }
}

impl From<OperationError> for Fault {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::Stage(error) => error.into(),
            OperationError::Cluster(_) | OperationError::NoAnswer => Self::unavailable(error.to_string()),
            OperationError::Read(error) => super::tail::unreadable(error),
            OperationError::Store(error) => error.into(),
            OperationError::DeadLetters(error) => error.into(),
            OperationError::Lanes(error) => error.into(),
        }
    }
}
