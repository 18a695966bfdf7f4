//! The schema registry as seen from here: whose schema is this id, and which id has our schema.
//!
//! Built on `schema_registry_converter`'s calls, without its caches: those keep faults for ever, and take a
//! registry that is down or refuses us for a schema that doesn't exist. Here nothing but success is kept, and
//! calls for the same thing that run at once share one request. Confluent's API:
//! <https://docs.confluent.io/platform/current/schema-registry/develop/api.html>.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use schema_registry_converter::async_impl::schema_registry::{
    SrSettings, get_all_versions, get_referenced_schema, get_schema_by_id, get_schema_by_subject_and_version,
    perform_sr_call,
};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{
    RawError, RawRegisteredSchema, RegisteredReference, RegisteredSchema, SrCall,
};
use serde::Deserialize;

use super::schema::RecordSchema;
use once::Once;
use writer::WriterSchema;

mod once;
pub(super) mod writer;

/// How to reach the registry.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistryOptions {
    /// Where it is; for Apicurio this ends in `/apis/ccompat/v7`.
    pub url: String,
    /// The user, or API key, if it asks for one; empty is none.
    pub username: Option<String>,
    /// The password, or API secret. Never printed.
    pub password: Option<String>,
    /// How long one request may take.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Whether a schema that isn't registered is registered when it is first used. For demo and tests:
    /// elsewhere schemas are registered on purpose.
    pub auto_register: bool,
}

impl Default for RegistryOptions {
    fn default() -> RegistryOptions {
        RegistryOptions {
            url: "http://localhost:8081".to_owned(),
            username: None,
            password: None,
            timeout: Duration::from_secs(5),
            auto_register: false,
        }
    }
}

impl std::fmt::Debug for RegistryOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryOptions")
            .field("url", &self.url)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .field("timeout", &self.timeout)
            .field("auto_register", &self.auto_register)
            .finish()
    }
}

/// What the registry did not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// It has no such id, subject or version (404 with 40401, 40402 or 40403).
    #[error("the schema registry does not know {0}")]
    Unknown(String),
    /// It understood and says no: incompatible or invalid (409, 422).
    #[error("the schema registry refuses {what}: {why}")]
    Refused {
        /// What was asked for.
        what: String,
        /// Its reason.
        why: String,
    },
    /// What it holds is of no use here, such as a schema that isn't Avro.
    #[error("{what} in the schema registry cannot be used: {why}")]
    Unusable {
        /// What was asked for.
        what: String,
        /// Why it can't be used.
        why: String,
    },
    /// It can't be reached, or answers with any other fault: another try may succeed.
    #[error("the schema registry is not available for {what}: {why}")]
    Unavailable {
        /// What was asked for.
        what: String,
        /// What happened instead.
        why: String,
    },
}

/// A version of a subject as it is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredVersion {
    /// The id that frames carry.
    pub id: i32,
    /// The version within the subject, from 1.
    pub version: i32,
    /// The schema's text.
    pub text: String,
}

/// A client of the registry. Clones share what has been learnt.
#[derive(Debug, Clone)]
pub struct Registry {
    settings: SrSettings,
    auto_register: bool,
    writers: Arc<Once<u32, Arc<WriterSchema>>>,
    ids: Arc<Once<String, u32>>,
}

