//! A template part as tables of fragments: one per field, holding the literal before it and each of its values.

use std::collections::HashMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, DictionaryArray, RecordBatch};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType};
use rayon::prelude::*;

use crate::columns::{factorise, is_integer, is_text};
use crate::template::Piece;
use crate::{Error, Result};

/// Bytes copied at once; every fragment is padded to a multiple of it.
const STRIDE: usize = 32;
/// What a buffer for [`Fragments::print`] needs beyond its text.
pub(crate) const SLACK: usize = STRIDE;
/// Adjoining fields are printed as one where they have at most this many pairs of values.
const FUSED: usize = 4096;

/// Where a title stands in the text, in bytes.
pub(crate) type Span = (usize, usize);

/// Pieces that a row of a panel is printed from, in order.
#[derive(Debug)]
pub(crate) struct Fragments {
    fields: Vec<FieldTable>,
    /// Code of every row, field by field.
    codes: Vec<Vec<u32>>,
    title: Option<usize>,
}

/// `literal before the field + value` for each value, the one of null last; the text after the last
/// field ends all of its values.
#[derive(Debug)]
struct FieldTable {
    name: String,
    bytes: Vec<u8>,
    /// Start in `bytes` and length of each fragment.
    slots: Vec<(usize, usize)>,
    /// Bytes before and after the value itself.
    around: (usize, usize),
}

impl FieldTable {
    fn new(name: &str, lead: &str, values: &[String], tail: &str) -> Self {
        let mut table = Self::empty(name, (lead.len(), tail.len()));
        for value in values {
            table.push(&[lead.as_bytes(), value.as_bytes(), tail.as_bytes()]);
        }
        table
    }

    fn empty(name: &str, around: (usize, usize)) -> Self {
        Self {
            name: name.to_owned(),
            bytes: Vec::new(),
            slots: Vec::new(),
            around,
        }
    }

    fn push(&mut self, parts: &[&[u8]]) {
        let start = self.bytes.len();
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.slots.push((start, self.bytes.len() - start));
        self.bytes
            .resize(self.bytes.len().next_multiple_of(STRIDE), 0);
    }

    fn text(&self, code: usize) -> &[u8] {
        let (start, length) = self.slots[code];
        &self.bytes[start..start + length]
    }

    fn null(&self) -> u32 {
        self.slots.len() as u32 - 1
    }

    /// One table for two fields that follow each other; a pair has the code `left * width + right`.
    fn fused(&self, right: &Self) -> Self {
        let mut table = Self::empty("", (0, 0));
        for left in 0..self.slots.len() {
            for code in 0..right.slots.len() {
                table.push(&[self.text(left), right.text(code)]);
            }
        }
        table
    }
}

impl Fragments {
    /// Tables for the fields of bound pieces, from the columns of a checked panel. Text without any
    /// field is the one value of a field without a name.
    pub fn new(
        pieces: &[Piece],
        batch: &RecordBatch,
        missing: &HashMap<String, String>,
    ) -> Result<Self> {
        let (names, leads) = split(pieces)?;
        let (last, tail) = (names.len().saturating_sub(1), leads[names.len()].as_str());
        let (mut fields, mut codes) = (Vec::new(), Vec::new());
        for (position, name) in names.iter().enumerate() {
            let (code, values) = worded(name, batch, missing)?;
            let tail = if position == last { tail } else { "" };
            fields.push(FieldTable::new(name, &leads[position], &values, tail));
            codes.push(code);
        }
        if names.is_empty() {
            fields.push(FieldTable::new("", "", &[tail.to_owned()], ""));
            codes.push(vec![0; batch.num_rows()]);
        }
        let title = names.iter().position(|&name| name == "title");
        Ok(Self {
            fields,
            codes,
            title,
        })
    }

