//! Patterns of event types: one type in any spelling, or a whole family (`order.*`). Pure.
//!
//! What "every type" is called (`*`) is the business of whoever keeps a list of patterns: it makes the list needless.

use std::fmt;
use std::str::FromStr;

use super::EventType;
use super::name::{UnknownEventType, words_of};

/// Which types of event are meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventPattern {
    /// This one.
    Type(EventType),
    /// Every type whose dotted name begins with this word and a dot, also types that come later.
    Family(String),
}

/// A pattern that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// No event has this name.
    #[error(transparent)]
    Unknown(#[from] UnknownEventType),
    /// No event's name begins so.
    #[error(
        "no event type begins with `{0}`: a wildcard stands for all that follows the first dot, as in `order.*`"
    )]
    NoFamily(String),
}

impl EventPattern {
    /// Whether `event_type` is meant.
    pub fn matches(&self, event_type: EventType) -> bool {
        match self {
            Self::Type(one) => *one == event_type,
            Self::Family(family) => family_of(event_type) == family,
        }
    }

    /// A pattern as [`fmt::Display`] wrote it. A family may be one that only a newer program knows; a type may not:
    /// then it is none.
    pub fn written(text: &str) -> Option<Self> {
        match text.strip_suffix(".*") {
            Some(family) => Some(Self::Family(family.to_owned())),
            None => text.parse().ok().map(Self::Type),
        }
    }
}

impl fmt::Display for EventPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(one) => f.write_str(one.as_str()),
            Self::Family(family) => write!(f, "{family}.*"),
        }
    }
}

impl FromStr for EventPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let Some(stem) = text.trim().strip_suffix('*') else { return Ok(Self::Type(text.parse()?)) };
        let words = words_of(stem);
        let stem = words.trim_end_matches('_');
        let known = EventType::ALL.iter().copied().map(family_of).find(|family| *family == stem);
        match known {
            Some(family) => Ok(Self::Family(family.to_owned())),
            None => Err(PatternError::NoFamily(text.chars().take(100).collect())),
        }
    }
}

/// What stands before the first dot of a type's name.
fn family_of(event_type: EventType) -> &'static str {
    let name = event_type.as_str();
    name.split_once('.').map_or(name, |(family, _)| family)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, written: &str, meant: EventType, not_meant: EventType) {
        let pattern: EventPattern = text.parse().unwrap();
        assert_eq!(pattern.to_string(), written, "{text}");
        assert!(pattern.matches(meant), "{text}");
        assert!(!pattern.matches(not_meant), "{text}");
        assert_eq!(EventPattern::written(written), Some(pattern));
    }

    #[test]
    fn a_type_or_a_family_is_meant_in_any_spelling() {
        for text in ["order.*", "ORDER_*", "order:*", " order.* ", "Order*"] {
            check(text, "order.*", EventType::OrderShipped, EventType::DisputeInitiated);
        }
        for text in ["order.shipped", "ORDER_SHIPPED", "OrderShippedEvent"] {
            check(text, "order.shipped", EventType::OrderShipped, EventType::OrderPaid);
        }
        check("PAYMENT_RECEIVED", "order.paid", EventType::OrderPaid, EventType::PaymentProcessed);
    }

    #[test]
    fn what_no_event_has_is_no_pattern() {
        for text in ["", "orders.*", "order.ship*", "**", "*.shipped", "*", "o*", "order.**x", "order.payed"]
        {
            assert!(text.parse::<EventPattern>().is_err(), "{text}");
        }
        assert_eq!(EventPattern::written("parcel.*"), Some(EventPattern::Family("parcel".to_owned())));
        assert_eq!(EventPattern::written("parcel.lost"), None, "a type of a newer program");
    }
}
