//! What an endpoint chose before its events or filter were changed, and which offsets that still holds for: events that
//! were published before the change are told by what was chosen when they were published, however late they are read.
//!
//! Choices are kept with the endpoint, by partition, without overlap. There are few: of many the two oldest become one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::endpoint::Subscription;
use crate::store::webhook_starts::At;

/// Choices of before that are kept, at most.
const MOST: usize = 8;

/// A choice of before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastChoice {
    /// What the endpoint was told of.
    pub events: Subscription,
    /// Which bodies of those it wanted ([`crate::event::BodyFilter`]); `None` is all.
    pub filter: Option<String>,
    /// Where that holds: from an offset on, and up to another.
    pub stretches: BTreeMap<At, (i64, i64)>,
}

impl PastChoice {
    /// Whether it holds for what lies at `offset`.
    pub fn holds(&self, topic: &str, partition: i32, offset: i64) -> bool {
        let lies = |((of, no), (from, until)): (&At, &(i64, i64))| {
            *no == partition && (*from..*until).contains(&offset) && of == topic
        };
        self.stretches.iter().any(lies)
    }
}

/// The choices of before of one endpoint, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PastChoices(Vec<PastChoice>);

impl PastChoices {
    /// The choices.
    pub fn iter(&self) -> impl Iterator<Item = &PastChoice> {
        self.0.iter()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Another choice holds from now on; this one, of which no end was known, holds up to `ends`.
    pub fn remember(&mut self, events: Subscription, filter: Option<String>, ends: &BTreeMap<At, i64>) {
        let begins = |at: &At| {
            let untils = self.0.iter().filter_map(|choice| choice.stretches.get(at).map(|(_, until)| *until));
            untils.max().unwrap_or(0)
        };
        let stretches = ends.iter().map(|(at, end)| (at.clone(), (begins(at), *end)));
        let stretches: BTreeMap<_, _> = stretches.filter(|(_, (from, until))| from < until).collect();
        if !stretches.is_empty() {
            self.0.push(PastChoice { events, filter, stretches });
        }
        if self.0.len() > MOST {
            let oldest = self.0.remove(0);
            if let Some(next) = self.0.first_mut() {
                for (at, (from, until)) in oldest.stretches {
                    let stretch = next.stretches.entry(at).or_insert((from, until));
                    stretch.0 = stretch.0.min(from);
                }
            }
        }
    }

    /// What lies below these offsets is chosen anew.
    pub fn forget_below(&mut self, offsets: &BTreeMap<At, i64>) {
        for choice in &mut self.0 {
            choice.stretches.retain(|at, (from, until)| {
                *from = offsets.get(at).map_or(*from, |below| (*below).max(*from));
                *from < *until
            });
        }
        self.0.retain(|choice| !choice.stretches.is_empty());
    }

    /// The text that is stored; none are no text.
    pub(super) fn text(&self) -> Option<String> {
        let kept: Vec<Kept> = self.0.iter().map(Kept::of).collect();
        (!kept.is_empty()).then(|| serde_json::to_string(&kept).expect("texts and numbers are always JSON"))
    }

    /// Reads [`PastChoices::text`].
    pub(super) fn read(text: &str) -> Result<Self, serde_json::Error> {
        let kept: Vec<Kept> = serde_json::from_str(text)?;
        Ok(Self(kept.into_iter().map(Kept::choice).collect()))
    }
}

/// A choice as it is stored.
#[derive(Serialize, Deserialize)]
struct Kept {
    events: String,
    filter: Option<String>,
    /// Topic, partition, from, until.
    stretches: Vec<(String, i32, i64, i64)>,
}

impl Kept {
    fn of(choice: &PastChoice) -> Self {
        let stretch = |((topic, partition), (from, until)): (&At, &(i64, i64))| {
            (topic.clone(), *partition, *from, *until)
        };
        Self {
            events: choice.events.to_string(),
            filter: choice.filter.clone(),
            stretches: choice.stretches.iter().map(stretch).collect(),
        }
    }

    fn choice(self) -> PastChoice {
        let stretches = self.stretches.into_iter();
        PastChoice {
            events: Subscription::written(&self.events),
            filter: self.filter,
            stretches: stretches
                .map(|(topic, partition, from, until)| ((topic, partition), (from, until)))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(of: &[(i32, i64)]) -> BTreeMap<At, i64> {
        of.iter().map(|(partition, end)| (("orders".to_owned(), *partition), *end)).collect()
    }

    /// The filter that holds at an offset of partition 0; `None` is that of now.
    fn chosen(choices: &PastChoices, offset: i64) -> Option<String> {
        let mut hold = choices.iter().filter(|choice| choice.holds("orders", 0, offset));
        let found = hold.next().and_then(|choice| choice.filter.clone());
        assert!(hold.next().is_none(), "one choice alone holds at {offset}");
        found
    }

    fn remember(choices: &mut PastChoices, filter: &str, end: i64) {
        choices.remember(Subscription::All, Some(filter.to_owned()), &ends(&[(0, end)]));
    }

    #[test]
    fn what_was_published_before_a_change_is_chosen_as_it_was_then() {
        let mut choices = PastChoices::default();
        remember(&mut choices, "$.a", 10);
        remember(&mut choices, "$.b", 10);
        remember(&mut choices, "$.c", 25);
        let of = |choices: &PastChoices, offset| chosen(choices, offset);
        assert_eq!((of(&choices, 0).as_deref(), of(&choices, 9).as_deref()), (Some("$.a"), Some("$.a")));
        assert_eq!((of(&choices, 10).as_deref(), of(&choices, 24).as_deref()), (Some("$.c"), Some("$.c")));
        assert_eq!(of(&choices, 25), None);
        assert!(!choices.iter().any(|choice| choice.holds("orders", 1, 5) || choice.holds("jobs", 0, 5)));
        assert_eq!(PastChoices::read(&choices.text().expect("there are some")).unwrap(), choices);

        choices.forget_below(&ends(&[(0, 12), (1, 99)]));
        assert_eq!((of(&choices, 11), of(&choices, 12).as_deref()), (None, Some("$.c")));
        choices.forget_below(&ends(&[(0, 25)]));
        assert_eq!((choices.is_empty(), choices.text()), (true, None));
    }

    #[test]
    fn of_many_choices_the_oldest_become_one() {
        let mut choices = PastChoices::default();
        for number in 1..=20 {
            remember(&mut choices, &format!("$.f{number}"), number * 10);
        }
        assert_eq!(choices.iter().count(), MOST);
        assert_eq!(chosen(&choices, 0).as_deref(), Some("$.f13"));
        assert_eq!(chosen(&choices, 199).as_deref(), Some("$.f20"));
    }
}
