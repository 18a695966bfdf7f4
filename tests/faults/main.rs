//! The engine under fire: members as processes of their own that are killed, frozen and stopped; a Kafka of this
//! binary's own that is killed, restarted and frozen; proxies that cut, delay and half-close; targets that hang and
//! refuse; a full disk. What happens follows from a seed, so that a failing run can be had again.
//!
//! ```text
//! traffic ──► own broker ◄──proxy── members (child processes) ──proxy──► outside (what took effect, when, by whom)
//!                                        └──proxy──► database, registry
//! ```
//!
//! A short set runs with every `cargo test`. The long set, and what takes minutes, are ignored tests with commands in
//! docs/testing.md.

#[expect(dead_code, reason = "the scenarios' harness, of which the faults use a part")]
#[path = "../it/harness/mod.rs"]
mod harness;

mod broker;
mod checks;
mod disk;
mod inject;
mod leaving;
mod member;
mod member_process;
mod outside;
mod plan;
mod producer;
mod proxy;
mod results;
mod run;
mod scenarios;
mod scene;
mod seeds;
mod sigkill;
mod store_part;
mod traffic;
