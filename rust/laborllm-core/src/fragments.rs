//! A template part as tables of fragments: one per field, holding the literal before it and each of its values.

use std::collections::HashMap;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_cast::cast;
use arrow_schema::DataType;

use crate::columns::{factorise, is_integer, is_text};
use crate::template::Piece;
use crate::{Error, Result};

/// Pieces that a row of a panel is printed from, in order.
#[derive(Debug)]
pub(crate) struct Fragments {
    fields: Vec<FieldTable>,
    /// Text after the last field, or all of it where there is none.
    tail: Vec<u8>,
    title: Option<usize>,
}

/// `literal before the field + value` for each value, the one of null last.
#[derive(Debug)]
struct FieldTable {
    name: String,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    codes: Vec<u32>,
    lead: usize,
}

impl FieldTable {
    fn new(name: &str, lead: &str, values: impl Iterator<Item = String>, codes: Vec<u32>) -> Self {
        let (mut bytes, mut ends) = (Vec::new(), vec![0]);
        for value in values {
            bytes.extend_from_slice(lead.as_bytes());
            bytes.extend_from_slice(value.as_bytes());
            ends.push(bytes.len());
        }
        Self { name: name.to_owned(), bytes, ends, codes, lead: lead.len() }
    }

    fn get(&self, code: u32) -> &[u8] {
        &self.bytes[self.ends[code as usize]..self.ends[code as usize + 1]]
    }

    fn null(&self) -> u32 {
        self.ends.len() as u32 - 2
    }
}

/// Where a title stands in the text, in bytes.
pub(crate) type Span = (usize, usize);

impl Fragments {
    /// Tables for the fields of bound pieces, from the columns of a checked panel.
    pub fn new(pieces: &[Piece], batch: &RecordBatch, missing: &HashMap<String, String>) -> Result<Self> {
        let (mut fields, mut lead, mut title) = (Vec::new(), "", None);
        for piece in pieces {
            match piece {
                Piece::Text(text) => lead = text,
                Piece::Field(name) => {
                    if name == "title" {
                        title = Some(fields.len());
                    }
                    fields.push(table(name, lead, batch, missing)?);
                    lead = "";
                }
                Piece::Optional(_) => {
                    return Err(Error::RowForm { reason: "holds brackets; bind the template first".to_owned() });
                }
            }
        }
        Ok(Self { fields, tail: lead.as_bytes().to_vec(), title })
    }

    /// Every row shows this field's value of the row before it; the first row of each worker shows the missing word.
    pub fn lag(&mut self, name: &str, starts: &[i64]) {
        let title = self.title.unwrap_or(0);
        for field in self.fields[..title].iter_mut().filter(|field| field.name == name) {
            let null = field.null();
            let many = field.codes.len().min(1);
            field.codes.rotate_right(many);
            for &start in &starts[..starts.len() - 1] {
                field.codes[start as usize] = null;
            }
        }
    }

    /// Bytes that a row takes.
    pub fn length(&self, row: usize) -> usize {
        self.tail.len() + self.fields.iter().map(|field| field.get(field.codes[row]).len()).sum::<usize>()
    }

    /// Append a row and return the span of its title.
    pub fn print(&self, row: usize, out: &mut Vec<u8>) -> Span {
        let mut span = (0, 0);
        for (position, field) in self.fields.iter().enumerate() {
            let start = out.len() + field.lead;
            out.extend_from_slice(field.get(field.codes[row]));
            if self.title == Some(position) {
                span = (start, out.len());
            }
        }
        out.extend_from_slice(&self.tail);
        span
    }
}

fn table(name: &str, lead: &str, batch: &RecordBatch, missing: &HashMap<String, String>) -> Result<FieldTable> {
    let source = if name == "title" { "occupation" } else { name };
    let Some(column) = batch.column_by_name(source) else {
        return Err(Error::Unchecked { reason: format!("the column '{source}' is absent") });
    };
    let (codes, mut values) = values(name, column)?;
    let null = values.len() as u32;
    let known = codes.iter().all(|&code| code < null);
    values.push(match missing.get(name) {
        Some(word) => word.clone(),
        None if known => String::new(),
        None => return Err(Error::NoMissingWord { field: name.to_owned() }),
    });
    Ok(FieldTable::new(name, lead, values.into_iter(), codes))
}

/// Code of every row (the number of values for null) and the texts that codes stand for.
fn values(name: &str, column: &ArrayRef) -> Result<(Vec<u32>, Vec<String>)> {
    let kind = column.data_type();
    let unreadable = |error| Error::unreadable(name, &error);
    match kind {
        DataType::Dictionary(_, value) if is_text(value) => {
            let pair = column.as_any_dictionary();
            let keys = cast(pair.keys(), &DataType::Int64).map_err(unreadable)?;
            let texts = cast(pair.values(), &DataType::LargeUtf8).map_err(unreadable)?;
            let texts = texts.as_string::<i64>();
            let null = texts.len() as u32;
            let code = |key: Option<i64>| key.and_then(|key| u32::try_from(key).ok()).unwrap_or(null).min(null);
            let codes = keys.as_primitive::<Int64Type>().iter().map(code).collect();
            Ok((codes, texts.iter().map(|text| text.unwrap_or_default().to_owned()).collect()))
        }
        _ if is_text(kind) || is_integer(kind) || kind == &DataType::Boolean => {
            let coded = factorise(std::slice::from_ref(column)).map_err(unreadable)?;
            let null = coded.values.len() as u32;
            let codes = coded.codes.iter().map(|&code| u32::try_from(code).unwrap_or(null)).collect();
            Ok((codes, coded.values))
        }
        _ => Err(Error::FieldType { field: name.to_owned(), found: kind.to_string() }),
    }
}
