//! The trie over titles: numpy arrays in and out, Arrow arrays for what is built and kept.

use arrow_array::types::{UInt16Type, UInt32Type};
use laborllm_core::Error;
use laborllm_core::trie::{self, Label, Labels, Subsets};
use numpy::{
    IntoPyArray, PyArray1, PyReadonlyArray1, PyReadonlyArray2, PyReadwriteArray2,
    PyUntypedArrayMethods,
};
use pyo3::prelude::*;
use pyo3_arrow::PyArray;

use crate::border::{self, raised, unsigned};

/// Batches below this size are walked without letting go of the GIL, which would take longer than the walk.
const FEW: usize = 64;

type States<'py> = PyReadonlyArray1<'py, u32>;
type Bitmaps<'py> = PyReadonlyArray2<'py, u64>;
type Which<'py> = PyReadonlyArray1<'py, i64>;
type Ragged<'py> = (
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyAny>,
    Bound<'py, PyArray1<u32>>,
);

/// The token sequences of J titles as a trie; see `laborllm_core::trie::TitleTrie`.
#[pyclass(frozen, module = "laborllm._core")]
pub struct TitleTrie(trie::TitleTrie);

#[pymethods]
impl TitleTrie {
    /// Build from an Arrow list array, one unit per row.
    #[new]
    fn new(py: Python<'_>, units: PyArray) -> PyResult<Self> {
        let (units, _) = units.into_inner();
        py.detach(|| trie::TitleTrie::from_lists(&units))
            .map(Self)
            .map_err(raised)
    }

    /// Put together from the arrays of a trie, which stay where they are.
    #[staticmethod]
    fn from_arrays(
        py: Python<'_>,
        first: PyArray,
        labels: PyArray,
        titles: PyArray,
    ) -> PyResult<Self> {
        let (first, titles) = (border::words(first)?, border::words(titles)?);
        let labels = border::labels(labels)?;
        py.detach(|| trie::TitleTrie::from_arrays(first, labels, titles))
            .map(Self)
            .map_err(raised)
    }

    /// Nodes, the root among them.
    #[getter]
    fn num_nodes(&self) -> usize {
        self.0.num_nodes()
    }

    /// Titles.
    #[getter]
    fn num_titles(&self) -> usize {
        self.0.num_titles()
    }

    /// Bytes of all arrays.
    #[getter]
    fn nbytes(&self) -> usize {
        self.0.num_bytes()
    }

    /// The greatest token plus one.
    #[getter]
    fn vocabulary(&self) -> u32 {
        self.0.vocabulary()
    }

    /// First edge of each node, then the number of edges, as an Arrow array.
    #[getter]
    fn first(&self) -> PyArray {
        border::shared::<UInt32Type>(self.0.first())
    }

    /// Token of each edge, as an Arrow array; edge e leads to node e + 1.
    #[getter]
    fn labels(&self) -> PyArray {
        match self.0.labels() {
            Labels::Narrow(labels) => border::shared::<UInt16Type>(labels),
            Labels::Wide(labels) => border::shared::<UInt32Type>(labels),
        }
    }

    /// The title of each leaf, in the order of nodes, as an Arrow array.
    #[getter]
    fn titles(&self) -> PyArray {
        border::shared::<UInt32Type>(self.0.titles())
    }

    /// The node at which each of `titles` ends, as an Arrow array.
    #[getter]
    fn leaves(&self) -> PyArray {
        unsigned(self.0.leaves())
    }

    /// CRC-32 of the arrays.
    fn checksum(&self, py: Python<'_>) -> u32 {
        py.detach(|| self.0.checksum())
    }

