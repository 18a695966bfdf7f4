//! What is typed about an endpoint. Bounds are `admin::webhooks`' business.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::ValueEnum;
use humantime_serde::re::humantime;

use super::{One, Whose};
use crate::admin::webhooks::{Change, Registration};
use crate::cli::exit::Fault;
use crate::crypto::Secret;
use crate::store::webhooks::SignatureScheme;

/// A new endpoint.
#[derive(Debug, clap::Args)]
pub(super) struct Add {
    /// Where requests go
    url: String,
    #[command(flatten)]
    pub(super) whose: Whose,
    #[command(flatten)]
    fields: Fields,
    #[command(flatten)]
    secret: SecretWanted,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// What is to become of an endpoint.
#[derive(Debug, clap::Args)]
pub(super) struct Update {
    #[command(flatten)]
    one: One,
    /// Where requests go
    #[arg(long)]
    url: Option<String>,
    #[command(flatten)]
    fields: Fields,
    /// Take a value away; may be given several times
    #[arg(long, value_name = "FIELD")]
    clear: Vec<Clearable>,
}

/// Fields that can be without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Clearable {
    Events,
    Filter,
    Headers,
    Rate,
    Concurrency,
    Attempts,
    RetryDelay,
    Timeout,
    Contact,
    Description,
}

/// What a new endpoint and a changed one share.
#[derive(Debug, clap::Args)]
struct Fields {
    /// An event type in any spelling, or a family ('order.*'); may be given several times, none is all
    #[arg(long = "event", value_name = "TYPE")]
    events: Vec<String>,
    /// Only events of whose body this JSONPath selects something
    #[arg(long, value_name = "JSONPATH")]
    filter: Option<String>,
    /// A header that every request carries ('Name: value'); may be given several times
    #[arg(long = "header", value_name = "HEADER", value_parser = header)]
    headers: Vec<(String, Secret<String>)>,
    /// Requests per second, at most
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<i64>,
    /// Requests at once, at most
    #[arg(long)]
    concurrency: Option<i64>,
    /// How many attempts there are, the first included
    #[arg(long, value_name = "COUNT")]
    attempts: Option<i64>,
    /// Before the second attempt, as in 2s; doubled from there
    #[arg(long, value_name = "TIME", value_parser = millis)]
    retry_delay: Option<i64>,
    /// How long one whole attempt may take, as in 5s
    #[arg(long, value_name = "TIME", value_parser = millis)]
    timeout: Option<i64>,
    /// The mail address of whoever is told how it does
    #[arg(long, value_name = "ADDRESS")]
    contact: Option<String>,
    /// A few words
    #[arg(long, value_name = "WORDS")]
    description: Option<String>,
}

/// How an endpoint is to be signed for.
#[derive(Debug, clap::Args)]
pub(super) struct SecretWanted {
    /// A file with a secret of your own; without it one is made
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// How requests are signed: with a shared secret, or with a key pair that is made here
    #[arg(long, value_enum)]
    signature: Option<Scheme>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scheme {
    Hmac,
    Ed25519,
}

impl SecretWanted {
    /// The secret in the file, if one is named.
    pub(super) fn read(&self) -> Result<Option<Secret<String>>, Fault> {
        let Some(path) = &self.secret_file else { return Ok(None) };
        let text = std::fs::read_to_string(path)
            .map_err(|error| Fault::usage(format!("{} can't be read: {error}", path.display())))?;
        Ok(Some(Secret::new(text.trim().to_owned())))
    }

    pub(super) fn scheme(&self) -> Option<SignatureScheme> {
        self.signature.map(|scheme| match scheme {
            Scheme::Hmac => SignatureScheme::Hmac,
            Scheme::Ed25519 => SignatureScheme::Ed25519,
        })
    }
}

impl Add {
    /// What is asked for.
    pub(super) fn registration(self) -> Result<Registration, Fault> {
        let Fields { events, filter, headers, rate, concurrency, attempts, retry_delay, timeout, .. } =
            self.fields;
        Ok(Registration {
            url: self.url,
            secret: self.secret.read()?,
            signature: self.secret.scheme(),
            events,
            filter,
            headers: by_name(headers)?,
            rate,
            concurrency,
            retry_attempts: attempts,
            retry_delay,
            timeout,
            contact: self.fields.contact,
            description: self.fields.description,
            request: None,
        })
    }
}

impl Update {
    /// Which endpoint, and what is asked for it.
    pub(super) fn change(self) -> Result<(One, Change), Fault> {
        let Fields { events, headers, .. } = self.fields;
        let clears = |field: Clearable| self.clear.contains(&field);
        fn field<T>(given: Option<T>, clears: bool) -> Option<Option<T>> {
            if clears { Some(None) } else { given.map(Some) }
        }
        let change = Change {
            url: self.url,
            events: (!events.is_empty() || clears(Clearable::Events)).then_some(events),
            filter: field(self.fields.filter, clears(Clearable::Filter)),
            headers: (!headers.is_empty() || clears(Clearable::Headers))
                .then(|| by_name(headers))
                .transpose()?,
            rate: field(self.fields.rate, clears(Clearable::Rate)),
            concurrency: field(self.fields.concurrency, clears(Clearable::Concurrency)),
            retry_attempts: field(self.fields.attempts, clears(Clearable::Attempts)),
            retry_delay: field(self.fields.retry_delay, clears(Clearable::RetryDelay)),
            timeout: field(self.fields.timeout, clears(Clearable::Timeout)),
            contact: field(self.fields.contact, clears(Clearable::Contact)),
            description: field(self.fields.description, clears(Clearable::Description)),
        };
        Ok((self.one, change))
    }
}

fn by_name(headers: Vec<(String, Secret<String>)>) -> Result<BTreeMap<String, Secret<String>>, Fault> {
    let mut by_name = BTreeMap::new();
    for (name, value) in headers {
        if by_name.insert(name.clone(), value).is_some() {
            return Err(Fault::usage(format!("header {name} is given twice")));
        }
    }
    Ok(by_name)
}

fn header(text: &str) -> Result<(String, Secret<String>), String> {
    let (name, value) = text.split_once(':').ok_or("expected a header as in 'Name: value'")?;
    Ok((name.trim().to_owned(), Secret::new(value.trim().to_owned())))
}

/// Milliseconds of a duration such as `5s`.
pub(super) fn millis(text: &str) -> Result<i64, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    i64::try_from(duration.as_millis()).map_err(|error| error.to_string())
}
