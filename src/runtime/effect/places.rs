//! Futures of one type, each made and polled where it stays.
//!
//! The attempt at a task is the one sort of work that is started for every record. Boxed, its future would be moved twice
//! before it is polled; here it is written to its place at once, and the place is used again.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Makes futures of jobs, and polls them, by the number of their place. Numbers are given out from 0 without gaps.
pub(super) trait Places<J, T> {
    /// Makes the future of `job` in a place (whatever was there is dropped) and polls it. One that is ready is gone.
    fn start(&mut self, place: usize, job: J, context: &mut Context<'_>) -> Poll<T>;

    /// Polls what is in a place. One that is ready is gone, and an empty place is never ready.
    fn poll(&mut self, place: usize, context: &mut Context<'_>) -> Poll<T>;

    /// Drops what is in a place.
    fn clear(&mut self, place: usize);
}

/// Places for the futures that `make` makes.
pub(super) struct Typed<M, F> {
    make: M,
    places: Vec<Pin<Box<Option<F>>>>,
}

impl<M, F> Typed<M, F> {
    pub(super) fn new<J>(make: M) -> Self
    where
        M: FnMut(J) -> F,
    {
        Self { make, places: Vec::new() }
    }
}

impl<J, T, M, F> Places<J, T> for Typed<M, F>
where
    M: FnMut(J) -> F,
    F: Future<Output = T>,
{
    fn start(&mut self, place: usize, job: J, context: &mut Context<'_>) -> Poll<T> {
        while self.places.len() <= place {
            self.places.push(Box::pin(None));
        }
        self.places[place].set(Some((self.make)(job)));
        self.poll(place, context)
    }

    fn poll(&mut self, place: usize, context: &mut Context<'_>) -> Poll<T> {
        let Some(future) = self.places[place].as_mut().as_pin_mut() else { return Poll::Pending };
        let polled = future.poll(context);
        if polled.is_ready() {
            self.clear(place);
        }
        polled
    }

    fn clear(&mut self, place: usize) {
        self.places[place].set(None);
    }
}
