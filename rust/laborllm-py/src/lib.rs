//! The border between `laborllm-core` and Python: arguments, release of the interpreter, errors. No algorithm.

mod border;
mod numbers;
mod packing;
mod tallies;
mod trie;

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use arrow_array::{RecordBatchIterator, UInt64Array};
use arrow_schema::SchemaRef;
use border::{booleans, integers, raised, signed};
use laborllm_core::shards::Shard;
use laborllm_core::stream::Stream;
use laborllm_core::{Error, Panels, Renderer, ids, panel, resume, shards, template};
use pyo3::prelude::*;
use pyo3_arrow::{PyArray, PyRecordBatch, PyRecordBatchReader, PySchema, PyTable};

/// Freed text buffers stay warm for the next batch: fresh pages cost more than filling them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rows in, rows dropped, workers that change by column, falls of education.
type Report = (u64, u64, BTreeMap<String, u64>, u64);

/// Check, sort and group a panel; see `laborllm_core::panel::check`.
///
/// Returns one batch as a stream, the first row of each worker (then the number of rows), and the counts.
#[pyfunction]
#[pyo3(signature = (data, *, codes, titles, dataset, columns, drop_null_occupations))]
fn check_panel(
    py: Python<'_>,
    data: PyTable,
    codes: Vec<String>,
    titles: Vec<String>,
    dataset: Option<String>,
    columns: Vec<(String, String)>,
    drop_null_occupations: bool,
) -> PyResult<(PyTable, PyArray, Report)> {
    let (batches, schema) = data.into_inner();
    let options = panel::Options {
        codes,
        titles,
        dataset,
        columns,
        drop_null_occupations,
        in_order: false,
    };
    let checked = py
        .detach(|| panel::check(&schema, &batches, &options))
        .map_err(raised)?;
    let schema = checked.batch.schema();
    let table = PyTable::try_new(vec![checked.batch], schema)?;
    Ok((table, signed(checked.starts), counts(checked.report)))
}

/// One 64-bit number per worker of a checked panel; see `laborllm_core::shards::draws`.
#[pyfunction]
fn draws(py: Python<'_>, panel: PyTable, starts: PyArray, tag: &str) -> PyResult<PyArray> {
    let (panel, starts) = (border::whole(panel)?, integers(starts)?);
    let draws = py.detach(|| shards::draws(&panel, &starts, tag));
    let draws = draws.map_err(raised)?;
    Ok(PyArray::from_array_ref(Arc::new(UInt64Array::from(draws))))
}

/// Resolve a template's brackets for these columns and return header, row and end.
#[pyfunction]
fn bind_template(
    header: &str,
    row: &str,
    end: &str,
    columns: Vec<String>,
) -> PyResult<[String; 3]> {
    let parsed = template::Template::parse(header, row, end).map_err(raised)?;
    parsed
        .bind(&columns)
        .map(|bound| bound.texts())
        .map_err(raised)
}

/// Leave out the bracketed phrases with these fields and return header, row and end.
#[pyfunction]
fn strip_template(
    header: &str,
    row: &str,
    end: &str,
    fields: Vec<String>,
) -> PyResult<[String; 3]> {
    let parsed = template::Template::parse(header, row, end).map_err(raised)?;
    parsed
        .without(&fields)
        .map(|stripped| stripped.texts())
        .map_err(raised)
}

/// Fields of the header, fields of the row, and whether no brackets are left.
#[pyfunction]
fn template_fields(
    header: &str,
    row: &str,
    end: &str,
) -> PyResult<(Vec<String>, Vec<String>, bool)> {
    let parsed = template::Template::parse(header, row, end).map_err(raised)?;
    Ok((
        parsed.header_fields(),
        parsed.row_fields(),
        parsed.is_bound(),
    ))
}

/// A stream of record batches whose errors are our exceptions.
#[pyclass(frozen, module = "laborllm._core")]
struct Batches {
    schema: SchemaRef,
    stream: Mutex<Option<Renderer>>,
    failure: Failure,
}

/// The error, or the panic, that ended a stream before its time.
type Failure = Arc<Mutex<Option<thread::Result<Error>>>>;

