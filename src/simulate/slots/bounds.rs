//! Bounds that stand beside the results.

use crate::simulate::slots::Setup;

/// Returns the percent of GB and of requests that one pool of all GB would refuse: no slots, no borders between
/// GPUs, nobody held back (Kaufman 1981, Roberts 1981).
#[must_use]
pub fn one_pool(setup: &Setup, load: f64) -> (f64, f64) {
    let capacity = usize::try_from(setup.gb()).unwrap_or(0);
    let total: u32 = setup.catalog.weights().iter().sum();
    #[expect(clippy::cast_precision_loss, reason = "the GB of a fleet are exact")]
    let erlang = load * capacity as f64 / setup.catalog.mean_gb();
    let sizes: Vec<(usize, f64)> = setup
        .catalog
        .sizes
        .iter()
        .map(|size| (size.gb as usize, erlang * f64::from(size.weight) / f64::from(total)))
        .collect();
    let mut q = vec![0.0; capacity + 1];
    q[0] = 1.0;
    let mut sum = 1.0;
    for level in 1..=capacity {
        let from = |(gb, offered): &(usize, f64)| {
            let below = level.checked_sub(*gb).map_or(0.0, |below| q[below]);
            #[expect(clippy::cast_precision_loss, reason = "a size is small")]
            let width = *gb as f64;
            offered * width * below
        };
        #[expect(clippy::cast_precision_loss, reason = "the GB of a fleet are exact")]
        let value = sizes.iter().map(from).sum::<f64>() / level as f64;
        q[level] = value;
        sum += value;
        // Large fleets overflow: only ratios count.
        if sum > 1e200 {
            q.iter_mut().for_each(|value| *value /= 1e200);
            sum /= 1e200;
        }
    }
    let blocked = |gb: usize| q[(capacity + 1).saturating_sub(gb)..].iter().sum::<f64>() / sum;
    let share = |weight: fn(usize) -> f64| {
        let all: f64 = sizes.iter().map(|(gb, offered)| offered * weight(*gb)).sum();
        let lost: f64 = sizes.iter().map(|(gb, offered)| offered * weight(*gb) * blocked(*gb)).sum();
        100.0 * lost / all
    };
    #[expect(clippy::cast_precision_loss, reason = "a size is small")]
    let by_gb = |gb: usize| gb as f64;
    (share(by_gb), share(|_| 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::slots::Mix;

    fn pool(board: &str, gpus: usize, mix: &str, load: f64) -> f64 {
        let mix: Mix = mix.parse().expect("a mix");
        one_pool(&Setup::new(&[board], gpus, &mix).expect("a fleet"), load).0
    }

    #[test]
    fn one_pool_agrees_with_an_independent_computation() {
        let known = [
            ("h100-80", 2, "d4", 0.7, 15.1),
            ("h100-80", 2, "d4", 0.9, 24.2),
            ("h100-80", 2, "d4", 1.1, 32.5),
            ("h100-80", 2, "aligned", 0.9, 24.1),
            ("l40s-48", 2, "train", 0.9, 35.5),
            ("h100-80", 16, "d4", 0.7, 0.3),
            ("h100-80", 16, "d4", 0.9, 5.5),
            ("h100-80", 16, "d4", 1.1, 16.2),
            ("l40s-48", 16, "odd", 0.9, 3.1),
            ("h100-80", 128, "d4", 0.9, 0.2),
        ];
        for (board, gpus, mix, load, percent) in known {
            let found = pool(board, gpus, mix, load);
            assert!((found - percent).abs() <= 0.06, "{gpus} {board} {mix} {load}: {found}");
        }
    }

    #[test]
    fn one_size_in_one_pool_is_erlangs_formula() {
        // 2 GPUs of 1 slice each, offered 1 Erlang: 1/2 / (1 + 1 + 1/2) = 20 %.
        assert!((pool("h100-80", 2, "80:1", 0.5) - 20.0).abs() < 1e-9);
    }
}
