//! The resources of the API, one file each.

pub(super) mod inbound;
pub(super) mod operations;
pub(super) mod order_events;
pub(super) mod orders;
pub(super) mod stages;
pub(super) mod webhooks;
