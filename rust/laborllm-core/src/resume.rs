//! Careers as text: header, one piece of text per row, and the end, with the byte span of every title.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{
    Array, ArrayRef, DictionaryArray, Int64Array, LargeListArray, LargeStringArray, ListArray,
    RecordBatch, RecordBatchOptions, RecordBatchReader, UInt64Array,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use arrow_select::take::take;
use rayon::prelude::*;

use crate::fragments::{Fragments, SLACK};
use crate::template::Template;
use crate::workers::boundaries;
use crate::{Error, Result};

/// Which education stands before a title.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Education {
    /// That of the row itself, as in the paper.
    Target,
    /// That of the row before, for forecasts; the first row of a worker shows the missing word.
    Previous,
}

impl std::str::FromStr for Education {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        match word {
            "target" => Ok(Self::Target),
            "previous" => Ok(Self::Previous),
            _ => Err(Error::EducationChoice {
                found: word.to_owned(),
            }),
        }
    }
}

/// What to print, beside the panel and the template.
#[derive(Debug, Clone)]
pub struct Options {
    /// The word for a null of each field.
    pub missing: HashMap<String, String>,
    /// Which education stands before a title.
    pub education: Education,
    /// Whether each worker's last row ends the career; the end is printed for those. None: all of them.
    pub complete: Option<Vec<bool>>,
    /// Row ranges [first, stop), each inside one worker; None: every worker's whole career.
    pub windows: Option<(Vec<i64>, Vec<i64>)>,
    /// Metadata of the schema.
    pub metadata: HashMap<String, String>,
    /// Text per batch, in bytes, passed by less than one career.
    pub batch_bytes: usize,
}

/// One text to print: rows of one worker, and whether the end follows.
#[derive(Debug, Clone)]
struct Window {
    worker: usize,
    rows: Range<usize>,
    ended: bool,
}

/// Windows of one batch, and the bytes of their texts.
#[derive(Debug, Clone)]
struct Portion {
    windows: Range<usize>,
    bytes: usize,
}

/// What all batches share.
#[derive(Debug)]
struct Plan {
    /// One row per worker, from the worker's first.
    header: Fragments,
    row: Fragments,
    end: Vec<u8>,
    windows: Vec<Window>,
    /// First row of each worker, then the number of rows.
    starts: Vec<i64>,
    columns: [ArrayRef; 4],
    schema: SchemaRef,
}

/// A stream of resumes in batches of whole careers; order and batches depend on neither threads nor chunks.
///
/// As many batches as there are threads are printed at once and wait for the reader.
#[derive(Debug)]
pub struct Renderer {
    plan: Plan,
    batches: VecDeque<Portion>,
    ready: VecDeque<std::result::Result<RecordBatch, ArrowError>>,
}

impl Renderer {
    /// Prepare the tables of fragments and the lengths of all texts.
    ///
    /// `panel` is the batch of [`crate::panel::check`], or whole workers or slices of it.
    ///
    /// # Errors
    /// A template that is not bound or prints what the panel cannot give, rows that are not in canonical order, a
    /// window that is no range of rows of one worker.
    pub fn new(panel: &RecordBatch, template: &Template, options: Options) -> Result<Self> {
        let columns = canonical(panel)?;
        let starts = worker_starts(&columns)?;
        check_tag(template, &columns[0])?;
        let heads = first_rows(panel, template, &starts)?;
        let header = Fragments::new(template.header(), &heads, &options.missing)?.fuse();
        let mut row = Fragments::new(template.row(), panel, &options.missing)?;
        if options.education == Education::Previous {
            row.lag("education", &starts);
        }
        let windows = windows(&starts, &options)?;
        let [_, _, end] = template.texts();
        let schema = schema(&columns).with_metadata(options.metadata);
        let plan = Plan {
            header,
            row: row.fuse(),
            end: end.into_bytes(),
            windows,
            starts,
            columns,
            schema: Arc::new(schema),
        };
        let batches = plan.batches(options.batch_bytes.max(1));
        Ok(Self {
            plan,
            batches,
            ready: VecDeque::new(),
        })
    }
}

