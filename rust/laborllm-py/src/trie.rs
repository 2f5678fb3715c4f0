//! The trie over titles: numpy arrays in and out, Arrow arrays for what is built and kept.

use arrow_array::types::{UInt16Type, UInt32Type};
use laborllm_core::Error;
use laborllm_core::trie::{self, Forced, Label, Labels, Subsets};
use numpy::{
    Element, IntoPyArray, PyArray1, PyReadonlyArray, PyReadonlyArray1, PyReadonlyArray2,
    PyUntypedArrayMethods,
};
use pyo3::prelude::*;
use pyo3_arrow::PyArray;

use crate::border::{self, raised, unsigned};
use crate::numbers::{matrix, vector, writable};

/// Batches below this size are walked without letting go of the GIL, which would take longer than the walk.
const FEW: usize = 64;

type Object<'py> = Bound<'py, PyAny>;
type States<'py> = Bound<'py, PyArray1<u32>>;
type Lists<'py> = (Bound<'py, PyArray1<i64>>, Object<'py>);
type Chains<'py> = (Bound<'py, PyArray1<i64>>, States<'py>, States<'py>);

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

    /// The tokens that may follow each state: row starts, tokens.
    #[pyo3(signature = (states, subsets=None, which=None))]
    fn allowed<'py>(
        &self,
        py: Python<'py>,
        states: &Object<'py>,
        subsets: Option<&Object<'py>>,
        which: Option<&Object<'py>>,
    ) -> PyResult<Lists<'py>> {
        let states = vector(states, "states")?;
        let sets = Sets::new(subsets, which)?;
        match self.0.labels() {
            Labels::Narrow(labels) => self.lists(py, labels, states.as_slice()?, &sets),
            Labels::Wide(labels) => self.lists(py, labels, states.as_slice()?, &sets),
        }
    }

    /// The edges of the tokens that may follow each state.
    #[pyo3(signature = (states, subsets=None, which=None))]
    fn edges<'py>(
        &self,
        py: Python<'py>,
        states: &Object<'py>,
        subsets: Option<&Object<'py>>,
        which: Option<&Object<'py>>,
    ) -> PyResult<States<'py>> {
        let states = vector(states, "states")?;
        let states = states.as_slice()?;
        let sets = Sets::new(subsets, which)?;
        let sets = sets.of(&self.0)?;
        let edges = detached(py, states.len(), || self.0.edges(states, sets.as_ref()))?;
        Ok(edges.into_pyarray(py))
    }

    /// The states that edges lead to.
    fn advance<'py>(&self, py: Python<'py>, edges: &Object<'py>) -> PyResult<States<'py>> {
        let edges = vector(edges, "edges")?;
        let edges = edges.as_slice()?;
        let states = detached(py, edges.len(), || self.0.advance(edges))?;
        Ok(states.into_pyarray(py))
    }

    /// The state of each row of tokens, from the root.
    fn walk<'py>(&self, py: Python<'py>, ids: &Object<'py>) -> PyResult<States<'py>> {
        let ids = matrix(ids, "ids")?;
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
        states: &Object<'py>,
        tokens: &Object<'py>,
    ) -> PyResult<States<'py>> {
        let (states, tokens) = (vector(states, "states")?, vector(tokens, "tokens")?);
        let (states, tokens) = (states.as_slice()?, tokens.as_slice()?);
        let states = detached(py, states.len(), || self.0.step(states, tokens))?;
        Ok(states.into_pyarray(py))
    }

    /// The tokens that must follow each state, and where they lead: row starts, tokens, states.
    fn forced<'py>(&self, py: Python<'py>, states: &Object<'py>) -> PyResult<Chains<'py>> {
        let states = vector(states, "states")?;
        let states = states.as_slice()?;
        let Forced {
            indptr,
            tokens,
            states,
        } = detached(py, states.len(), || self.0.forced(states))?;
        Ok((
            indptr.into_pyarray(py),
            tokens.into_pyarray(py),
            states.into_pyarray(py),
        ))
    }

    /// The state so many tokens before each.
    fn rollback<'py>(
        &self,
        py: Python<'py>,
        states: &Object<'py>,
        steps: usize,
    ) -> PyResult<States<'py>> {
        let states = vector(states, "states")?;
        let states = states.as_slice()?;
        let states = detached(py, states.len(), || self.0.rollback(states, steps))?;
        Ok(states.into_pyarray(py))
    }

    /// The title that ends at each state, -1 inside of titles.
    fn title<'py>(
        &self,
        py: Python<'py>,
        states: &Object<'py>,
    ) -> PyResult<Bound<'py, PyArray1<i64>>> {
        let states = vector(states, "states")?;
        let states = states.as_slice()?;
        let titles = detached(py, states.len(), || self.0.title_of(states))?;
        Ok(titles.into_pyarray(py))
    }

    /// Set the bits of what may follow each state, and no others.
    #[pyo3(signature = (states, bitmask, previous=None, subsets=None, which=None))]
    fn fill_bitmask<'py>(
        &self,
        py: Python<'py>,
        states: &Object<'py>,
        bitmask: &Object<'py>,
        previous: Option<&Object<'py>>,
        subsets: Option<&Object<'py>>,
        which: Option<&Object<'py>>,
    ) -> PyResult<()> {
        let states = vector(states, "states")?;
        let states = states.as_slice()?;
        let previous = previous
            .map(|previous| vector(previous, "previous"))
            .transpose()?;
        let previous = previous
            .as_ref()
            .map(PyReadonlyArray::as_slice)
            .transpose()?;
        let sets = Sets::new(subsets, which)?;
        let sets = sets.of(&self.0)?;
        let mut bitmask = writable(bitmask, "bitmask")?;
        let width = bitmask.shape()[1];
        let words = bitmask.as_slice_mut()?;
        detached(py, states.len(), || {
            self.0
                .fill_bitmask(states, words, width, previous, sets.as_ref())
        })
    }

    /// The nodes that lead to one of the titles of each row, as bitmaps.
    fn restrict<'py>(
        &self,
        py: Python<'py>,
        titles: &Object<'py>,
    ) -> PyResult<Bound<'py, PyArray1<u64>>> {
        let titles = matrix(titles, "titles")?;
        let width = titles.shape()[1].max(1);
        let titles = titles.as_slice()?;
        let bitmaps = detached(py, FEW, || {
            let sets = titles.chunks(width).map(|titles| self.0.restrict(titles));
            sets.collect::<Result<Vec<_>, _>>()
        })?;
        Ok(bitmaps.concat().into_pyarray(py))
    }
}

