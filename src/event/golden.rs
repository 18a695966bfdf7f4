//! Golden files: for every schema, examples whose bytes never change, and faulty ones with what must come of them.
//!
//! `schemas/golden/<Record>.json` holds `valid` examples (JSON form and wire bytes, written with schema id 1),
//! `older` ones (wire bytes of an earlier version, whose schema lies beside, and the event that they read as) and
//! `invalid` ones (wire bytes and the fault). A released example is never changed: if a test asks for it, the schema
//! has broken its promise. [`check`] proves a folder of them against this program's schemas.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::codec::{DecodeError, read_body, unframe, write_frame};
use super::registry::writer::WriterSchema;
use super::{Defaults, Event, EventType};

/// The schema id in golden frames.
const GOLDEN_ID: u32 = 1;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Golden {
    /// The record's full name.
    pub(super) record: String,
    /// What reads and writes as it stands.
    pub(super) valid: Vec<Valid>,
    /// What earlier versions wrote.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) older: Vec<Older>,
    /// What must be refused.
    pub(super) invalid: Vec<Invalid>,
}

/// An event and its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Valid {
    pub(super) name: String,
    pub(super) event: Value,
    pub(super) wire: String,
}

/// The bytes that an earlier version wrote, and the event that they read as now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Older {
    pub(super) name: String,
    /// The file with the earlier schema, beside this one.
    pub(super) schema: String,
    pub(super) wire: String,
    pub(super) event: Value,
}

/// Bytes and the fault that they are refused with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Invalid {
    pub(super) name: String,
    pub(super) wire: String,
    pub(super) fault: String,
}

/// Proves every golden file in `folder`; gives how many examples were proved, or everything that is wrong.
///
/// # Errors
/// Sentences that each name a file and an example.
pub fn check(folder: &Path) -> Result<usize, Vec<String>> {
    let (mut proved, mut faults) = (0, Vec::new());
    for &event_type in EventType::ALL {
        let path = folder.join(format!("{}.json", event_type.record_name()));
        let read = std::fs::read(&path).map_err(|error| error.to_string());
        let golden =
            read.and_then(|bytes| serde_json::from_slice::<Golden>(&bytes).map_err(|e| e.to_string()));
        match golden {
            Err(error) => faults.push(format!("{}: {error}", path.display())),
            Ok(golden) => {
                let mut wrong =
                    |name: &str, why: String| faults.push(format!("{} `{name}`: {why}", path.display()));
                for valid in &golden.valid {
                    prove_valid(event_type, valid).unwrap_or_else(|why| wrong(&valid.name, why));
                }
                for older in &golden.older {
                    prove_older(event_type, folder, older).unwrap_or_else(|why| wrong(&older.name, why));
                }
                for invalid in &golden.invalid {
                    prove_invalid(event_type, invalid).unwrap_or_else(|why| wrong(&invalid.name, why));
                }
                proved += golden.valid.len() + golden.older.len() + golden.invalid.len();
            }
        }
    }
    if faults.is_empty() { Ok(proved) } else { Err(faults) }
}

fn prove_valid(event_type: EventType, valid: &Valid) -> Result<(), String> {
    let event = Event::from_json(&valid.event, &Defaults::default()).map_err(|errors| errors.to_string())?;
    if event.event_type() != event_type {
        return Err(format!("it is a {}", event.event_type()));
    }
    let written = hex::encode(write_frame(GOLDEN_ID, &event).map_err(|error| error.to_string())?);
    if written != valid.wire {
        return Err(format!("it is written as {written}"));
    }
    same(&event, read_frame(event_type, event_type.schema().text(), &valid.wire)?)
}

fn prove_older(event_type: EventType, folder: &Path, older: &Older) -> Result<(), String> {
    let text = std::fs::read_to_string(folder.join(&older.schema)).map_err(|error| error.to_string())?;
    let event = Event::from_json(&older.event, &Defaults::default()).map_err(|errors| errors.to_string())?;
    same(&event, read_frame(event_type, &text, &older.wire)?)
}

fn prove_invalid(event_type: EventType, invalid: &Invalid) -> Result<(), String> {
    match read_frame(event_type, event_type.schema().text(), &invalid.wire)? {
        Ok(_) => Err("it is read without a fault".to_owned()),
        Err(fault) if name_of(&fault) != invalid.fault => {
            Err(format!("it is refused as {}", name_of(&fault)))
        }
        Err(_) => Ok(()),
    }
}

fn same(expected: &Event, read: Result<Event, DecodeError>) -> Result<(), String> {
    let read = read.map_err(|fault| fault.to_string())?;
    if read == *expected { Ok(()) } else { Err(format!("it is read as {}", read.to_json())) }
}

/// Reads a frame as if its schema id stood for the schema `text`.
pub(super) fn read_frame(
    event_type: EventType,
    text: &str,
    wire: &str,
) -> Result<Result<Event, DecodeError>, String> {
    let payload = hex::decode(wire).map_err(|error| error.to_string())?;
    let writer = WriterSchema::of(text, &[]).map_err(|error| error.to_string())?;
    Ok(unframe(&payload).and_then(|(_, body)| read_body(event_type, &writer, body)))
}

/// How golden files call a fault.
pub(super) fn name_of(fault: &DecodeError) -> &'static str {
    match fault {
        DecodeError::NotFramed => "not framed",
        DecodeError::Truncated => "truncated",
        DecodeError::TrailingBytes(_) => "trailing bytes",
        DecodeError::Invalid(_) => "invalid",
        DecodeError::SchemaUnknown { .. } => "schema unknown",
        DecodeError::RegistryUnavailable(_) => "registry unavailable",
    }
}

#[cfg(test)]
mod tests;
