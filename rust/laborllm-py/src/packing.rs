//! Packing: a whole table as a stream of bins, or a stream pushed batch by batch.

use std::collections::HashMap;

use laborllm_core::pack::{self, BestFit, Options};
use pyo3::prelude::*;
use pyo3_arrow::{PyRecordBatch, PyRecordBatchReader, PySchema, PyTable};

use crate::border::raised;

fn options(
    length: i64,
    pad_id: i64,
    labels: Option<&str>,
    position_ids: bool,
    metadata: HashMap<String, String>,
) -> PyResult<Options> {
    Ok(Options {
        length,
        pad_id,
        labels: labels.map(str::parse).transpose().map_err(raised)?,
        position_ids,
        metadata,
    })
}

/// Pack a whole token table by best fit decreasing; see `laborllm_core::pack::BestFit`.
#[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
#[pyfunction]
#[pyo3(signature = (tokens, *, length, pad_id, labels, position_ids, metadata, seed))]
pub fn pack_best_fit(
    py: Python<'_>,
    tokens: PyTable,
    length: i64,
    pad_id: i64,
    labels: Option<&str>,
    position_ids: bool,
    metadata: HashMap<String, String>,
    seed: Option<u64>,
) -> PyResult<PyRecordBatchReader> {
    let options = options(length, pad_id, labels, position_ids, metadata)?;
    let (batches, schema) = tokens.into_inner();
    let bins = py
        .detach(|| BestFit::new(&schema, &batches, options, seed))
        .map_err(raised)?;
    Ok(PyRecordBatchReader::new(Box::new(bins)))
}

/// Packs a stream of token tables by first fit; see `laborllm_core::pack::Stream`.
#[pyclass(module = "laborllm._core")]
pub struct FirstFit(pack::Stream);

#[pymethods]
impl FirstFit {
    #[new]
    #[pyo3(signature = (schema, *, length, pad_id, labels, position_ids, metadata, open_bins))]
    fn new(
        schema: PySchema,
        length: i64,
        pad_id: i64,
        labels: Option<&str>,
        position_ids: bool,
        metadata: HashMap<String, String>,
        open_bins: i64,
    ) -> PyResult<Self> {
        let options = options(length, pad_id, labels, position_ids, metadata)?;
        pack::Stream::new(schema.as_ref(), options, open_bins)
            .map(Self)
            .map_err(raised)
    }

    /// Schema of the bins.
    #[getter]
    fn schema(&self) -> PySchema {
        PySchema::new(self.0.schema())
    }

    /// Add careers; gives the batches that they complete.
    fn push(&mut self, py: Python<'_>, batch: PyRecordBatch) -> PyResult<Vec<PyRecordBatch>> {
        let batch = batch.into_inner();
        let batches = py.detach(|| self.0.push(&batch)).map_err(raised)?;
        Ok(batches.into_iter().map(PyRecordBatch::new).collect())
    }

    /// Close all bins; gives the last batches.
    fn finish(&mut self, py: Python<'_>) -> PyResult<Vec<PyRecordBatch>> {
        let batches = py.detach(|| self.0.finish()).map_err(raised)?;
        Ok(batches.into_iter().map(PyRecordBatch::new).collect())
    }
}
