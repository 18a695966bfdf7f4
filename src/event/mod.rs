//! (room of event)
