//! Numbers drawn from a seed: the same on every machine and in every version.

/// A stream of random numbers (SplitMix64; Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    /// Creates a stream; equal seeds give equal streams.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut draw = Self(seed);
        draw.bits();
        draw
    }

    /// Returns 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `end`; 0 when `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        let product = u128::from(self.bits()) * (end as u128);
        usize::try_from(product >> 64).unwrap_or(0)
    }

    /// Returns a number in [0, 1).
    pub fn unit(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
        let number = (self.bits() >> 11) as f64;
        number / 9_007_199_254_740_992.0
    }

    /// Returns an exponentially distributed time with this mean.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// Returns an index, drawn by weight.
    pub fn weighted(&mut self, weights: &[u32]) -> usize {
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let mut left = self.below(usize::try_from(total).unwrap_or(usize::MAX)) as u64;
        for (at, weight) in weights.iter().enumerate() {
            match left.checked_sub(u64::from(*weight)) {
                Some(rest) => left = rest,
                None => return at,
            }
        }
        weights.len().saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_for_ever() {
        let mut draw = Draw::new(7);
        let first: Vec<usize> = (0..6).map(|_| draw.below(100)).collect();
        let mut again = Draw::new(7);
        assert_eq!(first, (0..6).map(|_| again.below(100)).collect::<Vec<_>>());
        assert!(first.iter().any(|number| *number != first[0]));
    }

    #[test]
    fn weights_are_met() {
        let mut draw = Draw::new(1);
        let mut seen = [0u32; 3];
        (0..30_000).for_each(|_| seen[draw.weighted(&[1, 0, 2])] += 1);
        assert_eq!(seen[1], 0);
        assert!((9_500..10_500).contains(&seen[0]), "{seen:?}");
    }
}
