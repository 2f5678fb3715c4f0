//! Errors to exceptions, Arrow arrays to vectors and back.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, BooleanArray, Int64Array, PrimitiveArray, RecordBatch,
    UInt16Array, UInt32Array,
};
use arrow_buffer::ScalarBuffer;
use arrow_schema::DataType;
use laborllm_core::ids::Fragments;
use laborllm_core::trie::Labels;
use laborllm_core::{Error, Kind};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3_arrow::{PyArray, PyTable};

pyo3::import_exception!(laborllm.errors, LaborLLMError);
pyo3::import_exception!(laborllm.errors, ModelError);
pyo3::import_exception!(laborllm.errors, PackingError);
pyo3::import_exception!(laborllm.errors, PanelError);
pyo3::import_exception!(laborllm.errors, TemplateError);
pyo3::import_exception!(laborllm.errors, TrieError);

/// The exception of an error's kind, with its sentence.
pub fn raised(error: Error) -> PyErr {
    match error.kind() {
        Kind::Panel => PanelError::new_err(error.sentence()),
        Kind::Template => TemplateError::new_err(error.sentence()),
        Kind::Trie => TrieError::new_err(error.sentence()),
        Kind::Packing => PackingError::new_err(error.sentence()),
        Kind::Count => ModelError::new_err(error.sentence()),
        Kind::Process => LaborLLMError::new_err(error.sentence()),
    }
}

/// Call a Python function that encodes fragments; what it raises waits in `raised`.
pub fn encode(
    function: &Py<PyAny>,
    fragments: Fragments,
    raised: &mut Option<PyErr>,
) -> Result<Vec<Vec<Vec<i32>>>, Error> {
    let Fragments { header, row, end } = fragments;
    let call = |py: Python<'_>| function.call1(py, (header, row, end))?.extract(py);
    Python::attach(call).map_err(|exception: PyErr| {
        let reason = exception.to_string();
        *raised = Some(exception);
        Error::Encoder { reason }
    })
}

/// An int64 array.
pub fn signed(values: Vec<i64>) -> PyArray {
    PyArray::from_array_ref(Arc::new(Int64Array::from(values)))
}

/// A uint32 array.
pub fn unsigned(values: Vec<u32>) -> PyArray {
    PyArray::from_array_ref(Arc::new(UInt32Array::from(values)))
}

/// An array over a buffer that stays where it is.
pub fn shared<T: ArrowPrimitiveType>(values: &ScalarBuffer<T::Native>) -> PyArray {
    PyArray::from_array_ref(Arc::new(PrimitiveArray::<T>::new(values.clone(), None)))
}

/// The one batch of a panel's table.
pub fn whole(table: PyTable) -> PyResult<RecordBatch> {
    let (batches, schema) = table.into_inner();
    match batches.as_slice() {
        [] => Ok(RecordBatch::new_empty(schema)),
        [one] => Ok(one.clone()),
        many => Err(PyValueError::new_err(format!(
            "a panel is one batch, not {}",
            many.len()
        ))),
    }
}

/// An int64 array.
pub fn integers(array: PyArray) -> PyResult<Int64Array> {
    typed(array, "int64")
}

/// The values of a uint32 array.
pub fn words(array: PyArray) -> PyResult<ScalarBuffer<u32>> {
    typed::<UInt32Array>(array, "uint32").map(|array| array.values().clone())
}

/// The labels of a trie: uint16, else uint32.
pub fn labels(array: PyArray) -> PyResult<Labels> {
    if array.array().data_type() == &DataType::UInt16 {
        return typed::<UInt16Array>(array, "uint16")
            .map(|array| Labels::Narrow(array.values().clone()));
    }
    words(array).map(Labels::Wide)
}

/// A boolean array.
pub fn booleans(array: PyArray) -> PyResult<BooleanArray> {
    typed(array, "bool")
}

fn typed<T: Array + Clone + 'static>(array: PyArray, expected: &str) -> PyResult<T> {
    let array: ArrayRef = array.into_inner().0;
    match array.as_any().downcast_ref::<T>() {
        Some(values) => Ok(values.clone()),
        None => Err(PyTypeError::new_err(format!(
            "expected {expected}, not {}",
            array.data_type()
        ))),
    }
}
