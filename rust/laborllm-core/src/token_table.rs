//! Token tables as they come, in any chunks and list layouts, as careers that can be addressed one by one.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef, LargeListArray, RecordBatch, StructArray};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_cast::display::array_value_to_string;
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema, SchemaRef};
use arrow_select::interleave::{interleave, interleave_record_batch};
use rayon::prelude::*;

use crate::columns::is_text;
use crate::error::within;
use crate::{Error, Result};

/// Careers held at once; they are counted in 32 bits.
const MOST_CAREERS: i32 = i32::MAX;

/// Careers of several chunks, counted through.
#[derive(Debug, Default)]
pub(crate) struct Careers {
    chunks: Vec<Chunk>,
    /// Number of the first career of each chunk.
    firsts: Vec<usize>,
    lengths: Vec<u32>,
}

/// Some careers: dataset, worker_id, input_ids and, where they are read, spans, in one layout each.
#[derive(Debug)]
struct Chunk {
    batch: RecordBatch,
    offsets: OffsetBuffer<i64>,
    ids: ScalarBuffer<i32>,
    spans: Option<Spans>,
}

/// First token and one past the last of every title, and the range of each career in them.
#[derive(Debug)]
struct Spans {
    offsets: OffsetBuffer<i64>,
    starts: ScalarBuffer<i32>,
    stops: ScalarBuffer<i32>,
}

/// A career: its chunk, and its row in it.
pub(crate) type Place = (usize, usize);

impl Careers {
    /// Add a batch in the layout of [`layout`], and check it against the length of a bin.
    ///
    /// # Errors
    /// Columns that cannot be read, a career that is empty or too long, a span outside its career.
    pub fn push(&mut self, batch: &RecordBatch, layout: &SchemaRef, length: usize) -> Result<()> {
        let chunk = Chunk::new(batch, layout)?;
        chunk.check(length)?;
        let careers = (self.lengths.len() + chunk.batch.num_rows()) as i64;
        within("the number of careers", careers, 0, MOST_CAREERS)?;
        self.firsts.push(self.lengths.len());
        let lengths = chunk.offsets.lengths().map(|tokens| tokens as u32);
        self.lengths.extend(lengths);
        self.chunks.push(chunk);
        Ok(())
    }

    /// Tokens of each career; they fit into 32 bits, as the length of a bin does.
    pub fn lengths(&self) -> &[u32] {
        &self.lengths
    }

    pub fn place(&self, career: u32) -> Place {
        let career = career as usize;
        let chunk = self.firsts.partition_point(|&first| first <= career) - 1;
        (chunk, career - self.firsts[chunk])
    }

    pub fn ids(&self, (chunk, row): Place) -> &[i32] {
        self.chunks[chunk].ids(row)
    }

    /// First token and one past the last of each title of a career; none where spans are not read.
    pub fn spans(&self, (chunk, row): Place) -> impl Iterator<Item = (i32, i32)> + '_ {
        self.chunks[chunk].spans(row)
    }

    /// Dataset (0) or worker_id (1) of some careers.
    pub fn key(
        &self,
        column: usize,
        places: &[Place],
    ) -> std::result::Result<ArrayRef, ArrowError> {
        let arrays: Vec<&dyn Array> = self
            .chunks
            .iter()
            .map(|chunk| chunk.batch.column(column).as_ref())
            .collect();
        interleave(&arrays, places)
    }

    /// Some careers alone, copied.
    pub fn take(&self, places: &[Place]) -> std::result::Result<RecordBatch, ArrowError> {
        let batches: Vec<&RecordBatch> = self.chunks.iter().map(|chunk| &chunk.batch).collect();
        interleave_record_batch(&batches, places)
    }
}

impl Chunk {
    fn new(batch: &RecordBatch, layout: &SchemaRef) -> Result<Self> {
        let mut columns = Vec::with_capacity(layout.fields().len());
        for field in layout.fields() {
            let (name, kind) = (field.name(), field.data_type());
            let column = batch
                .column_by_name(name)
                .ok_or_else(|| absent(name, batch.schema_ref()))?;
            columns.push(match kind {
                DataType::LargeList(item) => Arc::new(list(name, column, item)?),
                _ => strict(name, column, kind)?,
            });
        }
        let batch = RecordBatch::try_new(layout.clone(), columns)
            .map_err(|error| Error::token_column("input_ids", &error))?;
        let ids: &LargeListArray = batch.column(2).as_list();
        let spans = batch.columns().get(3).map(|spans| {
            let spans: &LargeListArray = spans.as_list();
            let pair = spans.values().as_struct();
            let side = |at: usize| pair.column(at).as_primitive::<Int32Type>().values().clone();
            Spans {
                offsets: spans.offsets().clone(),
                starts: side(0),
                stops: side(1),
            }
        });
        Ok(Self {
            offsets: ids.offsets().clone(),
            ids: ids.values().as_primitive::<Int32Type>().values().clone(),
            spans,
            batch,
        })
    }

    fn ids(&self, row: usize) -> &[i32] {
        &self.ids[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }

    fn spans(&self, row: usize) -> impl Iterator<Item = (i32, i32)> + '_ {
        self.spans.iter().flat_map(move |spans| {
            let own = spans.offsets[row] as usize..spans.offsets[row + 1] as usize;
            own.map(|at| (spans.starts[at], spans.stops[at]))
        })
    }

