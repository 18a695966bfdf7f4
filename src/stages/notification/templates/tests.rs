//! Every template, rendered with samples that are as full and as bare as events can be.

use super::*;
use crate::event::{DisputeOutcome, DisputeStage, Event, Factory, LineItem, OrderStatus, Party};
use crate::stages::notification::context::context;
use crate::stages::notification::plan::Contact;
use crate::stages::notification::rules::{RULES, rule_of};
use crate::store::conversations::Role;

fn contact() -> Contact {
    Contact {
        name: Some("Ada <b>".to_owned()),
        time_zone: Some("Asia/Tokyo".to_owned()),
        ..Contact::default()
    }
}

/// One event of every type that has a rule, with everything that may be missing missing.
fn bare() -> Vec<Event> {
    let f = Factory::new("shop", "test");
    let money = || Money::new(1999, "EUR");
    let party = Party::default;
    vec![
        f.order_created("o", 1, 7, party(), party(), Vec::new(), money()).into(),
        f.payment_processed("o", 1, "p", "card", money()).into(),
        f.order_paid("o", 1, "p", "card", money()).into(),
        f.payment_failed("o", 1, "p", "card", money()).into(),
        f.order_shipped("o", 1, "DHL", "T1").into(),
        f.shipment_tracking_updated("o", 1, "T1", "in transit").into(),
        f.shipment_delayed("o", 1, "T1").into(),
        f.order_delivered("o", 1, 1).into(),
        f.order_completed("o", 1).into(),
        f.order_cancelled("o", 1, "changed my mind").into(),
        f.order_returned("o", 1, Vec::new()).into(),
        f.order_refunded("o", 1, "r", money(), "card").into(),
        f.order_status_changed("o", 1, OrderStatus::Created, OrderStatus::Confirmed).into(),
        f.dispute_initiated("o", 1, "d", "u", "not_received").into(),
        f.dispute_assigned("o", 1, "d", "m").into(),
        f.dispute_escalated("o", 1, "d", DisputeStage::Inquiry, DisputeStage::PreArbitration).into(),
        f.dispute_resolved("o", 1, "d", DisputeOutcome::Won).into(),
        f.dispute_closed("o", 1, "d").into(),
    ]
}

/// The same with everything that may be there filled in.
#[expect(clippy::wildcard_enum_match_arm, reason = "the others have nothing that may be missing")]
fn full() -> Vec<Event> {
    let text = || Some("<i>because</i>".to_owned());
    let line = || LineItem {
        title: "Tea & mug".to_owned(),
        quantity: 2,
        unit_price: Money::new(250, "EUR"),
        ..LineItem::default()
    };
    let mut events = bare();
    for event in &mut events {
        match event {
            Event::OrderCreated(e) => {
                e.lines = vec![line(), line()];
                e.estimated_delivery = Some(86_400_000);
            }
            Event::PaymentFailed(e) => e.failure_code = text(),
            Event::OrderShipped(e) => {
                e.tracking_url = Some("https://example.com/?a=1&b=2".to_owned());
                e.estimated_delivery = Some(86_400_000);
            }
            Event::ShipmentTrackingUpdated(e) => e.location = text(),
            Event::ShipmentDelayed(e) => (e.estimated_delivery, e.reason) = (Some(1), text()),
            Event::OrderDelivered(e) => e.signed_by = text(),
            Event::OrderCancelled(e) => {
                (e.refund_amount, e.refund_method) = (Some(Money::new(500, "JPY")), text());
            }
            Event::OrderReturned(e) => (e.lines, e.reason) = (vec![line()], text()),
            Event::OrderStatusChanged(e) => e.reason = text(),
            Event::DisputeInitiated(e) => e.amount = Some(Money::new(1250, "BHD")),
            Event::DisputeEscalated(e) => (e.reason, e.respond_by) = (text(), Some(1)),
            Event::DisputeResolved(e) => e.amount = Some(Money::new(1, "EUR")),
            Event::DisputeClosed(e) => e.reason = text(),
            _ => {}
        }
    }
    events
}

fn render(event: &Event, channel: Channel, locale: &str) -> Rendered {
    let templates = Templates::load(None).expect("our own templates load");
    let rule = rule_of(event.event_type()).expect("a rule");
    let context = context(event, Some(1042), Some((Role::Buyer, &contact())), locale);
    templates.render(rule.template, channel, locale, &context).expect("it renders")
}

