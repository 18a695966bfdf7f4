//! A time in six bytes instead of eight: there may be a million tasks with two of them each. Pure.

/// Epoch milliseconds up to four thousand years from 1970, before and behind; what lies further is "never": `i64::MIN` before,
/// `i64::MAX` behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment([u8; 6]);

const HIGHEST: i64 = (1 << 47) - 1;
const LOWEST: i64 = -HIGHEST - 1;

impl Moment {
    /// Before all times.
    pub(super) const NONE: Self = Self([0, 0, 0, 0, 0, 0x80]);

    #[inline]
    pub(super) fn ms(self) -> i64 {
        let Self([a, b, c, d, e, f]) = self;
        // The upper six bytes, so that the sign comes down with them.
        match i64::from_le_bytes([0, 0, a, b, c, d, e, f]) >> 16 {
            HIGHEST => i64::MAX,
            LOWEST => i64::MIN,
            ms => ms,
        }
    }
}

impl From<i64> for Moment {
    #[inline]
    fn from(ms: i64) -> Self {
        let [a, b, c, d, e, f, ..] = ms.clamp(LOWEST, HIGHEST).to_le_bytes();
        Self([a, b, c, d, e, f])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back_as_they_were_and_never_stays_never() {
        assert_eq!(Moment::from(i64::MIN), Moment::NONE);
        // The last is in the year 6000.
        for ms in [i64::MIN, -1, 0, 1, 255, 1 << 46, 1_790_000_000_123, 127_174_492_800_000, i64::MAX] {
            assert_eq!(Moment::from(ms).ms(), ms);
        }
        assert_eq!(Moment::from(1 << 50).ms(), i64::MAX);
    }
}
