//! What no placement can exceed: a linear programme over the contents of single GPUs.
//!
//! Variables are patterns, sets of shares that fit on one GPU; no more GPUs than there are, and of no size
//! more tasks than have arrived. CPU, memory, models and nodes are left out, and tasks may be picked. Patterns
//! are found one by one, as the best content of a GPU at the current prices of the sizes.

use std::collections::BTreeMap;

use microlp::{ComparisonOp, OptimizationDirection, Problem, SolveOutcome};

use crate::fleet::shares::{Kind, WHOLE};

/// Gains below this count as none.
const TINY: f64 = 1e-7;
/// Patterns are few more than sizes; this ends a programme that does not converge.
const MOST_ROUNDS: usize = 400;

/// Why there is no bound.
#[derive(Debug, thiserror::Error)]
pub enum BoundError {
    /// The programme has no answer, which only a fault of the solver can cause.
    #[error("the linear programme of the bound was not solved")]
    Unsolved(#[from] microlp::Error),
    /// The solver stopped early.
    #[error("the linear programme of the bound was given up")]
    Interrupted,
}

/// Returns percent of the `capacity`, in thousandths of a GPU, that can be given away when `percent`
/// of it has been asked for by tasks of the mix.
///
/// # Errors
/// The solver gave up.
#[expect(clippy::cast_precision_loss, reason = "some million thousandths")]
pub fn linear_bound(mix: &[(Kind, u32)], capacity: u64, percent: u32) -> Result<f64, BoundError> {
    let mut tasks: BTreeMap<u16, f64> = BTreeMap::new();
    for (kind, count) in mix.iter().filter(|(kind, _)| kind.gpus > 0) {
        *tasks.entry(kind.share).or_default() += f64::from(kind.gpus) * f64::from(*count);
    }
    let asked: f64 = tasks.iter().map(|(&size, count)| f64::from(size) * count).sum();
    if asked == 0.0 || capacity == 0 {
        return Ok(0.0);
    }
    let scale = capacity as f64 * f64::from(percent) / 100.0 / asked;
    let sizes: Vec<(u16, f64)> = tasks.into_iter().map(|(size, count)| (size, count * scale)).collect();
    let gpus = capacity as f64 / f64::from(WHOLE);
    // The dual: prices of sizes and of a GPU; each pattern is one row that it must pay for.
    let mut patterns: Vec<Vec<u32>> = (0..sizes.len()).map(|at| only(&sizes, at)).collect();
    let mut bound = 0.0;
    for _ in 0..MOST_ROUNDS {
        let (value, gpu, prices) = dual(&sizes, gpus, &patterns)?;
        bound = value;
        let gains: Vec<f64> =
            sizes.iter().zip(&prices).map(|((size, _), price)| f64::from(*size) - price).collect();
        let (gain, pattern) = best_content(&sizes, &gains);
        if gain <= gpu + TINY * f64::from(WHOLE) || patterns.contains(&pattern) {
            break;
        }
        patterns.push(pattern);
    }
    Ok(100.0 * bound / capacity as f64)
}

/// A GPU filled with one size.
fn only(sizes: &[(u16, f64)], at: usize) -> Vec<u32> {
    let mut pattern = vec![0; sizes.len()];
    pattern[at] = u32::from(WHOLE / sizes[at].0);
    pattern
}

/// Solves for the prices: the cost of all GPUs and all tasks, when no known pattern gains more.
fn dual(sizes: &[(u16, f64)], gpus: f64, patterns: &[Vec<u32>]) -> Result<(f64, f64, Vec<f64>), BoundError> {
    let mut problem = Problem::new(OptimizationDirection::Minimize);
    let gpu = problem.add_var(gpus, (0.0, f64::from(WHOLE)));
    let tasks: Vec<_> =
        sizes.iter().map(|&(size, count)| problem.add_var(count, (0.0, f64::from(size)))).collect();
    for pattern in patterns {
        let used = pattern.iter().zip(sizes).map(|(&count, (size, _))| f64::from(count) * f64::from(*size));
        let mut row = vec![(gpu, 1.0)];
        row.extend(
            pattern.iter().zip(&tasks).filter(|(count, _)| **count > 0).map(|(&c, &t)| (t, f64::from(c))),
        );
        problem.add_constraint(row.as_slice(), ComparisonOp::Ge, used.sum());
    }
    let SolveOutcome::Solution(solution) = problem.solve()? else { return Err(BoundError::Interrupted) };
    let prices = tasks.iter().map(|&task| solution[task]).collect();
    Ok((solution.objective(), solution[gpu], prices))
}

/// Returns the content of one GPU with the highest gain: a knapsack over thousandths.
fn best_content(sizes: &[(u16, f64)], gains: &[f64]) -> (f64, Vec<u32>) {
    let room = usize::from(WHOLE);
    let mut best = vec![0.0_f64; room + 1];
    let mut last = vec![usize::MAX; room + 1];
    for used in 1..=room {
        best[used] = best[used - 1];
        for (at, (size, _)) in sizes.iter().enumerate() {
            let size = usize::from(*size);
            if size <= used && best[used - size] + gains[at] > best[used] {
                best[used] = best[used - size] + gains[at];
                last[used] = at;
            }
        }
    }
    let mut pattern = vec![0; sizes.len()];
    let mut used = room;
    while used > 0 {
        match last[used] {
            usize::MAX => used -= 1,
            at => {
                pattern[at] += 1;
                used -= usize::from(sizes[at].0);
            }
        }
    }
    (best[room], pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(share: u16) -> Kind {
        Kind { cpu: 0, memory: 0, gpus: 1, share, models: u64::MAX }
    }

    #[test]
    fn thirds_and_halves_fill_what_their_patterns_allow() {
        let bound = |share_of, percent| linear_bound(&[(share(share_of), 10)], 4000, percent).unwrap();
        assert!((bound(600, 200) - 60.0).abs() < 1e-6);
        assert!((bound(500, 200) - 100.0).abs() < 1e-6);
        assert!((bound(500, 50) - 50.0).abs() < 1e-6);
    }

    #[test]
    fn sizes_that_complete_each_other_are_put_together() {
        let mix = [(share(600), 10), (share(400), 10)];
        assert!((linear_bound(&mix, 10_000, 100).unwrap() - 100.0).abs() < 1e-6);
    }
}
