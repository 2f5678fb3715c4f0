//! Columns of a stream, chunk by chunk, as plain vectors: string-likes as codes, integers as one width.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, UInt64Type};
use arrow_array::{Array, ArrayRef, DictionaryArray, Int32Array, Int64Array, LargeStringArray};
use arrow_buffer::NullBuffer;
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType};
use hashbrown::HashMap;

/// A column as one code per row, -1 for null and for the empty string, and the texts that codes stand for. Those of text
/// occur and ascend bytewise, so that codes compare as their texts do and depend neither on row order nor on chunks.
#[derive(Debug, Clone)]
pub(crate) struct Coded {
    pub codes: Vec<i32>,
    pub values: Vec<String>,
}

impl Coded {
    /// Every row holds the same text.
    pub fn constant(value: &str, rows: usize) -> Self {
        Self {
            codes: vec![0; rows],
            values: vec![value.to_owned()],
        }
    }

    /// The text of a row, None where it is null.
    pub fn get(&self, row: usize) -> Option<&str> {
        let code = usize::try_from(*self.codes.get(row)?).ok()?;
        self.values.get(code).map(String::as_str)
    }
}

/// `dictionary<int32, large_string>` of codes (-1 is null) into `values`.
pub(crate) fn dictionary(codes: Vec<i32>, values: &[String]) -> Result<ArrayRef, ArrowError> {
    let nulls = codes
        .contains(&-1)
        .then(|| codes.iter().map(|&code| code >= 0).collect::<NullBuffer>());
    let codes: Vec<i32> = codes.into_iter().map(|code| code.max(0)).collect();
    let keys = Int32Array::try_new(codes.into(), nulls)?;
    let values: LargeStringArray = values.iter().map(Some).collect();
    Ok(std::sync::Arc::new(DictionaryArray::<Int32Type>::try_new(
        keys,
        std::sync::Arc::new(values),
    )?))
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

/// Codes of a column; what is neither text nor an integer of a small range is cast to text first.
pub(crate) fn factorise(chunks: &[ArrayRef]) -> Result<Coded, ArrowError> {
    if chunks.iter().all(|chunk| is_integer(chunk.data_type()))
        && let Some(coded) = small_integers(chunks)?
    {
        return Ok(coded);
    }
    let chunks = chunks
        .iter()
        .map(Chunk::new)
        .collect::<Result<Vec<_>, _>>()?;
    let mut coder = Coder::default();
    for chunk in &chunks {
        coder.push(chunk);
    }
    Ok(coder.finish())
}

/// Integers by their distance from the least one, in the order of numbers; None where their range is large.
fn small_integers(chunks: &[ArrayRef]) -> Result<Option<Coded>, ArrowError> {
    let narrow = chunks.iter().map(|chunk| cast(chunk, &DataType::Int32));
    let narrow = narrow.collect::<Result<Vec<_>, _>>()?;
    let nulls = |chunks: &[ArrayRef]| {
        chunks
            .iter()
            .map(|chunk| chunk.logical_null_count())
            .sum::<usize>()
    };
    let values = || {
        narrow
            .iter()
            .flat_map(|chunk| chunk.as_primitive::<Int32Type>())
    };
    let known = || values().flatten();
    let (Some(low), Some(high)) = (known().min(), known().max()) else {
        return Ok(None);
    };
    if nulls(chunks) != nulls(&narrow) || i64::from(high) - i64::from(low) >= 1 << 16 {
        return Ok(None);
    }
    Ok(Some(Coded {
        codes: values()
            .map(|value| value.map_or(-1, |value| value - low))
            .collect(),
        values: (low..=high).map(|value| value.to_string()).collect(),
    }))
}

/// One chunk with its dictionary, if any, in one layout.
enum Chunk {
    Plain(ArrayRef),
    Keyed {
        keys: Int64Array,
        values: LargeStringArray,
    },
}

impl Chunk {
    fn new(array: &ArrayRef) -> Result<Self, ArrowError> {
        match array.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Ok(Self::Plain(array.clone()))
            }
            DataType::Dictionary(_, _) => {
                let pair = array.as_any_dictionary();
                let keys = cast(pair.keys(), &DataType::Int64)?;
                let values = cast(pair.values(), &DataType::LargeUtf8)?;
                Ok(Self::Keyed {
                    keys: keys.as_primitive::<Int64Type>().clone(),
                    values: values.as_string().clone(),
                })
            }
            _ => Ok(Self::Plain(cast(array, &DataType::LargeUtf8)?)),
        }
    }
}

