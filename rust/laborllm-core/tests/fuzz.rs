//! Every fuzz body on its corpus and on seeded mutations of it, for LABORLLM_FUZZ_SECONDS (20) from LABORLLM_FUZZ_SEED.
//!
//! What fails is printed as hexadecimal text; `xxd -r -p` makes a file of it, which belongs into `fuzz-corpus/<body>/`.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use laborllm_core::fuzz::{fragments, import, panels, tries};

type Body = fn(&[u8]);

#[test]
fn fragments_follow_each_other_and_nothing_else_is_written() {
    hold("fragments", fragments);
}

#[test]
fn panels_and_streams_in_any_layout_are_what_a_slow_twin_makes_of_them() {
    hold("panels", panels);
}

#[test]
fn malformed_arrays_are_refused_or_read_with_care() {
    hold("import", import);
}

#[test]
fn tries_of_any_units_and_arrays_are_walked_without_leaving_them() {
    hold("tries", tries);
}

fn hold(name: &str, body: Body) {
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "no files in fuzz-corpus/{name}");
    corpus.iter().for_each(|input| run(name, body, input));
    let mut numbers = Numbers(setting("LABORLLM_FUZZ_SEED", 1));
    let (begun, mut runs) = (Instant::now(), corpus.len());
    let limit = Duration::from_secs(setting("LABORLLM_FUZZ_SECONDS", 20));
    while begun.elapsed() < limit {
        run(name, body, &mutated(&corpus, &mut numbers));
        runs += 1;
    }
    println!("{name}: {runs} inputs");
}

/// The input lies in a file while it runs, for where a sanitizer ends the process.
fn run(name: &str, body: Body, input: &[u8]) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}"));
    assert!(
        fs::write(&path, input).is_ok(),
        "{} cannot be written",
        path.display()
    );
    let held = catch_unwind(AssertUnwindSafe(|| body(input)));
    let hex = || {
        input
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    assert!(held.is_ok(), "{name} fails on {}", hex());
}

fn setting(name: &str, usual: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// The files of a body, in the order of their names.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz-corpus")
        .join(name);
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
        .iter()
        .filter_map(|path| fs::read(path).ok())
        .collect()
}

/// An input of the corpus, or two of them joined, with some bytes changed, left out or repeated.
fn mutated(corpus: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
    let mut input = corpus[numbers.below(corpus.len())].clone();
    if numbers.below(4) == 0 {
        let other = &corpus[numbers.below(corpus.len())];
        input.truncate(numbers.below(input.len() + 1));
        input.extend(&other[numbers.below(other.len() + 1)..]);
    }
    for _ in 0..1 << numbers.below(6) {
        let at = numbers.below(input.len() + 1);
        let byte = numbers.next() as u8;
        match (numbers.below(5), input.get_mut(at)) {
            (0, Some(old)) => *old = byte,
            (1, Some(old)) => *old ^= 1 << (byte % 8),
            (2, Some(_)) => drop(input.remove(at)),
            (3, Some(_)) => {
                let end = input.len().min(at + usize::from(byte % 32));
                let copy = input[at..end].to_vec();
                input.splice(at..at, copy);
            }
            _ => input.insert(at, byte),
        }
    }
    input.truncate(2_000);
    input
}

/// Steele, Lea and Flood's SplitMix64.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, many: usize) -> usize {
        (self.next() % many as u64) as usize
    }
}
