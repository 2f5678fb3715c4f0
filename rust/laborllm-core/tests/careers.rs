//! Panels and resumes from end to end, without Python.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{
    Array, ArrayRef, Int32Array, Int64Array, RecordBatch, RecordBatchIterator, StringArray,
};
use laborllm_core::panel::{Checked, Options, check};
use laborllm_core::resume::{Choice, Education, Form, render};
use laborllm_core::stream::Stream;
use laborllm_core::template::Template;
use laborllm_core::{Error, Kind};
use proptest::prelude::*;

const TITLES: [&str; 3] = ["Cooks", "Köche", "Physicians"];

type Row = (i64, i32, usize, Option<&'static str>);

fn options() -> Options {
    let titles: Vec<String> = TITLES.iter().map(ToString::to_string).collect();
    let codes = (0..titles.len()).map(|code| code.to_string()).collect();
    Options {
        codes,
        titles,
        dataset: Some("PSID".to_owned()),
        ..Options::default()
    }
}

fn batch(rows: &[Row]) -> RecordBatch {
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "worker_id",
            Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>()),
        ),
        (
            "year",
            Arc::new(rows.iter().map(|row| row.1).collect::<Int32Array>()),
        ),
        (
            "occupation",
            Arc::new(
                rows.iter()
                    .map(|row| Some(TITLES[row.2]))
                    .collect::<StringArray>(),
            ),
        ),
        (
            "education",
            Arc::new(rows.iter().map(|row| row.3).collect::<StringArray>()),
        ),
    ];
    RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )
    .unwrap()
}

fn checked(rows: &[Row]) -> Result<Checked, Error> {
    let whole = batch(rows);
    let half = rows.len() / 2;
    check(
        &whole.schema(),
        &[whole.slice(0, half), whole.slice(half, rows.len() - half)],
        &options(),
    )
}

fn texts(panel: &Checked, batch_bytes: usize, education: Education) -> Vec<(String, Vec<String>)> {
    let template =
        Template::parse("{dataset}\n", "{year} ({education}): {title}\n", "end").unwrap();
    let form = Form {
        template,
        missing: HashMap::from([("education".to_owned(), "?".to_owned())]),
        education,
        metadata: HashMap::new(),
        batch_bytes,
        prompts: true,
    };
    let mut found = Vec::new();
    for batch in render(panel.batch.clone(), form, Choice::default()).unwrap() {
        let batch = batch.unwrap();
        let resumes = batch.column(2).as_string::<i64>();
        for row in 0..resumes.len() {
            let span = |column: usize| batch.column(column).as_list::<i64>().value(row);
            let (starts, ends) = (span(3), span(4));
            let spans = starts
                .as_primitive::<Int64Type>()
                .values()
                .iter()
                .zip(ends.as_primitive::<Int64Type>().values());
            let text = resumes.value(row);
            found.push((
                text.to_owned(),
                spans
                    .map(|(&start, &end)| text[start as usize..end as usize].to_owned())
                    .collect(),
            ));
        }
    }
    found
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let one = (
        (0i64..5, 1990i32..1996),
        (
            0usize..3,
            prop::option::of(prop::sample::select(vec!["school", "Schule"])),
        ),
    );
    prop::collection::btree_map(one.0, one.1, 1..20).prop_map(|rows| {
        rows.into_iter()
            .map(|((worker, year), (state, level))| (worker, year, state, level))
            .collect()
    })
}

proptest! {
    #[test]
    fn resumes_say_the_panel_in_order_whatever_the_order_and_batches(rows in rows(), seed in any::<u64>(), bytes in 1usize..200) {
        let mut mixed = rows.clone();
        mixed.sort_by_key(|row| (row.0 as u64 * 31 + row.1 as u64).wrapping_mul(seed | 1));
        let mut expected: Vec<(String, Vec<String>)> = Vec::new();
        for (place, &(worker, year, state, level)) in rows.iter().enumerate() {
            if place == 0 || rows[place - 1].0 != worker {
                expected.push(("PSID\n".to_owned(), Vec::new()));
            }
            if let Some((text, titles)) = expected.last_mut() {
                text.push_str(&format!("{year} ({}): {}\n", level.unwrap_or("?"), TITLES[state]));
                titles.push(TITLES[state].to_owned());
            }
        }
        for (text, _) in &mut expected {
            text.push_str("end");
        }
        let panel = checked(&mixed).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(texts(&panel, bytes, Education::Target), expected);
    }
}

