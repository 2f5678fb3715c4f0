//! Columns of a stream, chunk by chunk, as plain vectors: string-likes as codes, integers as one width.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, DictionaryArray, Int32Array, LargeStringArray, make_array,
};
use arrow_buffer::{BooleanBuffer, OffsetBuffer, ScalarBuffer};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, DataType};

pub(crate) use crate::factorise::factorise;

/// A column of text: one code per row, -1 for null and for the empty string, and the values that occur, bytewise
/// ascending, so that codes compare as their texts do and depend neither on row order nor on chunks.
#[derive(Debug, Clone)]
pub(crate) struct Coded {
    pub codes: ScalarBuffer<i32>,
    pub values: Vec<String>,
    /// Whether any code is -1.
    pub nulls: bool,
}

impl Coded {
    /// The first row without text.
    pub fn first_null(&self) -> Option<usize> {
        self.nulls
            .then(|| self.codes.iter().position(|&code| code < 0))?
    }

    /// What a table, led by the entry of null, holds for the code of every row.
    pub fn through(&self, table: &[i32]) -> ScalarBuffer<i32> {
        self.codes
            .iter()
            .map(|&code| table[(code + 1) as usize])
            .collect()
    }

    /// The text of a row, None where it is null.
    pub fn get(&self, row: usize) -> Option<&str> {
        let code = usize::try_from(*self.codes.get(row)?).ok()?;
        self.values.get(code).map(String::as_str)
    }
}

/// `dictionary<int32, large_string>` of codes into `values`; `nulls`: whether any code may be -1, which is null.
pub(crate) fn dictionary(
    codes: ScalarBuffer<i32>,
    nulls: bool,
    values: &[String],
) -> Result<ArrayRef, ArrowError> {
    let values: LargeStringArray = values.iter().map(Some).collect();
    let keys = if nulls && codes.contains(&-1) {
        let known = BooleanBuffer::collect_bool(codes.len(), |row| codes[row] >= 0);
        let codes = codes.iter().map(|&code| code.max(0)).collect();
        Int32Array::try_new(codes, Some(known.into()))?
    } else {
        Int32Array::try_new(codes, None)?
    };
    let array = DictionaryArray::<Int32Type>::try_new(keys, Arc::new(values))?;
    Ok(Arc::new(array))
}

/// `large_string` of positions in `values`.
pub(crate) fn strings(positions: &[u64], values: &[String]) -> Result<ArrayRef, ArrowError> {
    let text = |&position: &u64| values[position as usize].as_str();
    let mut bytes = Vec::with_capacity(positions.iter().map(|at| text(at).len()).sum());
    let mut offsets = Vec::with_capacity(positions.len() + 1);
    offsets.push(0);
    for position in positions {
        bytes.extend_from_slice(text(position).as_bytes());
        offsets.push(bytes.len() as i64);
    }
    let offsets = OffsetBuffer::new(offsets.into());
    let array = LargeStringArray::try_new(offsets, bytes.into(), None)?;
    Ok(Arc::new(array))
}

/// True for text in any layout, and for a column that holds nothing at all.
pub(crate) fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => true,
        DataType::Dictionary(_, value) => is_text(value),
        _ => false,
    }
}

/// True for an integer of any width, also in a dictionary.
pub(crate) fn is_integer(kind: &DataType) -> bool {
    match kind {
        DataType::Dictionary(_, value) => is_integer(value),
        other => other.is_integer(),
    }
}

/// A column of numbers and its first null row; what stands in null rows means nothing.
pub(crate) struct Numbers<T: ArrowPrimitiveType> {
    pub values: ScalarBuffer<T::Native>,
    pub first_null: Option<usize>,
}

/// Integers of any width as those of one; what does not fit into it is an error of the cast.
pub(crate) fn numbers<T: ArrowPrimitiveType>(
    chunks: &[ArrayRef],
) -> Result<Numbers<T>, ArrowError> {
    let cast = |chunk| strict(chunk, &T::DATA_TYPE);
    let chunks = chunks.iter().map(cast).collect::<Result<Vec<_>, _>>()?;
    let (mut rows, mut first_null) = (0, None);
    for chunk in &chunks {
        let nulls = chunk.nulls().filter(|nulls| nulls.null_count() > 0);
        let null = nulls.and_then(|nulls| nulls.iter().position(|known| !known));
        first_null = first_null.or(null.map(|row| rows + row));
        rows += chunk.len();
    }
    let values = match chunks.as_slice() {
        [one] => one.as_primitive::<T>().values().clone(),
        many => {
            let mut all = Vec::with_capacity(rows);
            for chunk in many {
                all.extend_from_slice(chunk.as_primitive::<T>().values());
            }
            all.into()
        }
    };
    Ok(Numbers { values, first_null })
}

/// A cast that refuses what does not fit instead of writing a null.
fn strict(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    let options = CastOptions {
        safe: false,
        ..Default::default()
    };
    cast_with_options(&validated(array)?, to, &options)
}

/// An array from outside whose offsets, keys and bytes were looked at, so that no kernel of Arrow can stumble over them.
/// Plain numbers cost nothing.
///
/// # Errors
/// Arrow's words for what is malformed.
pub(crate) fn validated(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    if array.data_type().is_primitive() {
        return Ok(array.clone());
    }
    let data = array.to_data();
    data.validate_full()?;
    Ok(make_array(data))
}