#[test]
fn every_template_renders_with_full_and_bare_events_for_every_role() {
    let templates = Templates::load(None).unwrap();
    let samples: Vec<_> = bare().into_iter().chain(full()).collect();
    let mut rendered = std::collections::BTreeSet::new();
    for event in &samples {
        let rule = rule_of(event.event_type()).unwrap();
        for locale in ["en", "de"] {
            let locale_of = templates.message_locale(rule.template, Some(locale));
            let text =
                templates.render_message(rule.template, &locale_of, &context(event, None, None, &locale_of));
            if rule.message {
                assert!(!text.unwrap().is_empty());
                rendered.insert(format!("{}/message.{locale_of}.txt", rule.template));
            }
            for (role, channels) in rule.tells {
                for channel in *channels {
                    for contact in [Contact::default(), contact()] {
                        let locale = templates.locale(rule.template, *channel, Some(locale));
                        let context = context(event, Some(7), Some((*role, &contact)), &locale);
                        let said = templates.render(rule.template, *channel, &locale, &context).unwrap();
                        assert!(!said.text.is_empty() && !said.text.contains("none"), "{}", said.text);
                        assert!(!said.text.contains("\n\n\n") && !said.text.contains("{{"), "{}", said.text);
                        let parts: &[&str] = match channel {
                            Channel::Live => &["txt"],
                            Channel::Email => &["subject", "txt", "html"],
                        };
                        for part in parts {
                            rendered.insert(format!(
                                "{}/{}.{locale}.{part}",
                                rule.template,
                                channel.as_str()
                            ));
                        }
                    }
                }
            }
        }
    }
    let named: Vec<_> =
        EMBEDDED.iter().map(|(name, _)| *name).filter(|name| *name != "layout.html").collect();
    // Those about endpoints are rendered where they are used.
    let named: Vec<_> = named.into_iter().filter(|name| !name.starts_with("webhook.")).collect();
    let missed: Vec<_> = named.iter().filter(|name| !rendered.contains(**name)).collect();
    assert!(missed.is_empty(), "never rendered: {missed:?}");
    assert!(RULES.iter().all(|rule| samples.iter().any(|event| event.event_type() == rule.event)));
}

#[test]
fn html_is_escaped_and_text_is_not() {
    let created = full().remove(0);
    let mail = render(&created, Channel::Email, "en");
    let html = mail.html.unwrap();
    assert!(html.contains("Ada &lt;b&gt;") && html.contains("Tea &amp; mug"), "{html}");
    assert!(mail.text.starts_with("Hello Ada <b>,\n\nthank you"), "{}", mail.text);
    assert!(mail.text.contains("- 2 × Tea & mug, each 2.50 EUR\n- 2 × Tea"), "{}", mail.text);
    assert_eq!(mail.subject.as_deref(), Some("Your order 1042 is confirmed"));
}

#[test]
fn only_web_addresses_become_links() {
    let Event::OrderShipped(mut shipped) = full().remove(4) else { panic!("the fifth is shipped") };
    let html = render(&Event::OrderShipped(shipped.clone()), Channel::Email, "de").html.unwrap();
    assert!(html.contains("href=\"https:&#x2f;&#x2f;example.com"), "{html}");
    shipped.tracking_url = Some("javascript:alert(1)".to_owned());
    let html = render(&Event::OrderShipped(shipped), Channel::Email, "de").html.unwrap();
    assert!(html.contains("href=\"#\"") && !html.contains("javascript"), "{html}");
}

#[test]
fn languages_fall_back_to_their_base_and_then_to_english() {
    let templates = Templates::load(None).unwrap();
    for (wanted, expected) in
        [(Some("de-AT"), "de"), (Some("de"), "de"), (Some("fr-FR"), "en"), (Some(""), "en"), (None, "en")]
    {
        assert_eq!(templates.locale("order.created", Channel::Email, wanted), expected, "{wanted:?}");
    }
    assert_eq!(templates.locale("order.cancelled", Channel::Email, Some("de")), "en");
}

#[test]
fn dates_are_the_recipients_and_subjects_have_one_line() {
    let mut event = full().remove(0);
    if let Event::OrderCreated(created) = &mut event {
        created.estimated_delivery = Some(1_700_000_000_000 - 6 * 3_600_000);
    }
    // 2023-11-14T16:13Z is the 15th in Tokyo.
    assert!(render(&event, Channel::Email, "en").text.contains("2023-11-15"));
    assert!(render(&event, Channel::Email, "de").text.contains("15.11.2023"));
    assert_eq!(one_line("a\r\nBcc: x\u{0}\ty "), "a Bcc: x y");
}

#[test]
fn own_files_take_the_place_of_ours_and_mistakes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("order.paid")).unwrap();
    let file = folder.path().join("order.paid/live.en.txt");
    std::fs::write(&file, "Cash! {{ event.amount | money }}").unwrap();
    let templates = Templates::load(Some(folder.path())).unwrap();
    let paid: Event = Factory::new("s", "t").order_paid("o", 1, "p", "card", Money::new(500, "JPY")).into();
    let said =
        templates.render("order.paid", Channel::Live, "en", &context(&paid, None, None, "en")).unwrap();
    assert_eq!(said.text, "Cash! 500 JPY");

    std::fs::write(&file, "{{ event.nothing }}").unwrap();
    let templates = Templates::load(Some(folder.path())).unwrap();
    let error =
        templates.render("order.paid", Channel::Live, "en", &context(&paid, None, None, "en")).unwrap_err();
    assert!(error.to_string().contains("order.paid/live.en.txt"), "{error}");
    std::fs::write(&file, "{{ oops").unwrap();
    assert!(Templates::load(Some(folder.path())).is_err());
}