#[pymethods]
impl Batches {
    /// The Arrow schema of every batch.
    #[getter]
    fn schema(&self) -> PySchema {
        PySchema::new(self.schema.clone())
    }

    /// All batches as a pyarrow stream, once. What goes wrong ends it, and is raised by `finish`.
    fn reader<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let failure = self.failure.clone();
        let batches = stream.take().into_iter().flatten();
        let mut batches = AssertUnwindSafe(batches);
        let until_failure = std::iter::from_fn(move || {
            let failed = match catch_unwind(AssertUnwindSafe(|| batches.next())) {
                Ok(Some(Ok(batch))) => return Some(Ok(batch)),
                Ok(None) => return None,
                Ok(Some(Err(error))) => Ok(error),
                Err(panic) => Err(panic),
            };
            *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failed);
            None
        });
        let reader = RecordBatchIterator::new(until_failure, self.schema.clone());
        PyRecordBatchReader::new(Box::new(reader)).into_pyarrow(py)
    }

    /// Raise what ended the stream before its time.
    fn finish(&self) -> PyResult<()> {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match failure.take() {
            None => Ok(()),
            Some(Ok(error)) => Err(raised(error)),
            Some(Err(panic)) => resume_unwind(panic),
        }
    }
}

impl From<Renderer> for Batches {
    fn from(stream: Renderer) -> Self {
        Self {
            schema: stream.schema(),
            stream: Mutex::new(Some(stream)),
            failure: Failure::default(),
        }
    }
}

/// Checked pieces of a stream of rows, each of whole workers; see `laborllm_core::stream::Stream`.
#[pyclass(frozen, module = "laborllm._core")]
struct Pieces {
    schema: SchemaRef,
    stream: Mutex<Option<Stream>>,
    report: Arc<Mutex<panel::Report>>,
}

#[pymethods]
impl Pieces {
    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
    #[new]
    #[pyo3(signature = (data, *, codes, titles, dataset, columns, drop_null_occupations, shard, piece_rows))]
    fn new(
        data: PyRecordBatchReader,
        codes: Vec<String>,
        titles: Vec<String>,
        dataset: Option<String>,
        columns: Vec<(String, String)>,
        drop_null_occupations: bool,
        shard: Option<(u64, u64)>,
        piece_rows: usize,
    ) -> PyResult<Self> {
        let source = data.into_reader()?;
        let options = panel::Options {
            codes,
            titles,
            dataset,
            columns,
            drop_null_occupations,
            in_order: true,
        };
        let schema = panel::checked_schema(&source.schema(), &options).map_err(raised)?;
        let shard = shard.map(|(index, count)| Shard { index, count });
        let stream = Stream::new(source, options, shard, piece_rows);
        Ok(Self {
            schema: Arc::new(schema),
            report: stream.report(),
            stream: Mutex::new(Some(stream)),
        })
    }

    /// The Arrow schema of every piece.
    #[getter]
    fn schema(&self) -> PySchema {
        PySchema::new(self.schema.clone())
    }