impl Iterator for Renderer {
    type Item = std::result::Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty() {
            let many = rayon::current_num_threads().min(self.batches.len());
            let portions: Vec<Portion> = self.batches.drain(..many).collect();
            let plan = &self.plan;
            self.ready = portions
                .into_par_iter()
                .map(|portion| plan.print(portion))
                .collect::<Vec<_>>()
                .into();
        }
        self.ready.pop_front()
    }
}

impl RecordBatchReader for Renderer {
    fn schema(&self) -> SchemaRef {
        self.plan.schema.clone()
    }
}

impl Plan {
    fn length(&self, window: &Window) -> usize {
        let rows: usize = window.rows.clone().map(|row| self.row.length(row)).sum();
        self.header.length(window.worker) + rows + if window.ended { self.end.len() } else { 0 }
    }

    /// Windows whose texts together reach `bytes` with the last of them.
    fn batches(&self, bytes: usize) -> VecDeque<Portion> {
        let lengths: Vec<usize> = self
            .windows
            .par_iter()
            .map(|window| self.length(window))
            .collect();
        let (mut batches, mut start, mut filled) = (VecDeque::new(), 0, 0);
        for (window, length) in lengths.iter().enumerate() {
            filled += length;
            if filled >= bytes || window + 1 == lengths.len() {
                batches.push_back(Portion {
                    windows: start..window + 1,
                    bytes: filled,
                });
                (start, filled) = (window + 1, 0);
            }
        }
        batches
    }

    fn print(&self, portion: Portion) -> std::result::Result<RecordBatch, ArrowError> {
        let windows = &self.windows[portion.windows];
        let rows = windows.iter().map(|window| window.rows.len()).sum();
        let (mut text, mut at) = (vec![0; portion.bytes + SLACK], 0);
        let (mut starts, mut ends) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        let mut offsets = Vec::with_capacity(windows.len() + 1);
        offsets.push(0);
        for window in windows {
            let base = at;
            self.header.print(window.worker, &mut text, &mut at);
            for row in window.rows.clone() {
                let (start, end) = self.row.print(row, &mut text, &mut at);
                starts.push((start - base) as i64);
                ends.push((end - base) as i64);
            }
            if window.ended {
                text[at..at + self.end.len()].copy_from_slice(&self.end);
                at += self.end.len();
            }
            offsets.push(at as i64);
        }
        text.truncate(at);
        let offsets = OffsetBuffer::new(offsets.into());
        let resume = LargeStringArray::try_new(offsets, text.into(), None)?;
        self.assemble(windows, resume, starts, ends)
    }

    fn assemble(
        &self,
        windows: &[Window],
        resume: LargeStringArray,
        starts: Vec<i64>,
        ends: Vec<i64>,
    ) -> std::result::Result<RecordBatch, ArrowError> {
        let head = |window: &Window| self.starts[window.worker] as u64;
        let heads: UInt64Array = windows.iter().map(head).collect();
        let lengths = || windows.iter().map(|window| window.rows.len());
        let spans = |values: Vec<i64>| {
            let field = Arc::new(Field::new("item", DataType::Int64, true));
            LargeListArray::try_new(
                field,
                OffsetBuffer::from_lengths(lengths()),
                Arc::new(Int64Array::from(values)),
                None,
            )
        };
        let lists = |column: &ArrayRef| {
            let values = self.rows_of(windows, column)?;
            let field = Arc::new(Field::new("item", values.data_type().clone(), true));
            ListArray::try_new(field, OffsetBuffer::from_lengths(lengths()), values, None)
        };
        let [dataset, worker_id, year, occupation] = &self.columns;
        let columns: Vec<ArrayRef> = vec![
            take(dataset, &heads, None)?,
            take(worker_id, &heads, None)?,
            Arc::new(resume),
            Arc::new(spans(starts)?),
            Arc::new(spans(ends)?),
            Arc::new(lists(year)?),
            Arc::new(lists(occupation)?),
        ];
        RecordBatch::try_new(self.schema.clone(), columns)
    }

