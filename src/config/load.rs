//! Reads the layers and merges them: defaults, file, environment.
//!
//! The environment is handed in, not read, so that tests needn't change it.

use std::collections::BTreeMap;
use std::path::Path;

use figment::Figment;
use figment::providers::{Format, Toml};
use figment::value::{Dict, Num, Tag, Value};

use super::{Config, ConfigError, DEFAULTS, secrets};
use crate::topology::layers::{self, Layer, nearest};

/// Read when no file is named; it needn't exist.
pub const DEFAULT_FILE: &str = "orderflow.toml";

/// What every variable that is meant for the program begins with.
const PREFIX: &str = "ORDERFLOW_";

/// Variables with our prefix that are not settings: what tests and the command line read.
const OTHER_VARIABLES: &[&str] = &["ORDERFLOW_TEST_", "ORDERFLOW_CONFIG"];

/// What a container platform sets for a service that happens to be called like us or one of our sections.
const PLATFORM_MARKS: &[&str] = &["_SERVICE_HOST", "_SERVICE_PORT", "_PORT_", "ORDERFLOW_PORT"];

/// A configuration and the layers it was merged from.
#[derive(Debug)]
pub struct Loaded {
    /// What applies.
    pub config: Config,
    /// Where each value comes from.
    pub(super) layers: Figment,
}

/// Reads the configuration: `file` if one is named (it must exist then), else `orderflow.toml` if there is
/// one; then those of `variables` that begin with `ORDERFLOW_`.
///
/// # Errors
/// One sentence that says what is wrong, where it stands and what to do.
pub fn load(
    file: Option<&Path>,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, ConfigError> {
    let defaults = parse("the built-in defaults", DEFAULTS)?;
    let mut merged = vec![prepared(defaults.clone())?];
    merged.extend(from_file(file)?.map(prepared).transpose()?);
    for layer in from_environment(variables, &defaults.values)? {
        merged.push(prepared(layer)?);
    }
    let layers = layers::merge(merged);
    let config: Config = layers.extract().map_err(|error| ConfigError(layers::explain(&error)))?;
    config.check()?;
    Ok(Loaded { config, layers })
}

fn parse(name: &str, text: &str) -> Result<Layer, ConfigError> {
    let values: Dict = Toml::from_str(text).map_err(|error: <Toml as Format>::Error| {
        ConfigError(format!("{name} is not valid TOML: {}", error.to_string().trim_end()))
    })?;
    Ok(Layer { name: name.to_owned(), values })
}

fn from_file(named: Option<&Path>) -> Result<Option<Layer>, ConfigError> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&format!("the file {}", path.display()), &text).map(Some),
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(ConfigError(format!("the configuration file {} can't be read: {error}", path.display())))
        }
    }
}

/// One layer per variable, so that each value knows the variable it comes from.
fn from_environment(
    variables: impl IntoIterator<Item = (String, String)>,
    defaults: &Dict,
) -> Result<Vec<Layer>, ConfigError> {
    let mut layers = BTreeMap::new();
    for (name, text) in variables {
        let Some(key) = name.strip_prefix(PREFIX) else { continue };
        if OTHER_VARIABLES.iter().any(|other| name.starts_with(other)) {
            continue;
        }
        if !key.contains("__") {
            refuse_single_underscore(&name, key, defaults)?;
            continue;
        }
        let path: Vec<String> = key.to_lowercase().split("__").map(str::to_owned).collect();
        let value = typed(&name, &text, default_at(defaults, &path))?;
        let values = match path.as_slice() {
            // Kafka's properties contain dots, which variables can't.
            [first, second, rest @ ..] if first == "kafka" && second == "properties" && !rest.is_empty() => {
                nest(&[first.clone(), second.clone(), rest.join(".").replace('_', ".")], value)
            }
            path => nest(path, value),
        };
        layers.insert(name.clone(), Layer { name: format!("the variable {name}"), values });
    }
    Ok(layers.into_values().collect())
}

/// `ORDERFLOW_HTTP_BIND` was surely meant as a setting; a platform's `ORDERFLOW_SERVICE_HOST` wasn't.
fn refuse_single_underscore(name: &str, key: &str, defaults: &Dict) -> Result<(), ConfigError> {
    let section = key.split('_').next().unwrap_or_default().to_lowercase();
    if !defaults.contains_key(&section) || PLATFORM_MARKS.iter().any(|mark| name.contains(mark)) {
        return Ok(());
    }
    let meant = format!("{PREFIX}{}__{}", section.to_uppercase(), &key[(section.len() + 1).min(key.len())..]);
    Err(ConfigError(format!(
        "the variable {name} is no setting: `__` separates section and key, as in {meant}"
    )))
}

