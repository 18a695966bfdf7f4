//! Who may send us webhooks, and whether a request is from one of them.
//!
//! ```text
//! request ──► size ──► signature ──► sender (tenant) and message id ──► fields ──► once per message ──► event
//!              here, and in options.rs and signature.rs                   api/inbound.rs
//! ```
//!
//! The senders are a closed list of the configuration, and whose secret signed is who sent: a header may name a sender,
//! which decides whose secrets are tried, and nothing else. What must not live here: what a body means.

mod options;
mod signature;

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue};
use sha2::{Digest, Sha256};

pub use options::{Endpoint, InboundOptions, SignatureForm, SourceOptions};

use self::signature::{Keys, Standard, Unusable, is_plainly_by, plain};
use super::{Code, Problem};

/// Senders there may be.
const MOST_SOURCES: usize = 100;
/// Live secrets of one sender.
const MOST_SECRETS: usize = 10;
/// Secrets that a request is checked against which doesn't name its sender: whoever is nobody costs no more MACs.
const MOST_TRIED: usize = 20;
/// Names the sender. It proves nothing; it says whose secrets are to be tried.
const SOURCE: &str = "x-webhook-source";
/// How long a plain message is remembered: nothing in it grows old, so its bytes are the same message for ever.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);
/// The shortest key, in bytes.
const SHORTEST_KEY: usize = 16;
/// The longest name of a sender, and of its tenant, in bytes.
const LONGEST_NAME: usize = 64;
const LONGEST_TENANT: usize = 255;

/// Why the senders can't be used: one sentence that names the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InboundSetupError(String);

/// Everybody who may send us webhooks.
#[derive(Debug, Clone)]
pub struct Senders {
    senders: Vec<Sender>,
    tolerance: Duration,
    /// How long a message whose time is signed is remembered.
    remember: Duration,
    /// The largest body, in bytes.
    pub max_body_bytes: usize,
}

/// Somebody who may send us webhooks.
#[derive(Debug, Clone)]
pub struct Sender {
    /// Its name in the configuration, and the source of its events.
    pub name: String,
    /// The tenant whose orders and jobs it tells of.
    pub tenant: String,
    endpoints: Vec<Endpoint>,
    form: SignatureForm,
    keys: Vec<Keys>,
}

/// A request that is from who it says.
#[derive(Debug, Clone)]
pub(super) struct Message<'a> {
    pub(super) sender: &'a Sender,
    /// Names what is told, the same on every attempt of the sender; signed.
    pub(super) id: String,
    /// How long it is to be remembered.
    pub(super) remember: Duration,
}

/// Nobody.
impl Default for Senders {
    fn default() -> Self {
        let InboundOptions { tolerance, remember, max_body_bytes, .. } = InboundOptions::default();
        Self { senders: Vec::new(), tolerance, remember, max_body_bytes }
    }
}

impl Senders {
    /// The senders of the configuration.
    ///
    /// # Errors
    /// When a sender has no good name, tenant, endpoint or secret, or shares a secret with another.
    pub fn new(options: &InboundOptions) -> Result<Self, InboundSetupError> {
        let refuse = |sentence: String| Err(InboundSetupError(sentence));
        if options.sources.len() > MOST_SOURCES {
            return refuse(format!("inbound.sources may hold at most {MOST_SOURCES} senders"));
        }
        if options.remember < options.tolerance * 2 {
            return refuse("inbound.remember must be at least twice inbound.tolerance".to_owned());
        }
        let mut senders: Vec<Sender> = Vec::new();
        for (name, source) in &options.sources {
            let sender = Sender::new(name, source)?;
            let is_shared = |key: &Keys| sender.keys.iter().any(|own| own.is_alike(key));
            let shared = senders.iter().find(|other| other.keys.iter().any(is_shared));
            if let Some(other) = shared {
                return refuse(format!(
                    "inbound.sources.{name} has a secret of inbound.sources.{}; a secret says who sent, so each has its own",
                    other.name
                ));
            }
            senders.push(sender);
        }
        let InboundOptions { tolerance, remember, max_body_bytes, .. } = *options;
        Ok(Self { senders, tolerance, remember, max_body_bytes })
    }

