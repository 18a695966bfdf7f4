//! The only place that writes to the terminal: results to stdout, complaints to stderr.

use std::io::{self, Write};

use serde::Serialize;

use super::exit::{Exit, Fault};

/// Prints one line of result.
///
/// # Errors
/// When stdout is closed: quietly if its reader had enough (`| head`).
pub(super) fn line(text: &str) -> Result<(), Fault> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.write_all(b"\n"));
    written.map_err(|error| match error.kind() == io::ErrorKind::BrokenPipe {
        true => Fault::new(Exit::Fine, ""),
        false => Fault::internal(format!("stdout can't be written: {error}")),
    })
}

/// Prints `value` as one line of JSON.
///
/// # Errors
/// As [`line`].
pub(super) fn json(value: &impl Serialize) -> Result<(), Fault> {
    let text = serde_json::to_string(value).map_err(|error| Fault::internal(format!("no JSON: {error}")))?;
    line(&text)
}

/// Says on stderr what went wrong. Nothing is said when there is nothing to say.
pub(super) fn complain(sentence: &str) {
    if !sentence.is_empty() {
        // When stderr is gone there is nobody left to tell.
        let _ = writeln!(io::stderr().lock(), "orderflow: {sentence}");
    }
}
