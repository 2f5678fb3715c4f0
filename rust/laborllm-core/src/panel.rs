//! The checked panel: one row per worker and year, in a known state, in the one order of every output.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Int32Array, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow_buffer::ScalarBuffer;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use arrow_select::{concat::concat, take::take};
use rayon::prelude::*;

use crate::columns::{Coded, dictionary, is_integer, is_text, validated};
use crate::keys::{Column, Columns, Ids, KeyColumns, read_keys};
use crate::order::{Keys, Rows};
use crate::process::check_threads;
use crate::workers;
use crate::{Error, Result};

/// Fields that one worker has for life; nulls are filled, changes are refused.
pub const FIXED: [&str; 3] = ["gender", "race", "birth_year"];
/// Columns whose changes are expected and not counted.
const CHANGING: [&str; 2] = ["education", "split"];
const KEYS: [&str; 4] = ["dataset", "worker_id", "year", "occupation"];

/// How a panel is to be read.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Codes of the J states, in order.
    pub codes: Vec<String>,
    /// Titles of the J states, in order.
    pub titles: Vec<String>,
    /// The one tag of all rows, where no `dataset` column gives it.
    pub dataset: Option<String>,
    /// Pairs (canonical name, name in the data).
    pub columns: Vec<(String, String)>,
    /// Drop rows with a null occupation and count them, instead of refusing them.
    pub drop_null_occupations: bool,
    /// Refuse rows whose worker comes before that of the row above.
    pub in_order: bool,
}

/// What was counted while a panel was checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Rows that came in.
    pub rows_in: u64,
    /// Rows with a null occupation that were dropped on request.
    pub dropped: u64,
    /// Workers in whom a text column other than education and split changes, by column; columns without any are left out.
    pub changed: BTreeMap<String, u64>,
    /// Rows in which a level of education returns that the worker had already left.
    pub education_falls: u64,
}

impl Report {
    /// Add what was counted in another part of the panel.
    pub(crate) fn add(&mut self, other: &Self) {
        self.rows_in += other.rows_in;
        self.dropped += other.dropped;
        self.education_falls += other.education_falls;
        for (column, workers) in &other.changed {
            *self.changed.entry(column.clone()).or_default() += workers;
        }
    }
}

/// A checked panel.
#[derive(Debug, Clone)]
pub struct Checked {
    /// `dataset`, `worker_id`, `year`, `occupation`, then the other columns as they came; ascending by the first three.
    pub batch: RecordBatch,
    /// First row of each of the W workers, then the number of rows; length W + 1.
    pub starts: Vec<i64>,
    /// What was counted.
    pub report: Report,
}

/// Check, sort and group a panel.
///
/// Cost: linear in rows where they stand in order already, else one parallel sort of packed keys. Memory: the input,
/// one code per text cell, and the output.
///
/// # Errors
/// The first breach of the contract, in this order: columns and types, null keys, occupations, repeated years, fixed
/// fields that change; rows are those of the input, counted from 0.
pub fn check(schema: &SchemaRef, batches: &[RecordBatch], options: &Options) -> Result<Checked> {
    check_threads()?;
    let columns = Columns::new(schema, batches, &options.columns)?;
    let keys = read_keys(&columns, options)?;
    let (states, kept) = read_states(&columns, options, &keys)?;
    let rows_in = states.len() as u64;
    let dropped = kept.as_ref().map_or(0, |kept| rows_in - kept.len() as u64);
    if rows_in == dropped {
        return Err(Error::Empty { rows_in, dropped });
    }
    let rows = Rows {
        order: keys.rows.sorted(kept),
        total: rows_in as usize,
    };
    if options.in_order && rows.order.is_some() {
        check_order(&keys)?;
    }
    let ordered = keys.rows.gathered(&rows);
    let starts = workers::boundaries(rows.len(), |a, b| ordered.same_worker(a, b));
    if let Some((first, second)) = workers::repeated(&ordered.years, &starts) {
        return Err(repeats(&keys, [rows.input(first), rows.input(second)]));
    }
    let mut report = Report {
        rows_in,
        dropped,
        ..Report::default()
    };
    let (mut fields, mut arrays) =
        key_columns(&keys, ordered, rows.gather(&states), &options.titles)?;
    let others: Vec<&Column> = columns
        .all
        .iter()
        .filter(|column| !KEYS.contains(&column.name.as_str()))
        .collect();
    let done: Vec<Result<Finished>> = others
        .par_iter()
        .map(|column| finish(column, &rows, &starts, &keys))
        .collect();
    for (column, finished) in others.iter().zip(done) {
        let finished = finished?;
        if finished.changed > 0 {
            report.changed.insert(column.name.clone(), finished.changed);
        }
        report.education_falls += finished.falls;
        let field = Field::new(&column.name, finished.array.data_type().clone(), true);
        fields.push(if finished.coded {
            field
        } else {
            field.with_metadata(column.field.metadata().clone())
        });
        arrays.push(finished.array);
    }
    let rows = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &rows)
        .map_err(|error| Error::unreadable("dataset", &error))?;
    Ok(Checked {
        batch,
        starts,
        report,
    })
}