    /// The values of a yearly column in all rows of the windows, one after another.
    fn rows_of(
        &self,
        windows: &[Window],
        column: &ArrayRef,
    ) -> std::result::Result<ArrayRef, ArrowError> {
        let adjoining = windows
            .windows(2)
            .all(|pair| pair[0].rows.end == pair[1].rows.start);
        if let (true, Some(first), Some(last)) = (adjoining, windows.first(), windows.last()) {
            return Ok(column.slice(first.rows.start, last.rows.end - first.rows.start));
        }
        let rows: UInt64Array = windows
            .iter()
            .flat_map(|window| window.rows.clone())
            .map(|row| row as u64)
            .collect();
        take(column, &rows, None)
    }
}

/// Dataset, worker, year and occupation of a checked panel.
fn canonical(panel: &RecordBatch) -> Result<[ArrayRef; 4]> {
    let column = |name: &str| {
        let absent = || Error::Unchecked {
            reason: format!("the column '{name}' is absent"),
        };
        let array = panel.column_by_name(name).cloned().ok_or_else(absent)?;
        if array.null_count() > 0 {
            return Err(Error::Unchecked {
                reason: format!("the column '{name}' holds nulls"),
            });
        }
        Ok(array)
    };
    let columns = [
        column("dataset")?,
        column("worker_id")?,
        column("year")?,
        column("occupation")?,
    ];
    for (array, name) in columns
        .iter()
        .zip(["dataset", "worker_id", "year", "occupation"])
    {
        let fits = match name {
            "worker_id" => matches!(
                array.data_type(),
                DataType::Int64 | DataType::UInt64 | DataType::LargeUtf8
            ),
            "year" => array.data_type() == &DataType::Int32,
            _ => {
                array.as_any().is::<DictionaryArray<Int32Type>>()
                    && crate::columns::is_text(array.data_type())
            }
        };
        if !fits {
            return Err(Error::Unchecked {
                reason: format!("the column '{name}' has type {}", array.data_type()),
            });
        }
    }
    Ok(columns)
}

