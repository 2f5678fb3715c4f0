//! The tally beside a dictionary.

use std::collections::BTreeMap;

use super::rows::PART;
use super::*;
use crate::Error;
use proptest::prelude::*;

/// Rows as a slow obvious twin reads them: codes with the outcome last, whether chosen, and a weight.
#[derive(Debug, Clone)]
struct Case {
    sizes: Vec<u64>,
    columns: Vec<Vec<i64>>,
    chosen: Option<Vec<bool>>,
    weights: Option<Vec<f64>>,
}

fn plain(case: &Case) -> (Vec<i64>, Vec<f64>) {
    let mut sums = BTreeMap::new();
    for row in 0..case.columns[0].len() {
        let weight = case.weights.as_ref().map_or(1.0, |weights| weights[row]);
        if case.chosen.as_ref().is_none_or(|chosen| chosen[row]) && weight > 0.0 {
            let digits = case.columns.iter().zip(&case.sizes);
            let digit = |column: &[i64], size: u64| column[row].rem_euclid(size as i64);
            let key = digits.fold(0, |key, (column, &size)| {
                key * size as i64 + digit(column, size)
            });
            *sums.entry(key).or_insert(0.0) += weight;
        }
    }
    sums.into_iter().unzip()
}

fn counted(case: &Case, threads: usize) -> Result<(Vec<i64>, Vec<f64>)> {
    let narrow = |column: &[i64]| column.iter().map(|&code| code as i32).collect::<Vec<_>>();
    let narrow: Vec<_> = case.columns.iter().map(|column| narrow(column)).collect();
    let mut columns: Vec<_> = (0..narrow.len())
        .map(|place| Column {
            codes: match place % 2 {
                1 => Codes::Int(&narrow[place]),
                _ => Codes::Long(&case.columns[place]),
            },
            size: case.sizes[place],
        })
        .collect();
    let outcomes = columns.pop().unwrap();
    let rows = Rows {
        contexts: &columns,
        outcomes,
        chosen: case.chosen.as_deref(),
        weights: case.weights.as_deref(),
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    pool.build().unwrap().install(|| tally(&rows))
}

/// Cases of `rows` rows, whose codes are few so that keys repeat, and spread over their sizes.
fn cases(rows: impl Strategy<Value = usize>) -> impl Strategy<Value = Case> {
    let sizes = prop::collection::vec(prop_oneof![1u64..5, 300u64..400, Just(43_001)], 1..5);
    (sizes, rows, any::<[bool; 2]>(), any::<u64>()).prop_map(|(sizes, rows, with, seed)| {
        let mut state = seed;
        let mut random = move |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        let last = sizes.len() - 1;
        let mut code = |place: usize| {
            let size = sizes[place];
            let code = size - 1 - random(size.min(9)) * (size / 9).max(1).min(size - 1) % size;
            if place < last && code == size - 1 && random(2) == 0 {
                -1
            } else {
                code as i64
            }
        };
        let columns = (0..=last).map(|place| (0..rows).map(|_| code(place)).collect());
        let columns = columns.collect();
        let chosen = with[0].then(|| (0..rows).map(|_| random(3) > 0).collect());
        let weight = |drawn: u64| drawn as f64 / 7.0;
        let weights = with[1].then(|| (0..rows).map(|_| weight(random(5))).collect());
        Case {
            sizes,
            columns,
            chosen,
            weights,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn rows_are_counted_as_a_dictionary_counts_them(case in cases(0usize..300)) {
        prop_assert_eq!(counted(&case, 1).unwrap(), plain(&case));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn the_number_of_threads_changes_no_bit(case in cases(PART..3 * PART)) {
        let expected = plain(&case);
        for threads in 1..4 {
            prop_assert_eq!(&counted(&case, threads).unwrap(), &expected);
        }
    }
}

fn one_column(codes: Vec<i64>, size: u64) -> Case {
    let (sizes, columns) = (vec![size], vec![codes]);
    Case {
        sizes,
        columns,
        chosen: None,
        weights: None,
    }
}

#[test]
fn the_first_code_out_of_range_in_a_row_that_counts_is_named() {
    let mut codes = vec![1; 5 * PART];
    (codes[PART + 7], codes[4 * PART]) = (3, -1);
    let mut case = one_column(codes, 3);
    let found = |case: &Case| match counted(case, 3) {
        Err(Error::CodeRange { row, code, .. }) => Some((row, code)),
        _ => None,
    };
    assert_eq!(found(&case), Some((PART + 7, 3)));
    let mut chosen = vec![true; 5 * PART];
    chosen[PART + 7] = false;
    case.chosen = Some(chosen);
    assert_eq!(found(&case), Some((4 * PART, -1)));
    case.weights = Some(vec![1.0; 5 * PART]);
    case.weights.as_mut().unwrap()[4 * PART] = 0.0;
    assert_eq!(
        counted(&case, 3).unwrap(),
        (vec![1], vec![5.0 * PART as f64 - 2.0])
    );
    case.sizes.insert(0, 2);
    case.columns.insert(0, vec![-2; 5 * PART]);
    assert_eq!(found(&case), Some((0, -2)));
    assert_eq!(found(&one_column(vec![1 << 32], 3)), Some((0, 1 << 32)));
}

#[test]
fn keys_up_to_the_greatest_int64_are_counted_and_no_more() {
    let greatest = i64::MAX as u64;
    let mut case = one_column(vec![greatest as i64 - 1; 3], greatest);
    assert_eq!(counted(&case, 1).unwrap(), (vec![i64::MAX - 1], vec![3.0]));
    case.sizes.insert(0, 2);
    case.columns.insert(0, vec![0; 3]);
    let error = counted(&case, 1).unwrap_err();
    assert!(
        error
            .sentence()
            .starts_with("columns of 2 x 9223372036854775807 codes")
    );
}

#[test]
fn columns_of_other_lengths_are_refused() {
    let mut case = one_column(vec![0; 4], 1);
    case.chosen = Some(vec![true; 3]);
    let error = counted(&case, 1).unwrap_err();
    assert!(
        error
            .sentence()
            .starts_with("there are 4 outcomes but 3 codes")
    );
}
