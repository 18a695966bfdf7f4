//! The one setting of the in-process broker that the safe wrapper doesn't offer.
//!
//! One of the three files of the crate that may hold `unsafe`. The reason: librdkafka's broker holds a group's first
//! members back for three seconds before it hands out partitions, as a real broker does by default, and only
//! a C call shortens that (`rd_kafka_mock_group_initial_rebalance_delay_ms`, rdkafka_mock.h). Without it each
//! start of `demo` and of every test with a consumer group would stand still for three seconds, and groups
//! whose session time-out is shorter than the delay would never settle.

#![expect(
    unsafe_code,
    reason = "two C calls that the wrapper lacks; the contract of each is stated at the call"
)]

use std::time::Duration;

use rdkafka::bindings::{rd_kafka_handle_mock_cluster, rd_kafka_mock_group_initial_rebalance_delay_ms};
use rdkafka::client::{Client, ClientContext};

/// Lets groups of the broker inside `client` settle `delay` after their first member came. False when the
/// client runs no broker.
pub(super) fn settle_groups_after<C: ClientContext>(client: &Client<C>, delay: Duration) -> bool {
    let delay_ms = i32::try_from(delay.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: `native_ptr` is the live handle that `client` owns, and the borrow keeps it alive to the end of
    // this function. The call only reads the handle's pointer to its broker.
    let cluster = unsafe { rd_kafka_handle_mock_cluster(client.native_ptr()) };
    if cluster.is_null() {
        return false;
    }
    // SAFETY: `cluster` isn't null and belongs to the handle, which outlives this call. The call sets one number
    // under the broker's own lock, so it may come from any thread.
    unsafe { rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, delay_ms) };
    true
}
