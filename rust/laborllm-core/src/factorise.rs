//! Columns as codes into their distinct texts: parts of the rows side by side, then one ranking.

use arrow_array::cast::AsArray;
use arrow_array::types::ArrowDictionaryKeyType;
use arrow_array::{
    Array, ArrayRef, DictionaryArray, GenericStringArray, OffsetSizeTrait, StringViewArray,
    downcast_dictionary_array,
};
use arrow_buffer::{ArrowNativeType, Buffer, NullBuffer};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType};
use rayon::prelude::*;

use crate::columns::{Coded, validated};
use crate::integers::integers;
use crate::texts::{Distinct, Place, many, outside};

/// Rows of a part, at least.
const PART_ROWS: usize = 1 << 15;

/// Codes of a column; what is no text is read as its text.
///
/// # Errors
/// A type without text; keys, offsets or bytes that make no text.
pub(crate) fn factorise(chunks: &[ArrayRef]) -> Result<Coded, ArrowError> {
    if let Some(coded) = integers(chunks) {
        return Ok(coded);
    }
    let chunks = chunks.iter().map(texts).collect::<Result<Vec<_>, _>>()?;
    let rows: usize = chunks.iter().map(|chunk| chunk.len()).sum();
    let part_rows = rows
        .div_ceil(rayon::current_num_threads())
        .max(PART_ROWS.min(rows.max(1)));
    let parts = split(&chunks, part_rows);
    let mut codes = vec![0; rows];
    let coders = parts.par_iter().zip(codes.par_chunks_mut(part_rows));
    let coders = coders
        .map(|(part, codes)| Coder::over(part, codes))
        .collect::<Vec<_>>();
    let coders = coders.into_iter().collect::<Result<Vec<_>, _>>()?;
    let (values, ranks) = ranked(&coders)?;
    codes
        .par_chunks_mut(part_rows)
        .zip(&ranks)
        .for_each(|(codes, ranks)| {
            for code in codes {
                *code = ranks[(*code + 1) as usize];
            }
        });
    Ok(Coded {
        codes: codes.into(),
        values,
        nulls: coders.iter().any(|coder| coder.nulls),
    })
}

/// A chunk as text, or as a dictionary of text.
fn texts(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let plain = |kind: &DataType| {
        matches!(
            kind,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
        )
    };
    match array.data_type() {
        kind if plain(kind) => bounded(array).map(|()| array.clone()),
        DataType::Dictionary(_, values) if plain(values) => {
            bounded(array.as_any_dictionary().values()).map(|()| array.clone())
        }
        DataType::Dictionary(_, _) => {
            let pair = array.as_any_dictionary();
            let values = cast(&validated(pair.values())?, &DataType::LargeUtf8)?;
            Ok(pair.with_values(values))
        }
        _ => cast(&validated(array)?, &DataType::LargeUtf8),
    }
}

/// Over the C interface a negative last offset becomes a buffer longer than memory.
fn bounded(array: &ArrayRef) -> Result<(), ArrowError> {
    let fits = |buffer: &Buffer| buffer.len() <= isize::MAX as usize;
    let fit = match array.data_type() {
        DataType::Utf8 => fits(array.as_string::<i32>().values()),
        DataType::Utf8View => array.as_string_view().data_buffers().iter().all(fits),
        _ => fits(array.as_string::<i64>().values()),
    };
    fit.then_some(()).ok_or_else(outside)
}

/// Chunks cut into parts of so many rows; the last part may be shorter.
fn split(chunks: &[ArrayRef], part_rows: usize) -> Vec<Vec<ArrayRef>> {
    let (mut parts, mut open, mut free) = (Vec::new(), Vec::new(), part_rows);
    for chunk in chunks {
        let mut at = 0;
        while at < chunk.len() {
            let rows = free.min(chunk.len() - at);
            open.push(chunk.slice(at, rows));
            at += rows;
            free -= rows;
            if free == 0 {
                parts.push(std::mem::take(&mut open));
                free = part_rows;
            }
        }
    }
    if !open.is_empty() {
        parts.push(open);
    }
    parts
}

/// The codes of one part, by first appearance.
#[derive(Default)]
struct Coder<'a> {
    distinct: Distinct<'a>,
    nulls: bool,
}

impl<'a> Coder<'a> {
    fn over(chunks: &'a [ArrayRef], mut codes: &mut [i32]) -> Result<Self, ArrowError> {
        let mut coder = Self::default();
        for chunk in chunks {
            let (here, rest) = codes.split_at_mut(chunk.len());
            coder.push(chunk, here)?;
            codes = rest;
        }
        Ok(coder)
    }

