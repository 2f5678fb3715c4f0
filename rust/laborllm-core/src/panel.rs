//! The checked panel: one row per worker and year, in a known state, in the one order of every output.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, Int32Array, Int64Array, LargeStringArray, RecordBatch, RecordBatchOptions,
    UInt64Array,
};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use arrow_select::{concat::concat, take::take};
use rayon::prelude::*;

use crate::columns::{Coded, dictionary, factorise, integers, is_integer, is_text, unsigned};
use crate::order::Keys;
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
    let columns = Columns::new(schema, batches, &options.columns)?;
    let keys = read_keys(&columns, options)?;
    let (states, kept) = read_states(&columns, options, &keys)?;
    let rows_in = keys.years.len() as u64;
    let dropped = kept.as_ref().map_or(0, |kept| rows_in - kept.len() as u64);
    if rows_in == dropped {
        return Err(Error::Empty { rows_in, dropped });
    }
    let ranks = keys.ids.ranks();
    let order = Keys {
        datasets: &keys.datasets.codes,
        workers: &ranks,
        years: &keys.years,
    }
    .sorted(kept);
    let rows = Rows {
        order,
        total: rows_in as usize,
    };
    let starts = workers::boundaries(rows.len(), |a, b| {
        let (a, b) = (rows.input(a), rows.input(b));
        keys.datasets.codes[a] == keys.datasets.codes[b] && ranks[a] == ranks[b]
    });
    check_years(&rows, &starts, &keys)?;
    let mut report = Report {
        rows_in,
        dropped,
        ..Report::default()
    };
    let (mut fields, mut arrays) = key_columns(&keys, &states, &rows, &options.titles)?;
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

/// A column of the input under its canonical name, chunk by chunk.
struct Column {
    name: String,
    field: Field,
    chunks: Vec<ArrayRef>,
}

impl Column {
    fn wrong_type(&self, way_out: &str) -> Error {
        let found = self.field.data_type().to_string();
        Error::ColumnType {
            column: self.name.clone(),
            found,
            way_out: way_out.to_owned(),
        }
    }

    fn unreadable(&self, error: &ArrowError) -> Error {
        Error::unreadable(&self.name, error)
    }

    fn coded(&self) -> Result<Coded> {
        factorise(&self.chunks).map_err(|error| self.unreadable(&error))
    }
}

/// All columns, renamed.
struct Columns {
    all: Vec<Column>,
    rows: usize,
}

impl Columns {
    fn new(
        schema: &SchemaRef,
        batches: &[RecordBatch],
        mapping: &[(String, String)],
    ) -> Result<Self> {
        let present: Vec<String> = schema
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect();
        let mut renamed: HashMap<&str, &str> = HashMap::new();
        for (column, source_name) in mapping {
            if !present.contains(source_name) {
                return Err(Error::MissingSource {
                    column: column.clone(),
                    source_name: source_name.clone(),
                    present,
                });
            }
            if renamed.insert(source_name, column).is_some() {
                return Err(Error::RepeatedColumn {
                    column: source_name.clone(),
                });
            }
        }
        let mut seen = HashSet::new();
        let mut all = Vec::with_capacity(present.len());
        for (position, field) in schema.fields().iter().enumerate() {
            let name = renamed
                .get(field.name().as_str())
                .map_or_else(|| field.name().clone(), ToString::to_string);
            if !seen.insert(name.clone()) {
                return Err(Error::RepeatedColumn { column: name });
            }
            let chunks = batches
                .iter()
                .map(|batch| batch.column(position).clone())
                .collect();
            all.push(Column {
                name,
                field: field.as_ref().clone(),
                chunks,
            });
        }
        Ok(Self {
            all,
            rows: batches.iter().map(RecordBatch::num_rows).sum(),
        })
    }

    fn find(&self, name: &str) -> Option<&Column> {
        self.all.iter().find(|column| column.name == name)
    }

    fn required(&self, name: &str) -> Result<&Column> {
        let present = || self.all.iter().map(|column| column.name.clone()).collect();
        self.find(name).ok_or_else(|| Error::MissingColumn {
            column: name.to_owned(),
            present: present(),
        })
    }
}

/// Worker ids as they were given.
enum Ids {
    Signed(Vec<i64>),
    Unsigned(Vec<u64>),
    Text(Coded),
}

