//! Seeded chance: whether something happens to a thing depends on the seed and the thing's name alone, so a
//! run can be repeated whatever the timing.

/// One of `sides` numbers from 0, decided by `seed` and `name` (FNV-1a with a finishing mix).
pub(super) fn roll(seed: u64, name: &str, sides: u64) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hash = name.bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (mixed ^ (mixed >> 33)) % sides.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_fair_and_repeatable() {
        let hits = (0..10_000).filter(|n| roll(7, &format!("evt_{n}"), 10) == 0).count();
        assert!((800..1200).contains(&hits), "{hits}");
        assert_eq!(roll(7, "evt_1", 1_000_000), roll(7, "evt_1", 1_000_000));
        assert_ne!(roll(7, "evt_1", 1_000_000), roll(8, "evt_1", 1_000_000));
    }
}