fn default_at<'a>(defaults: &'a Dict, path: &[String]) -> Option<&'a Value> {
    let (last, sections) = path.split_last()?;
    let mut within = defaults;
    for section in sections {
        within = within.get(section)?.as_dict()?;
    }
    within.get(last)
}

/// The variable's text as the type that the default has; text where there is none.
fn typed(name: &str, text: &str, default: Option<&Value>) -> Result<Value, ConfigError> {
    let wrong = |expected: &str| ConfigError(format!("the variable {name} must be {expected}, not `{text}`"));
    match default {
        Some(Value::Bool(..)) => {
            text.parse::<bool>().map(Value::from).map_err(|_| wrong("`true` or `false`"))
        }
        Some(Value::Num(_, Num::F32(_) | Num::F64(_))) => {
            text.parse::<f64>().map(Value::from).map_err(|_| wrong("a number"))
        }
        Some(Value::Num(..)) => text.parse::<i64>().map(Value::from).map_err(|_| wrong("a whole number")),
        Some(Value::Array(..)) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Ok(Value::Array(Tag::Default, items.map(Value::from).collect()))
        }
        Some(Value::String(..) | Value::Char(..) | Value::Dict(..) | Value::Empty(..)) | None => {
            Ok(text.into())
        }
    }
}

fn nest(path: &[String], value: Value) -> Dict {
    let mut value = value;
    for key in path.iter().skip(1).rev() {
        value = Value::Dict(Tag::Default, Dict::from([(key.clone(), value)]));
    }
    path.first().map(|first| Dict::from([(first.clone(), value)])).unwrap_or_default()
}

/// Brings a layer into the form that the sections read: secrets fetched from their files, Kafka's dotted
/// properties flat and textual, empty texts gone (they mean: not set).
fn prepared(mut layer: Layer) -> Result<Layer, ConfigError> {
    if let Some(Value::Dict(_, kafka)) = layer.values.get_mut("kafka")
        && let Some(Value::Dict(_, properties)) = kafka.get_mut("properties")
    {
        let mut flat = Dict::new();
        flatten("", properties, &mut flat);
        *properties = flat;
    }
    secrets::from_files(&mut layer)?;
    drop_empty(&mut layer.values);
    check_sections(&layer)?;
    Ok(layer)
}

fn flatten(before: &str, from: &Dict, into: &mut Dict) {
    for (key, value) in from {
        let name = if before.is_empty() { key.clone() } else { format!("{before}.{key}") };
        match value {
            Value::Dict(_, inner) => flatten(&name, inner, into),
            Value::Num(tag, number) => {
                let text =
                    number.to_i128().map(|n| n.to_string()).or(number.to_u128().map(|n| n.to_string()));
                let text = text.or(number.to_f64().map(|n| n.to_string())).unwrap_or_default();
                into.insert(name, Value::String(*tag, text));
            }
            Value::Bool(tag, flag) => {
                into.insert(name, Value::String(*tag, flag.to_string()));
            }
            Value::String(..) | Value::Char(..) | Value::Empty(..) | Value::Array(..) => {
                into.insert(name, value.clone());
            }
        }
    }
}

fn drop_empty(values: &mut Dict) {
    values.retain(|_, value| match value {
        Value::String(_, text) => !text.is_empty(),
        Value::Dict(_, inner) => {
            drop_empty(inner);
            true
        }
        Value::Char(..) | Value::Bool(..) | Value::Num(..) | Value::Empty(..) | Value::Array(..) => true,
    });
}

/// A whole section that is mistyped would else be told as "unknown field" of nothing.
fn check_sections(layer: &Layer) -> Result<(), ConfigError> {
    for (section, value) in &layer.values {
        let known = super::SECTIONS;
        if !known.contains(&section.as_str()) {
            let near = nearest(section, known.iter().copied()).unwrap_or_default();
            let sentence = format!(
                "unknown section `{section}` in {}; the nearest known section is `{near}`",
                layer.name
            );
            return Err(ConfigError(sentence));
        }
        if value.as_dict().is_none() {
            return Err(ConfigError(format!("`{section}` in {} must be a section of keys", layer.name)));
        }
    }
    Ok(())
}
