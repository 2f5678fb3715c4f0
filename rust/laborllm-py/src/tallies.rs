//! Counts: columns of codes in, keys and values out, all of numpy.

use laborllm_core::tally::{Codes, Column, Rows, tally as counted};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;

use crate::border::raised;

/// Contiguous integers of one of the widths that are counted.
#[derive(FromPyObject)]
pub enum Integers<'py> {
    Int(PyReadonlyArray1<'py, i32>),
    Long(PyReadonlyArray1<'py, i64>),
    Byte(PyReadonlyArray1<'py, i8>),
}

/// Codes and how many there may be.
type Coded<'py> = (Integers<'py>, u64);
type Counts<'py> = (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<f64>>);

/// Count combinations of codes; see `laborllm_core::tally::tally`.
#[pyfunction]
#[pyo3(signature = (contexts, outcomes, chosen=None, weights=None))]
pub fn tally<'py>(
    py: Python<'py>,
    contexts: Vec<Coded<'py>>,
    outcomes: Coded<'py>,
    chosen: Option<PyReadonlyArray1<'py, bool>>,
    weights: Option<PyReadonlyArray1<'py, f64>>,
) -> PyResult<Counts<'py>> {
    let contexts = contexts.iter().map(column).collect::<PyResult<Vec<_>>>()?;
    let rows = Rows {
        contexts: &contexts,
        outcomes: column(&outcomes)?,
        chosen: chosen
            .as_ref()
            .map(|chosen| chosen.as_slice())
            .transpose()?,
        weights: weights
            .as_ref()
            .map(|weights| weights.as_slice())
            .transpose()?,
    };
    let (keys, values) = py.detach(|| counted(&rows)).map_err(raised)?;
    Ok((keys.into_pyarray(py), values.into_pyarray(py)))
}

fn column<'a>((codes, size): &'a Coded<'_>) -> PyResult<Column<'a>> {
    let codes = match codes {
        Integers::Int(codes) => Codes::Int(codes.as_slice()?),
        Integers::Long(codes) => Codes::Long(codes.as_slice()?),
        Integers::Byte(codes) => Codes::Byte(codes.as_slice()?),
    };
    Ok(Column { codes, size: *size })
}
