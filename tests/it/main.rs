//! End-to-end scenarios on real services, one binary. Each file says what a user could see.

mod harness;

mod runtime_store;
