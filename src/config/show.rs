//! What applies and where it comes from, for `config show`: secrets hidden.

use figment::value::{Dict, Value};
use figment::{Figment, Profile, Provider};
use serde::Serialize;

use super::load::Loaded;
use super::{ConfigError, secrets};

/// One setting as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The key with its section: `kafka.bootstrap_servers`.
    pub key: String,
    /// The value that applies; hidden when it is a secret.
    pub value: String,
    /// The layer that it comes from.
    pub source: String,
}

/// Every setting that has a value, in the order of the keys.
///
/// # Errors
/// When the layers can't be read again, which can't happen after they were loaded.
pub fn settings(loaded: &Loaded) -> Result<Vec<Setting>, ConfigError> {
    let data = loaded.layers.data().map_err(|error| ConfigError(error.to_string()))?;
    let mut settings = Vec::new();
    if let Some(values) = data.get(&Profile::Default) {
        walk(&loaded.layers, &mut Vec::new(), values, &mut settings);
    }
    Ok(settings)
}

fn walk(layers: &Figment, path: &mut Vec<String>, values: &Dict, settings: &mut Vec<Setting>) {
    for (key, value) in values {
        path.push(key.clone());
        if let Value::Dict(_, inner) = value {
            walk(layers, path, inner, settings);
        } else {
            let source =
                layers.get_metadata(value.tag()).map_or("unknown", |metadata| &metadata.name).to_owned();
            let value = if secrets::is_hidden(path) { secrets::REDACTED.to_owned() } else { shown(value) };
            settings.push(Setting { key: path.join("."), value, source });
        }
        path.pop();
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(_, text) => secrets::without_password(text),
        Value::Array(_, items) => items.iter().map(shown).collect::<Vec<_>>().join(", "),
        Value::Bool(_, flag) => flag.to_string(),
        Value::Char(_, letter) => letter.to_string(),
        Value::Num(_, number) => {
            let whole = number.to_i128().map(|n| n.to_string()).or(number.to_u128().map(|n| n.to_string()));
            whole.or(number.to_f64().map(|n| n.to_string())).unwrap_or_default()
        }
        Value::Empty(..) | Value::Dict(..) => String::new(),
    }
}
