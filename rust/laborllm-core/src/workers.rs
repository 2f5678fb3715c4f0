//! Checks and counts inside each worker's rows, once they stand in order.

use std::ops::Range;

use arrow_array::{Array, Int64Array};
use rayon::prelude::*;

use crate::{Error, Result};

/// A fixed field that holds two values: positions (in order) of the first value and of the first other one.
pub(crate) type Change = (usize, usize);

/// Rows, or workers, that a thread takes at once.
const BLOCK: usize = 1 << 14;

/// Start of each worker's rows, and the number of rows at the end.
pub(crate) fn boundaries(rows: usize, same: impl Fn(usize, usize) -> bool + Sync) -> Vec<i64> {
    let starts = blocks(rows).flat_map_iter(|block| {
        let begins = |&row: &usize| row == 0 || !same(row - 1, row);
        block.filter(begins).collect::<Vec<_>>()
    });
    starts.chain([rows]).map(|row| row as i64).collect()
}

/// Whether something holds for each row and the one below.
pub(crate) fn every(rows: usize, holds: impl Fn(usize, usize) -> bool + Sync) -> bool {
    blocks(rows).all(|mut block| block.all(|row| row == 0 || holds(row - 1, row)))
}

fn blocks(rows: usize) -> impl ParallelIterator<Item = Range<usize>> {
    let blocks = (0..rows.div_ceil(BLOCK)).into_par_iter();
    blocks.map(move |block| block * BLOCK..rows.min((block + 1) * BLOCK))
}

/// Refuse starts that are not the first rows of workers among so many rows, then their number.
///
/// # Errors
/// They do not ascend from 0 to the number of rows, or hold nulls.
pub(crate) fn check_starts(starts: &Int64Array, rows: usize) -> Result<()> {
    let values = starts.values();
    let ends = (values.first(), values.last()) == (Some(&0), Some(&(rows as i64)));
    if starts.null_count() == 0 && ends && values.is_sorted_by(|a, b| a < b) {
        return Ok(());
    }
    let reason =
        format!("the first rows of workers do not ascend from 0 to {rows}, the number of rows");
    Err(Error::Unchecked { reason })
}

/// The ranges between consecutive starts.
pub(crate) fn ranges(starts: &[i64]) -> impl IndexedParallelIterator<Item = Range<usize>> + '_ {
    starts
        .par_windows(2)
        .with_min_len(BLOCK / 16)
        .map(|pair| pair[0] as usize..pair[1] as usize)
}

/// The first worker (in order) in whom a field has two values.
pub(crate) fn first_change(codes: &[i32], starts: &[i64]) -> Option<Change> {
    let by_worker = ranges(starts).map(|range| {
        let start = range.start;
        let codes = &codes[range];
        let first = codes.iter().position(|&code| code >= 0)?;
        let other = |&code: &i32| code >= 0 && code != codes[first];
        let second = codes.iter().position(other)?;
        Some((start + first, start + second))
    });
    by_worker.find_first(Option::is_some).flatten()
}

/// Workers in whom a field has two values.
pub(crate) fn changing_workers(codes: &[i32], starts: &[i64]) -> u64 {
    let changes = ranges(starts).filter(|range| {
        let mut known = codes[range.clone()].iter().filter(|&&code| code >= 0);
        known
            .next()
            .is_some_and(|first| known.any(|code| code != first))
    });
    changes.count() as u64
}

/// Rows in which a level returns that the worker had already left.
pub(crate) fn returns(codes: &[i32], starts: &[i64]) -> u64 {
    let counts = ranges(starts).map_init(Vec::new, |left, range| {
        let (mut now, mut falls) = (-1, 0);
        left.clear();
        for &code in codes[range].iter().filter(|&&code| code >= 0) {
            if code != now {
                falls += u64::from(left.contains(&code));
                left.push(now);
                now = code;
            }
        }
        falls
    });
    counts.sum()
}

/// The first worker (in order) with two rows of one year: positions of both.
pub(crate) fn repeated(years: &[i32], starts: &[i64]) -> Option<(usize, usize)> {
    let by_worker = ranges(starts).map(|range| {
        let pairs = years[range.clone()].windows(2);
        let at = pairs.into_iter().position(|pair| pair[0] == pair[1])?;
        Some((range.start + at, range.start + at + 1))
    });
    by_worker.find_first(Option::is_some).flatten()
}