    /// Before the title, every row shows this field's value of the row before it; the first row of
    /// each worker shows the missing word.
    pub fn lag(&mut self, name: &str, starts: &[i64]) {
        let before = self.title.unwrap_or(0);
        for (field, codes) in self.fields.iter().zip(&mut self.codes).take(before) {
            if field.name == name {
                let many = codes.len().min(1);
                codes.rotate_right(many);
                for &start in &starts[..starts.len() - 1] {
                    codes[start as usize] = field.null();
                }
            }
        }
    }

    /// Print adjoining fields of few values as one; the title stays alone.
    pub fn fuse(mut self) -> Self {
        let mut position = 0;
        while position + 1 < self.fields.len() {
            let (left, right) = (&self.fields[position], &self.fields[position + 1]);
            let width = right.slots.len();
            let titled = self
                .title
                .is_some_and(|title| title == position || title == position + 1);
            if titled || left.slots.len() * width > FUSED {
                position += 1;
                continue;
            }
            self.fields[position] = left.fused(right);
            self.fields.remove(position + 1);
            let right = self.codes.remove(position + 1);
            let pairs = self.codes[position].par_iter_mut().zip(&right);
            pairs.for_each(|(left, right)| *left = *left * width as u32 + right);
            self.title = self
                .title
                .map(|title| title - usize::from(title > position));
        }
        self
    }

    /// Bytes that a row takes.
    pub fn length(&self, row: usize) -> usize {
        let fields = self.fields.iter().zip(&self.codes);
        fields
            .map(|(field, codes)| field.slots[codes[row] as usize].1)
            .sum()
    }

    /// Write a row at `at`, which moves behind it, and return the span of its title.
    ///
    /// Whole strides are written: up to [`SLACK`] bytes behind the row are overwritten, so rows are
    /// written in order into a buffer that has as much room behind its text.
    pub fn print(&self, row: usize, out: &mut [u8], at: &mut usize) -> Span {
        let mut span = (0, 0);
        for (position, (field, codes)) in self.fields.iter().zip(&self.codes).enumerate() {
            let (start, length) = field.slots[codes[row] as usize];
            put(&field.bytes[start..], length, &mut out[*at..]);
            if self.title == Some(position) {
                span = (*at + field.around.0, *at + length - field.around.1);
            }
            *at += length;
        }
        span
    }
}

/// Names of the fields, and the text before each of them and after the last.
fn split(pieces: &[Piece]) -> Result<(Vec<&str>, Vec<String>)> {
    let (mut names, mut leads) = (Vec::new(), vec![String::new()]);
    for piece in pieces {
        match piece {
            Piece::Text(text) => leads[names.len()].push_str(text),
            Piece::Field(name) => {
                names.push(name.as_str());
                leads.push(String::new());
            }
            Piece::Optional(_) => {
                let reason = "holds brackets; bind the template first".to_owned();
                return Err(Error::RowForm { reason });
            }
        }
    }
    Ok((names, leads))
}

/// Copy `length` bytes in whole strides.
fn put(from: &[u8], length: usize, to: &mut [u8]) {
    let pairs = from
        .as_chunks::<STRIDE>()
        .0
        .iter()
        .zip(to.as_chunks_mut::<STRIDE>().0);
    for (from, to) in pairs.take(length.div_ceil(STRIDE)) {
        *to = *from;
    }
}

/// Code of every row, and the texts that codes stand for, with the missing word last.
fn worded(
    name: &str,
    batch: &RecordBatch,
    missing: &HashMap<String, String>,
) -> Result<(Vec<u32>, Vec<String>)> {
    let source = if name == "title" { "occupation" } else { name };
    let Some(column) = batch.column_by_name(source) else {
        let reason = format!("the column '{source}' is absent");
        return Err(Error::Unchecked { reason });
    };
    let (codes, mut values) = values(name, column)?;
    let null = values.len() as u32;
    values.push(match missing.get(name) {
        Some(word) => word.clone(),
        None if codes.par_iter().all(|&code| code < null) => String::new(),
        None => {
            return Err(Error::NoMissingWord {
                field: name.to_owned(),
            });
        }
    });
    Ok((codes, values))
}