    /// Rows in, rows dropped, workers that change by column, falls of education: of the pieces so far.
    #[getter]
    fn report(&self) -> Report {
        let report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        counts(report.clone())
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    /// The next piece and the first rows of its workers, then its number of rows.
    fn __next__(&self, py: Python<'_>) -> PyResult<Option<(PyRecordBatch, PyArray)>> {
        let next = || {
            let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
            stream.as_mut().and_then(Iterator::next).transpose()
        };
        let piece = py.detach(next).map_err(raised)?;
        Ok(piece.map(|piece| (PyRecordBatch::new(piece.batch), signed(piece.starts))))
    }

    /// Print the resumes of all pieces to come; nothing is left for this iterator.
    fn render(
        &self,
        template: Texts,
        metadata: HashMap<String, String>,
        batch_bytes: usize,
    ) -> PyResult<Batches> {
        let form = form(template, metadata, batch_bytes, false)?;
        let rendered = resume::render_stream(&self.schema, self.take(), form);
        rendered.map(Batches::from).map_err(raised)
    }
}

impl Pieces {
    fn take(&self) -> Panels {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        Box::new(stream.take().into_iter().flatten())
    }
}

fn counts(report: panel::Report) -> Report {
    (
        report.rows_in,
        report.dropped,
        report.changed,
        report.education_falls,
    )
}

/// Header, row and end, the words for nulls, and whose education stands before a title.
type Texts = (String, String, String, HashMap<String, String>, String);

fn form(
    (header, row, end, missing, education): Texts,
    metadata: HashMap<String, String>,
    batch_bytes: usize,
    prompts: bool,
) -> PyResult<resume::Form> {
    Ok(resume::Form {
        template: template::Template::parse(&header, &row, &end).map_err(raised)?,
        missing,
        education: education.parse().map_err(raised)?,
        metadata,
        batch_bytes,
        prompts,
    })
}

#[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
/// Print a panel's resumes as a stream of batches; see `laborllm_core::resume::render`.
#[pyfunction]
#[pyo3(signature = (panel, *, template, starts, complete, windows, metadata, batch_bytes, prompts=false))]
fn render(
    py: Python<'_>,
    panel: PyTable,
    template: Texts,
    starts: PyArray,
    complete: PyArray,
    windows: Option<(PyArray, PyArray)>,
    metadata: HashMap<String, String>,
    batch_bytes: usize,
    prompts: bool,
) -> PyResult<Batches> {
    let form = form(template, metadata, batch_bytes, prompts)?;
    let choice = choice(starts, complete, windows)?;
    let panel = border::whole(panel)?;
    let rendered = py.detach(|| resume::render(panel, form, choice));
    rendered.map(Batches::from).map_err(raised)
}

/// Print a panel's careers as token ids; see `laborllm_core::ids::tokenize`.
///
/// `encode(header, row, end)` gets texts by place and gives the ids of each, place by place.
#[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
#[pyfunction]
#[pyo3(signature = (panel, *, template, starts, complete, windows, metadata, batch_bytes, encode))]
fn tokenize(
    py: Python<'_>,
    panel: PyTable,
    template: Texts,
    starts: PyArray,
    complete: PyArray,
    windows: Option<(PyArray, PyArray)>,
    metadata: HashMap<String, String>,
    batch_bytes: usize,
    encode: Py<PyAny>,
) -> PyResult<Batches> {
    let form = form(template, metadata, batch_bytes, false)?;
    let choice = choice(starts, complete, windows)?;
    let panel = border::whole(panel)?;
    let mut exception = None;
    let mut encode = |fragments| border::encode(&encode, fragments, &mut exception);
    let tokens = py.detach(|| ids::tokenize(panel, form, choice, &mut encode));
    match (tokens, exception) {
        (_, Some(exception)) => Err(exception),
        (tokens, None) => tokens.map(Batches::from).map_err(raised),
    }
}

fn choice(
    starts: PyArray,
    complete: PyArray,
    windows: Option<(PyArray, PyArray)>,
) -> PyResult<resume::Choice> {
    let pair = |(first, stop)| Ok::<_, PyErr>((integers(first)?, integers(stop)?));
    Ok(resume::Choice {
        starts: Some(integers(starts)?),
        complete: Some(booleans(complete)?),
        windows: windows.map(pair).transpose()?,
    })
}

/// The Rust core of laborllm.
#[pymodule(gil_used = false)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(check_panel, module)?)?;
    module.add_function(wrap_pyfunction!(draws, module)?)?;
    module.add_function(wrap_pyfunction!(bind_template, module)?)?;
    module.add_function(wrap_pyfunction!(strip_template, module)?)?;
    module.add_function(wrap_pyfunction!(template_fields, module)?)?;
    module.add_function(wrap_pyfunction!(render, module)?)?;
    module.add_function(wrap_pyfunction!(tokenize, module)?)?;
    module.add_class::<Batches>()?;
    module.add_class::<Pieces>()?;
    module.add_function(wrap_pyfunction!(packing::pack_best_fit, module)?)?;
    module.add_class::<packing::FirstFit>()?;
    module.add_function(wrap_pyfunction!(tallies::tally, module)?)?;
    module.add_class::<trie::TitleTrie>()
}
