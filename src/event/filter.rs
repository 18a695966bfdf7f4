//! Filters on a JSON body: a safe subset of JSONPath (RFC 9535). Pure.
//!
//! A body passes when the query selects at least one node of it. Whoever may register a filter chooses what is
//! evaluated for every event, so the subset leaves out what costs more than one walk over the body: descendants (`..`),
//! several selectors in one bracket (`,`), functions, and, within a filter expression, everything but names and indices.
//! What is left costs at most (nodes of the body) × (length of the query).

use std::fmt;

use serde_json::Value;
use serde_json_path::JsonPath;

/// The longest query, in bytes.
const LONGEST: usize = 500;
/// Brackets within brackets, at most.
const DEEPEST: usize = 8;

/// A query that decides on bodies.
#[derive(Debug, Clone, PartialEq)]
pub struct BodyFilter {
    text: String,
    path: JsonPath,
}

/// Why a text is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Too long.
    #[error("must have at most {LONGEST} bytes")]
    TooLong,
    /// Valid JSONPath perhaps, but not of the subset.
    #[error("must not hold {0}")]
    NotAllowed(&'static str),
    /// No JSONPath.
    #[error("isn't JSONPath (RFC 9535): {0}")]
    Syntax(String),
}

impl BodyFilter {
    /// The filter that `text` says.
    ///
    /// # Errors
    /// When it isn't JSONPath, or not of the subset.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.len() > LONGEST {
            return Err(FilterError::TooLong);
        }
        keep_to_the_subset(text)?;
        let path = JsonPath::parse(text).map_err(|error| FilterError::Syntax(error.to_string()))?;
        Ok(Self { text: text.to_owned(), path })
    }

    /// Whether `body` passes.
    pub fn passes(&self, body: &Value) -> bool {
        !self.path.query(body).is_empty()
    }
}

impl fmt::Display for BodyFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Walks over `text` outside its strings. What is no JSONPath at all is left to the parser.
fn keep_to_the_subset(text: &str) -> Result<(), FilterError> {
    let refuse = |what| Err(FilterError::NotAllowed(what));
    // The brackets that are open, and whether each is (or lies within) a filter expression.
    let mut open: Vec<bool> = Vec::new();
    let mut quote = None;
    let mut before = ' ';
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if let Some(end) = quote {
            match letter {
                '\\' => drop(letters.next()),
                _ if letter == end => quote = None,
                _ => {}
            }
            continue;
        }
        let within = open.last().copied().unwrap_or(false);
        match letter {
            '\'' | '"' => quote = Some(letter),
            '.' if before == '.' => return refuse("descendants (`..`)"),
            ',' => return refuse("several selectors in one bracket"),
            '(' if before.is_ascii_alphanumeric() || before == '_' => return refuse("functions"),
            '?' if within => return refuse("a filter within a filter"),
            '*' | ':' if within => return refuse("wildcards or slices within a filter expression"),
            '[' | '(' if open.len() == DEEPEST => return refuse("so many brackets within brackets"),
            '[' | '(' => open.push(within),
            ']' | ')' => drop(open.pop()),
            '?' => {
                if let Some(innermost) = open.last_mut() {
                    *innermost = true;
                }
            }
            _ => {}
        }
        before = letter;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_body_passes_when_something_of_it_is_selected() {
        let body = json!({
            "event": "order.shipped",
            "data": {"orderId": "o-1", "status": "shipped", "total": 129.90, "currency": "EUR",
                     "items": [{"sku": "A,1", "quantity": 2}, {"sku": "B..2", "quantity": 1}]}
        });
        for (text, passes) in [
            ("$", true),
            ("$.data.shipment", false),
            ("$.data.items[*].sku", true),
            ("$.data.items[0:1]", true),
            ("$.data.items[?@.quantity > 1]", true),
            ("$.data.items[?@.quantity > 2]", false),
            ("$[?$.data.total >= 100 && $.data.currency == 'EUR']", true),
            ("$[?$.data.total >= 100 && ($.data.currency == 'USD' || $.event == \"order.paid\")]", false),
            ("$[?!$.data.shipment]", true),
            ("$[?@.status == 'shipped']", true),
            ("$.data.items[?@['sku'] == 'A,1']", true),
            ("$.data.items[?@.sku == 'B..2'].quantity", true),
            ("$.data.items[?@.sku == 'it\\'s (*:?)']", false),
        ] {
            let filter = BodyFilter::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(filter.passes(&body), passes, "{text}");
            assert_eq!(filter.to_string(), text);
        }
    }

    #[test]
    fn what_costs_too_much_or_says_nothing_is_no_filter() {
        for text in [
            "",
            "data",
            "$.",
            "$[",
            "$..sku",
            "$.data..sku",
            "$['a','b']",
            "$[*,*]",
            "$[?$[?@.a]]",
            "$[?$.data[*].a]",
            "$[?$.data[0:9].a]",
            "$[?length(@.a) > 1]",
            "$[?match(@.a, 'x')]",
            "$[?@.a == 1",
            "$[?((((((((@.a))))))))]",
            "$.data; drop",
        ] {
            assert!(BodyFilter::parse(text).is_err(), "{text}");
        }
        assert_eq!(BodyFilter::parse(&format!("$.{}", "a".repeat(LONGEST))), Err(FilterError::TooLong));
        assert!(BodyFilter::parse(&"[".repeat(LONGEST)).is_err(), "no deep recursion");
    }

    #[test]
    fn the_costliest_filter_of_the_subset_takes_one_walk() {
        let items: Vec<Value> = (0..2_000).map(|number| json!({"quantity": number})).collect();
        let body = json!({"data": {"items": items}});
        let each = "@.quantity==-1||".repeat(26);
        let filter = BodyFilter::parse(&format!("$.data.items[?{each}$.data.items[0].x]")).unwrap();
        assert!(!filter.passes(&body));
    }
}