#[derive(Default)]
struct Coder<'a> {
    seen: HashMap<&'a str, i32>,
    values: Vec<&'a str>,
    codes: Vec<i32>,
}

impl<'a> Coder<'a> {
    fn push(&mut self, chunk: &'a Chunk) {
        match chunk {
            Chunk::Plain(array) => match array.data_type() {
                DataType::Utf8 => self.push_texts(array.as_string::<i32>().iter()),
                DataType::Utf8View => self.push_texts(array.as_string_view().iter()),
                _ => self.push_texts(array.as_string::<i64>().iter()),
            },
            Chunk::Keyed { keys, values } => self.push_keys(keys, values),
        }
    }

    fn push_texts(&mut self, texts: impl Iterator<Item = Option<&'a str>>) {
        let mut last = (None, -1);
        for text in texts {
            if text != last.0 {
                last = (text, self.code(text));
            }
            self.codes.push(last.1);
        }
    }

    /// Only the dictionary entries that a row uses get a code.
    fn push_keys(&mut self, keys: &'a Int64Array, values: &'a LargeStringArray) {
        let mut mapped: Vec<Option<i32>> = vec![None; values.len()];
        for key in keys {
            let key = key
                .and_then(|key| usize::try_from(key).ok())
                .filter(|&key| key < values.len());
            let code = match key {
                None => -1,
                Some(key) => *mapped[key].get_or_insert_with(|| {
                    self.code(values.is_valid(key).then(|| values.value(key)))
                }),
            };
            self.codes.push(code);
        }
    }

    fn code(&mut self, text: Option<&'a str>) -> i32 {
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return -1;
        };
        *self.seen.entry(text).or_insert_with(|| {
            self.values.push(text);
            self.values.len() as i32 - 1
        })
    }

    fn finish(self) -> Coded {
        let mut order: Vec<usize> = (0..self.values.len()).collect();
        order.sort_unstable_by_key(|&old| self.values[old]);
        let mut rank = vec![0; order.len()];
        for (new, &old) in order.iter().enumerate() {
            rank[old] = new as i32;
        }
        let codes = self
            .codes
            .iter()
            .map(|&code| if code < 0 { -1 } else { rank[code as usize] })
            .collect();
        Coded {
            codes,
            values: order
                .iter()
                .map(|&old| self.values[old].to_owned())
                .collect(),
        }
    }
}

/// Integers of any width as `i64`, with None for nulls; `u64` beyond `i64` is an error of the cast.
pub(crate) fn integers(chunks: &[ArrayRef]) -> Result<Vec<Option<i64>>, ArrowError> {
    let mut all = Vec::with_capacity(chunks.iter().map(|chunk| chunk.len()).sum());
    for chunk in chunks {
        all.extend(strict(chunk, &DataType::Int64)?.as_primitive::<Int64Type>());
    }
    Ok(all)
}

/// Unsigned 64-bit integers, None for nulls.
pub(crate) fn unsigned(chunks: &[ArrayRef]) -> Result<Vec<Option<u64>>, ArrowError> {
    let mut all = Vec::with_capacity(chunks.iter().map(|chunk| chunk.len()).sum());
    for chunk in chunks {
        all.extend(strict(chunk, &DataType::UInt64)?.as_primitive::<UInt64Type>());
    }
    Ok(all)
}

/// A cast that refuses what does not fit instead of writing a null.
fn strict(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    let options = arrow_cast::CastOptions {
        safe: false,
        ..Default::default()
    };
    arrow_cast::cast_with_options(array, to, &options)
}