/// For every row the row whose value it takes: itself, or for a null the first row of the worker that has one.
/// None where no null can be filled.
pub(crate) fn filled(known: impl Fn(usize) -> bool, starts: &[i64]) -> Option<Vec<u64>> {
    let rows = starts.last().map_or(0, |&rows| rows as u64);
    let (mut from, mut any): (Vec<u64>, bool) = ((0..rows).collect(), false);
    for pair in starts.windows(2) {
        let mut range = pair[0] as usize..pair[1] as usize;
        let Some(first) = range.clone().find(|&row| known(row)) else {
            continue;
        };
        let nulls = range.by_ref().filter(|&row| !known(row));
        for row in nulls {
            (from[row], any) = (first as u64, true);
        }
    }
    any.then_some(from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_level_that_comes_back_is_a_fall_and_nulls_are_passed_over() {
        assert_eq!(returns(&[0, 1, -1, 1, 0, 0, 1], &[0, 7]), 2);
        assert_eq!(returns(&[0, 1, 2, 0, 1], &[0, 3, 5]), 0);
    }

    #[test]
    fn changes_are_found_within_workers_only() {
        assert_eq!(first_change(&[0, -1, 0, 1, 1, 2], &[0, 3, 5, 6]), None);
        assert_eq!(first_change(&[0, 0, -1, 1, 2], &[0, 2, 5]), Some((3, 4)));
        assert_eq!(changing_workers(&[0, 1, -1, 1, 2], &[0, 2, 5]), 2);
    }

    #[test]
    fn nulls_take_the_first_known_value_of_their_worker() {
        let codes = [-1, 5, -1, -1, 7];
        assert_eq!(
            filled(|row| codes[row] >= 0, &[0, 3, 4, 5]),
            Some(vec![1, 1, 1, 3, 4])
        );
        assert_eq!(filled(|_| true, &[0, 2]), None);
    }

    /// The slow obvious twins, row by row.
    fn same(starts: &[i64], a: usize, b: usize) -> bool {
        let worker = |row: usize| starts.iter().filter(|&&start| start <= row as i64).count();
        worker(a) == worker(b)
    }

    fn plain_filled(codes: &[i32], starts: &[i64]) -> Vec<u64> {
        let rows = || 0..codes.len();
        let known = |row: usize| rows().find(|&from| same(starts, from, row) && codes[from] >= 0);
        let from = |row: usize| known(row).filter(|_| codes[row] < 0).unwrap_or(row) as u64;
        rows().map(from).collect()
    }

    fn plain_change(codes: &[i32], starts: &[i64]) -> Option<Change> {
        let known = || (0..codes.len()).filter(|&row| codes[row] >= 0);
        let pairs = known().flat_map(|a| known().map(move |b| (a, b)));
        let mut pairs = pairs.filter(|&(a, b)| a < b && same(starts, a, b));
        pairs.find(|&(a, b)| codes[a] != codes[b])
    }

    proptest! {
        #[test]
        fn passes_by_worker_agree_with_those_row_by_row(
            workers in prop::collection::vec(prop::collection::vec(-1i32..3, 1..6), 1..9)
        ) {
            let codes = workers.concat();
            let ends = workers.iter().scan(0, |end, worker| { *end += worker.len() as i64; Some(*end) });
            let starts: Vec<i64> = [0].into_iter().chain(ends).collect();
            prop_assert_eq!(&boundaries(codes.len(), |a, b| same(&starts, a, b)), &starts);
            prop_assert_eq!(first_change(&codes, &starts), plain_change(&codes, &starts));
            let all: Vec<u64> = (0..codes.len() as u64).collect();
            let rows = filled(|row| codes[row] >= 0, &starts).unwrap_or(all);
            prop_assert_eq!(rows, plain_filled(&codes, &starts));
            let twice = (1..codes.len()).find(|&row| same(&starts, row - 1, row) && codes[row - 1] == codes[row]);
            prop_assert_eq!(repeated(&codes, &starts), twice.map(|row| (row - 1, row)));
            let falls = every(codes.len(), |a, b| codes[a] <= codes[b]);
            prop_assert_eq!(falls, codes.is_sorted());
        }
    }
}
