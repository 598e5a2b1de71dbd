//! The rule against what NVIDIA publishes.

use super::*;

fn mixed(board: &str, gb: u8) -> String {
    let shape = Board::named(board).and_then(|board| board.shape(gb)).expect("a size of the board");
    shape.mixed.iter().map(u8::to_string).collect::<Vec<_>>().join(" ")
}

fn equal(board: &str, gb: u8) -> usize {
    Board::named(board).and_then(|board| board.shape(gb)).expect("a size of the board").equal.len()
}

/// Rows of NVIDIA's vGPU user guide and of the driver's rule worked by hand: board, size, ids, equal-size count.
const PUBLISHED: &[(&str, u8, &str, usize)] = &[
    ("l40s-48", 48, "0", 1),
    ("l40s-48", 24, "0 24", 2),
    ("l40s-48", 16, "0 32", 3),
    ("l40s-48", 12, "0 12 24 36", 4),
    ("l40s-48", 8, "0 16 24 40", 6),
    ("l40s-48", 6, "0 6 12 18 24 30 36 42", 8),
    ("l40s-48", 4, "0 8 12 20 24 32 36 44", 12),
    ("l40s-48", 2, "0 4 6 10 12 16 18 22 24 28 30 34 36 40 42 46", 24),
    ("l40s-48", 1, "0 5 6 11 12 17 18 23 24 29 30 35 36 41 42 47", 32),
    ("a40-48", 1, "0 2 3 5 6 9 11 12 14 15 17 18 20 21 23 24 26 27 29 30 33 35 36 38 39 41 42 44 45 47", 32),
    ("h100-80", 80, "0", 1),
    ("h100-80", 40, "0 40", 2),
    ("h100-80", 20, "0 20 40 60", 4),
    ("h100-80", 16, "0 24 40 64", 5),
    ("h100-80", 10, "0 10 20 30 40 50 60 70", 8),
    ("h100-80", 8, "0 12 20 32 40 52 60 72", 10),
    ("h100-80", 4, "0 6 10 16 20 26 30 36 40 46 50 56 60 66 70 76", 20),
    ("h100-94", 47, "0 47", 2),
    ("h100-94", 23, "0 24 47 71", 4),
    ("h100-94", 15, "0 32 47 79", 6),
    ("h100-94", 11, "0 12 23 36 47 59 70 83", 8),
    ("h100-94", 6, "0 17 23 41 47 64 70 88", 15),
    ("h100-94", 4, "0 7 11 19 23 31 35 43 47 54 58 66 70 78 82 90", 23),
    ("a10-24", 8, "0 16", 3),
    ("a10-24", 1, "0 2 3 5 6 8 9 11 12 14 15 17 18 20 21 23", 24),
    ("a100-40", 8, "0 12 20 32", 5),
    ("a100-40", 4, "0 6 10 16 20 26 30 36", 10),
    ("rtxpro6000-96", 2, THREES, 32),
    ("rtxpro6000-96", 3, THREES, 32),
    ("rtxpro6000-96", 32, "0 32 64", 3),
];

const THREES: &str =
    "0 3 6 9 12 15 18 21 24 27 30 33 36 39 42 45 48 51 54 57 60 63 66 69 72 75 78 81 84 87 90 93";

#[test]
fn ids_and_counts_are_those_that_nvidia_publishes() {
    for (board, gb, ids, count) in PUBLISHED {
        assert_eq!(mixed(board, *gb), *ids, "{gb} GB on {board}");
        assert_eq!(equal(board, *gb), *count, "{gb} GB on {board}, one size");
    }
}

#[test]
fn places_of_one_size_never_overlap_and_stay_on_the_board() {
    for board in BOARDS {
        for gb in 1..=board.region {
            let Some(shape) = board.shape(gb) else { continue };
            for ids in [&shape.mixed, &shape.equal] {
                assert!(ids.windows(2).all(|pair| pair[0] + shape.len <= pair[1]), "{gb} on {}", board.name);
                assert!(ids.iter().all(|id| id + shape.len <= board.region), "{gb} on {}", board.name);
                assert!(ids.len() <= usize::from(board.limit()));
            }
        }
    }
}

#[test]
fn a_size_that_does_not_fit_has_no_shape() {
    let board = Board::named("l4-24").expect("known");
    assert_eq!(board.shape(25), None);
    assert_eq!(board.shape(0), None);
}

/// Opens a file of recorded data; says so and returns nothing when the machine has none.
fn recorded(name: &str) -> Option<String> {
    let Some(folder) = std::env::var_os("VGPUD_TRACES") else {
        println!("skipped: VGPUD_TRACES is not set");
        return None;
    };
    let path = std::path::Path::new(&folder).join(name);
    #[expect(clippy::disallowed_methods, reason = "recorded data of a test is no state")]
    let text = std::fs::read_to_string(path).expect("the folder holds the file");
    Some(text)
}

#[test]
fn all_rows_of_the_recorded_placements_follow_from_the_rule() {
    let Some(text) = recorded("vgpu_placements.csv") else { return };
    let mut rows = 0;
    for line in text.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let gb = cells[3].parse().expect("a size");
        assert_eq!(mixed(cells[0], gb), cells[6], "{line}");
        assert_eq!(equal(cells[0], gb).to_string(), cells[4], "{line}");
        rows += 1;
    }
    assert_eq!(rows, 71);
}

#[test]
fn all_rows_of_the_recorded_mig_starts_are_known() {
    let Some(text) = recorded("mig_placements.csv") else { return };
    let board = MigBoard::named("mig-80").expect("known");
    for line in text.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let shape = board.shape(cells[3]).expect("a profile");
        let starts = shape.mixed.iter().map(u8::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(
            [&shape.units.to_string(), &shape.len.to_string(), &starts],
            [cells[4], cells[5], cells[6]]
        );
    }
    assert_eq!(text.lines().count() - 1, board.profiles().count());
}