/// Code of every row (the number of values for null) and the texts that codes stand for.
fn values(name: &str, column: &ArrayRef) -> Result<(Vec<u32>, Vec<String>)> {
    let kind = column.data_type();
    let unreadable = |error| Error::unreadable(name, &error);
    let pair: Option<&DictionaryArray<Int32Type>> = column.as_any().downcast_ref();
    if let Some(pair) = pair.filter(|_| is_text(kind)) {
        let texts = cast(pair.values(), &DataType::LargeUtf8).map_err(unreadable)?;
        let texts = texts.as_string::<i64>();
        let null = texts.len() as u32;
        let code = |key: i32| (key as u32).min(null);
        let keys = pair.keys();
        let codes = match keys.nulls() {
            None => keys.values().par_iter().map(|&key| code(key)).collect(),
            Some(_) => keys.iter().map(|key| key.map_or(null, code)).collect(),
        };
        let texts = texts.iter().map(|text| text.unwrap_or_default().to_owned());
        return Ok((codes, texts.collect()));
    }
    if is_integer(kind)
        && let Some(found) = small_integers(column).map_err(unreadable)?
    {
        return Ok(found);
    }
    if !(is_text(kind) || is_integer(kind) || kind == &DataType::Boolean) {
        let found = kind.to_string();
        return Err(Error::FieldType {
            field: name.to_owned(),
            found,
        });
    }
    let coded = factorise(std::slice::from_ref(column)).map_err(unreadable)?;
    let null = coded.values.len() as u32;
    let code = |&code: &i32| u32::try_from(code).unwrap_or(null);
    Ok((coded.codes.iter().map(code).collect(), coded.values))
}

/// Codes and texts as of [`values`].
type Values = (Vec<u32>, Vec<String>);

/// Integers of a small range by their distance from the least one; None where the range is large.
fn small_integers(column: &ArrayRef) -> std::result::Result<Option<Values>, ArrowError> {
    let cast = cast(column, &DataType::Int64)?;
    let integers = cast.as_primitive::<Int64Type>();
    let (low, high) = match integers.nulls() {
        None => extremes(integers.values().iter().copied()),
        Some(_) => extremes(integers.iter().flatten()),
    };
    let width = high.checked_sub(low).filter(|&width| width < FUSED as i64);
    let (Some(width), true) = (width, integers.null_count() == column.null_count()) else {
        return Ok(None);
    };
    let null = width as u32 + 1;
    let code = |value: i64| (value - low) as u32;
    let codes = match integers.nulls() {
        None => integers
            .values()
            .par_iter()
            .map(|&value| code(value))
            .collect(),
        Some(_) => integers
            .iter()
            .map(|value| value.map_or(null, code))
            .collect(),
    };
    let texts = (low..=high).map(|value| value.to_string()).collect();
    Ok(Some((codes, texts)))
}

fn extremes(values: impl Iterator<Item = i64>) -> (i64, i64) {
    let wider = |(low, high): (i64, i64), value: i64| (low.min(value), high.max(value));
    match values.fold((i64::MAX, i64::MIN), wider) {
        (low, high) if low <= high => (low, high),
        _ => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_strides_are_copied_and_no_more() {
        for length in 0..100 {
            let from: Vec<u8> = (0..128).collect();
            let mut to = vec![255; 128];
            put(&from, length, &mut to);
            let written = length.next_multiple_of(STRIDE);
            assert_eq!(to[..written], from[..written]);
            assert!(to[written..].iter().all(|&byte| byte == 255));
        }
    }

    #[test]
    fn a_fused_table_holds_every_pair() {
        let values = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let left = FieldTable::new("year", "", &values(&["1990", "1991"]), "");
        let right = FieldTable::new("education", " (", &values(&["a", "b", "?"]), ")");
        let both = left.fused(&right);
        assert_eq!(both.text(0), b"1990 (a)");
        assert_eq!(both.text(3 + 2), b"1991 (?)");
    }
}
