//! Amounts as people read them: decimals by currency, separators by language.

use crate::event::Money;

/// `money` with its currency's decimals and the separators of `locale`, such as `1,234.50 EUR`, `1.234,50 EUR`
/// for German, `500 JPY`, `1.250 BHD`.
pub fn format(money: &Money, locale: &str) -> String {
    let (group, point) = separators(locale);
    let decimals = decimals(&money.currency);
    let digits = format!("{:0>width$}", money.amount_minor.unsigned_abs(), width = decimals + 1);
    let (whole, fraction) = digits.split_at(digits.len() - decimals);
    let mut text = String::new();
    if money.amount_minor < 0 {
        text.push('-');
    }
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            text.push(group);
        }
        text.push(digit);
    }
    if decimals > 0 {
        text.push(point);
        text.push_str(fraction);
    }
    format!("{text} {}", money.currency)
}

/// How many decimals a currency has (ISO 4217, table A.1); 2 for those not named here.
fn decimals(currency: &str) -> usize {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI"
        | "VND" | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        "CLF" | "UYW" => 4,
        _ => 2,
    }
}

/// Between groups of three digits, and before the decimals.
fn separators(locale: &str) -> (char, char) {
    match locale.split(['-', '_']).next().unwrap_or_default() {
        "de" if locale.ends_with("CH") || locale.ends_with("LI") => ('’', '.'),
        "de" | "es" | "it" | "nl" | "pt" | "da" | "id" | "tr" => ('.', ','),
        "fr" | "sv" | "nb" | "fi" | "pl" | "cs" | "uk" | "ru" => ('\u{202f}', ','),
        _ => (',', '.'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_follow_currency_and_language() {
        for (minor, currency, locale, expected) in [
            (123_450, "EUR", "en", "1,234.50 EUR"),
            (123_450, "EUR", "de-AT", "1.234,50 EUR"),
            (123_450, "CHF", "de-CH", "1’234.50 CHF"),
            (5, "USD", "en", "0.05 USD"),
            (-199, "USD", "en", "-1.99 USD"),
            (500, "JPY", "en", "500 JPY"),
            (1_000_000, "JPY", "de", "1.000.000 JPY"),
            (1250, "BHD", "en", "1.250 BHD"),
            (0, "KWD", "en", "0.000 KWD"),
            (i64::MIN, "EUR", "en", "-92,233,720,368,547,758.08 EUR"),
        ] {
            assert_eq!(format(&Money::new(minor, currency), locale), expected);
        }
    }
}
