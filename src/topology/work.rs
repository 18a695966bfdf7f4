//! What a stage's entry says of its work: retries, time-out, urgency, what is filtered out. Checked against its kind and
//! against the events of its source; contradictions are collected like all others.

use std::collections::{BTreeMap, BTreeSet};

use super::Topic;
use super::file::{ORDINARY, RetryPolicy, StageEntry, StageKind};
use super::layers::nearest;
use super::resolve::Resolver;
use crate::event::EventType;

impl Resolver {
    pub(super) fn check_work(&mut self, name: &str, entry: &StageEntry) {
        match (entry.kind, &entry.retry) {
            (StageKind::Store, Some(_)) => {
                self.problems.push(format!(
                    "stage `{name}` is a store stage: it waits for its database and has no `retry`"
                ));
            }
            (StageKind::Effect, Some(policy)) => self.check_policy(name, policy),
            (StageKind::Store | StageKind::Effect, None) => {}
        }
        if entry.concurrency == Some(0) {
            self.problems.push(format!("stage `{name}` needs a `concurrency` of at least 1"));
        }
        if entry.timeout.is_some_and(|limit| limit.is_zero()) {
            self.problems.push(format!("stage `{name}` needs a `timeout` above 0, or none"));
        }
        let urgent = entry.priority != ORDINARY || !entry.priorities.is_empty();
        if entry.kind == StageKind::Store && urgent {
            self.problems.push(format!(
                "stage `{name}` is a store stage: it takes its records in their order and has no priorities"
            ));
        }
    }

    fn check_policy(&mut self, name: &str, policy: &RetryPolicy) {
        if policy.attempts == 0 {
            self.problems.push(format!("stage `{name}` needs at least one attempt"));
        }
        if policy.delays.is_empty() && policy.attempts > 1 {
            self.problems.push(format!("stage `{name}` needs `delays` between its attempts"));
        }
        if !(0.0..1.0).contains(&policy.jitter) {
            self.problems.push(format!("stage `{name}`: `jitter` must be at least 0 and below 1"));
        }
    }

    /// The priority of every type that `priorities` names; the longest pattern that fits a type wins.
    pub(super) fn priorities(
        &mut self,
        name: &str,
        entry: &StageEntry,
        source: &Topic,
        takes: &BTreeSet<EventType>,
    ) -> BTreeMap<EventType, u16> {
        let mut priorities = BTreeMap::new();
        let mut patterns: Vec<(&String, u16)> =
            entry.priorities.iter().map(|(pattern, priority)| (pattern, *priority)).collect();
        patterns.sort_by_key(|(pattern, _)| (!pattern.ends_with('*'), pattern.len()));
        for (pattern, priority) in patterns {
            let types = self.types(&format!("stage `{name}`"), [pattern]);
            // A source of our own records tells of events of any type.
            let taken = |of: &EventType| source.events.is_empty() || takes.contains(of);
            if !pattern.ends_with('*') && !types.iter().all(taken) {
                self.problems
                    .push(format!("stage `{name}` has a priority for `{pattern}`, which it doesn't take"));
            }
            priorities.extend(types.into_iter().filter(taken).map(|of| (of, priority)));
        }
        priorities
    }

    /// Every field that a condition names must be one that some event of the stage has.
    pub(super) fn check_conditions(
        &mut self,
        name: &str,
        entry: &StageEntry,
        source: &Topic,
        takes: &BTreeSet<EventType>,
    ) {
        if source.events.is_empty() {
            if !entry.conditions.is_empty() {
                let problem =
                    format!("stage `{name}` can't choose by fields: `{}` carries no events", source.id);
                self.problems.push(problem);
            }
            return;
        }
        let known: BTreeSet<String> = takes.iter().flat_map(|of| of.fields()).collect();
        for condition in &entry.conditions {
            let field = condition.field();
            if !known.contains(field) {
                let nearest = nearest(field, known.iter().map(String::as_str)).unwrap_or_default();
                self.problems.push(format!(
                    "stage `{name}` chooses by `{field}`, which none of its events has; the nearest is `{nearest}`"
                ));
            }
        }
    }
}
