//! The templates of `templates/`, compiled into the program: one line a file, which a test compares with the folder.

macro_rules! embedded {
    ($($name:literal,)+) => {
        /// Names and sources, as they lie below `templates/`.
        pub(super) const EMBEDDED: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../../templates/", $name)))),+];
    };
}

embedded! {
    "dispute.assigned/live.en.txt",
    "dispute.assigned/message.en.txt",
    "dispute.closed/live.en.txt",
    "dispute.closed/message.en.txt",
    "dispute.escalated/live.en.txt",
    "dispute.escalated/message.en.txt",
    "dispute.initiated/email.de.html",
    "dispute.initiated/email.de.subject",
    "dispute.initiated/email.de.txt",
    "dispute.initiated/email.en.html",
    "dispute.initiated/email.en.subject",
    "dispute.initiated/email.en.txt",
    "dispute.initiated/live.de.txt",
    "dispute.initiated/live.en.txt",
    "dispute.initiated/message.de.txt",
    "dispute.initiated/message.en.txt",
    "dispute.resolved/email.en.html",
    "dispute.resolved/email.en.subject",
    "dispute.resolved/email.en.txt",
    "dispute.resolved/live.en.txt",
    "dispute.resolved/message.en.txt",
    "layout.html",
    "order.cancelled/email.en.html",
    "order.cancelled/email.en.subject",
    "order.cancelled/email.en.txt",
    "order.cancelled/live.en.txt",
    "order.cancelled/message.en.txt",
    "order.completed/live.en.txt",
    "order.completed/message.en.txt",
    "order.created/email.de.html",
    "order.created/email.de.subject",
    "order.created/email.de.txt",
    "order.created/email.en.html",
    "order.created/email.en.subject",
    "order.created/email.en.txt",
    "order.created/live.de.txt",
    "order.created/live.en.txt",
    "order.created/message.de.txt",
    "order.created/message.en.txt",
    "order.delivered/email.en.html",
    "order.delivered/email.en.subject",
    "order.delivered/email.en.txt",
    "order.delivered/live.en.txt",
    "order.delivered/message.en.txt",
    "order.paid/email.de.html",
    "order.paid/email.de.subject",
    "order.paid/email.de.txt",
    "order.paid/email.en.html",
    "order.paid/email.en.subject",
    "order.paid/email.en.txt",
    "order.paid/live.de.txt",
    "order.paid/live.en.txt",
    "order.paid/message.de.txt",
    "order.paid/message.en.txt",
    "order.refunded/email.en.html",
    "order.refunded/email.en.subject",
    "order.refunded/email.en.txt",
    "order.refunded/live.en.txt",
    "order.refunded/message.en.txt",
    "order.returned/email.en.html",
    "order.returned/email.en.subject",
    "order.returned/email.en.txt",
    "order.returned/live.en.txt",
    "order.returned/message.en.txt",
    "order.shipped/email.de.html",
    "order.shipped/email.de.subject",
    "order.shipped/email.de.txt",
    "order.shipped/email.en.html",
    "order.shipped/email.en.subject",
    "order.shipped/email.en.txt",
    "order.shipped/live.de.txt",
    "order.shipped/live.en.txt",
    "order.shipped/message.de.txt",
    "order.shipped/message.en.txt",
    "order.status_changed/live.en.txt",
    "order.status_changed/message.en.txt",
    "payment.failed/email.en.html",
    "payment.failed/email.en.subject",
    "payment.failed/email.en.txt",
    "payment.failed/live.en.txt",
    "payment.failed/message.en.txt",
    "shipment.delayed/email.en.html",
    "shipment.delayed/email.en.subject",
    "shipment.delayed/email.en.txt",
    "shipment.delayed/live.en.txt",
    "shipment.delayed/message.en.txt",
    "shipment.tracking_updated/live.en.txt",
    "webhook.disabled/email.en.html",
    "webhook.disabled/email.en.subject",
    "webhook.disabled/email.en.txt",
    "webhook.failing/email.en.html",
    "webhook.failing/email.en.subject",
    "webhook.failing/email.en.txt",
    "webhook.gap/email.en.html",
    "webhook.gap/email.en.subject",
    "webhook.gap/email.en.txt",
    "webhook.recovered/email.en.html",
    "webhook.recovered/email.en.subject",
    "webhook.recovered/email.en.txt",
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_compiled_in() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
        let mut found = BTreeSet::new();
        for entry in std::fs::read_dir(&root).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            if entry.path().is_dir() {
                for file in std::fs::read_dir(entry.path()).unwrap().map(Result::unwrap) {
                    found.insert(format!("{name}/{}", file.file_name().into_string().unwrap()));
                }
            } else if name != "README.md" {
                found.insert(name);
            }
        }
        let listed: BTreeSet<_> = EMBEDDED.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(listed, found);
    }
}
