//! (room of runtime)
