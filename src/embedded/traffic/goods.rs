//! What is sold, by whom, to whom and how it travels: the small world that generated orders take place in.

use rand::Rng;
use rand::rngs::SmallRng;

use crate::event::{Address, LineItem, Money, Party};

/// Product id, title, price in cents.
const PRODUCTS: &[(&str, &str, i64)] = &[
    ("p-kettle", "Kettle, 1.7 l", 3_990),
    ("p-lamp", "Desk lamp, brass", 7_450),
    ("p-mug", "Mug, stoneware", 1_290),
    ("p-chair", "Oak chair", 18_900),
    ("p-book", "The Art of Queues", 2_650),
    ("p-boots", "Hiking boots", 14_900),
    ("p-tent", "Tent for two", 24_900),
    ("p-radio", "Kitchen radio", 8_900),
    ("p-pen", "Fountain pen", 4_900),
    ("p-scarf", "Wool scarf", 5_200),
];

const FIRST_NAMES: &[&str] =
    &["Ada", "Bruno", "Chiara", "David", "Elif", "Farid", "Greta", "Hana", "Ivan", "Jana"];
const LAST_NAMES: &[&str] = &["Keller", "Lopez", "Meier", "Novak", "Okafor", "Petit", "Rossi", "Sato"];

/// City, postal code, country, locale, time zone, currency.
const PLACES: &[(&str, &str, &str, &str, &str, &str)] = &[
    ("Zürich", "8004", "CH", "de-CH", "Europe/Zurich", "CHF"),
    ("Berlin", "10115", "DE", "de-DE", "Europe/Berlin", "EUR"),
    ("Lyon", "69002", "FR", "fr-FR", "Europe/Paris", "EUR"),
    ("Austin", "73301", "US", "en-US", "America/Chicago", "USD"),
    ("London", "EC1A 1BB", "GB", "en-GB", "Europe/London", "GBP"),
];

/// Carriers and the page on which a shipment of theirs is followed.
pub(super) const CARRIERS: &[(&str, &str)] = &[
    ("DHL", "https://www.dhl.example/track/"),
    ("UPS", "https://www.ups.example/track/"),
    ("Swiss Post", "https://post.example/track/"),
];

/// How buyers pay.
pub(super) const METHODS: &[&str] = &["card", "card", "card", "paypal", "invoice"];

/// How many buyers and sellers there are.
const BUYERS: u32 = 500;
const SELLERS: u32 = 20;

/// Who and what one order is about.
#[derive(Debug, Clone)]
pub(super) struct Deal {
    pub(super) buyer: Party,
    pub(super) seller: Party,
    pub(super) address: Address,
    pub(super) lines: Vec<LineItem>,
    pub(super) total: Money,
}

/// One of `choices`.
pub(super) fn pick<'a, T>(chance: &mut SmallRng, choices: &'a [T]) -> &'a T {
    &choices[chance.random_range(0..choices.len())]
}

impl Deal {
    /// A deal in `tenant`; its addresses name the tenant, so that a mail to the wrong one is seen.
    pub(super) fn new(chance: &mut SmallRng, tenant: &str) -> Self {
        let (city, postal_code, country, _, _, currency) = *pick(chance, PLACES);
        let buyer = party(chance, "buyer", BUYERS, tenant);
        let seller = party(chance, "seller", SELLERS, tenant);
        let count = chance.random_range(1..=3);
        let lines: Vec<_> = (0..count).map(|_| line(chance, currency)).collect();
        let total = lines.iter().map(|line| line.unit_price.amount_minor * i64::from(line.quantity)).sum();
        let address = Address {
            recipient: buyer.name.clone(),
            line1: format!("Main Street {}", chance.random_range(1..200)),
            city: city.to_owned(),
            postal_code: Some(postal_code.to_owned()),
            country: country.to_owned(),
            ..Address::default()
        };
        Self { buyer, seller, address, lines, total: Money::new(total, currency) }
    }
}

fn party(chance: &mut SmallRng, kind: &str, of: u32, tenant: &str) -> Party {
    let number = chance.random_range(1..=of);
    // Who somebody is follows from the number, so that a user is the same person in every order.
    let index = number as usize;
    let (first, last) = (FIRST_NAMES[index % FIRST_NAMES.len()], LAST_NAMES[index % LAST_NAMES.len()]);
    let (_, _, _, locale, zone, _) = PLACES[index % PLACES.len()];
    Party {
        user_id: format!("{kind}-{number}"),
        name: Some(format!("{first} {last}")),
        email: Some(format!("{kind}-{number}@{tenant}.example")),
        phone: Some(format!("+4179{number:07}")),
        locale: Some(locale.to_owned()),
        time_zone: Some(zone.to_owned()),
    }
}

fn line(chance: &mut SmallRng, currency: &str) -> LineItem {
    let (product, title, price) = *pick(chance, PRODUCTS);
    LineItem {
        product_id: product.to_owned(),
        sku: Some(format!(
            "{}-{}",
            product.trim_start_matches("p-").to_uppercase(),
            chance.random_range(1..4)
        )),
        title: title.to_owned(),
        quantity: chance.random_range(1..=3),
        unit_price: Money::new(price, currency),
    }
}
