//! What operators do to a running system: pausing, breakers, dead letters, lanes, replays.

mod filters;
mod lag;
mod pause;
mod pause_program;
mod port;
mod redrive;
mod redrive_records;
mod replay;
