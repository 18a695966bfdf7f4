//! What operators do to a running system: pausing, breakers, dead letters, lanes, replays.

mod pause;
mod pause_program;
mod redrive;
mod redrive_records;