impl Ids {
    fn read(column: &Column) -> Result<Self> {
        let kind = column.field.data_type();
        let null = |row: usize| Error::NullKey {
            column: "worker_id".to_owned(),
            row: row as u64,
            worker: None,
        };
        if is_text(kind) {
            let coded = column.coded()?;
            return match coded.codes.iter().position(|&code| code < 0) {
                Some(row) => Err(null(row)),
                None => Ok(Self::Text(coded)),
            };
        }
        if !is_integer(kind) {
            return Err(column.wrong_type(
                "cast it to an integer or to text: worker_id takes any integer or string",
            ));
        }
        let wide = match kind {
            DataType::Dictionary(_, value) => value.as_ref() == &DataType::UInt64,
            other => other == &DataType::UInt64,
        };
        if wide {
            let ids = unsigned(&column.chunks).map_err(|error| column.unreadable(&error))?;
            return all_known(ids).map(Self::Unsigned).map_err(null);
        }
        let ids = integers(&column.chunks).map_err(|error| column.unreadable(&error))?;
        all_known(ids).map(Self::Signed).map_err(null)
    }

    /// One number per row that is ordered as the ids are: integers by value, text bytewise.
    fn ranks(&self) -> Vec<u64> {
        match self {
            Self::Signed(ids) => ids.iter().map(|&id| (id as u64) ^ (1 << 63)).collect(),
            Self::Unsigned(ids) => ids.clone(),
            Self::Text(coded) => coded.codes.iter().map(|&code| code as u64).collect(),
        }
    }

    fn text(&self, row: usize) -> String {
        match self {
            Self::Signed(ids) => ids[row].to_string(),
            Self::Unsigned(ids) => ids[row].to_string(),
            Self::Text(coded) => coded.get(row).unwrap_or_default().to_owned(),
        }
    }

    fn array(&self, rows: &Rows) -> ArrayRef {
        match self {
            Self::Signed(ids) => Arc::new(rows.gather(ids).into_iter().collect::<Int64Array>()),
            Self::Unsigned(ids) => Arc::new(rows.gather(ids).into_iter().collect::<UInt64Array>()),
            Self::Text(coded) => {
                let ids = (0..rows.len()).map(|row| coded.get(rows.input(row)));
                Arc::new(ids.collect::<LargeStringArray>())
            }
        }
    }
}

/// All values, or the row of the first null.
fn all_known<T>(values: Vec<Option<T>>) -> std::result::Result<Vec<T>, usize> {
    values
        .into_iter()
        .enumerate()
        .map(|(row, value)| value.ok_or(row))
        .collect()
}

/// Dataset, worker and year of every input row.
struct KeyColumns {
    datasets: Coded,
    ids: Ids,
    years: Vec<i32>,
}

impl KeyColumns {
    /// The worker as messages name it: the id, with the dataset where there is one.
    fn worker(&self, row: usize) -> String {
        name_worker(&self.datasets, &self.ids, row)
    }
}

fn name_worker(datasets: &Coded, ids: &Ids, row: usize) -> String {
    match datasets.get(row) {
        Some(dataset) if !dataset.is_empty() => format!("{} ({dataset})", ids.text(row)),
        _ => ids.text(row),
    }
}

fn read_keys(columns: &Columns, options: &Options) -> Result<KeyColumns> {
    let (worker_id, year) = (columns.required("worker_id")?, columns.required("year")?);
    columns.required("occupation")?;
    let datasets = read_datasets(columns, options.dataset.as_deref())?;
    let ids = Ids::read(worker_id)?;
    let years = read_years(year, |row| name_worker(&datasets, &ids, row))?;
    Ok(KeyColumns {
        datasets,
        ids,
        years,
    })
}

fn read_datasets(columns: &Columns, tag: Option<&str>) -> Result<Coded> {
    let Some(column) = columns.find("dataset") else {
        return Ok(Coded::constant(tag.unwrap_or_default(), columns.rows));
    };
    if !is_text(column.field.data_type()) {
        return Err(column.wrong_type("cast it to text: it holds the tag of the survey"));
    }
    let coded = column.coded()?;
    if coded.values.is_empty() {
        return Ok(Coded::constant(tag.unwrap_or_default(), columns.rows));
    }
    if let Some(row) = coded.codes.iter().position(|&code| code < 0) {
        return Err(Error::NullKey {
            column: "dataset".to_owned(),
            row: row as u64,
            worker: None,
        });
    }
    if let Some(tag) = tag {
        let other = (0..columns.rows).find(|&row| coded.get(row) != Some(tag));
        if let Some(row) = other {
            let found = coded.get(row).unwrap_or_default().to_owned();
            return Err(Error::TwoTags {
                tag: tag.to_owned(),
                found,
                row: row as u64,
            });
        }
    }
    Ok(coded)
}

fn read_years(column: &Column, worker: impl Fn(usize) -> String) -> Result<Vec<i32>> {
    let kind = column.field.data_type();
    if !is_integer(kind) && kind != &DataType::Null {
        return Err(column.wrong_type(match kind {
            kind if kind.is_floating() => "cast it to int32 (a float year usually means nulls: drop or fill those rows first)",
            kind if kind.is_temporal() => "take its year as an integer first: pyarrow.compute.year(column), or .dt.year in polars and pandas",
            kind if is_text(kind) => "cast it to int32",
            _ => "give the calendar year as an integer",
        }));
    }
    let years = integers(&column.chunks).map_err(|error| column.unreadable(&error))?;
    let mut checked = Vec::with_capacity(years.len());
    for (row, year) in years.into_iter().enumerate() {
        let Some(year) = year else {
            return Err(Error::NullKey {
                column: "year".to_owned(),
                row: row as u64,
                worker: Some(worker(row)),
            });
        };
        checked.push(i32::try_from(year).map_err(|_| Error::YearRange {
            year: year.to_string(),
            worker: worker(row),
            row: row as u64,
        })?);
    }
    Ok(checked)
}