/// The schema that rows of this schema have once they are checked.
///
/// # Errors
/// A missing column, a worker id that is neither integer nor text.
pub fn checked_schema(schema: &SchemaRef, options: &Options) -> Result<Schema> {
    let columns = Columns::new(schema, &[], &options.columns)?;
    let coded = || DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::LargeUtf8));
    columns.required("year")?;
    columns.required("occupation")?;
    let keys = [
        coded(),
        Ids::kind(columns.required("worker_id")?)?,
        DataType::Int32,
        coded(),
    ];
    let keys = KEYS
        .iter()
        .zip(keys)
        .map(|(name, kind)| Field::new(*name, kind, true));
    let others = columns
        .all
        .iter()
        .filter(|column| !KEYS.contains(&column.name.as_str()));
    let others = others.map(|column| match column.field.data_type() {
        kind if is_text(kind) => Field::new(&column.name, coded(), true),
        kind => Field::new(&column.name, kind.clone(), true)
            .with_metadata(column.field.metadata().clone()),
    });
    Ok(Schema::new(keys.chain(others).collect::<Vec<_>>()))
}

/// State of every input row (-1 where null), and the rows that stay where some are dropped.
fn read_states(
    columns: &Columns,
    options: &Options,
    keys: &KeyColumns,
) -> Result<(ScalarBuffer<i32>, Option<Vec<u64>>)> {
    const NULL: i32 = -1;
    const UNKNOWN: i32 = -2;
    let column = columns.required("occupation")?;
    let kind = column.field.data_type();
    let titles = is_text(kind);
    if !titles && !is_integer(kind) {
        return Err(column.wrong_type("give titles as text or codes as integers"));
    }
    let coded = column.coded()?;
    let known = if titles {
        &options.titles
    } else {
        &options.codes
    };
    let index: HashMap<&str, i32> = known.iter().map(String::as_str).zip(0..).collect();
    let state = |value: &String| index.get(value.as_str()).copied().unwrap_or(UNKNOWN);
    let state_of: Vec<i32> = [NULL]
        .into_iter()
        .chain(coded.values.iter().map(state))
        .collect();
    let states = coded.through(&state_of);
    let accepted = -i32::from(options.drop_null_occupations);
    let least = states.iter().min().copied().unwrap_or_default();
    if least < accepted
        && let Some(row) = states.iter().position(|&state| state < accepted)
    {
        return Err(match states[row] {
            NULL => Error::NullOccupation {
                worker: keys.worker(row),
                year: keys.rows.years[row],
                row: row as u64,
            },
            _ => unknown(&coded, row, titles, options, keys),
        });
    }
    let known = |row: &u64| states[*row as usize] >= 0;
    let kept = (least < 0).then(|| (0..states.len() as u64).filter(known).collect());
    Ok((states, kept))
}

fn unknown(coded: &Coded, row: usize, titles: bool, options: &Options, keys: &KeyColumns) -> Error {
    let state = coded.get(row).unwrap_or_default().to_owned();
    let (worker, year, row) = (keys.worker(row), keys.rows.years[row], row as u64);
    if titles && state.bytes().all(|byte| byte.is_ascii_digit()) {
        return Error::DigitState {
            state,
            worker,
            year,
            row,
        };
    }
    let nearest = if titles {
        nearest(&state, &options.titles)
            .into_iter()
            .map(|state| options.titles[state].clone())
            .collect()
    } else {
        let name = |state: usize| format!("{}: {}", options.codes[state], options.titles[state]);
        nearest(&state, &options.codes)
            .into_iter()
            .map(name)
            .collect()
    };
    Error::UnknownState {
        state,
        worker,
        year,
        row,
        nearest,
    }
}

/// Positions of the three names nearest to `word` (Damerau-Levenshtein over the longer length, case ignored).
fn nearest(word: &str, names: &[String]) -> Vec<usize> {
    let word = word.to_lowercase();
    let likeness =
        |name: &String| strsim::normalized_damerau_levenshtein(&word, &name.to_lowercase());
    let mut scored: Vec<(usize, f64)> = names.iter().map(likeness).enumerate().collect();
    scored.sort_by(|a, b| b.1.total_cmp(&a.1));
    scored
        .into_iter()
        .take(3)
        .map(|(position, _)| position)
        .collect()
}

