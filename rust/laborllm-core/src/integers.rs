//! Integers of a small range as codes, without their texts.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type,
};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType};
use arrow_schema::DataType;

use crate::columns::Coded;

/// Integers that lie this close together are coded by their distance from the least one.
const SPAN: i64 = 1 << 16;

/// Codes of integers that lie close together, in the order of numbers; None for all else.
pub(crate) fn integers(chunks: &[ArrayRef]) -> Option<Coded> {
    let kind = chunks.first()?.data_type();
    if chunks.iter().any(|chunk| chunk.data_type() != kind) {
        return None;
    }
    match kind {
        DataType::Int8 => near::<Int8Type>(chunks),
        DataType::Int16 => near::<Int16Type>(chunks),
        DataType::Int32 => near::<Int32Type>(chunks),
        DataType::Int64 => near::<Int64Type>(chunks),
        DataType::UInt8 => near::<UInt8Type>(chunks),
        DataType::UInt16 => near::<UInt16Type>(chunks),
        DataType::UInt32 => near::<UInt32Type>(chunks),
        _ => None,
    }
}

fn near<T: ArrowPrimitiveType<Native: Into<i64>>>(chunks: &[ArrayRef]) -> Option<Coded> {
    let (mut low, mut high, mut nulls) = (i64::MAX, i64::MIN, false);
    for chunk in chunks {
        each::<T>(chunk, |_, value| {
            low = low.min(value);
            high = high.max(value);
        });
        nulls |= chunk.null_count() > 0;
    }
    let values = high
        .checked_sub(low)
        .filter(|span| (0..SPAN).contains(span));
    let values = values.map(|_| (low..=high).map(|value| value.to_string()).collect())?;
    let mut codes = vec![-1; chunks.iter().map(|chunk| chunk.len()).sum()];
    let mut rest = codes.as_mut_slice();
    for chunk in chunks {
        let (here, behind) = rest.split_at_mut(chunk.len());
        each::<T>(chunk, |row, value| here[row] = (value - low) as i32);
        rest = behind;
    }
    Some(Coded {
        codes: codes.into(),
        values,
        nulls,
    })
}

/// Rows and values that are not null.
fn each<T: ArrowPrimitiveType<Native: Into<i64>>>(
    chunk: &ArrayRef,
    mut take: impl FnMut(usize, i64),
) {
    let array = chunk.as_primitive::<T>();
    let values = array.values();
    match array.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => values
            .iter()
            .enumerate()
            .for_each(|(row, &value)| take(row, value.into())),
        Some(nulls) => nulls
            .valid_indices()
            .for_each(|row| take(row, values[row].into())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::factorise::factorise;
    use arrow_array::Int64Array;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn integers_near_and_far_stand_for_their_texts(
            values in prop::collection::vec(prop::option::of(prop_oneof![-20i64..200, Just(1 << 40)]), 0..60),
            cut in 0usize..60,
        ) {
            let array: ArrayRef = Arc::new(values.iter().collect::<Int64Array>());
            let cut = cut.min(values.len());
            let coded = factorise(&[array.slice(0, cut), array.slice(cut, values.len() - cut)]).unwrap();
            for (row, value) in values.iter().enumerate() {
                let text = value.map(|value| value.to_string());
                prop_assert_eq!(coded.get(row), text.as_deref());
            }
            prop_assert_eq!(coded.nulls, coded.codes.contains(&-1));
        }
    }
}