    /// What may follow each state: row starts, tokens, edges.
    #[pyo3(signature = (states, subsets=None, which=None))]
    fn allowed<'py>(
        &self,
        py: Python<'py>,
        states: States<'py>,
        subsets: Option<Bitmaps<'py>>,
        which: Option<Which<'py>>,
    ) -> PyResult<Ragged<'py>> {
        let states = states.as_slice()?;
        let subsets = self.subsets(subsets.as_ref(), which.as_ref())?;
        match self.0.labels() {
            Labels::Narrow(labels) => self.ragged(py, labels, states, subsets),
            Labels::Wide(labels) => self.ragged(py, labels, states, subsets),
        }
    }

    /// The states that edges lead to.
    fn advance<'py>(
        &self,
        py: Python<'py>,
        edges: States<'py>,
    ) -> PyResult<Bound<'py, PyArray1<u32>>> {
        let edges = edges.as_slice()?;
        let states = detached(py, edges.len(), || self.0.advance(edges))?;
        Ok(states.into_pyarray(py))
    }

    /// The state of each row of tokens, from the root.
    fn walk<'py>(
        &self,
        py: Python<'py>,
        ids: PyReadonlyArray2<'py, i64>,
    ) -> PyResult<Bound<'py, PyArray1<u32>>> {
        let (rows, tokens) = (ids.shape()[0], ids.shape()[1]);
        let ids = ids.as_slice()?;
        let states = detached(py, ids.len(), || match tokens {
            0 => Ok(vec![0; rows]),
            tokens => Ok(self.0.walk(ids.chunks_exact(tokens))),
        })?;
        Ok(states.into_pyarray(py))
    }

    /// The state after one more token each.
    fn step<'py>(
        &self,
        py: Python<'py>,
        states: States<'py>,
        tokens: PyReadonlyArray1<'py, i64>,
    ) -> PyResult<Bound<'py, PyArray1<u32>>> {
        let (states, tokens) = (states.as_slice()?, tokens.as_slice()?);
        let states = detached(py, states.len(), || self.0.step(states, tokens))?;
        Ok(states.into_pyarray(py))
    }

    /// The tokens that must follow each state, and where they lead: row starts, tokens, states.
    fn forced<'py>(&self, py: Python<'py>, states: States<'py>) -> PyResult<Ragged<'py>> {
        let states = states.as_slice()?;
        let forced = detached(py, states.len(), || self.0.forced(states))?;
        let (indptr, tokens) = (
            forced.indptr.into_pyarray(py),
            forced.tokens.into_pyarray(py),
        );
        Ok((indptr, tokens.into_any(), forced.states.into_pyarray(py)))
    }

    /// The state so many tokens before each.
    fn rollback<'py>(
        &self,
        py: Python<'py>,
        states: States<'py>,
        steps: usize,
    ) -> PyResult<Bound<'py, PyArray1<u32>>> {
        let states = states.as_slice()?;
        let states = detached(py, states.len(), || self.0.rollback(states, steps))?;
        Ok(states.into_pyarray(py))
    }

    /// The title that ends at each state, -1 inside of titles.
    fn title<'py>(
        &self,
        py: Python<'py>,
        states: States<'py>,
    ) -> PyResult<Bound<'py, PyArray1<i64>>> {
        let states = states.as_slice()?;
        let titles = detached(py, states.len(), || self.0.title_of(states))?;
        Ok(titles.into_pyarray(py))
    }

    /// Set the bits of what may follow each state, and no others.
    #[pyo3(signature = (states, bitmask, previous=None, subsets=None, which=None))]
    fn fill_bitmask<'py>(
        &self,
        py: Python<'py>,
        states: States<'py>,
        mut bitmask: PyReadwriteArray2<'py, i32>,
        previous: Option<States<'py>>,
        subsets: Option<Bitmaps<'py>>,
        which: Option<Which<'py>>,
    ) -> PyResult<()> {
        let states = states.as_slice()?;
        let width = bitmask.shape()[1];
        let words = bitmask.as_slice_mut()?;
        let previous = previous
            .as_ref()
            .map(PyReadonlyArray1::as_slice)
            .transpose()?;
        let subsets = self.subsets(subsets.as_ref(), which.as_ref())?;
        detached(py, states.len(), || {
            self.0
                .fill_bitmask(states, words, width, previous, subsets.as_ref())
        })
    }

    /// The nodes that lead to one of the titles of each row, as bitmaps.
    fn restrict<'py>(
        &self,
        py: Python<'py>,
        titles: PyReadonlyArray2<'py, bool>,
    ) -> PyResult<Bound<'py, PyArray1<u64>>> {
        let width = titles.shape()[1];
        let titles = titles.as_slice()?;
        let bitmaps = detached(py, FEW, || {
            let rows = titles
                .chunks(width.max(1))
                .map(|titles| self.0.restrict(titles));
            rows.collect::<Result<Vec<_>, _>>()
        })?;
        Ok(bitmaps.concat().into_pyarray(py))
    }
}

impl TitleTrie {
    fn subsets<'a>(
        &self,
        bitmaps: Option<&'a Bitmaps<'_>>,
        which: Option<&'a Which<'_>>,
    ) -> PyResult<Option<Subsets<'a>>> {
        let Some(bitmaps) = bitmaps else {
            return Ok(None);
        };
        let which = which.map(PyReadonlyArray1::as_slice).transpose()?;
        Subsets::new(&self.0, bitmaps.as_slice()?, bitmaps.shape()[1], which)
            .map(Some)
            .map_err(raised)
    }

    fn ragged<'py, L: Label + numpy::Element>(
        &self,
        py: Python<'py>,
        labels: &[L],
        states: &[u32],
        subsets: Option<Subsets<'_>>,
    ) -> PyResult<Ragged<'py>> {
        let allowed = detached(py, states.len(), || {
            self.0.allowed(labels, states, subsets.as_ref())
        })?;
        let tokens = allowed.tokens.into_pyarray(py).into_any();
        Ok((
            allowed.indptr.into_pyarray(py),
            tokens,
            allowed.edges.into_pyarray(py),
        ))
    }
}

/// Run without the GIL where there is enough to do.
fn detached<T: Send>(
    py: Python<'_>,
    rows: usize,
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> PyResult<T> {
    if rows < FEW { work() } else { py.detach(work) }.map_err(raised)
}
