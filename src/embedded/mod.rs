//! (room of embedded)
