//! `[inbound]` in the configuration: who may send us webhooks.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::value::StrDeserializer;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

use crate::crypto::Secret;

/// Webhooks that others send to us.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InboundOptions {
    /// How far the time in a signature may lie from ours; what is older may be a replay.
    #[serde(with = "humantime_serde")]
    pub tolerance: Duration,
    /// How long a message is remembered, so that its repeat gets the same answer; longer than its sender tries again.
    #[serde(with = "humantime_serde")]
    pub remember: Duration,
    /// The largest body, in bytes.
    pub max_body_bytes: usize,
    /// The senders by their names: a closed list.
    pub sources: BTreeMap<String, SourceOptions>,
}

/// One sender (`[inbound.sources.<name>]`).
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceOptions {
    /// The tenant whose orders and jobs it tells of.
    pub tenant: String,
    /// Which of the endpoints it may use.
    #[serde(deserialize_with = "list")]
    pub endpoints: Vec<Endpoint>,
    /// Its secrets, all of them live: for a rotation the new one is added, and the old one taken away later.
    #[serde(deserialize_with = "list")]
    pub secrets: Vec<Secret<String>>,
    /// How it signs.
    #[serde(default)]
    pub signature: SignatureForm,
}

/// What can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Endpoint {
    /// `/api/webhooks/order-status`
    OrderStatus,
    /// `/api/webhooks/worker-status`
    WorkerStatus,
}

/// How a sender signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignatureForm {
    /// Standard Webhooks: id, time and body.
    #[default]
    Standard,
    /// `X-Webhook-Signature: sha256=…`, the body alone: for senders that can't do better.
    Plain,
}

impl Default for InboundOptions {
    fn default() -> Self {
        Self {
            tolerance: Duration::from_secs(5 * 60),
            remember: Duration::from_secs(7 * 24 * 3600),
            max_body_bytes: 64 * 1024,
            sources: BTreeMap::new(),
        }
    }
}

/// A list, or a text of words between spaces, commas or line breaks: what a variable or a file can hold.
fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct Words<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Words<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list, or a text of words")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
            let words = text.split(|letter: char| letter == ',' || letter.is_whitespace());
            words
                .filter(|word| !word.is_empty())
                .map(|word| T::deserialize(StrDeserializer::<E>::new(word)))
                .collect()
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(item) = items.next_element()? {
                list.push(item);
            }
            Ok(list)
        }
    }
    deserializer.deserialize_any(Words(PhantomData))
}
