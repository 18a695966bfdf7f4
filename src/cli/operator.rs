//! What every command that changes a running system asks for: who does it, and why. Both end up in the audit.

use crate::admin::Operator;

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