    /// Who sent the request that came to `endpoint` at `now_ms`, and which message it is.
    ///
    /// # Errors
    /// 401 with the reason, as far as it may be told.
    pub(super) fn message(
        &self,
        endpoint: Endpoint,
        headers: &HeaderMap,
        body: &[u8],
        now_ms: i64,
    ) -> Result<Message<'_>, Problem> {
        let standard = Standard::read(headers, now_ms, self.tolerance);
        if let Ok(standard) = &standard {
            let mut senders = self.who_may(SignatureForm::Standard, endpoint, headers)?;
            if let Some(sender) = senders.find(|sender| standard.is_by(&sender.keys, body)) {
                return Ok(Message { sender, id: standard.id.to_owned(), remember: self.remember });
            }
        }
        // The plain form signs neither id nor time, so what is told is named by what is signed.
        let given = plain(headers);
        if let Ok(given) = &given {
            let mut senders = self.who_may(SignatureForm::Plain, endpoint, headers)?;
            if let Some(sender) = senders.find(|sender| is_plainly_by(given, &sender.keys, body)) {
                let digest = Sha256::new().chain_update([endpoint as u8]).chain_update(body).finalize();
                let id = format!("sha256:{}", hex::encode(digest));
                return Ok(Message { sender, id, remember: FOR_EVER });
            }
        }
        Err(refused(standard.err(), given.is_ok()))
    }

    /// The senders that a request in this form to `endpoint` may be from: the one that it names, or all, where they have
    /// no more than [`MOST_TRIED`] secrets.
    fn who_may(
        &self,
        form: SignatureForm,
        endpoint: Endpoint,
        headers: &HeaderMap,
    ) -> Result<impl Iterator<Item = &Sender>, Problem> {
        let named = headers.get(SOURCE).map(HeaderValue::as_bytes);
        let fits = move |sender: &&Sender| sender.form == form && sender.endpoints.contains(&endpoint);
        let is_named = move |sender: &&Sender| named.is_none_or(|name| sender.name.as_bytes() == name);
        let senders: Vec<&Sender> = self.senders.iter().filter(fits).filter(is_named).collect();
        let secrets: usize = senders.iter().map(|sender| sender.keys.len()).sum();
        if secrets > MOST_TRIED {
            let detail = format!("the header {SOURCE} is missing: there are many senders, so name yourself");
            return Err(Problem::new(Code::SignatureMissing, detail));
        }
        Ok(senders.into_iter())
    }
}

/// What is said of a request that nobody sent who may: what is wrong with its form, never whose secret came close.
fn refused(why: Option<Unusable>, plainly_signed: bool) -> Problem {
    match why {
        Some(Unusable::Missing(header)) if !plainly_signed => Problem::new(
            Code::SignatureMissing,
            format!("the header {header} is missing; sign the request by Standard Webhooks"),
        ),
        Some(Unusable::Unreadable(header)) if !plainly_signed => {
            Problem::new(Code::SignatureInvalid, format!("the header {header} can't be read"))
        }
        Some(Unusable::Stale) => Problem::new(
            Code::SignatureExpired,
            "webhook-timestamp lies too far from the time here; sign each attempt anew, with a clock that is right",
        ),
        Some(Unusable::Missing(_) | Unusable::Unreadable(_)) | None => Problem::new(
            Code::SignatureInvalid,
            "no sender that may use this endpoint has signed these bytes with a secret that is live",
        ),
    }
}

impl Sender {
    fn new(name: &str, source: &SourceOptions) -> Result<Self, InboundSetupError> {
        let refuse =
            |key: &str, why: String| Err(InboundSetupError(format!("inbound.sources.{name}{key} {why}")));
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(plain) {
            return refuse("", format!("must be called by 1 to {LONGEST_NAME} of a-z, 0-9, `-` and `_`"));
        }
        let tenant = &source.tenant;
        if tenant.is_empty() || tenant.len() > LONGEST_TENANT || tenant.chars().any(char::is_control) {
            return refuse(
                ".tenant",
                format!("must have 1 to {LONGEST_TENANT} bytes and no control characters"),
            );
        }
        if source.endpoints.is_empty() {
            return refuse(".endpoints", "must name order-status, worker-status, or both".to_owned());
        }
        if source.secrets.is_empty() || source.secrets.len() > MOST_SECRETS {
            return refuse(".secrets", format!("must hold 1 to {MOST_SECRETS} secrets"));
        }
        let keys: Vec<Keys> = source.secrets.iter().map(Keys::of).collect();
        if keys.iter().any(|keys| keys.bytes() < SHORTEST_KEY) {
            let make = "make one with: echo whsec_$(openssl rand -base64 32)";
            return refuse(".secrets", format!("holds a secret of fewer than {SHORTEST_KEY} bytes; {make}"));
        }
        Ok(Self {
            name: name.to_owned(),
            tenant: tenant.clone(),
            endpoints: source.endpoints.clone(),
            form: source.signature,
            keys,
        })
    }
}
