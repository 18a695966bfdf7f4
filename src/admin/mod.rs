//! (room of admin)
