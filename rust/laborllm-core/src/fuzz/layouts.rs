//! Columns in every layout that text and integers come in.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{
    Array, ArrayRef, Int64Array, LargeStringArray, NullArray, UInt64Array, make_array,
};
use arrow_cast::cast;
use arrow_schema::DataType;
use arrow_select::take::take;

use super::Choices;

const TEXTS: [DataType; 3] = [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View];
pub const INTEGERS: [DataType; 8] = [
    DataType::Int8,
    DataType::Int16,
    DataType::Int32,
    DataType::Int64,
    DataType::UInt8,
    DataType::UInt16,
    DataType::UInt32,
    DataType::UInt64,
];

fn keyed(choices: &mut Choices<'_>, values: DataType) -> DataType {
    let keys = INTEGERS[choices.below(INTEGERS.len())].clone();
    DataType::Dictionary(Box::new(keys), Box::new(values))
}

/// A type of text: plain, or a dictionary with keys of any width.
pub fn text_kind(choices: &mut Choices<'_>) -> DataType {
    let plain = TEXTS[choices.below(TEXTS.len())].clone();
    if choices.once_in(2) {
        keyed(choices, plain)
    } else {
        plain
    }
}

/// A type of integers, now and then in a dictionary, and the values it can hold.
pub fn integer_kind(choices: &mut Choices<'_>) -> (DataType, i128, i128) {
    let kind = INTEGERS[choices.below(INTEGERS.len())].clone();
    let (low, high) = range_of(&kind);
    let kind = if choices.once_in(6) {
        keyed(choices, kind)
    } else {
        kind
    };
    (kind, low, high)
}

fn range_of(kind: &DataType) -> (i128, i128) {
    let bits = 8 * kind.primitive_width().unwrap() as u32;
    if kind.is_unsigned_integer() {
        (0, (1 << bits) - 1)
    } else {
        (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    }
}

/// Text in a layout.
pub fn texts(choices: &mut Choices<'_>, values: &[Option<&str>], kind: &DataType) -> ArrayRef {
    match kind {
        DataType::Null => Arc::new(NullArray::new(values.len())),
        _ => laid_out(
            choices,
            Arc::new(values.iter().collect::<LargeStringArray>()),
            kind,
        ),
    }
}

/// Integers in a layout that can hold them.
pub fn integers(choices: &mut Choices<'_>, values: &[Option<i128>], kind: &DataType) -> ArrayRef {
    let wide = values
        .iter()
        .flatten()
        .any(|&value| value > i128::from(i64::MAX));
    let array: ArrayRef = if wide {
        let values = values.iter().map(|value| value.map(|value| value as u64));
        Arc::new(values.collect::<UInt64Array>())
    } else {
        let values = values.iter().map(|value| value.map(|value| value as i64));
        Arc::new(values.collect::<Int64Array>())
    };
    laid_out(choices, array, kind)
}

fn laid_out(choices: &mut Choices<'_>, values: ArrayRef, kind: &DataType) -> ArrayRef {
    match kind {
        DataType::Dictionary(keys, kind) => dictionary(choices, &values, keys, kind),
        _ => cast(&values, kind).unwrap(),
    }
}

/// A dictionary that holds the value of every row, in any order, and a null; equal rows share an entry or do not.
fn dictionary(
    choices: &mut Choices<'_>,
    rows: &ArrayRef,
    keys: &DataType,
    kind: &DataType,
) -> ArrayRef {
    let (many, turn) = (rows.len(), choices.below(rows.len().max(1)));
    let (shared, bare) = (choices.once_in(2), choices.once_in(2));
    let entries = (0..many).map(|at| Some(((at + turn) % many) as u64));
    let pool = take(rows, &entries.chain([None]).collect::<UInt64Array>(), None).unwrap();
    let texts = cast(rows, &DataType::LargeUtf8).unwrap();
    let texts: Vec<Option<&str>> = texts.as_string::<i64>().iter().collect();
    let first = |row: usize| texts.iter().position(|text| text == &texts[row]).unwrap();
    let entry = |row: usize| {
        let entry = if shared { first(row) } else { row };
        (!(bare && rows.is_null(row))).then(|| ((entry + many - turn) % many) as i64)
    };
    let places = cast(&(0..many).map(entry).collect::<Int64Array>(), keys).unwrap();
    let coded = DataType::Dictionary(Box::new(keys.clone()), Box::new(kind.clone()));
    let data = places.to_data().into_builder().data_type(coded);
    make_array(
        data.add_child_data(cast(&pool, kind).unwrap().to_data())
            .build()
            .unwrap(),
    )
}