    fn push(&mut self, array: &'a ArrayRef, codes: &mut [i32]) -> Result<(), ArrowError> {
        match array.data_type() {
            DataType::Utf8 => {
                let texts = array.as_string::<i32>();
                self.push_texts(array.nulls(), codes, |row| spanned(texts, row))
            }
            DataType::LargeUtf8 => {
                let texts = array.as_string::<i64>();
                self.push_texts(array.nulls(), codes, |row| spanned(texts, row))
            }
            DataType::Utf8View => {
                let texts = array.as_string_view();
                self.push_texts(array.nulls(), codes, |row| viewed(texts, row))
            }
            _ => downcast_dictionary_array!(
                array => self.push_keys(array, codes),
                kind => Err(ArrowError::CastError(format!("{kind} holds no text")))
            ),
        }
    }

    fn push_texts(
        &mut self,
        nulls: Option<&NullBuffer>,
        codes: &mut [i32],
        place: impl Fn(usize) -> Option<Place<'a>>,
    ) -> Result<(), ArrowError> {
        let mut low = 0;
        let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
        for (row, code) in codes.iter_mut().enumerate() {
            *code = match nulls {
                Some(nulls) if nulls.is_null(row) => -1,
                _ => self.distinct.code(place(row).ok_or_else(outside)?)?,
            };
            low = low.min(*code);
        }
        self.nulls |= low < 0;
        Ok(())
    }

    /// Only the dictionary entries that a row uses get a code.
    fn push_keys<K: ArrowDictionaryKeyType>(
        &mut self,
        array: &'a DictionaryArray<K>,
        codes: &mut [i32],
    ) -> Result<(), ArrowError> {
        const UNSEEN: i32 = -2;
        let (keys, values) = (array.keys(), array.values());
        let nulls = keys.nulls().filter(|nulls| nulls.null_count() > 0);
        let mut mapped = vec![UNSEEN; values.len()];
        let mut low = 0;
        for (row, code) in codes.iter_mut().enumerate() {
            *code = if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                -1
            } else {
                let key = keys.values()[row].as_usize();
                let known = mapped.get_mut(key).ok_or_else(outside)?;
                if *known == UNSEEN {
                    *known = self.entry(values, key)?;
                }
                *known
            };
            low = low.min(*code);
        }
        self.nulls |= low < 0;
        Ok(())
    }

    fn entry(&mut self, values: &'a ArrayRef, key: usize) -> Result<i32, ArrowError> {
        if values.is_null(key) {
            return Ok(-1);
        }
        let place = match values.data_type() {
            DataType::Utf8 => spanned(values.as_string::<i32>(), key),
            DataType::Utf8View => viewed(values.as_string_view(), key),
            _ => spanned(values.as_string::<i64>(), key),
        };
        self.distinct.code(place.ok_or_else(outside)?)
    }
}

#[inline]
fn spanned<O: OffsetSizeTrait>(texts: &GenericStringArray<O>, row: usize) -> Option<Place<'_>> {
    let offsets = texts.value_offsets();
    Some(Place {
        data: texts.value_data(),
        start: offsets.get(row)?.as_usize(),
        end: offsets.get(row + 1)?.as_usize(),
    })
}

/// Views hold short texts themselves: 4 bytes of length, then up to 12 of text; else prefix, buffer and offset.
#[inline]
fn viewed(texts: &StringViewArray, row: usize) -> Option<Place<'_>> {
    let view = *texts.views().get(row)?;
    let length = view as u32 as usize;
    let (data, start): (&[u8], usize) = if length <= 12 {
        (bytemuck::cast_slice(texts.views()), 16 * row + 4)
    } else {
        let buffer = texts.data_buffers().get((view >> 64) as u32 as usize)?;
        (buffer, (view >> 96) as usize)
    };
    Some(Place {
        data,
        start,
        end: start + length,
    })
}

/// All distinct texts bytewise ascending, and for each coder the ranks of -1 (null) and of its codes.
fn ranked(coders: &[Coder]) -> Result<(Vec<String>, Vec<Vec<i32>>), ArrowError> {
    let mut texts = Vec::with_capacity(coders.iter().map(|coder| coder.distinct.texts.len()).sum());
    for (part, coder) in coders.iter().enumerate() {
        let coded = coder.distinct.texts.iter().enumerate();
        texts.extend(coded.map(|(code, &text)| (prefix(text), text, part as u32, code as u32)));
    }
    texts.par_sort_unstable_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
    let mut values: Vec<String> = Vec::new();
    let mut ranks: Vec<Vec<i32>> = coders
        .iter()
        .map(|coder| vec![-1; coder.distinct.texts.len() + 1])
        .collect();
    for (_, text, part, code) in texts {
        if values.last().is_none_or(|last| last != text) {
            values.push(text.to_owned());
        }
        let rank = i32::try_from(values.len() - 1).map_err(|_| many())?;
        ranks[part as usize][code as usize + 1] = rank;
    }
    Ok((values, ranks))
}

