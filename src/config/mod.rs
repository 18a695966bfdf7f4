//! (room of config)
