//! Personal values of a JSON document, kept apart from it and sealed per person.
//!
//! A document is stored twice over: masked, readable by anyone who may read the table, and beside it the
//! values that the masking hid, in one envelope for each person that they are about. So a person's data can
//! be made unreadable later without touching anybody else's, or the rest of the document.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::crypto::{CryptoError, Sealed, Subject, Vault};

/// Why a document couldn't be split or put together.
#[derive(Debug, thiserror::Error)]
pub enum PersonalError {
    /// An envelope could not be made.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// What is stored isn't what [`seal`] wrote.
    #[error("the stored personal values can't be read: {0}")]
    Malformed(String),
}

/// Seals the values in which `full` differs from `masked`, one envelope a person.
///
/// Whom a value is about: the nearest object around it with a `userId`, else `fallback`.
///
/// # Errors
/// When an envelope can't be made.
pub fn seal(
    vault: &Vault,
    tenant: &str,
    full: &Value,
    masked: &Value,
    fallback: &str,
) -> Result<String, PersonalError> {
    let mut by_person = BTreeMap::new();
    collect(full, masked, &mut String::new(), fallback, &mut by_person);
    let mut envelopes = BTreeMap::new();
    for (person, values) in by_person {
        let plain =
            serde_json::to_vec(&values).map_err(|error| PersonalError::Malformed(error.to_string()))?;
        let sealed = vault.seal(Subject::Person { tenant, person: &person }, &plain)?;
        envelopes.insert(person, STANDARD.encode(sealed.as_bytes()));
    }
    serde_json::to_string(&envelopes).map_err(|error| PersonalError::Malformed(error.to_string()))
}

/// Puts the sealed values back into `masked`. What doesn't open stays masked.
///
/// # Errors
/// When `personal` isn't what [`seal`] wrote.
pub fn open(vault: &Vault, tenant: &str, masked: &mut Value, personal: &str) -> Result<(), PersonalError> {
    let malformed = |error: String| PersonalError::Malformed(error);
    let envelopes: BTreeMap<String, String> =
        serde_json::from_str(personal).map_err(|error| malformed(error.to_string()))?;
    for (person, envelope) in envelopes {
        let bytes = STANDARD.decode(envelope).map_err(|error| malformed(error.to_string()))?;
        let subject = Subject::Person { tenant, person: &person };
        let Ok(plain) = vault.open(subject, &Sealed::from_bytes(bytes)) else {
            tracing::warn!(tenant, "personal values of an event don't open; they stay masked");
            continue;
        };
        let values: BTreeMap<String, Value> =
            serde_json::from_slice(&plain).map_err(|error| malformed(error.to_string()))?;
        for (pointer, value) in values {
            if let Some(place) = masked.pointer_mut(&pointer) {
                *place = value;
            }
        }
    }
    Ok(())
}

fn collect(
    full: &Value,
    masked: &Value,
    pointer: &mut String,
    person: &str,
    found: &mut BTreeMap<String, BTreeMap<String, Value>>,
) {
    let length = pointer.len();
    match (full, masked) {
        (Value::Object(full), Value::Object(masked)) => {
            let person = full.get("userId").and_then(Value::as_str).unwrap_or(person);
            for (key, value) in full {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
                collect(value, masked.get(key).unwrap_or(&Value::Null), pointer, person, found);
                pointer.truncate(length);
            }
        }
        (Value::Array(full), Value::Array(masked)) if full.len() == masked.len() => {
            for (index, (full, masked)) in full.iter().zip(masked).enumerate() {
                pointer.push_str(&format!("/{index}"));
                collect(full, masked, pointer, person, found);
                pointer.truncate(length);
            }
        }
        (full, masked) if full != masked => {
            found.entry(person.to_owned()).or_default().insert(pointer.clone(), full.clone());
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_whole_again_after_sealing_and_opening() {
        let vault = Vault::ephemeral();
        let full = json!({"id": "e", "data": {
            "buyer": {"userId": "alice", "email": "a@example.com", "phones": ["1", "2"]},
            "seller": {"userId": "bob", "email": "b@example.com"},
            "note/~": "call me", "total": 5}});
        let masked = json!({"id": "e", "data": {
            "buyer": {"userId": "alice", "email": "***", "phones": "***"},
            "seller": {"userId": "bob", "email": "***"},
            "note/~": "***", "total": 5}});
        let sealed = seal(&vault, "shop", &full, &masked, "order:1").unwrap();
        let people: BTreeMap<String, String> = serde_json::from_str(&sealed).unwrap();
        assert_eq!(people.keys().collect::<Vec<_>>(), ["alice", "bob", "order:1"]);
        for hidden in ["example.com", "call me"] {
            assert!(!sealed.contains(hidden));
        }

        let mut document = masked.clone();
        open(&vault, "shop", &mut document, &sealed).unwrap();
        assert_eq!(document, full);

        let mut foreign = masked.clone();
        open(&vault, "other", &mut foreign, &sealed).unwrap();
        assert_eq!(foreign, masked, "another tenant's reader sees the masked form");
    }
}