/// The first eight bytes as a number that ascends as they do.
fn prefix(text: &str) -> u64 {
    let mut word = [0; 8];
    let length = text.len().min(8);
    word[..length].copy_from_slice(&text.as_bytes()[..length]);
    u64::from_be_bytes(word)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use arrow_array::types::UInt64Type;
    use arrow_array::{Int32Array, LargeStringArray, PrimitiveArray, StringArray};
    use proptest::prelude::*;

    /// The slow obvious twin: look every text up in the sorted list of all.
    fn plain(texts: &[Option<String>]) -> (Vec<i32>, Vec<String>) {
        let known = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let values: BTreeSet<String> = texts.iter().filter_map(known).collect();
        let values: Vec<String> = values.into_iter().collect();
        let rank = |text: &Option<String>| {
            known(text).map_or(-1, |text| values.binary_search(&text).unwrap() as i32)
        };
        (texts.iter().map(rank).collect(), values)
    }

    fn check(chunks: &[ArrayRef], texts: &[Option<String>]) {
        let (codes, values) = plain(texts);
        let coded = factorise(chunks).unwrap();
        assert_eq!((coded.codes.to_vec(), &coded.values), (codes, &values));
        assert_eq!(coded.nulls, coded.codes.contains(&-1));
    }

    fn layouts(texts: &[Option<String>]) -> Vec<ArrayRef> {
        let plain: ArrayRef = Arc::new(texts.iter().collect::<StringArray>());
        let small = DataType::Dictionary(Box::new(DataType::Int16), Box::new(DataType::Utf8View));
        let wide = DataType::Dictionary(Box::new(DataType::UInt64), Box::new(DataType::LargeUtf8));
        let kinds = [DataType::LargeUtf8, DataType::Utf8View, small, wide];
        let casts = kinds.iter().map(|kind| cast(&plain, kind).unwrap());
        std::iter::once(plain.clone()).chain(casts).collect()
    }

    proptest! {
        #[test]
        fn every_layout_cut_anywhere_gives_the_codes_of_the_plain_twin(
            texts in prop::collection::vec(prop::option::of("[ab]{0,2}|[a-c]{7,9}|x{10,14}|y{30,34}[ab]y{0,9}|ä"), 0..80),
            cut in 0usize..80,
        ) {
            for array in layouts(&texts) {
                let cut = cut.min(texts.len());
                check(&[array.slice(0, cut), array.slice(cut, texts.len() - cut)], &texts);
            }
        }
    }

    #[test]
    fn parts_of_many_rows_are_merged() {
        let texts: Vec<_> = (0..3 * PART_ROWS)
            .map(|row| (row % 7 > 0).then(|| (row * row % 40_009).to_string()))
            .collect();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(3)
            .build()
            .unwrap();
        pool.install(|| {
            layouts_of(&texts)
                .iter()
                .for_each(|array| check(std::slice::from_ref(array), &texts))
        });
    }

    fn layouts_of(texts: &[Option<String>]) -> Vec<ArrayRef> {
        let plain: ArrayRef = Arc::new(texts.iter().collect::<StringArray>());
        let wide = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::LargeUtf8));
        vec![cast(&plain, &wide).unwrap(), plain]
    }

    #[test]
    fn integers_beyond_i64_and_other_types_are_read_as_their_texts() {
        let wide = PrimitiveArray::<UInt64Type>::from(vec![u64::MAX, 3]);
        check(
            &[Arc::new(wide)],
            &[Some(u64::MAX.to_string()), Some("3".to_owned())],
        );
        let flags = arrow_array::BooleanArray::from(vec![Some(true), None]);
        check(&[Arc::new(flags)], &[Some("true".to_owned()), None]);
        assert!(factorise(&[]).unwrap().codes.is_empty());
    }

    #[test]
    fn only_dictionary_entries_in_use_become_values() {
        let keys = Int32Array::from(vec![Some(2), None, Some(1)]);
        let values = Arc::new(LargeStringArray::from(vec![
            Some("unused"),
            None,
            Some("used"),
        ]));
        let array: ArrayRef = Arc::new(DictionaryArray::new(keys, values));
        check(&[array], &[Some("used".to_owned()), None, None]);
    }
}
