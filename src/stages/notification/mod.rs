//! The notification stage: keeps the conversation of each order and decides who is told what.

mod context;
mod embedded;
mod facts;
mod money;
mod plan;
mod rules;
mod templates;
