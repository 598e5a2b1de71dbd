//! Replays every input of `fuzz/corpus/` through its target: what a fuzzer once found stays mended.
//!
//! No test harness: the engine of the `api` target starts this very program as its helper.

#![expect(clippy::print_stdout, clippy::expect_used, reason = "a test program")]
#![expect(clippy::exit, clippy::disallowed_methods, reason = "shared with the fuzzer")]

#[path = "../fuzz/targets/mod.rs"]
mod targets;

use std::path::Path;

fn main() {
    targets::be_a_helper_if_asked();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return;
    }
    // As libtest: words that are no options say which.
    let words: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    for target in targets::ALL {
        if words.is_empty() || words.iter().any(|word| target.name.contains(word.as_str())) {
            replay(target);
        }
    }
}

/// Gives each input to the target. The name is printed first, so that a panic is found below its input.
fn replay(target: &targets::Target) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name);
    let entries = std::fs::read_dir(&corpus).expect("each target has a corpus");
    let mut inputs: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "no inputs in {}", corpus.display());
    for input in &inputs {
        print!("corpus {}/{} ... ", target.name, input.file_name().expect("a name").display());
        (target.run)(&std::fs::read(input).expect("a readable input"));
        println!("ok");
    }
}
