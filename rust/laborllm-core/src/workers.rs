//! Checks and counts inside each worker's rows, once they stand in order.

use rayon::prelude::*;

/// A fixed field that holds two values: positions (in order) of the first value and of the first other one.
pub(crate) type Change = (usize, usize);

/// Start of each worker's rows, and the number of rows at the end.
pub(crate) fn boundaries(rows: usize, same: impl Fn(usize, usize) -> bool + Sync) -> Vec<i64> {
    let begins = |&row: &usize| row == 0 || !same(row - 1, row);
    let starts = (0..rows).into_par_iter().filter(begins);
    starts.chain([rows]).map(|row| row as i64).collect()
}

/// The ranges between consecutive starts.
pub(crate) fn ranges(starts: &[i64]) -> impl ParallelIterator<Item = std::ops::Range<usize>> + '_ {
    starts
        .par_windows(2)
        .map(|pair| pair[0] as usize..pair[1] as usize)
}

/// The first worker (in order) in whom a field has two values.
pub(crate) fn first_change(codes: &[i32], starts: &[i64]) -> Option<Change> {
    let by_worker = starts.par_windows(2).map(|pair| {
        let range = pair[0] as usize..pair[1] as usize;
        let first = range.clone().find(|&row| codes[row] >= 0)?;
        range
            .skip_while(|&row| row <= first)
            .find(|&row| codes[row] >= 0 && codes[row] != codes[first])
            .map(|row| (first, row))
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
    let counts = ranges(starts).map(|range| {
        let (mut left, mut now, mut falls) = (Vec::new(), -1, 0);
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

/// For every row the row whose value it takes: itself, or for a null the first row of the worker that has one.
/// None where no null can be filled.
pub(crate) fn filled(known: impl Fn(usize) -> bool + Sync, starts: &[i64]) -> Option<Vec<u64>> {
    let parts = ranges(starts).map(|range| {
        let first = range.clone().find(|&row| known(row));
        range
            .map(|row| first.filter(|_| !known(row)).unwrap_or(row) as u64)
            .collect::<Vec<_>>()
    });
    let rows: Vec<u64> = parts.flatten_iter().collect();
    (!rows
        .par_iter()
        .enumerate()
        .all(|(row, &from)| row as u64 == from))
    .then_some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
