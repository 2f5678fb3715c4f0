//! The columns of a stream under their canonical names, and the key of every row: dataset, worker, year.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::sync::Arc;

use arrow_array::types::{Int32Type, Int64Type, UInt64Type};
use arrow_array::{ArrayRef, ArrowPrimitiveType, Int64Array, RecordBatch, UInt64Array};
use arrow_buffer::ScalarBuffer;
use arrow_schema::{ArrowError, DataType, Field, SchemaRef};

use crate::columns::{Coded, Numbers, factorise, is_integer, is_text, numbers, strings};
use crate::order::Keys;
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

/// What worker ids are; all of them are kept as 64 bits.
pub(crate) enum Ids {
    Signed,
    Unsigned,
    /// Positions in these texts.
    Text(Vec<String>),
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

    fn read(column: &Column) -> Result<(Self, ScalarBuffer<u64>)> {
        let unreadable = |error| column.unreadable(&error);
        let (ids, workers, first_null) = match Self::kind(column)? {
            DataType::LargeUtf8 => {
                let coded = column.coded()?;
                let workers = coded.codes.iter().map(|&code| code as u64).collect();
                let first_null = coded.first_null();
                (Self::Text(coded.values), workers, first_null)
            }
            DataType::UInt64 => {
                let ids = numbers::<UInt64Type>(&column.chunks).map_err(unreadable)?;
                (Self::Unsigned, ids.values, ids.first_null)
            }
            _ => {
                let ids = numbers::<Int64Type>(&column.chunks).map_err(unreadable)?;
                (Self::Signed, ids.values.into_inner().into(), ids.first_null)
            }
        };
        match first_null {
            None => Ok((ids, workers)),
            Some(row) => Err(Error::NullKey {
                column: "worker_id".to_owned(),
                row: row as u64,
                worker: None,
            }),
        }
    }

    /// The bits to flip for integers to be ordered by value, text bytewise.
    fn flip(&self) -> u64 {
        match self {
            Self::Signed => 1 << 63,
            Self::Unsigned | Self::Text(_) => 0,
        }
    }

    fn text(&self, id: u64) -> String {
        match self {
            Self::Signed => (id as i64).to_string(),
            Self::Unsigned => id.to_string(),
            Self::Text(values) => values.get(id as usize).cloned().unwrap_or_default(),
        }
    }

    pub fn array(&self, workers: &ScalarBuffer<u64>) -> std::result::Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Signed => Arc::new(Int64Array::new(workers.inner().clone().into(), None)),
            Self::Unsigned => Arc::new(UInt64Array::new(workers.clone(), None)),
            Self::Text(values) => strings(workers, values)?,
        })
    }
}

/// Dataset, worker and year of every input row.
pub(crate) struct KeyColumns {
    pub tags: Vec<String>,
    pub ids: Ids,
    pub rows: Keys,
}

impl KeyColumns {
    /// The worker as messages name it: the id, with the dataset where there is one.
    pub fn worker(&self, row: usize) -> String {
        let id = self.ids.text(self.rows.workers[row]);
        match self.tags.get(self.rows.datasets[row] as usize) {
            Some(dataset) if !dataset.is_empty() => format!("{id} ({dataset})"),
            _ => id,
        }
    }
}

pub(crate) fn read_keys(columns: &Columns, options: &Options) -> Result<KeyColumns> {
    let (worker_id, year) = (columns.required("worker_id")?, columns.required("year")?);
    columns.required("occupation")?;
    let (datasets, tags) = read_datasets(columns, options.dataset.as_deref())?;
    let (ids, workers) = Ids::read(worker_id)?;
    let flip = ids.flip();
    let years = Vec::new().into();
    let rows = Keys {
        datasets,
        workers,
        flip,
        years,
    };
    let mut keys = KeyColumns { tags, ids, rows };
    keys.rows.years = read_years(year, |row| keys.worker(row))?;
    Ok(keys)
}

/// The dataset of every row as a position in tags, which ascend.
fn read_datasets(columns: &Columns, tag: Option<&str>) -> Result<(ScalarBuffer<i32>, Vec<String>)> {
    let constant = || {
        let tag = tag.unwrap_or_default().to_owned();
        (vec![0; columns.rows].into(), vec![tag])
    };
    let Some(column) = columns.find("dataset") else {
        return Ok(constant());
    };
    if !is_text(column.field.data_type()) {
        return Err(column.wrong_type("cast it to text: it holds the tag of the survey"));
    }
    let coded = column.coded()?;
    if coded.values.is_empty() {
        return Ok(constant());
    }
    if let Some(row) = coded.first_null() {
        return Err(Error::NullKey {
            column: "dataset".to_owned(),
            row: row as u64,
            worker: None,
        });
    }
    if let Some(tag) = tag.filter(|&tag| coded.values != [tag]) {
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
    Ok((coded.codes, coded.values))
}

fn read_years(column: &Column, worker: impl Fn(usize) -> String) -> Result<ScalarBuffer<i32>> {
    let kind = column.field.data_type();
    if !is_integer(kind) && kind != &DataType::Null {
        return Err(column.wrong_type(match kind {
            kind if kind.is_floating() => "cast it to int32 (a float year usually means nulls: drop or fill those rows first)",
            kind if kind.is_temporal() => "take its year as an integer first: pyarrow.compute.year(column), or .dt.year in polars and pandas",
            kind if is_text(kind) => "cast it to int32",
            _ => "give the calendar year as an integer",
        }));
    }
    let number = match kind {
        DataType::Dictionary(_, value) => value.as_ref(),
        kind => kind,
    };
    let read = match number {
        DataType::Int32 => {
            let years = numbers::<Int32Type>(&column.chunks);
            years.map(|years| (years.values, None, years.first_null))
        }
        DataType::UInt64 => numbers::<UInt64Type>(&column.chunks).map(narrowed),
        _ => numbers::<Int64Type>(&column.chunks).map(narrowed),
    };
    let (years, beyond, first_null) = read.map_err(|error| column.unreadable(&error))?;
    if let Some((row, year)) = beyond {
        return Err(Error::YearRange {
            year,
            worker: worker(row),
            row: row as u64,
        });
    }
    match first_null {
        None => Ok(years),
        Some(row) => Err(Error::NullKey {
            column: "year".to_owned(),
            row: row as u64,
            worker: Some(worker(row)),
        }),
    }
}

/// Numbers as int32, the first one before any null that does not fit, with its row, and the first null.
fn narrowed<T: ArrowPrimitiveType<Native: TryInto<i32> + Display>>(
    numbers: Numbers<T>,
) -> (ScalarBuffer<i32>, Option<(usize, String)>, Option<usize>) {
    let values = &numbers.values;
    let narrow = |&value: &T::Native| value.try_into().unwrap_or_default();
    let known = &values[..numbers.first_null.unwrap_or(values.len())];
    let beyond = known
        .iter()
        .position(|&value| TryInto::<i32>::try_into(value).is_err());
    let beyond = beyond.map(|row| (row, values[row].to_string()));
    (
        values.iter().map(narrow).collect(),
        beyond,
        numbers.first_null,
    )
}