/// Workers must not fall from row to row.
fn check_order(keys: &KeyColumns) -> Result<()> {
    match keys.rows.first_fall() {
        None => Ok(()),
        Some(row) => Err(Error::Falls {
            worker: keys.worker(row),
            previous: keys.worker(row - 1),
            row: row as u64,
        }),
    }
}

fn repeats(keys: &KeyColumns, rows: [usize; 2]) -> Error {
    let [first, second] = rows;
    Error::RepeatedYear {
        worker: keys.worker(second),
        year: keys.rows.years[second],
        rows: [first.min(second) as u64, first.max(second) as u64],
    }
}

fn key_columns(
    keys: &KeyColumns,
    rows: Keys,
    states: ScalarBuffer<i32>,
    titles: &[String],
) -> Result<(Vec<Field>, Vec<ArrayRef>)> {
    let text = |codes, values: &[String], name: &str| {
        dictionary(codes, false, values).map_err(|error| Error::unreadable(name, &error))
    };
    let ids = keys.ids.array(&rows.workers);
    let arrays = vec![
        text(rows.datasets, &keys.tags, "dataset")?,
        ids.map_err(|error| Error::unreadable("worker_id", &error))?,
        Arc::new(Int32Array::new(rows.years, None)) as ArrayRef,
        text(states, titles, "occupation")?,
    ];
    let fields = KEYS
        .iter()
        .zip(&arrays)
        .map(|(name, array)| Field::new(*name, array.data_type().clone(), true));
    Ok((fields.collect(), arrays))
}

/// One further column, in order.
struct Finished {
    array: ArrayRef,
    coded: bool,
    changed: u64,
    falls: u64,
}

fn finish(column: &Column, rows: &Rows, starts: &[i64], keys: &KeyColumns) -> Result<Finished> {
    let name = column.name.as_str();
    let (fixed, text) = (FIXED.contains(&name), is_text(column.field.data_type()));
    let coded = if text || fixed || name == "education" {
        Some(column.coded()?)
    } else {
        None
    };
    let codes = coded.as_ref().map(|coded| rows.gather(&coded.codes));
    let falls = codes
        .as_ref()
        .filter(|_| name == "education")
        .map_or(0, |codes| workers::returns(codes, starts));
    let counted = text && !fixed && !CHANGING.contains(&name);
    let changed = codes
        .as_ref()
        .filter(|_| counted)
        .map_or(0, |codes| workers::changing_workers(codes, starts));
    let mut filled = None;
    if let (true, Some(codes), Some(coded)) = (fixed, &codes, &coded) {
        if let Some((first, second)) = workers::first_change(codes, starts) {
            let rows = [rows.input(first), rows.input(second)];
            return Err(changes(name, coded, rows, keys));
        }
        let nulls = coded
            .nulls
            .then(|| workers::filled(|row| codes[row] >= 0, starts));
        filled = nulls.flatten();
    }
    let array = match (text, codes, coded) {
        (true, Some(codes), Some(coded)) => {
            let codes = match filled {
                None => codes,
                Some(from) => from.iter().map(|&row| codes[row as usize]).collect(),
            };
            dictionary(codes, coded.nulls, &coded.values)
        }
        _ => taken(column, rows, filled),
    };
    let array = array.map_err(|error| column.unreadable(&error))?;
    Ok(Finished {
        array,
        coded: text,
        changed,
        falls,
    })
}

fn changes(name: &str, coded: &Coded, rows: [usize; 2], keys: &KeyColumns) -> Error {
    Error::FixedChanges {
        column: name.to_owned(),
        worker: keys.worker(rows[0]),
        values: rows.map(|row| coded.get(row).unwrap_or_default().to_owned()),
        years: rows.map(|row| keys.rows.years[row]),
        rows: rows.map(|row| row as u64),
    }
}

/// A column of any type, its rows in order; `filled` names the position whose value each position takes.
fn taken(
    column: &Column,
    rows: &Rows,
    filled: Option<Vec<u64>>,
) -> std::result::Result<ArrayRef, ArrowError> {
    let chunks = column.chunks.iter().map(validated);
    let chunks = chunks.collect::<std::result::Result<Vec<_>, _>>()?;
    let chunks: Vec<&dyn Array> = chunks.iter().map(AsRef::as_ref).collect();
    let whole = concat(&chunks)?;
    let indices = match (filled, &rows.order) {
        (None, None) => return Ok(whole),
        (None, Some(order)) => order.clone(),
        (Some(filled), _) => filled
            .iter()
            .map(|&position| rows.input(position as usize) as u64)
            .collect(),
    };
    take(&whole, &UInt64Array::from(indices), None)
}