#[test]
fn previous_education_starts_with_the_missing_word_in_every_worker() {
    let panel = checked(&[
        (1, 1990, 0, Some("a")),
        (1, 1991, 1, Some("b")),
        (2, 1990, 2, Some("c")),
    ])
    .unwrap();
    let found: Vec<String> = texts(&panel, 1, Education::Previous)
        .into_iter()
        .map(|(text, _)| text)
        .collect();
    assert_eq!(
        found,
        [
            "PSID\n1990 (?): Cooks\n1991 (a): Köche\nend",
            "PSID\n1990 (?): Physicians\nend"
        ]
    );
}

#[test]
fn two_rows_for_one_worker_and_year_name_both_rows() {
    let error = checked(&[(2, 1990, 0, None), (1, 1990, 0, None), (2, 1990, 1, None)]).unwrap_err();
    assert_eq!(
        error,
        Error::RepeatedYear {
            worker: "2 (PSID)".to_owned(),
            year: 1990,
            rows: [0, 2]
        }
    );
    assert_eq!(error.kind(), Kind::Panel);
    assert!(
        error
            .to_string()
            .contains("worker 2 (PSID) in 1990 (rows 0 and 2, counted from 0)")
    );
}

#[test]
fn an_unknown_state_brings_its_nearest_titles() {
    let rows = batch(&[(1, 1990, 0, None)]);
    let mut columns = rows.columns().to_vec();
    columns[2] = Arc::new(StringArray::from(vec!["Physician"]));
    let rows = RecordBatch::try_new(rows.schema(), columns).unwrap();
    match check(&rows.schema(), &[rows], &options()).unwrap_err() {
        Error::UnknownState {
            state,
            row: 0,
            nearest,
            ..
        } => {
            assert_eq!(
                (state.as_str(), nearest[0].as_str()),
                ("Physician", "Physicians")
            );
        }
        other => panic!("{other:?}"),
    }
}

/// The pieces of a stream that gives so many rows at a time.
fn pieces(rows: &[Row], each: usize, piece_rows: usize) -> Result<Vec<Checked>, Error> {
    let whole = batch(rows);
    let cuts = (0..rows.len()).step_by(each);
    let parts = cuts.map(|at| Ok(whole.slice(at, each.min(rows.len() - at))));
    let parts: Vec<_> = parts.collect();
    let source = RecordBatchIterator::new(parts, whole.schema());
    Stream::new(Box::new(source), options(), None, piece_rows).collect()
}

proptest! {
    #[test]
    fn the_pieces_of_a_stream_are_the_panel(mut rows in rows(), each in 1usize..9, piece_rows in 1usize..9) {
        rows.sort_by_key(|row| (row.0, row.1));
        let expected = checked(&rows);
        let found = pieces(&rows, each, piece_rows);
        match (expected, found) {
            (Ok(whole), Ok(parts)) => {
                let batches: Vec<_> = parts.iter().map(|part| &part.batch).collect();
                let text = |batches: &[&RecordBatch]| -> Vec<_> {
                    let panels = batches.iter().map(|&batch| Checked { batch: batch.clone(), ..whole.clone() });
                    panels.flat_map(|panel| texts(&panel, 100, Education::Target)).collect()
                };
                prop_assert_eq!(text(&batches), text(&[&whole.batch]));
                let workers: usize = parts.iter().map(|part| part.starts.len() - 1).sum();
                prop_assert_eq!(workers, whole.starts.len() - 1);
            }
            (Err(whole), Err(part)) => prop_assert_eq!(whole, part),
            (whole, part) => prop_assert!(false, "{whole:?} {part:?}"),
        }
    }

    #[test]
    fn a_stream_that_falls_is_refused_at_its_first_fall(ids in prop::collection::vec(0i64..6, 2..30), each in 1usize..9, piece_rows in 1usize..9) {
        let rows: Vec<Row> = ids.iter().zip(1990..).map(|(&id, year)| (id, year, 0, None)).collect();
        let fall = (1..ids.len()).find(|&row| ids[row] < ids[row - 1]);
        match (pieces(&rows, each, piece_rows), fall) {
            (Ok(_), None) => {}
            (Err(Error::Falls { row, worker, previous }), Some(fall)) => {
                prop_assert_eq!(row, fall as u64);
                prop_assert_eq!(worker, format!("{} (PSID)", ids[fall]));
                prop_assert_eq!(previous, format!("{} (PSID)", ids[fall - 1]));
            }
            (found, _) => prop_assert!(false, "{found:?} {fall:?}"),
        }
    }
}

