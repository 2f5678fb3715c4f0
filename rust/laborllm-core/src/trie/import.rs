//! Units as they come: Arrow lists of integers of any width.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, UInt32Type};
use arrow_array::{Array, ArrayRef};
use arrow_buffer::ScalarBuffer;
use arrow_cast::cast;
use arrow_schema::{DataType, Field};

use super::{TitleTrie, Units};
use crate::{Error, Result};

impl TitleTrie {
    /// Build from a list array, one unit per row; int32 and uint32 tokens are read where they are.
    ///
    /// # Errors
    /// Those of [`TitleTrie::new`]; an array that holds no lists of integers, a null, or a number that is no token.
    pub fn from_lists(units: &ArrayRef) -> Result<Self> {
        let element = Field::new("item", value_type(units)?, true);
        let lists =
            cast(units, &DataType::LargeList(element.into())).map_err(|_| not_units(units))?;
        let lists = lists.as_list::<i64>();
        if lists.null_count() > 0 {
            let rows = (0..lists.len()).filter(|&row| lists.is_null(row)).collect();
            return Err(Error::EmptyUnits { rows });
        }
        let offsets = lists.offsets();
        Self::new(Units::new(&tokens(lists.values(), offsets)?, offsets)?)
    }
}

fn value_type(units: &ArrayRef) -> Result<DataType> {
    let value = match units.data_type() {
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _) => field.data_type(),
        _ => return Err(not_units(units)),
    };
    if value.is_integer() || value.is_null() {
        Ok(value.clone())
    } else {
        Err(not_units(units))
    }
}

fn not_units(units: &ArrayRef) -> Error {
    Error::UnitType {
        found: units.data_type().to_string(),
    }
}

/// Integers as tokens, once all that belong to a unit are ones.
fn tokens(values: &ArrayRef, offsets: &[i64]) -> Result<ScalarBuffer<u32>> {
    let (start, stop) = (offsets[0] as usize, offsets[offsets.len() - 1] as usize);
    let no_token = |at: usize, token: String| {
        let row = offsets.partition_point(|&offset| offset as usize <= at) - 1;
        Error::TokenRange { row, token }
    };
    if values.null_count() > 0
        && let Some(at) = (start..stop).find(|&at| values.is_null(at))
    {
        return Err(no_token(at, "a null".to_owned()));
    }
    match values.data_type() {
        DataType::UInt32 => Ok(values.as_primitive::<UInt32Type>().values().clone()),
        DataType::Int32 => {
            let numbers = values.as_primitive::<Int32Type>().values();
            match numbers[start..stop].iter().position(|&token| token < 0) {
                Some(at) => Err(no_token(start + at, numbers[start + at].to_string())),
                None => Ok(numbers.inner().clone().into()),
            }
        }
        _ => {
            // what does not fit becomes null
            let wide = cast(values, &DataType::Int64).map_err(|error| Error::Unreadable {
                column: "units".to_owned(),
                reason: error.to_string(),
            })?;
            let wide = wide.as_primitive::<Int64Type>();
            let narrow = |at: usize| match u32::try_from(wide.value(at)) {
                Ok(token) if wide.is_valid(at) => Ok(token),
                _ if !(start..stop).contains(&at) => Ok(0),
                _ if wide.is_null(at) => {
                    Err(no_token(at, "no number that 63 bits hold".to_owned()))
                }
                _ => Err(no_token(at, wide.value(at).to_string())),
            };
            (0..wide.len()).map(narrow).collect()
        }
    }
}
