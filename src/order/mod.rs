//! (room of order)
