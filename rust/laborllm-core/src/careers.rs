//! What resumes and token tables share: whose career a text is, what it shows, and the stream of batches.

use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, UInt64Type};
use arrow_array::{
    Array, ArrayRef, Int64Array, LargeStringArray, ListArray, RecordBatch, UInt64Array,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use arrow_select::take::take;
use rayon::prelude::*;

use crate::panel::Checked;
use crate::process::check_threads;
use crate::resume::Choice;
use crate::template::Template;
use crate::windows::{Window, Windows};
use crate::workers::boundaries;
use crate::{Error, Result};

/// The texts of one panel, batch by batch.
pub(crate) trait Plan: Send + Sync {
    /// Number of texts, and the texts of each batch.
    fn batches(&self) -> Vec<Range<usize>>;
    /// Print some of the texts on so many threads.
    fn print(&self, texts: Range<usize>, threads: usize) -> Result<RecordBatch>;
}

/// Make a plan for a checked panel.
pub(crate) type Planner = Box<dyn FnMut(Checked) -> Result<Arc<dyn Plan>> + Send>;
/// Checked panels, each of whole workers, in order.
pub type Panels = Box<dyn Iterator<Item = Result<Checked>> + Send>;

/// A batch, or the panic of whoever printed it.
type Printed = thread::Result<Result<RecordBatch>>;

/// A stream of careers in batches of whole texts; the texts depend on neither threads nor batches.
///
/// Batches are printed ahead of the reader, one more than there are threads.
pub struct Renderer {
    schema: SchemaRef,
    panels: Panels,
    planner: Planner,
    waiting: VecDeque<(Arc<dyn Plan>, Range<usize>)>,
    /// What is printed right now. The plans are kept here, so that no other thread is the last to let go of arrays
    /// whose owner may be an interpreter.
    printing: VecDeque<(Arc<dyn Plan>, Receiver<Printed>)>,
}

impl Renderer {
    pub(crate) fn over(schema: SchemaRef, panels: Panels, planner: Planner) -> Self {
        Self {
            schema,
            panels,
            planner,
            waiting: VecDeque::new(),
            printing: VecDeque::new(),
        }
    }

    pub(crate) fn of(schema: SchemaRef, plan: Arc<dyn Plan>) -> Self {
        let reason = "more than one panel".to_owned();
        let planner = Box::new(move |_| {
            Err(Error::Unchecked {
                reason: reason.clone(),
            })
        });
        let mut own = Self::over(schema, Box::new(std::iter::empty()), planner);
        own.wait(plan);
        own
    }

    fn wait(&mut self, plan: Arc<dyn Plan>) {
        let batches = plan.batches().into_iter();
        self.waiting
            .extend(batches.map(|texts| (plan.clone(), texts)));
    }

    /// The schema of every batch.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Start to print the batches that come next; a batch that is alone is printed on all threads.
    fn start(&mut self) -> Result<()> {
        check_threads()?;
        let threads = rayon::current_num_threads();
        while self.printing.len() <= threads {
            while self.waiting.is_empty()
                && let Some(panel) = self.panels.next()
            {
                let plan = (self.planner)(panel?)?;
                self.wait(plan);
            }
            let alone = self.printing.is_empty() && self.waiting.len() == 1;
            let Some((plan, texts)) = self.waiting.pop_front() else {
                break;
            };
            let (sender, receiver) = sync_channel(1);
            self.printing.push_back((plan.clone(), receiver));
            rayon::spawn(move || {
                let each = if alone { threads } else { 1 };
                let printed = catch_unwind(AssertUnwindSafe(|| plan.print(texts, each)));
                drop(plan);
                // the receiver waits, see Drop
                let _ = sender.send(printed);
            });
        }
        Ok(())
    }
}

impl Iterator for Renderer {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(error) = self.start() {
            self.waiting.clear();
            self.panels = Box::new(std::iter::empty());
            return Some(Err(error));
        }
        let (_plan, printed) = self.printing.pop_front()?;
        match printed.recv() {
            Ok(Ok(batch)) => Some(batch),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => None,
        }
    }
}

impl Drop for Renderer {
    fn drop(&mut self) {
        if check_threads().is_err() {
            return std::mem::forget(std::mem::take(&mut self.printing));
        }
        for (_plan, printed) in self.printing.drain(..) {
            // what is printed is let go of here too
            drop(printed.recv());
        }
    }
}

/// Dataset, worker, year and occupation of a checked panel.
pub(crate) struct Careers {
    dataset: ArrayRef,
    worker_id: ArrayRef,
    year: ArrayRef,
    occupation: ArrayRef,
}

impl Careers {
    /// # Errors
    /// Rows that do not come from [`crate::panel::check`].
    pub fn new(panel: &RecordBatch) -> Result<Self> {
        check_schema(&panel.schema())?;
        let column = |name: &str| match panel.column_by_name(name) {
            Some(array) if array.null_count() == 0 => Ok(array.clone()),
            _ => Err(Error::Unchecked {
                reason: format!("the column '{name}' holds nulls"),
            }),
        };
        Ok(Self {
            dataset: column("dataset")?,
            worker_id: column("worker_id")?,
            year: column("year")?,
            occupation: column("occupation")?,
        })
    }

    /// Which rows to print.
    pub fn windows(&self, choice: Choice) -> Result<Windows> {
        let starts = match choice.starts {
            Some(starts) => starts,
            None => self.starts()?,
        };
        Windows::new(
            self.worker_id.len(),
            starts,
            choice.complete,
            choice.windows,
        )
    }

