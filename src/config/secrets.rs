//! Which settings are secret: where they may be read from, how they are shown, which are refused.

use figment::value::{Dict, Value};

use super::ConfigError;
use crate::topology::layers::Layer;

/// Settings that are never printed and may come from a file (`jwt_secret_file`).
const SECRETS: &[(&str, &str)] = &[
    ("registry", "password"),
    ("store", "url"),
    ("store", "encryption_key"),
    ("http", "jwt_secret"),
    ("http", "metrics_token"),
    ("smtp", "password"),
];

/// The section whose `sources` each have `secrets`, which may come from a file (`secrets_file`, one a line).
const SENDERS: (&str, &str, &str) = ("inbound", "sources", "secrets");

/// librdkafka properties that may come from a file (`"sasl.password.file"`).
const SECRET_PROPERTIES: &[&str] =
    &["sasl.password", "ssl.key.password", "ssl.keystore.password", "sasl.oauthbearer.client.secret"];

/// Words in a librdkafka property's name by which its value is hidden: better one too many.
const HIDDEN_WORDS: &[&str] = &["password", "secret", "ssl.key.pem", "oauthbearer.config", "token"];

/// Parameters of a database's URL whose values are shown; those of all others are hidden.
const PLAIN_PARAMETERS: &[&str] =
    &["user", "host", "port", "dbname", "sslmode", "application_name", "connect_timeout", "mode", "cache"];

/// Stands for what isn't shown.
pub(super) const REDACTED: &str = "«redacted»";

/// What a secret begins with when it stands in an example or belongs to `orderflow demo`.
const DEMO_PREFIX: &str = "demo-";

/// Secrets that everybody tries first.
const WELL_KNOWN: &[&str] =
    &["secret", "changeme", "change-me", "password", "your-secret-key", "default-secret"];

/// Replaces each `<secret>_file` of the layer by what the file holds, without its last line break.
pub(super) fn from_files(layer: &mut Layer) -> Result<(), ConfigError> {
    let name = layer.name.clone();
    for (section, key) in SECRETS {
        if let Some(Value::Dict(_, values)) = layer.values.get_mut(*section) {
            replace(values, key, &format!("{key}_file"), section, &name)?;
        }
    }
    let (section, sources, key) = SENDERS;
    if let Some(Value::Dict(_, inbound)) = layer.values.get_mut(section)
        && let Some(Value::Dict(_, sources)) = inbound.get_mut(sources)
    {
        for (source, values) in sources {
            if let Value::Dict(_, values) = values {
                let section = format!("{section}.sources.{source}");
                replace(values, key, &format!("{key}_file"), &section, &name)?;
            }
        }
    }
    if let Some(Value::Dict(_, kafka)) = layer.values.get_mut("kafka")
        && let Some(Value::Dict(_, properties)) = kafka.get_mut("properties")
    {
        for key in SECRET_PROPERTIES {
            replace(properties, key, &format!("{key}.file"), "kafka.properties", &name)?;
        }
    }
    Ok(())
}

fn replace(
    values: &mut Dict,
    key: &str,
    file_key: &str,
    section: &str,
    layer: &str,
) -> Result<(), ConfigError> {
    let Some(named) = values.remove(file_key) else { return Ok(()) };
    let Value::String(tag, path) = named else {
        return Err(ConfigError(format!("`{section}.{file_key}` in {layer} must be a path")));
    };
    if path.is_empty() {
        return Ok(());
    }
    let set = |value: &Value| match value.as_array() {
        Some(items) => !items.is_empty(),
        None => value.as_str().is_some_and(|text| !text.is_empty()),
    };
    if values.get(key).is_some_and(set) {
        let sentence =
            format!("`{section}.{key}` and `{section}.{file_key}` are both set in {layer}; keep one");
        return Err(ConfigError(sentence));
    }
    let text = std::fs::read_to_string(&path).map_err(|error| {
        ConfigError(format!(
            "the file {path}, named by `{section}.{file_key}` in {layer}, can't be read: {error}"
        ))
    })?;
    values.insert(key.to_owned(), Value::String(tag, text.trim_end_matches(['\r', '\n']).to_owned()));
    Ok(())
}

/// Whether the value of this setting is hidden when the configuration is shown.
pub(super) fn is_hidden(path: &[String]) -> bool {
    match path {
        [section, key] => SECRETS.iter().any(|(s, k)| s == section && k == key) && key != "url",
        [section, sources, _, key] => (section.as_str(), sources.as_str(), key.as_str()) == SENDERS,
        [section, properties, key] => {
            section == "kafka"
                && properties == "properties"
                && HIDDEN_WORDS.iter().any(|word| key.contains(word))
        }
        _ => false,
    }
}

/// `text` without what a URL in it may carry: password, query values that may be secrets. Whatever looks like
/// a URL but can't be read as one is hidden whole, because nobody knows where its password stands.
pub(super) fn without_password(text: &str) -> String {
    if !text.contains("://") {
        return text.to_owned();
    }
    let Ok(mut url) = url::Url::parse(text) else { return REDACTED.to_owned() };
    if url.password().is_some() && url.set_password(Some("***")).is_err() {
        return REDACTED.to_owned();
    }
    if let Some(query) = url.query() {
        let masked: Vec<String> = query.split('&').map(without_value).collect();
        url.set_query(Some(&masked.join("&")));
    }
    url.to_string()
}

/// A pair of a query; the value stays only where the key is known to hold no secret.
fn without_value(pair: &str) -> String {
    match pair.split_once('=') {
        Some((key, _)) if !PLAIN_PARAMETERS.contains(&key) => format!("{key}=***"),
        Some(_) | None => pair.to_owned(),
    }
}

/// Whether this is a secret that others know: one of `orderflow demo`, of an example, or everybody's first.
pub(super) fn is_known_to_all(secret: &str) -> bool {
    let lower = secret.to_lowercase();
    lower.starts_with(DEMO_PREFIX) || WELL_KNOWN.contains(&lower.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_passwords_wherever_they_stand() {
        for (text, shown) in [
            ("127.0.0.1:9092", "127.0.0.1:9092"),
            ("sqlite://path/to/file.db", "sqlite://path/to/file.db"),
            ("postgres://u:hunter2@h/db", "postgres://u:***@h/db"),
            (
                "postgres://h/db?user=u&password=hunter2&sslmode=require",
                "postgres://h/db?user=u&password=***&sslmode=require",
            ),
            (
                "postgres://h/db?ssl%6bey=hunter2&PASSWORD=hunter2",
                "postgres://h/db?ssl%6bey=***&PASSWORD=***",
            ),
            ("https://h/keys?token=hunter2", "https://h/keys?token=***"),
            ("postgres://u:pa/ss@h/db", REDACTED),
        ] {
            assert_eq!(without_password(text), shown);
        }
    }
}
