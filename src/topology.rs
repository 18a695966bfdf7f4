//! (room of topology)