/// State of every input row (-1 where null), and the rows that stay where some are dropped.
fn read_states(
    columns: &Columns,
    options: &Options,
    keys: &KeyColumns,
) -> Result<(Vec<i32>, Option<Vec<u64>>)> {
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
    let index: HashMap<&str, i32> = known
        .iter()
        .zip(0..)
        .map(|(name, state)| (name.as_str(), state))
        .collect();
    let state_of: Vec<Option<i32>> = coded
        .values
        .iter()
        .map(|value| index.get(value.as_str()).copied())
        .collect();
    let mut states = Vec::with_capacity(coded.codes.len());
    let mut nulls = 0;
    for (row, &code) in coded.codes.iter().enumerate() {
        if code < 0 {
            if !options.drop_null_occupations {
                return Err(Error::NullOccupation {
                    worker: keys.worker(row),
                    year: keys.years[row],
                    row: row as u64,
                });
            }
            nulls += 1;
            states.push(-1);
        } else {
            let state = state_of[code as usize]
                .ok_or_else(|| unknown(&coded, row, titles, options, keys))?;
            states.push(state);
        }
    }
    let kept = (nulls > 0).then(|| {
        (0..states.len() as u64)
            .filter(|&row| states[row as usize] >= 0)
            .collect()
    });
    Ok((states, kept))
}

fn unknown(coded: &Coded, row: usize, titles: bool, options: &Options, keys: &KeyColumns) -> Error {
    let state = coded.get(row).unwrap_or_default().to_owned();
    let (worker, year, row) = (keys.worker(row), keys.years[row], row as u64);
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

/// Which input row stands where.
struct Rows {
    order: Option<Vec<u64>>,
    total: usize,
}

impl Rows {
    fn len(&self) -> usize {
        self.order.as_ref().map_or(self.total, Vec::len)
    }

    fn input(&self, position: usize) -> usize {
        self.order
            .as_ref()
            .map_or(position, |order| order[position] as usize)
    }

    fn gather<T: Copy + Send + Sync>(&self, values: &[T]) -> Vec<T> {
        match &self.order {
            None => values.to_vec(),
            Some(order) => order.iter().map(|&row| values[row as usize]).collect(),
        }
    }
}

fn check_years(rows: &Rows, starts: &[i64], keys: &KeyColumns) -> Result<()> {
    for pair in starts.windows(2) {
        for position in pair[0] as usize + 1..pair[1] as usize {
            let (first, second) = (rows.input(position - 1), rows.input(position));
            if keys.years[first] == keys.years[second] {
                let rows = [first.min(second) as u64, first.max(second) as u64];
                return Err(Error::RepeatedYear {
                    worker: keys.worker(second),
                    year: keys.years[second],
                    rows,
                });
            }
        }
    }
    Ok(())
}

fn key_columns(
    keys: &KeyColumns,
    states: &[i32],
    rows: &Rows,
    titles: &[String],
) -> Result<(Vec<Field>, Vec<ArrayRef>)> {
    let text = |codes: &[i32], values: &[String], name: &str| {
        dictionary(rows.gather(codes), values).map_err(|error| Error::unreadable(name, &error))
    };
    let arrays = vec![
        text(&keys.datasets.codes, &keys.datasets.values, "dataset")?,
        keys.ids.array(rows),
        Arc::new(Int32Array::from(rows.gather(&keys.years))) as ArrayRef,
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
            return Err(changes(
                name,
                coded,
                [rows.input(first), rows.input(second)],
                keys,
            ));
        }
        filled = workers::filled(|row| codes[row] >= 0, starts);
    }
    let array = match (text, codes, coded) {
        (true, Some(codes), Some(coded)) => {
            let codes = match filled {
                None => codes,
                Some(from) => from.iter().map(|&row| codes[row as usize]).collect(),
            };
            dictionary(codes, &coded.values)
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
        years: rows.map(|row| keys.years[row]),
        rows: rows.map(|row| row as u64),
    }
}

/// A column of any type, its rows in order; `filled` names the position whose value each position takes.
fn taken(
    column: &Column,
    rows: &Rows,
    filled: Option<Vec<u64>>,
) -> std::result::Result<ArrayRef, ArrowError> {
    let chunks: Vec<&dyn Array> = column.chunks.iter().map(AsRef::as_ref).collect();
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