    /// First row of each worker, then the number of rows.
    fn starts(&self) -> Result<Int64Array> {
        let rows = self.worker_id.len();
        let tags = self.dataset.as_dictionary::<Int32Type>().keys().values();
        let text = self.worker_id.as_string_opt::<i64>();
        let unsigned = self.worker_id.as_primitive_opt::<UInt64Type>();
        let signed = self.worker_id.as_primitive_opt::<Int64Type>();
        let starts = match (text, unsigned, signed) {
            (Some(ids), _, _) => boundaries(rows, |a, b| {
                tags[a] == tags[b] && ids.value(a) == ids.value(b)
            }),
            (_, Some(ids), _) => boundaries(rows, |a, b| {
                tags[a] == tags[b] && ids.values()[a] == ids.values()[b]
            }),
            (_, _, Some(ids)) => boundaries(rows, |a, b| {
                tags[a] == tags[b] && ids.values()[a] == ids.values()[b]
            }),
            _ => Vec::new(),
        };
        let years = self.year.as_primitive::<Int32Type>().values();
        let pairs = starts.par_windows(2);
        let falls =
            |pair: &&[i64]| !years[pair[0] as usize..pair[1] as usize].is_sorted_by(|a, b| a < b);
        match pairs.find_first(falls) {
            None => Ok(starts.into()),
            Some(pair) => Err(Error::Unchecked {
                reason: format!("the years of the worker in row {} do not ascend", pair[0]),
            }),
        }
    }

    /// `{dataset}` needs a tag in every row.
    pub fn check_tag(&self, template: &Template) -> Result<()> {
        let fields = [template.header_fields(), template.row_fields()].concat();
        let tags = self.dataset.as_dictionary::<Int32Type>();
        let texts: Option<&LargeStringArray> = tags.values().as_any().downcast_ref();
        let empty = |tag: Option<&str>| tag.is_none_or(str::is_empty);
        if texts.is_some_and(|texts| !texts.iter().any(empty))
            || !fields.iter().any(|field| field == "dataset")
        {
            return Ok(());
        }
        let tagged =
            |key: &i32| texts.is_some_and(|texts| !empty(Some(texts.value(*key as usize))));
        if tags.keys().values().iter().all(tagged) {
            Ok(())
        } else {
            Err(Error::NoTag)
        }
    }

    /// The columns dataset and worker_id, one row per text.
    pub fn who(&self, texts: &[Window], windows: &Windows) -> Result<[ArrayRef; 2]> {
        let heads = texts.iter().map(|text| windows.start(text.worker) as u64);
        let heads: UInt64Array = heads.collect();
        let taken = |array: &ArrayRef, name| {
            take(array, &heads, None).map_err(|error| Error::unreadable(name, &error))
        };
        Ok([
            taken(&self.dataset, "dataset")?,
            taken(&self.worker_id, "worker_id")?,
        ])
    }

    /// The columns year and occupation, one list per text.
    pub fn what(&self, texts: &[Window]) -> Result<[ArrayRef; 2]> {
        let listed = |array: &ArrayRef, name| {
            lists(texts, array).map_err(|error| Error::unreadable(name, &error))
        };
        Ok([
            listed(&self.year, "year")?,
            listed(&self.occupation, "occupation")?,
        ])
    }
}

/// The values of a yearly column in the rows of each text.
fn lists(texts: &[Window], column: &ArrayRef) -> std::result::Result<ArrayRef, ArrowError> {
    let adjoining = |pair: &[Window]| pair[0].rows.end == pair[1].rows.start;
    let values = match (texts.first(), texts.last()) {
        (Some(first), Some(last)) if texts.windows(2).all(adjoining) => {
            column.slice(first.rows.start, last.rows.end - first.rows.start)
        }
        _ => {
            let rows = texts.iter().flat_map(|text| text.rows.clone());
            let rows: UInt64Array = rows.map(|row| row as u64).collect();
            take(column, &rows, None)?
        }
    };
    let field = Arc::new(Field::new("item", values.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths(texts.iter().map(|text| text.rows.len()));
    Ok(Arc::new(ListArray::try_new(field, offsets, values, None)?))
}

/// Fields that begin and end every table of careers, from the schema of a checked panel.
pub(crate) fn fields(panel: &Schema) -> Result<([Field; 2], [Field; 2])> {
    check_schema(panel)?;
    let own = |name: &str| {
        let field = panel.field_with_name(name);
        field
            .map(Field::data_type)
            .cloned()
            .unwrap_or(DataType::Null)
    };
    let list = |name: &str| DataType::List(Arc::new(Field::new("item", own(name), true)));
    let who = ["dataset", "worker_id"].map(|name| Field::new(name, own(name), true));
    let what = ["year", "occupation"].map(|name| Field::new(name, list(name), true));
    Ok((who, what))
}

fn check_schema(panel: &Schema) -> Result<()> {
    check_keys(panel)?;
    check_columns(panel, &["year", "occupation"])
}

/// Refuse a schema whose columns dataset and worker_id are not those of a checked panel.
pub(crate) fn check_keys(panel: &Schema) -> Result<()> {
    check_columns(panel, &["dataset", "worker_id"])
}

fn check_columns(panel: &Schema, names: &[&str]) -> Result<()> {
    let coded = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::LargeUtf8));
    for &name in names {
        let Ok(field) = panel.field_with_name(name) else {
            return Err(Error::Unchecked {
                reason: format!("the column '{name}' is absent"),
            });
        };
        let kind = field.data_type();
        let fits = match name {
            "worker_id" => matches!(
                kind,
                DataType::Int64 | DataType::UInt64 | DataType::LargeUtf8
            ),
            "year" => kind == &DataType::Int32,
            _ => kind == &coded,
        };
        if !fits {
            return Err(Error::Unchecked {
                reason: format!("the column '{name}' has type {kind}"),
            });
        }
    }
    Ok(())
}
