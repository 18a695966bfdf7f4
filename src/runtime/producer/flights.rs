//! Many small records that travel together: while some are on their way, the others wait for them to be acknowledged,
//! and then leave all at once.
//!
//! Whoever comes alone leaves at once. Among many, each acknowledgement pays for as many records as came meanwhile, however
//! long it takes, so that neither Kafka nor the client has work per record; and the client, which sends no more than a few
//! messages of an idempotent producer's partition at a time, never has any left in its queue that it would look after
//! again and again. For records whose senders may wait, and whose order among each other doesn't matter.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// The next flight leaves after so long, acknowledged or not: records of one partition don't wait for a leader of another.
const LONGEST: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Debug, Default)]
pub struct Flights {
    schedule: Mutex<Schedule>,
    called: Notify,
}

#[derive(Debug, Default)]
struct Schedule {
    /// The flight that left last.
    last: u64,
    /// Records that left and aren't acknowledged.
    in_the_air: usize,
    /// Records that leave with the next flight.
    waiting: usize,
}

impl Schedule {
    fn leave(&mut self) {
        self.last += 1;
        self.in_the_air += std::mem::take(&mut self.waiting);
    }
}

/// A place on a flight, until the record is acknowledged or given up.
#[derive(Debug)]
pub struct Seat<'f> {
    flights: &'f Flights,
    flight: u64,
}

impl Flights {
    /// Waits until the next flight leaves; at once, when nothing is on its way. The seat is kept until the acknowledgement.
    pub async fn board(&self) -> Seat<'_> {
        let (seat, called) = {
            let mut schedule = self.lock();
            if schedule.in_the_air == 0 {
                schedule.in_the_air = 1;
                return Seat { flights: self, flight: schedule.last };
            }
            schedule.waiting += 1;
            // From here on it is called, polled or not.
            (Seat { flights: self, flight: schedule.last + 1 }, self.called.notified())
        };
        if tokio::time::timeout(LONGEST, called).await.is_err() {
            let mut schedule = self.lock();
            if schedule.last < seat.flight {
                self.depart(&mut schedule);
            }
        }
        seat
    }

    fn depart(&self, schedule: &mut Schedule) {
        schedule.leave();
        self.called.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut schedule = self.flights.lock();
        if schedule.last < self.flight {
            schedule.waiting -= 1;
            return;
        }
        schedule.in_the_air -= 1;
        if schedule.in_the_air == 0 && schedule.waiting > 0 {
            self.flights.depart(&mut schedule);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn who_comes_alone_leaves_at_once_and_the_others_together_when_it_landed() {
        let flights = Flights::default();
        let first = flights.board().await;
        let (mut second, mut third) = (pin!(flights.board()), pin!(flights.board()));
        assert!(poll!(&mut second).is_pending() && poll!(&mut third).is_pending());
        drop(first);
        let second = second.await;
        // The second is in the air: who comes now waits for the third as well, which was called with the second.
        let mut fourth = pin!(flights.board());
        assert!(poll!(&mut fourth).is_pending());
        let third = third.await;
        drop(second);
        assert!(poll!(&mut fourth).is_pending());
        drop(third);
        drop(fourth.await);
        assert_eq!(flights.lock().in_the_air, 0);
    }

    #[tokio::test]
    async fn who_gives_up_while_waiting_or_when_called_holds_nobody_up() {
        let flights = Flights::default();
        let first = flights.board().await;
        let mut others: Vec<_> = (0..3).map(|_| Box::pin(flights.board())).collect();
        for other in &mut others {
            assert!(poll!(other).is_pending());
        }
        others.pop();
        drop(first);
        others.pop();
        let seat = others.pop().expect("one is left").await;
        let mut next = pin!(flights.board());
        assert!(poll!(&mut next).is_pending());
        drop(seat);
        drop(next.await);
        let idle = flights.lock();
        assert_eq!((idle.in_the_air, idle.waiting), (0, 0));
    }

    #[tokio::test]
    async fn a_flight_that_is_long_on_its_way_holds_the_next_one_up_for_a_while_only() {
        let flights = Flights::default();
        let _lost = flights.board().await;
        let (second, third) = tokio::join!(flights.board(), flights.board());
        let mut fourth = pin!(flights.board());
        assert!(poll!(&mut fourth).is_pending());
        drop((second, third));
        assert!(poll!(&mut fourth).is_pending(), "the first is still on its way");
        drop(fourth.await);
        assert_eq!(flights.lock().in_the_air, 1);
    }
}
