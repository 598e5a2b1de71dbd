//! A set of small numbers that finds its next member in a few steps, however large it is.

/// A set of numbers below a fixed end, as bits with a summary of 64 words above each.
#[derive(Clone, Debug)]
pub struct Bits {
    levels: Vec<Vec<u64>>,
}

impl Bits {
    /// Creates an empty set of numbers below `end`.
    #[must_use]
    pub fn new(end: usize) -> Self {
        let mut levels = Vec::new();
        let mut words = end.div_ceil(64).max(1);
        loop {
            levels.push(vec![0; words]);
            if words == 1 {
                return Self { levels };
            }
            words = words.div_ceil(64);
        }
    }

    /// Returns the bytes it holds.
    pub(super) fn bytes(&self) -> usize {
        self.levels.iter().map(|level| level.capacity() * size_of::<u64>()).sum()
    }

    /// Puts a number in or takes it out.
    pub fn set(&mut self, number: usize, member: bool) {
        let mut at = number;
        for level in &mut self.levels {
            let (word, bit) = (at / 64, 1u64 << (at % 64));
            if member {
                level[word] |= bit;
            } else {
                level[word] &= !bit;
                if level[word] != 0 {
                    return;
                }
            }
            at = word;
        }
    }

    /// Returns whether a number is in.
    #[must_use]
    pub fn has(&self, number: usize) -> bool {
        self.levels[0].get(number / 64).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    /// Returns the least member that is not below `from`.
    #[must_use]
    pub fn next(&self, from: usize) -> Option<usize> {
        let mut at = from;
        let mut level = 0;
        loop {
            let word = self.levels.get(level)?.get(at / 64).copied().unwrap_or(0);
            let rest = word & (u64::MAX << (at % 64));
            if rest != 0 {
                at = at / 64 * 64 + rest.trailing_zeros() as usize;
                break;
            }
            at = at / 64 + 1;
            level += 1;
        }
        while level > 0 {
            level -= 1;
            at = at * 64 + self.levels[level][at].trailing_zeros() as usize;
        }
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::fleet::slots::Draw;

    #[test]
    fn agrees_with_an_ordinary_set() {
        for end in [1, 64, 65, 5000, 300_000] {
            let (mut bits, mut set, mut draw) = (Bits::new(end), BTreeSet::new(), Draw::new(3));
            for _ in 0..2000 {
                let number = draw.below(end);
                let member = draw.below(2) == 0;
                bits.set(number, member);
                if member {
                    set.insert(number)
                } else {
                    set.remove(&number)
                };
                let from = draw.below(end + 1);
                assert_eq!(bits.next(from), set.range(from..).next().copied());
                assert_eq!(bits.has(number), member);
            }
        }
    }
}