/// Workers with a dataset each, a row per piece where workers allow.
fn tagged(tags: &[Option<&str>], workers: &[i64]) -> Result<Vec<Checked>, Error> {
    let rows: Vec<Row> = workers
        .iter()
        .zip(1990..)
        .map(|(&worker, year)| (worker, year, 0, None))
        .collect();
    let mut columns = batch(&rows).columns().to_vec();
    columns.push(Arc::new(tags.iter().collect::<StringArray>()));
    let names = ["worker_id", "year", "occupation", "education", "dataset"];
    let whole = RecordBatch::try_from_iter_with_nullable(
        names
            .into_iter()
            .zip(columns)
            .map(|(name, array)| (name, array, true)),
    )
    .unwrap();
    let source = RecordBatchIterator::new(vec![Ok(whole.clone())], whole.schema());
    let options = Options {
        dataset: None,
        ..options()
    };
    Stream::new(Box::new(source), options, None, 1).collect()
}

#[test]
fn a_dataset_that_is_null_in_one_piece_and_known_in_another_is_refused() {
    let error = tagged(&[None, Some("A"), Some("A")], &[1, 1, 2]).unwrap_err();
    let null = |row| Error::NullKey {
        column: "dataset".to_owned(),
        row,
        worker: None,
    };
    assert_eq!(error, null(0));
    assert_eq!(
        tagged(&[None, None, Some("A"), Some("A")], &[1, 2, 3, 4]).unwrap_err(),
        null(0)
    );
    assert_eq!(
        tagged(&[Some(""), None, Some("A")], &[1, 2, 3]).unwrap_err(),
        null(0)
    );
}

#[test]
fn null_and_empty_datasets_are_one() {
    let pieces = tagged(&[None, Some(""), None, Some("")], &[1, 1, 2, 2]).unwrap();
    assert_eq!(
        pieces
            .iter()
            .map(|piece| piece.starts.len() - 1)
            .sum::<usize>(),
        2
    );
    assert_eq!(
        pieces
            .iter()
            .map(|piece| piece.batch.num_rows())
            .collect::<Vec<_>>(),
        [2, 2]
    );
}

#[test]
fn a_stream_without_rows_is_refused_once() {
    let whole = batch(&[]);
    let source = RecordBatchIterator::new(vec![Ok(whole.clone())], whole.schema());
    let mut stream = Stream::new(Box::new(source), options(), None, 10);
    assert!(matches!(
        stream.next(),
        Some(Err(Error::Empty {
            rows_in: 0,
            dropped: 0
        }))
    ));
    assert!(stream.next().is_none());
}

#[test]
fn what_did_not_go_through_the_check_is_not_rendered() {
    let template = Template::parse("", "{year}: {title}\n", "").unwrap();
    let form = Form {
        template,
        missing: HashMap::new(),
        education: Education::Target,
        metadata: HashMap::new(),
        batch_bytes: 1,
        prompts: false,
    };
    let raw = batch(&[(1, 1990, 0, None)]);
    let error = render(raw, form, Choice::default()).err();
    assert!(matches!(error, Some(Error::Unchecked { .. })));
}
