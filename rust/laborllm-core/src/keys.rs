//! The columns of a stream under their canonical names, and the key of every row: dataset, worker, year.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, LargeStringArray, RecordBatch, UInt64Array};
use arrow_schema::{ArrowError, DataType, Field, SchemaRef};

use crate::columns::{Coded, factorise, integers, is_integer, is_text, unsigned};
use crate::order::Rows;
use crate::panel::Options;
use crate::{Error, Result};

/// A column of the input under its canonical name, chunk by chunk.
pub(crate) struct Column {
    pub name: String,
    pub field: Field,
    pub chunks: Vec<ArrayRef>,
}

impl Column {
    pub fn wrong_type(&self, way_out: &str) -> Error {
        let found = self.field.data_type().to_string();
        Error::ColumnType {
            column: self.name.clone(),
            found,
            way_out: way_out.to_owned(),
        }
    }

    pub fn unreadable(&self, error: &ArrowError) -> Error {
        Error::unreadable(&self.name, error)
    }

    pub fn coded(&self) -> Result<Coded> {
        factorise(&self.chunks).map_err(|error| self.unreadable(&error))
    }
}

/// All columns, renamed.
pub(crate) struct Columns {
    pub all: Vec<Column>,
    pub rows: usize,
}

impl Columns {
    pub fn new(
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

    pub fn required(&self, name: &str) -> Result<&Column> {
        let present = || self.all.iter().map(|column| column.name.clone()).collect();
        self.find(name).ok_or_else(|| Error::MissingColumn {
            column: name.to_owned(),
            present: present(),
        })
    }
}

/// Worker ids as they were given.
pub(crate) enum Ids {
    Signed(Vec<i64>),
    Unsigned(Vec<u64>),
    Text(Coded),
}

impl Ids {
    /// The type that ids of a column have in a checked panel.
    pub fn kind(column: &Column) -> Result<DataType> {
        let kind = column.field.data_type();
        if is_text(kind) {
            return Ok(DataType::LargeUtf8);
        }
        if !is_integer(kind) {
            return Err(column.wrong_type(
                "cast it to an integer or to text: worker_id takes any integer or string",
            ));
        }
        let wide = match kind {
            DataType::Dictionary(_, value) => value.as_ref(),
            other => other,
        };
        let wide = wide == &DataType::UInt64;
        Ok(if wide {
            DataType::UInt64
        } else {
            DataType::Int64
        })
    }

    fn read(column: &Column) -> Result<Self> {
        let null = |row: usize| Error::NullKey {
            column: "worker_id".to_owned(),
            row: row as u64,
            worker: None,
        };
        let unreadable = |error| column.unreadable(&error);
        match Self::kind(column)? {
            DataType::LargeUtf8 => {
                let coded = column.coded()?;
                let first = coded.codes.iter().position(|&code| code < 0);
                first.map_or(Ok(Self::Text(coded)), |row| Err(null(row)))
            }
            DataType::UInt64 => {
                let ids = unsigned(&column.chunks).map_err(unreadable)?;
                all_known(ids).map(Self::Unsigned).map_err(null)
            }
            _ => {
                let ids = integers(&column.chunks).map_err(unreadable)?;
                all_known(ids).map(Self::Signed).map_err(null)
            }
        }
    }

    /// One number per row that is ordered as the ids are: integers by value, text bytewise.
    pub fn ranks(&self) -> Vec<u64> {
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

    pub fn array(&self, rows: &Rows) -> ArrayRef {
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
pub(crate) struct KeyColumns {
    pub datasets: Coded,
    pub ids: Ids,
    pub years: Vec<i32>,
}

impl KeyColumns {
    /// The worker as messages name it: the id, with the dataset where there is one.
    pub fn worker(&self, row: usize) -> String {
        name_worker(&self.datasets, &self.ids, row)
    }
}

fn name_worker(datasets: &Coded, ids: &Ids, row: usize) -> String {
    match datasets.get(row) {
        Some(dataset) if !dataset.is_empty() => format!("{} ({dataset})", ids.text(row)),
        _ => ids.text(row),
    }
}

pub(crate) fn read_keys(columns: &Columns, options: &Options) -> Result<KeyColumns> {
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