/// The columns of the header, one row per worker.
fn first_rows(panel: &RecordBatch, template: &Template, starts: &[i64]) -> Result<RecordBatch> {
    let workers = &starts[..starts.len() - 1];
    let rows: UInt64Array = workers.iter().map(|&start| start as u64).collect();
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for name in template.header_fields() {
        if let Some(column) = panel.column_by_name(&name) {
            let unreadable = |error| Error::unreadable(&name, &error);
            columns.push(take(column, &rows, None).map_err(unreadable)?);
            fields.push(Field::new(&name, column.data_type().clone(), true));
        }
    }
    let options = RecordBatchOptions::new().with_row_count(Some(workers.len()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .map_err(|error| Error::unreadable("worker_id", &error))
}

fn worker_starts(columns: &[ArrayRef; 4]) -> Result<Vec<i64>> {
    let [dataset, worker_id, year, _] = columns;
    let datasets = dataset.as_dictionary::<Int32Type>().keys().values();
    let rows = worker_id.len();
    let starts = match worker_id.data_type() {
        DataType::LargeUtf8 => {
            let ids = worker_id.as_string::<i64>();
            boundaries(rows, |a, b| {
                datasets[a] == datasets[b] && ids.value(a) == ids.value(b)
            })
        }
        DataType::UInt64 => {
            let ids = worker_id
                .as_primitive::<arrow_array::types::UInt64Type>()
                .values();
            boundaries(rows, |a, b| datasets[a] == datasets[b] && ids[a] == ids[b])
        }
        _ => {
            let ids = worker_id
                .as_primitive::<arrow_array::types::Int64Type>()
                .values();
            boundaries(rows, |a, b| datasets[a] == datasets[b] && ids[a] == ids[b])
        }
    };
    let years = year.as_primitive::<Int32Type>().values();
    let ascending =
        |pair: &[i64]| years[pair[0] as usize..pair[1] as usize].is_sorted_by(|a, b| a < b);
    if let Some(pair) = starts.par_windows(2).find_first(|pair| !ascending(pair)) {
        return Err(Error::Unchecked {
            reason: format!("the years of the worker in row {} do not ascend", pair[0]),
        });
    }
    Ok(starts)
}

/// `{dataset}` needs a tag in every row.
fn check_tag(template: &Template, dataset: &ArrayRef) -> Result<()> {
    let printed = template
        .header_fields()
        .into_iter()
        .chain(template.row_fields())
        .any(|field| field == "dataset");
    let pair = dataset.as_dictionary::<Int32Type>();
    let tags: Option<&LargeStringArray> = pair.values().as_any().downcast_ref();
    let Some(tags) = tags else {
        return Err(Error::Unchecked {
            reason: "the column 'dataset' is no dictionary of large_string".to_owned(),
        });
    };
    let empty: Vec<bool> = tags
        .iter()
        .map(|tag| tag.is_none_or(str::is_empty))
        .collect();
    let used = |key: &i32| empty.get(*key as usize).copied().unwrap_or(true);
    if printed && empty.contains(&true) && pair.keys().values().iter().any(used) {
        return Err(Error::NoTag);
    }
    Ok(())
}

fn windows(starts: &[i64], options: &Options) -> Result<Vec<Window>> {
    let workers = starts.len() - 1;
    if options
        .complete
        .as_ref()
        .is_some_and(|complete| complete.len() != workers)
    {
        return Err(Error::Unchecked {
            reason: format!("complete has another length than the {workers} workers"),
        });
    }
    let ended = |worker: usize| {
        options
            .complete
            .as_ref()
            .is_none_or(|complete| complete[worker])
    };
    let Some((firsts, stops)) = &options.windows else {
        let career = |worker: usize| {
            let rows = starts[worker] as usize..starts[worker + 1] as usize;
            Window {
                worker,
                rows,
                ended: ended(worker),
            }
        };
        return Ok((0..workers).map(career).collect());
    };
    if firsts.len() != stops.len() {
        return Err(Error::Unchecked {
            reason: "first and stop rows of the windows differ in number".to_owned(),
        });
    }
    let one = |(window, (&first, &stop)): (usize, (&i64, &i64))| {
        let worker = starts
            .partition_point(|&start| start <= first)
            .wrapping_sub(1);
        if worker >= workers || stop < first || stop > starts[worker + 1] {
            return Err(Error::Window {
                window,
                first,
                stop,
            });
        }
        let whole = first == starts[worker] && stop == starts[worker + 1];
        let rows = first as usize..stop as usize;
        Ok(Window {
            worker,
            rows,
            ended: whole && ended(worker),
        })
    };
    firsts.iter().zip(stops).enumerate().map(one).collect()
}

fn schema(columns: &[ArrayRef; 4]) -> Schema {
    let list = |array: &ArrayRef| {
        DataType::List(Arc::new(Field::new(
            "item",
            array.data_type().clone(),
            true,
        )))
    };
    let spans = DataType::LargeList(Arc::new(Field::new("item", DataType::Int64, true)));
    let [dataset, worker_id, year, occupation] = columns;
    Schema::new(vec![
        Field::new("dataset", dataset.data_type().clone(), true),
        Field::new("worker_id", worker_id.data_type().clone(), true),
        Field::new("resume", DataType::LargeUtf8, true),
        Field::new("title_start", spans.clone(), true),
        Field::new("title_end", spans, true),
        Field::new("year", list(year), true),
        Field::new("occupation", list(occupation), true),
    ])
}
