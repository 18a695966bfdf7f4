//! (room of http)
