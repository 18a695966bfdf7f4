//! How an event's type may be spelled wherever a person or another system names one.
//!
//! `ORDER_CREATED`, `OrderCreated`, `OrderCreatedEvent`, `order:created`, `order-created`, `order.created` and the
//! record's full name are the same type, and so are the aliases in the table. What we write is always the dotted
//! name.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::EventType;

/// A name that no event has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown event type `{name}`; did you mean `{nearest}`?")]
pub struct UnknownEventType {
    /// The name as it was given.
    pub name: String,
    /// The known type whose name is most like it.
    pub nearest: EventType,
}

impl FromStr for EventType {
    type Err = UnknownEventType;

    fn from_str(name: &str) -> Result<EventType, UnknownEventType> {
        let words = words_of(name);
        EventType::ALL.iter().copied().find(|t| t.answers_to(&words)).ok_or_else(|| UnknownEventType {
            name: name.chars().take(100).collect(),
            nearest: nearest(&words),
        })
    }
}

impl EventType {
    fn answers_to(self, words: &str) -> bool {
        words_of(self.as_str()) == words
            || words_of(self.record_name()) == words
            || self.aliases().iter().any(|alias| words_of(alias) == words)
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for EventType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for EventType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<EventType, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The name as lower-case words joined by `_`: every spelling of a type gives the same.
pub(super) fn words_of(name: &str) -> String {
    let name = name.trim();
    let name = name.strip_prefix("orderflow.events.").unwrap_or(name);
    let shouting = !name.chars().any(char::is_lowercase);
    let mut words = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_alphanumeric() {
            if c.is_uppercase() && !shouting && !words.is_empty() && !words.ends_with('_') {
                words.push('_');
            }
            words.extend(c.to_lowercase());
        } else if !words.ends_with('_') {
            words.push('_');
        }
    }
    words.strip_suffix("_event").map(str::to_owned).unwrap_or(words)
}

fn nearest(words: &str) -> EventType {
    let likeness = |t: EventType| {
        t.aliases()
            .iter()
            .copied()
            .chain([t.as_str(), t.record_name()])
            .map(|known| strsim::jaro_winkler(&words_of(known), words))
            .fold(0.0, f64::max)
    };
    EventType::ALL
        .iter()
        .copied()
        .max_by(|a, b| likeness(*a).total_cmp(&likeness(*b)))
        .unwrap_or(EventType::OrderCreated)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_spelling_of_every_type_names_it() {
        for &t in EventType::ALL {
            let dotted = t.as_str();
            let spellings = [
                dotted.to_owned(),
                dotted.to_uppercase().replace('.', "_"),
                dotted.replace('.', ":"),
                dotted.replace('.', "-"),
                t.record_name().to_owned(),
                format!("{}Event", t.record_name()),
                format!("{}_EVENT", dotted.to_uppercase().replace('.', "_")),
                t.full_name().to_owned(),
            ];
            for spelling in spellings {
                assert_eq!(spelling.parse(), Ok(t), "{spelling}");
            }
        }
    }

    #[test]
    fn aliases_of_other_systems_are_understood() {
        for (alias, expected) in [
            ("PAYMENT_RECEIVED", EventType::OrderPaid),
            ("ORDER_PAYMENT_COMPLETED", EventType::OrderPaid),
            ("payment.completed", EventType::OrderPaid),
            ("INVENTORY_UPDATE", EventType::InventoryUpdated),
            ("EMAIL_SENT", EventType::EmailSent),
            ("order:completed", EventType::OrderCompleted),
        ] {
            assert_eq!(alias.parse(), Ok(expected), "{alias}");
        }
    }

    #[test]
    fn no_two_types_share_a_spelling() {
        let mut owners: BTreeMap<String, EventType> = BTreeMap::new();
        for &t in EventType::ALL {
            for name in t.aliases().iter().copied().chain([t.as_str(), t.record_name()]) {
                let owner = *owners.entry(words_of(name)).or_insert(t);
                assert_eq!(owner, t, "{name}");
            }
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest() {
        let error = "order.shiped".parse::<EventType>().expect_err("it is misspelled");
        assert_eq!(error.nearest, EventType::OrderShipped);
        assert_eq!(error.to_string(), "unknown event type `order.shiped`; did you mean `order.shipped`?");
        assert!("".parse::<EventType>().is_err());
    }
}
