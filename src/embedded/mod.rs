//! Everything the program needs from outside, inside one process: for `demo` and for tests.
//!
//! A Kafka broker, a schema registry, a mail server and partners that receive webhooks. They are real at the
//! wire: the rest of the program talks to them over TCP and can't tell the difference, and so can producers and
//! consumers of other processes. What must not live here: anything that production relies on.

pub mod broker;
mod chance;
pub mod demo;
pub mod feed;
pub mod ledger;
pub mod mailbox;
mod mock_settings;
pub mod partners;
pub mod registry;
pub mod services;
pub mod traffic;
