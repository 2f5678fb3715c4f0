//! The border between `laborllm-core` and Python: arguments, release of the interpreter, errors. No algorithm.

mod border;

use std::collections::{BTreeMap, HashMap};

use border::{booleans, integers, raised, signed, unsigned};
use laborllm_core::resume::Renderer;
use laborllm_core::{panel, resume, template, trie};
use pyo3::prelude::*;
use pyo3_arrow::{PyArray, PyRecordBatchReader, PyTable};

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
    };
    let checked = py
        .detach(|| panel::check(&schema, &batches, &options))
        .map_err(raised)?;
    let report = checked.report;
    let schema = checked.batch.schema();
    let table = PyTable::try_new(vec![checked.batch], schema)?;
    Ok((
        table,
        signed(checked.starts),
        (
            report.rows_in,
            report.dropped,
            report.changed,
            report.education_falls,
        ),
    ))
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

/// Print resumes as a stream of batches; see `laborllm_core::resume::Renderer`.
#[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
#[pyfunction]
#[pyo3(signature = (panel, *, header, row, end, missing, education, complete, windows, metadata, batch_bytes))]
fn render(
    py: Python<'_>,
    panel: PyTable,
    header: &str,
    row: &str,
    end: &str,
    missing: HashMap<String, String>,
    education: &str,
    complete: Option<PyArray>,
    windows: Option<(PyArray, PyArray)>,
    metadata: HashMap<String, String>,
    batch_bytes: usize,
) -> PyResult<PyRecordBatchReader> {
    let template = template::Template::parse(header, row, end).map_err(raised)?;
    let education = education.parse().map_err(raised)?;
    let complete = complete.map(booleans).transpose()?;
    let windows = windows
        .map(|(first, stop)| Ok::<_, PyErr>((integers(first)?, integers(stop)?)))
        .transpose()?;
    let options = resume::Options {
        missing,
        education,
        complete,
        windows,
        metadata,
        batch_bytes,
    };
    let panel = border::whole(panel)?;
    let renderer = py
        .detach(|| Renderer::new(&panel, &template, options))
        .map_err(raised)?;
    Ok(PyRecordBatchReader::new(Box::new(renderer)))
}

/// The token sequences of J titles as a trie; see `laborllm_core::trie::TitleTrie`.
#[pyclass(frozen, module = "laborllm._core")]
struct TitleTrie(trie::TitleTrie);

#[pymethods]
impl TitleTrie {
    #[new]
    fn new(py: Python<'_>, units: Vec<Vec<u32>>) -> PyResult<Self> {
        py.detach(|| trie::TitleTrie::new(&units))
            .map(Self)
            .map_err(raised)
    }

    /// Nodes, the root among them.
    #[getter]
    fn num_nodes(&self) -> usize {
        self.0.num_nodes()
    }

    /// First edge of each node, then the number of edges, as an Arrow array.
    #[getter]
    fn first(&self) -> PyArray {
        unsigned(self.0.first().to_vec())
    }

    /// Token of each edge, as an Arrow array; edge e leads to node e + 1.
    #[getter]
    fn labels(&self) -> PyArray {
        unsigned(self.0.labels().to_vec())
    }

    /// Title that ends at each node, -1 where none does, as an Arrow array.
    #[getter]
    fn title_of(&self) -> PyArray {
        border::small(self.0.title_of().to_vec())
    }

    /// Tokens that may follow a node, ascending; None for a node this trie does not have.
    fn allowed(&self, state: u32) -> Option<Vec<u32>> {
        self.0.allowed(state).map(<[u32]>::to_vec)
    }

    /// The node after one token, None where it is not allowed.
    fn advance(&self, state: u32, token: u32) -> Option<u32> {
        self.0.advance(state, token)
    }

    /// The node after several tokens from the root, None where one is not allowed.
    fn walk(&self, tokens: Vec<u32>) -> Option<u32> {
        self.0.walk(&tokens)
    }

    /// The title that ends at a node.
    fn title(&self, state: u32) -> Option<u32> {
        self.0.title(state)
    }
}

/// The Rust core of laborllm.
#[pymodule(gil_used = false)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(check_panel, module)?)?;
    module.add_function(wrap_pyfunction!(bind_template, module)?)?;
    module.add_function(wrap_pyfunction!(strip_template, module)?)?;
    module.add_function(wrap_pyfunction!(template_fields, module)?)?;
    module.add_function(wrap_pyfunction!(render, module)?)?;
    module.add_class::<TitleTrie>()
}
