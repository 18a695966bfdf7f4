//! A stage that the topology gives some tenants alone takes no others' events, whatever their headers say.

use std::collections::BTreeSet;

use orderflow::event::{Event, Factory};
use orderflow::runtime::{Headers, Intake, SkipReason};
use orderflow::stages::StageOptions;

use crate::harness::program::TestProgram;

#[tokio::test]
async fn events_of_other_tenants_are_skipped_by_what_the_record_says() {
    let program = TestProgram::new("ops-tenants", StageOptions::default()).await;
    for tenant in ["shop", "market"] {
        let event: Event = Factory::new(tenant, "it").order_completed("o-1", 1_760_000_000_000).into();
        program.publish(&event).await;
    }
    let reader = program.parts.reader("history").for_tenants(BTreeSet::from(["shop".to_owned()]));
    let mut taken = Vec::new();
    for mut record in program.kafka.all(&program.topic("orders.events")).await {
        record.headers = Headers::from(vec![("ce_tenant".to_owned(), b"shop".to_vec())]);
        match reader.read(&record, |_| true).await {
            Intake::Ready(reading) => taken.push(reading.event.meta().tenant_id.clone()),
            Intake::Skipped(reason) => assert_eq!(reason, SkipReason::Filtered),
            Intake::Dead(why) | Intake::Retry(why) | Intake::Unavailable(why) => panic!("{why}"),
        }
    }
    assert_eq!(taken, ["shop"]);
    program.end().await;
}
