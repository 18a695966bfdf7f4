//! Layers of keys and values, the later one winning key by key, read into a closed type.
//!
//! The topology (a file and its overlays) and the configuration (defaults, a file, the environment) are both
//! read this way, so both answer a mistyped key with the nearest key that exists and the place where it
//! stands. No file is opened here.

use figment::error::Kind;
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

/// One layer: where it comes from, as it is told to people, and what it says.
#[derive(Debug, Clone)]
pub struct Layer {
    /// For example "the file orderflow.toml" or "the built-in topology".
    pub name: String,
    /// The keys and values of the layer.
    pub values: Dict,
}

impl Layer {
    /// Reads `text` as YAML.
    ///
    /// # Errors
    /// One sentence that names the layer and what is wrong with it.
    pub fn from_yaml(name: &str, text: &str) -> Result<Self, String> {
        let yaml: serde_yaml_ng::Value =
            serde_yaml_ng::from_str(text).map_err(|error| format!("{name} is not valid YAML: {error}"))?;
        match Value::serialize(yaml) {
            Ok(Value::Dict(_, values)) => Ok(Self { name: name.to_owned(), values }),
            Ok(_) => Err(format!("{name} must be a mapping of keys to values")),
            Err(error) => Err(format!("{name} can't be read: {}", error.kind)),
        }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

/// Merges `layers`, the later one winning key by key.
pub fn merge(layers: impl IntoIterator<Item = Layer>) -> Figment {
    layers.into_iter().fold(Figment::new(), Figment::merge)
}

/// Says in one sentence what is wrong, where it stands and, for a mistyped key, which key is nearest.
pub fn explain(error: &figment::Error) -> String {
    let place = error.path.join(".");
    let layer = match &error.metadata {
        Some(metadata) => format!(" in {}", metadata.name),
        None => String::new(),
    };
    if let Kind::UnknownField(key, known) = &error.kind {
        let parent = match error.path.split_last() {
            Some((last, above)) if last == key => above,
            Some(_) | None => &error.path,
        };
        let full = parent.iter().map(String::as_str).chain([key.as_str()]).collect::<Vec<_>>().join(".");
        return match nearest(key, known.iter().copied()) {
            Some(known) => format!("unknown key `{full}`{layer}; the nearest known key is `{known}`"),
            None => format!("unknown key `{full}`{layer}; no keys are known there"),
        };
    }
    if let Kind::UnknownVariant(value, known) = &error.kind {
        return format!("`{place}` can't be `{value}`{layer}; it is one of `{}`", known.join("`, `"));
    }
    if let Kind::MissingField(key) = &error.kind {
        let parent =
            error.path.iter().map(String::as_str).chain([key.as_ref()]).collect::<Vec<_>>().join(".");
        return format!("the key `{parent}` is missing{layer}");
    }
    let what = &error.kind;
    if place.is_empty() { format!("{what}{layer}") } else { format!("`{place}`: {what}{layer}") }
}

/// The candidate most like `word`.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .max_by(|a, b| strsim::jaro_winkler(word, a).total_cmp(&strsim::jaro_winkler(word, b)))
}