    /// No career is empty or longer than a bin, and its spans lie inside of it. Names the longest one.
    fn check(&self, length: usize) -> Result<()> {
        let tokens = |row: usize| (self.offsets[row + 1] - self.offsets[row]) as usize;
        let rows = 0..self.batch.num_rows();
        if let Some(row) = rows.clone().find(|&row| tokens(row) == 0) {
            return Err(Error::EmptyCareer { who: self.who(row) });
        }
        let longest = rows.clone().max_by_key(|&row| tokens(row));
        if let Some(row) = longest.filter(|&row| tokens(row) > length) {
            return Err(Error::LongCareer {
                who: self.who(row),
                tokens: tokens(row),
                length,
            });
        }
        if self.spans.is_none() {
            return Ok(());
        }
        let outside = |row: usize, &(start, stop): &(i32, i32)| {
            start < 0 || stop <= start || stop as usize > tokens(row)
        };
        let bad = |row: usize| self.spans(row).find(|span| outside(row, span));
        match rows.into_par_iter().find_first(|&row| bad(row).is_some()) {
            None => Ok(()),
            Some(row) => {
                let (start, stop) = bad(row).unwrap_or_default();
                Err(Error::TitleSpan {
                    who: self.who(row),
                    tokens: tokens(row),
                    start,
                    stop,
                })
            }
        }
    }

    fn who(&self, row: usize) -> String {
        let text = |column: usize| {
            array_value_to_string(self.batch.column(column), row).unwrap_or_default()
        };
        match (text(0), text(1)) {
            (dataset, worker) if dataset.is_empty() => format!("worker {worker}"),
            (dataset, worker) => format!("worker {worker} of {dataset}"),
        }
    }
}

/// The layout in which careers are held: keys as they are (text as large_string, dictionaries unpacked), ids as
/// large_list<int32>, and, where titles are labelled, spans as large_list<struct<start, stop: int32>>.
///
/// # Errors
/// A column is absent.
pub(crate) fn layout(schema: &Schema, titles: bool) -> Result<SchemaRef> {
    let item = |kind| Arc::new(Field::new("item", kind, true));
    let key = |name: &str| {
        let field = schema
            .field_with_name(name)
            .map_err(|_| absent(name, schema))?;
        let kind = match field.data_type() {
            kind if is_text(kind) => DataType::LargeUtf8,
            DataType::Dictionary(_, value) => value.as_ref().clone(),
            kind => kind.clone(),
        };
        Ok(Field::new(name, kind, true))
    };
    let list = |name: &str, kind| match schema.field_with_name(name) {
        Ok(_) => Ok(Field::new(name, DataType::LargeList(item(kind)), true)),
        Err(_) => Err(absent(name, schema)),
    };
    let mut fields = vec![
        key("dataset")?,
        key("worker_id")?,
        list("input_ids", DataType::Int32)?,
    ];
    if titles {
        let side = |name| Field::new(name, DataType::Int32, true);
        let pair = DataType::Struct(Fields::from(vec![side("start"), side("stop")]));
        fields.push(list("spans", pair)?);
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// A list of any kind as a large list that holds its own values only, without nulls.
fn list(name: &str, column: &ArrayRef, item: &Arc<Field>) -> Result<LargeListArray> {
    let broken = |reason: &str| Err(Error::token_column(name, &reason));
    let wide = DataType::LargeList(match column.data_type() {
        DataType::List(inner) | DataType::LargeList(inner) => inner.clone(),
        DataType::FixedSizeList(inner, _) => inner.clone(),
        DataType::ListView(inner) | DataType::LargeListView(inner) => inner.clone(),
        other => return broken(&format!("it has type {other}; it must be a list")),
    });
    let column = strict(name, column, &wide)?;
    let lists: &LargeListArray = column.as_list();
    let offsets = lists.value_offsets();
    let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
    if !offsets.is_sorted() || first < 0 || last as usize > lists.values().len() {
        return broken("its offsets are no ranges of its values; write the table anew");
    }
    let own = first as usize..last as usize;
    let values = lists.values().slice(own.start, own.len());
    let values = strict(name, &values, item.data_type())?;
    let sides = values.as_struct_opt().map_or(&[][..], StructArray::columns);
    let nulls: usize = sides.iter().map(|side| side.null_count()).sum();
    if lists.null_count() + values.null_count() + nulls > 0 {
        return broken("it holds nulls; every career has its list, without gaps");
    }
    let offsets = offsets.iter().map(|offset| offset - first).collect();
    LargeListArray::try_new(item.clone(), OffsetBuffer::new(offsets), values, None)
        .map_err(|error| Error::token_column(name, &error))
}

/// A cast that refuses what does not fit instead of writing a null.
fn strict(name: &str, column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let options = CastOptions {
        safe: false,
        ..Default::default()
    };
    cast_with_options(column, to, &options).map_err(|error| Error::token_column(name, &error))
}

fn absent(name: &str, schema: &Schema) -> Error {
    Error::MissingTokenColumn {
        column: name.to_owned(),
        present: schema.fields().iter().map(|f| f.name().clone()).collect(),
        way_out: match name {
            "spans" => "pack with labels=\"all\", or encode the careers with their title spans",
            _ => {
                "a token table has dataset, worker_id, input_ids and, for labels=\"titles\", spans"
            }
        },
    }
}
