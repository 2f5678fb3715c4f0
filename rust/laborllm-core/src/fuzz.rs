//! Bodies for fuzzers: each makes an input of any bytes and holds the crate to its contract.
//!
//! `tests/fuzz.rs` runs them on `fuzz-corpus/` and on mutations of it; the crate `fuzz/` gives them to cargo-fuzz.

#![allow(
    clippy::unwrap_used,
    reason = "what is unwrapped is made here, and a body that fails is what a fuzzer looks for"
)]

mod fragments;
mod import;
mod layouts;
mod panels;
mod tries;
mod twin;

use crate::Error;

pub use fragments::fragments;
pub use import::import;
pub use panels::panels;
pub use tries::tries;

/// An error that a user can read.
fn one_line(error: &Error) {
    assert!(!error.sentence().chars().any(char::is_control), "{error}");
}

/// Bytes as choices, the first one wherever they are used up.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first
    }

    /// A number below `many`, which is at most 256.
    fn below(&mut self, many: usize) -> usize {
        usize::from(self.byte()) % many
    }

    fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }

    /// True once in so many times.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }
}
