//! The driver's rule for placement ids of time-sliced boards.

use crate::fleet::geometry::{Architecture, Board, Shape};

/// The halving stops above this many parts.
const MOST_PARTS: u8 = 24;

/// Places of 1 GB that Ampere boards of 48 GB leave out.
const DENIED_AMPERE: &[u8] = &[8, 32];
/// The same for Ada and Hopper.
const DENIED_ADA: &[u8] = &[2, 3, 8, 9, 14, 15, 20, 21, 26, 27, 32, 33, 38, 39, 44, 45];

pub(super) fn shape(board: &Board, gb: u8) -> Option<Shape> {
    let blackwell = board.architecture == Architecture::Blackwell;
    // Blackwell counts 2 GB on a 96 GB board as 3.
    let len = if blackwell && board.region == 96 && gb == 2 { 3 } else { gb };
    let most = board.region.checked_div(len)?.min(board.limit());
    if most == 0 {
        return None;
    }
    let step = |at: u8| if blackwell { even(board.region, at, most) } else { at * len };
    let equal: Vec<u8> = (0..most).map(step).collect();
    let mixed = if blackwell { equal.clone() } else { halves(board, len, most) };
    Some(Shape { len, units: 1, mixed, equal })
}

/// Returns `region * at / most` in whole slots.
fn even(region: u8, at: u8, most: u8) -> u8 {
    u8::try_from(u16::from(region) * u16::from(at) / u16::from(most)).unwrap_or(u8::MAX)
}

/// Returns the ids of mixed-size mode by halving the region.
fn halves(board: &Board, len: u8, most: u8) -> Vec<u8> {
    if most == 1 {
        return vec![0];
    }
    let mut ids = Vec::new();
    // Parts as (first slot, end, whether it is a left half).
    let mut parts = vec![(0, board.region, true)];
    while u8::try_from(parts.len()).is_ok_and(|count| count <= MOST_PARTS) {
        let count = u8::try_from(parts.len()).unwrap_or(u8::MAX);
        for &(low, high, left) in &parts {
            if most == 2 * count {
                ids.extend([low, high - len]);
            } else if !most.is_power_of_two() && most.ilog2() == count.ilog2() {
                ids.push(if left { low } else { high - len });
            }
        }
        parts = parts.iter().flat_map(|&part| split(part)).collect();
    }
    ids.sort_unstable();
    ids.dedup();
    ids.retain(|id| !denied(board, len).contains(id));
    ids
}

fn split((low, high, _): (u8, u8, bool)) -> [(u8, u8, bool); 2] {
    let middle = low + (high - low) / 2;
    [(low, middle, true), (middle, high, false)]
}

fn denied(board: &Board, len: u8) -> &'static [u8] {
    match board.architecture {
        _ if len != 1 || board.region != 48 => &[],
        Architecture::Ampere => DENIED_AMPERE,
        Architecture::Ada | Architecture::Hopper => DENIED_ADA,
        Architecture::Blackwell => &[],
    }
}
