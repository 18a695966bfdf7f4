//! Keeps memory bounded (invariant 6) without throwing away what was fetched ahead.
//!
//! Partitions share three quarters of the room as it comes: fetches bring long runs of one partition. Once that is
//! used up, a partition above its part of the last quarter first holds the reading of all back, for a moment: mostly
//! that is enough, and what librdkafka fetched ahead stays where it is. One that stays above it is paused, which drops
//! what was fetched of it, and the others go on in what is left; for a while after that it is paused at once, so that
//! it can't hold them back again and again.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::Links;
use super::context::Membership;
use crate::runtime::options::RuntimeOptions;

/// How long a full partition may hold back the others before it is paused.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a partition that was paused for being full gets no patience.
const IMPATIENCE: Duration = Duration::from_secs(30);

/// How full a partition is, over time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fullness {
    /// Since when it is above its share without being paused.
    since: Option<Instant>,
    /// When it was last paused for that.
    paused_at: Option<Instant>,
    /// Paused for that now.
    paused: bool,
}

impl Fullness {
    /// Follows a partition that is above its share, or not (`full`; for a paused one: above half of it). Answers
    /// whether it is to be paused.
    fn follow(&mut self, full: bool, now: Instant) -> bool {
        if !full {
            (self.since, self.paused) = (None, false);
        } else if !self.paused {
            let since = *self.since.get_or_insert(now);
            let recently = self.paused_at.is_some_and(|at| now - at < IMPATIENCE);
            if recently || now - since >= PATIENCE {
                (self.since, self.paused, self.paused_at) = (None, true, Some(now));
            }
        }
        self.paused
    }

    /// True while it holds the others back.
    fn holds(&self) -> bool {
        self.since.is_some()
    }
}

/// Pauses and resumes by memory, scan and stops; polling goes on either way. Answers whether nothing may be read now.
pub(super) fn hold_back(
    links: &Links,
    options: &RuntimeOptions,
    consumer: &BaseConsumer<Membership>,
    now: Instant,
) -> bool {
    let (mut pause, mut resume) = (TopicPartitionList::new(), TopicPartitionList::new());
    let mut holds = false;
    {
        let mut book = consumer.context().book();
        let shares = book.owned.len().max(1);
        let (mut records, mut bytes) = (0, 0);
        for owned in book.owned.values() {
            let (more_records, more_bytes) = owned.gauge.held();
            records += more_records;
            bytes += more_bytes;
        }
        let (most_records, most_bytes) = (options.max_buffered_records, options.max_buffered_bytes);
        let tight = records > most_records / 4 * 3 || bytes > most_bytes / 4 * 3;
        let (records, bytes) = (most_records / 4 / shares, most_bytes / 4 / shares);
        for (&partition, owned) in &mut book.owned {
            let full = tight && owned.gauge.is_full(owned.full.paused, records, bytes);
            let full = owned.full.follow(full, now);
            holds |= owned.full.holds();
            let stopped = links.desk.is_stopped(partition);
            let source = !(owned.held || full || owned.source_waits || stopped);
            if source != owned.source_flows {
                owned.source_flows = source;
                let list = if source { &mut resume } else { &mut pause };
                list.add_partition(&links.source, partition);
            }
            if let Some(retry) = &links.retry
                && owned.held == owned.retry_flows
            {
                owned.retry_flows = !owned.held;
                let list = if owned.held { &mut pause } else { &mut resume };
                list.add_partition(retry, partition);
            }
        }
    }
    if pause.count() > 0
        && let Err(error) = consumer.pause(&pause)
    {
        tracing::error!(%error, "partitions can't be paused");
    }
    if resume.count() > 0
        && let Err(error) = consumer.resume(&resume)
    {
        tracing::error!(%error, "partitions can't be resumed");
    }
    holds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_partition_holds_back_for_a_moment_and_is_then_paused_until_it_has_room() {
        let (mut fullness, start) = (Fullness::default(), Instant::now());
        assert!(!fullness.follow(true, start));
        assert!(fullness.holds());
        assert!(!fullness.follow(false, start));
        assert!(!fullness.holds(), "it drained");
        assert!(!fullness.follow(true, start));
        assert!(fullness.follow(true, start + PATIENCE));
        assert!(!fullness.holds(), "the others go on");
        assert!(fullness.follow(true, start + PATIENCE * 9));
        assert!(!fullness.follow(false, start + PATIENCE * 10));
        assert!(fullness.follow(true, start + PATIENCE * 11), "no patience so soon again");
        assert!(!fullness.follow(false, start + PATIENCE * 12));
        assert!(!fullness.follow(true, start + PATIENCE * 11 + IMPATIENCE));
    }
}
