//! One repetition in a process of its own: this program again, with the same command line and what is asked for.

use std::process::Stdio;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cli::exit::Fault;

/// Runs the repetition that `asked` describes and reads what it measured. `name` is for complaints.
pub(super) async fn repeat<M: DeserializeOwned>(asked: &impl Serialize, name: &str) -> Result<M, Fault> {
    let json = serde_json::to_string(asked).map_err(|error| Fault::internal(error.to_string()))?;
    let program = std::env::current_exe().map_err(|error| Fault::internal(error.to_string()))?;
    // The configuration file is named on the same command line, or by the environment that is handed on.
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    arguments.extend(["--repetition".to_owned(), json]);
    let ended = tokio::process::Command::new(program)
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .await
        .map_err(|error| Fault::internal(format!("a repetition can't be started: {error}")))?;
    let said = String::from_utf8_lossy(&ended.stdout);
    let last = said.lines().last().filter(|_| ended.status.success());
    let Some(last) = last else { return Err(Fault::failures(format!("{name} failed: {}", ended.status))) };
    serde_json::from_str(last).map_err(|error| Fault::internal(format!("{last}: {error}")))
}