impl TitleTrie {
    fn lists<'py, L: Label + Element>(
        &self,
        py: Python<'py>,
        labels: &[L],
        states: &[u32],
        sets: &Sets<'py>,
    ) -> PyResult<Lists<'py>> {
        let sets = sets.of(&self.0)?;
        let (indptr, tokens) = detached(py, states.len(), || {
            self.0.allowed(labels, states, sets.as_ref())
        })?;
        Ok((indptr.into_pyarray(py), tokens.into_pyarray(py).into_any()))
    }
}

/// The arrays behind [`Subsets`].
struct Sets<'py> {
    bitmaps: Option<PyReadonlyArray2<'py, u64>>,
    which: Option<PyReadonlyArray1<'py, i64>>,
}

impl<'py> Sets<'py> {
    fn new(subsets: Option<&Object<'py>>, which: Option<&Object<'py>>) -> PyResult<Self> {
        Ok(Self {
            bitmaps: subsets
                .map(|subsets| matrix(subsets, "subsets"))
                .transpose()?,
            which: which.map(|which| vector(which, "which")).transpose()?,
        })
    }

    fn of(&self, trie: &trie::TitleTrie) -> PyResult<Option<Subsets<'_>>> {
        let Some(bitmaps) = &self.bitmaps else {
            return Ok(None);
        };
        let which = self
            .which
            .as_ref()
            .map(PyReadonlyArray::as_slice)
            .transpose()?;
        let subsets = Subsets::new(trie, bitmaps.as_slice()?, bitmaps.shape()[1], which);
        subsets.map(Some).map_err(raised)
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