impl Registry {
    /// A client for the registry that `options` name; nothing is asked yet.
    pub fn new(options: &RegistryOptions) -> Result<Registry, RegistryError> {
        let unusable =
            |why: String| RegistryError::Unusable { what: format!("the address {}", options.url), why };
        let url = url::Url::parse(&options.url).map_err(|error| unusable(error.to_string()))?;
        let mut builder = SrSettings::new_builder(options.url.trim_end_matches('/').to_owned());
        builder.set_timeout(options.timeout);
        if let Some(username) = options.username.as_deref().filter(|username| !username.is_empty()) {
            let password = options.password.as_deref().filter(|password| !password.is_empty());
            builder.set_basic_authorization(username, password);
        }
        if matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")) {
            builder.no_proxy();
        }
        let settings = builder.build().map_err(|error| unusable(text_of(&error)))?;
        Ok(Registry {
            settings,
            auto_register: options.auto_register,
            writers: Arc::new(Once::default()),
            ids: Arc::new(Once::default()),
        })
    }

    /// The schema that records with this id were written with, if it was asked for before.
    pub(super) fn known_writer(&self, id: u32) -> Option<Arc<WriterSchema>> {
        self.writers.get(&id)
    }

    /// The schema that records with this id were written with.
    pub(super) async fn writer(&self, id: u32) -> Result<Arc<WriterSchema>, RegistryError> {
        let settings = self.settings.clone();
        self.writers
            .get_or_load(&id, || {
                async move {
                    let what = format!("schema id {id}");
                    let registered = get_schema_by_id(id, &settings).await.map_err(|e| fault(&what, &e))?;
                    let referenced = references(&settings, &what, &registered).await?;
                    WriterSchema::parse(&what, &registered.schema_type, &registered.schema, &referenced)
                        .map(Arc::new)
                }
                .boxed()
            })
            .await
    }

    /// The id that our schema has for `topic`; if it is absent it is registered only if the options say so.
    pub(super) async fn id_of(
        &self,
        topic: &str,
        schema: &'static RecordSchema,
    ) -> Result<u32, RegistryError> {
        let subject = schema.subject(topic);
        if let Some(id) = self.ids.get(&subject) {
            return Ok(id);
        }
        let registry = self.clone();
        self.ids
            .get_or_load(&subject.clone(), || {
                async move {
                    match registry.lookup(&subject, schema).await {
                        Err(RegistryError::Unknown(_)) if registry.auto_register => {
                            registry.register(&subject, schema).await
                        }
                        Err(error) => Err(error),
                        Ok(version) => u32::try_from(version.id).map_err(|_| no_id(&subject)),
                    }
                }
                .boxed()
            })
            .await
    }

    /// The version of `subject` whose text is our schema's.
    pub async fn lookup(
        &self,
        subject: &str,
        schema: &RecordSchema,
    ) -> Result<RegisteredVersion, RegistryError> {
        let what = format!("the current schema under subject {subject}");
        let body = body(schema);
        let answer = perform_sr_call(&self.settings, SrCall::PostForVersion(subject, &body)).await;
        version(subject, answer.map_err(|error| fault(&what, &error))?)
    }

    /// Registers our schema under `subject`; the same text twice is one version. Returns its id.
    pub async fn register(&self, subject: &str, schema: &RecordSchema) -> Result<u32, RegistryError> {
        let what = format!("subject {subject}");
        let body = body(schema);
        let answer = perform_sr_call(&self.settings, SrCall::PostNew(subject, &body)).await;
        answer.map_err(|error| fault(&what, &error))?.id.ok_or_else(|| no_id(subject))
    }

    /// Every version of `subject`, oldest first; none if there is no such subject.
    pub async fn versions(&self, subject: &str) -> Result<Vec<RegisteredVersion>, RegistryError> {
        let what = format!("subject {subject}");
        let numbers = match get_all_versions(&self.settings, subject.replace('/', "%2F")).await {
            Ok(numbers) => numbers,
            Err(error) => {
                let error = fault(&what, &error);
                let RegistryError::Unknown(_) = error else { return Err(error) };
                Vec::new()
            }
        };
        let mut versions = Vec::with_capacity(numbers.len());
        for number in numbers {
            let what = format!("version {number} of subject {subject}");
            let found = get_schema_by_subject_and_version(&self.settings, subject, Some(number)).await;
            let found = found.map_err(|error| fault(&what, &error))?;
            let id = i32::try_from(found.id).map_err(|_| no_id(subject))?;
            let number = i32::try_from(number).map_err(|_| no_id(subject))?;
            versions.push(RegisteredVersion { id, version: number, text: found.schema });
        }
        Ok(versions)
    }
}

/// How many schemas one schema may refer to, directly or not.
const MAX_REFERENCES: usize = 64;

/// The texts of all schemas that a schema refers to, each once.
async fn references(
    settings: &SrSettings,
    what: &str,
    schema: &RegisteredSchema,
) -> Result<Vec<String>, RegistryError> {
    let mut texts: Vec<String> = Vec::new();
    let mut wanted: Vec<RegisteredReference> = schema.references.clone();
    while let Some(reference) = wanted.pop() {
        let found = get_referenced_schema(settings, &reference).await.map_err(|error| fault(what, &error))?;
        wanted.extend(found.references.iter().cloned());
        if !texts.contains(&found.schema) {
            texts.push(found.schema);
        }
        if texts.len() + wanted.len() > MAX_REFERENCES {
            let why = format!("it refers to more than {MAX_REFERENCES} schemas");
            return Err(RegistryError::Unusable { what: what.to_owned(), why });
        }
    }
    Ok(texts)
}

fn body(schema: &RecordSchema) -> String {
    serde_json::json!({ "schema": schema.text(), "schemaType": "AVRO" }).to_string()
}

fn version(subject: &str, raw: RawRegisteredSchema) -> Result<RegisteredVersion, RegistryError> {
    let number = |n: Option<u32>| n.and_then(|n| i32::try_from(n).ok()).ok_or_else(|| no_id(subject));
    Ok(RegisteredVersion {
        id: number(raw.id)?,
        version: number(raw.version)?,
        text: raw.schema.unwrap_or_default(),
    })
}

fn no_id(subject: &str) -> RegistryError {
    let why = "the answer holds no usable id or version".to_owned();
    RegistryError::Unavailable { what: format!("subject {subject}"), why }
}

/// What a failed call means: only Confluent's own codes say that something doesn't exist or is refused. Any other
/// 404 may come from a proxy or a wrong path, and isn't held against a record.
fn fault(what: &str, error: &SRCError) -> RegistryError {
    let what = what.to_owned();
    let raw = std::error::Error::source(error).and_then(|source| source.downcast_ref::<RawError>());
    match raw.map(|raw| (raw.error_code, raw.message.clone())) {
        Some((40401..=40403, _)) => RegistryError::Unknown(what),
        Some((409 | 422 | 40900..=40999 | 42200..=42299, why)) => RegistryError::Refused { what, why },
        _ => RegistryError::Unavailable { what, why: text_of(error) },
    }
}

fn text_of(error: &SRCError) -> String {
    match &error.cause {
        Some(cause) => format!("{}: {cause}", error.error),
        None => error.error.clone(),
    }
}

#[cfg(test)]
mod tests;
