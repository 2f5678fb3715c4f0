//! numpy arrays of the kind that a method needs, or an error that says what came instead.

use laborllm_core::Error;
use numpy::ndarray::{Dimension, Ix1, Ix2};
use numpy::{
    Element, PyArray, PyArrayMethods, PyReadonlyArray, PyReadwriteArray, PyUntypedArrayMethods,
    dtype,
};
use pyo3::prelude::*;

use crate::border::raised;

/// A contiguous array of one dimension.
pub fn vector<'py, T: Element>(
    array: &Bound<'py, PyAny>,
    name: &str,
) -> PyResult<PyReadonlyArray<'py, T, Ix1>> {
    readable(array, name)
}

/// A contiguous array of two dimensions.
pub fn matrix<'py, T: Element>(
    array: &Bound<'py, PyAny>,
    name: &str,
) -> PyResult<PyReadonlyArray<'py, T, Ix2>> {
    readable(array, name)
}

/// A contiguous array of two dimensions that nobody reads meanwhile.
pub fn writable<'py, T: Element>(
    array: &Bound<'py, PyAny>,
    name: &str,
) -> PyResult<PyReadwriteArray<'py, T, Ix2>> {
    let other = || {
        other::<T, Ix2>(
            array,
            name,
            "contiguous (C order), writable and unused elsewhere",
        )
    };
    let typed = array.cast::<PyArray<T, Ix2>>().map_err(|_| other())?;
    let mut borrowed = typed.try_readwrite().map_err(|_| other())?;
    if !borrowed.is_c_contiguous() {
        return Err(other());
    }
    borrowed.as_slice_mut().map_err(|_| other())?;
    Ok(borrowed)
}

fn readable<'py, T: Element, D: Dimension>(
    array: &Bound<'py, PyAny>,
    name: &str,
) -> PyResult<PyReadonlyArray<'py, T, D>> {
    let other = || other::<T, D>(array, name, "contiguous (C order)");
    let typed = array.cast::<PyArray<T, D>>().map_err(|_| other())?;
    let borrowed = typed.try_readonly().map_err(|_| other())?;
    if !borrowed.is_c_contiguous() {
        return Err(other());
    }
    borrowed.as_slice().map_err(|_| other())?;
    Ok(borrowed)
}

fn other<T: Element, D: Dimension>(array: &Bound<'_, PyAny>, name: &str, kind: &str) -> PyErr {
    let attribute = |name: &str| {
        array
            .getattr(name)
            .map_or_else(|_| "?".to_owned(), |value| value.to_string())
    };
    let found = match array.hasattr("dtype") {
        Ok(true) => format!("{} of shape {}", attribute("dtype"), attribute("shape")),
        _ => array.get_type().to_string(),
    };
    raised(Error::ArrayKind {
        name: name.to_owned(),
        expected: format!(
            "{kind} {} numpy array of {} dimensions",
            dtype::<T>(array.py()),
            D::NDIM.unwrap_or_default()
        ),
        found,
    })
}
