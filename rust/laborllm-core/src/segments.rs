//! A template part as segments: stretches of text between two cuts, one code per row and one text per code.

use std::collections::HashMap;
use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef, DictionaryArray, Int32Array, Int64Array, RecordBatch};
use arrow_buffer::ScalarBuffer;
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType};
use arrow_select::take::take;
use rayon::prelude::*;

use crate::columns::{factorise, is_integer, is_text};
use crate::error::breaks_line;
use crate::pool::{Element, Recycled};
use crate::template::Piece;
use crate::{Error, Result};

/// Texts of one segment: adjoining fields are printed as one while they have at most so many combinations.
const COMBINED: usize = 4096;

/// Where text may be cut; a title with its space and its newline always stands alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cuts {
    /// Before any field: bytes can be cut everywhere.
    Fields,
    /// Only behind a newline of the template: tokens must not reach across a cut.
    Lines,
}

/// Fields with the literals around them, printed as one fragment.
#[derive(Debug, Default)]
pub(crate) struct Segment {
    /// Text before each field and after the last.
    literals: Vec<String>,
    fields: Vec<Field>,
    /// Where combinations are too many: the code of every row, and the combinations that occur.
    listed: Option<(Vec<u32>, Vec<String>)>,
}

/// Rows of a panel that are printed, such as the first of each worker.
pub(crate) type Shown = ScalarBuffer<i64>;

/// A part of the template over the rows of one panel.
#[derive(Debug)]
pub(crate) struct Segments {
    pub all: Vec<Segment>,
    /// Which segment is ` {title}\n`.
    pub title: Option<usize>,
}

impl Segments {
    /// Segments of bound pieces, from the columns of a checked panel.
    ///
    /// `shown` are the rows that are printed; None: all of them. `lagged` names a field that shows, before the title,
    /// its value of the row before, and the first row of each worker, which shows the missing word.
    pub fn new(
        pieces: &[Piece],
        batch: &RecordBatch,
        missing: &HashMap<String, String>,
        cuts: Cuts,
        shown: Option<&Shown>,
        lagged: Option<(&str, &[i64])>,
    ) -> Result<Self> {
        let mut parts = Parts::new(cuts);
        for piece in pieces {
            match piece {
                Piece::Text(text) => parts.text(text),
                Piece::Field(name) => {
                    let mut field = Field::new(name, batch, missing, shown)?;
                    field.lagged =
                        parts.title.is_none() && lagged.is_some_and(|(lagged, _)| lagged == name);
                    parts.field(field, name == "title");
                }
                Piece::Optional(_) => {
                    let reason = "holds brackets; bind the template first".to_owned();
                    return Err(Error::RowForm { reason });
                }
            }
        }
        let (mut all, title) = parts.finish();
        let starts = lagged.map_or(&[][..], |(_, starts)| starts);
        for segment in all.iter_mut().filter(|one| one.is_large()) {
            segment.list(shown.map_or(batch.num_rows(), |shown| shown.len()), starts);
        }
        Ok(Self { all, title })
    }
}

/// Segments while they are put together.
struct Parts {
    cuts: Cuts,
    done: Vec<Segment>,
    open: Segment,
    title: Option<usize>,
    /// The newline that ends the title's segment is still to come.
    after_title: bool,
}

impl Parts {
    fn new(cuts: Cuts) -> Self {
        Self {
            cuts,
            done: Vec::new(),
            open: Segment::from(String::new()),
            title: None,
            after_title: false,
        }
    }

    fn text(&mut self, text: &str) {
        for line in text.split_inclusive('\n') {
            self.open.last().push_str(line);
            let ended = self.cuts == Cuts::Lines && line.ends_with('\n');
            if ended && !self.after_title {
                self.close(String::new());
            }
            if self.after_title {
                let rest = self.open.last().split_off(1);
                self.after_title = false;
                self.close(String::new());
                self.text(&rest);
            }
        }
    }

    fn field(&mut self, field: Field, title: bool) {
        let full = self.open.product() * field.values.len() > COMBINED;
        if title {
            self.open.last().pop();
            self.close(" ".to_owned());
            self.title = Some(self.done.len());
            self.after_title = true;
        } else if self.cuts == Cuts::Fields && full && !self.open.fields.is_empty() {
            let literal = std::mem::take(self.open.last());
            self.close(literal);
        }
        self.open.fields.push(field);
        self.open.literals.push(String::new());
    }

    /// End the open segment; the next one begins with this text.
    fn close(&mut self, literal: String) {
        let closed = std::mem::replace(&mut self.open, Segment::from(literal));
        if !closed.fields.is_empty() || !closed.literals[0].is_empty() {
            self.done.push(closed);
        }
    }

    fn finish(mut self) -> (Vec<Segment>, Option<usize>) {
        self.close(String::new());
        (self.done, self.title)
    }
}

impl From<String> for Segment {
    fn from(literal: String) -> Self {
        Self {
            literals: vec![literal],
            ..Self::default()
        }
    }
}

impl Segment {
    fn last(&mut self) -> &mut String {
        let at = self.fields.len();
        &mut self.literals[at]
    }

    fn product(&self) -> usize {
        let widths = self.fields.iter().map(|field| field.values.len());
        widths.fold(1, usize::saturating_mul)
    }

    /// Not every combination can have a text.
    fn is_large(&self) -> bool {
        self.product() > COMBINED && self.fields.len() > 1
    }

    /// The text of each code.
    pub fn texts(&self) -> Vec<String> {
        match &self.listed {
            Some((_, texts)) => texts.clone(),
            None => (0..self.product()).map(|code| self.text(code)).collect(),
        }
    }

    fn text(&self, mut code: usize) -> String {
        let mut values = Vec::with_capacity(self.fields.len());
        for field in self.fields.iter().rev() {
            let width = field.values.len();
            values.push(field.values[code % width].as_str());
            code /= width;
        }
        let mut text = self.literals[0].clone();
        for (value, literal) in values.iter().rev().zip(&self.literals[1..]) {
            text.push_str(value);
            text.push_str(literal);
        }
        text
    }

    /// Code of each of these rows; `starts` are the first rows of workers among them, for lagged fields.
    pub fn codes(&self, rows: Range<usize>, starts: &[i64]) -> Recycled<u32> {
        let mut codes = u32::pool().take(rows.len());
        if let Some((listed, _)) = &self.listed {
            codes.copy_from_slice(&listed[rows]);
            return codes;
        }
        match self.fields.split_first() {
            None => codes.fill(0),
            Some((first, others)) => {
                first.each(rows.clone(), starts, &mut codes, |code, own, _| *code = own);
                for field in others {
                    let append = |code: &mut u32, own, width| *code = *code * width + own;
                    field.each(rows.clone(), starts, &mut codes, append);
                }
            }
        }
        codes
    }

    /// Give codes to the combinations that occur, in the order in which they do.
    fn list(&mut self, rows: usize, starts: &[i64]) {
        let columns: Vec<Vec<u32>> = self
            .fields
            .iter()
            .map(|field| {
                let mut codes = vec![0; rows];
                field.each(0..rows, starts, &mut codes, |code, own, _| *code = own);
                codes
            })
            .collect();
        let (mut seen, mut texts, mut codes) = (HashMap::new(), Vec::new(), Vec::new());
        for row in 0..rows {
            let key: Vec<u32> = columns.iter().map(|column| column[row]).collect();
            let code = *seen.entry(key).or_insert_with_key(|key| {
                texts.push(self.spelled(key));
                texts.len() as u32 - 1
            });
            codes.push(code);
        }
        self.listed = Some((codes, texts));
    }

    fn spelled(&self, codes: &[u32]) -> String {
        let mut text = self.literals[0].clone();
        for ((field, &code), literal) in self.fields.iter().zip(codes).zip(&self.literals[1..]) {
            text.push_str(&field.values[code as usize]);
            text.push_str(literal);
        }
        text
    }
}

/// A field's code of every row, and the texts that codes stand for; that of null, if there is a word for it, last.
#[derive(Debug)]
struct Field {
    codes: Codes,
    values: Vec<String>,
    lagged: bool,
}

/// Where the codes of a column are read from.
#[derive(Debug)]
enum Codes {
    /// The keys of its dictionary, of all rows or of those that are shown.
    Keys(Int32Array, Option<Shown>),
    /// Its distance from the least value.
    Offsets(Int32Array, i32),
    Listed(Vec<u32>),
}

impl Field {
    fn new(
        name: &str,
        batch: &RecordBatch,
        missing: &HashMap<String, String>,
        shown: Option<&Shown>,
    ) -> Result<Self> {
        let source = if name == "title" { "occupation" } else { name };
        let Some(column) = batch.column_by_name(source) else {
            let reason = format!("the column '{source}' is absent");
            return Err(Error::Unchecked { reason });
        };
        let (codes, mut values) = read(name, column, shown)?;
        let nulls = match &codes {
            Codes::Keys(keys, Some(shown)) if keys.null_count() > 0 => {
                shown.iter().any(|&row| keys.is_null(row as usize))
            }
            Codes::Keys(keys, _) | Codes::Offsets(keys, _) => keys.null_count() > 0,
            Codes::Listed(codes) => codes.par_iter().any(|&code| code as usize == values.len()),
        };
        if let Some(value) = values.iter().find(|value| value.contains(breaks_line)) {
            return Err(Error::FieldText {
                field: name.to_owned(),
                value: value.clone(),
            });
        }
        match missing.get(name) {
            Some(word) => values.push(word.clone()),
            None if values.is_empty() => values.push(String::new()),
            None if !nulls => {}
            None => {
                return Err(Error::NoMissingWord {
                    field: name.to_owned(),
                });
            }
        }
        Ok(Self {
            codes,
            values,
            lagged: false,
        })
    }

    /// Call `put(code, own code, number of values)` for each of these rows.
    fn each(
        &self,
        rows: Range<usize>,
        starts: &[i64],
        codes: &mut [u32],
        put: impl Fn(&mut u32, u32, u32),
    ) {
        let width = self.values.len() as u32;
        if !self.lagged {
            return self.each_plain(rows, codes, |code, own| put(code, own, width));
        }
        let mut before = u32::pool().take(rows.len() + 1);
        let above = rows.start.max(1) - 1..rows.end;
        let shift = above.len() - rows.len();
        self.each_plain(above, &mut before[1 - shift..], |code, own| *code = own);
        for &start in starts {
            before[start as usize - rows.start] = width - 1;
        }
        for (code, &own) in codes.iter_mut().zip(&before[..]) {
            put(code, own, width);
        }
    }

    fn each_plain(&self, rows: Range<usize>, codes: &mut [u32], put: impl Fn(&mut u32, u32)) {
        let null = self.values.len() as u32 - 1;
        let (array, low) = match &self.codes {
            Codes::Keys(keys, _) => (keys, 0),
            Codes::Offsets(values, low) => (values, *low),
            Codes::Listed(own) => {
                let pairs = codes.iter_mut().zip(&own[rows]);
                return pairs.for_each(|(code, &own)| put(code, own));
            }
        };
        let distance = |value: &i32| (value.wrapping_sub(low) as u32).min(null);
        let code = |row: usize| {
            let known = array.is_valid(row);
            if known {
                distance(&array.values()[row])
            } else {
                null
            }
        };
        if let Codes::Keys(_, Some(shown)) = &self.codes {
            let pairs = codes.iter_mut().zip(&shown[rows]);
            return pairs.for_each(|(own, &row)| put(own, code(row as usize)));
        }
        match array.null_count() {
            0 => {
                let pairs = codes.iter_mut().zip(&array.values()[rows]);
                pairs.for_each(|(own, value)| put(own, distance(value)));
            }
            _ => {
                let pairs = codes.iter_mut().zip(rows);
                pairs.for_each(|(own, row)| put(own, code(row)));
            }
        }
    }
}

/// Codes and the texts they stand for; null has the code behind the last.
fn read(name: &str, column: &ArrayRef, shown: Option<&Shown>) -> Result<(Codes, Vec<String>)> {
    let kind = column.data_type();
    let unreadable = |error| Error::unreadable(name, &error);
    let pair: Option<&DictionaryArray<Int32Type>> = column.as_any().downcast_ref();
    if let Some(pair) = pair.filter(|pair| is_text(kind) && pair.values().null_count() == 0) {
        let texts = cast(pair.values(), &DataType::LargeUtf8).map_err(unreadable)?;
        let texts = texts.as_string::<i64>().iter();
        let texts = texts.map(|text| text.unwrap_or_default().to_owned());
        return Ok((
            Codes::Keys(pair.keys().clone(), shown.cloned()),
            texts.collect(),
        ));
    }
    let taken = shown.map(|shown| take(column, &Int64Array::new(shown.clone(), None), None));
    let column = &taken
        .unwrap_or_else(|| Ok(column.clone()))
        .map_err(unreadable)?;
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
    let codes = coded.codes.iter().map(code).collect();
    Ok((Codes::Listed(codes), coded.values))
}

/// Integers of a small range by their distance from the least one; None where the range is large.
fn small_integers(
    column: &ArrayRef,
) -> std::result::Result<Option<(Codes, Vec<String>)>, ArrowError> {
    let narrow = cast(column, &DataType::Int32)?;
    if narrow.null_count() != column.null_count() {
        return Ok(None);
    }
    let integers = narrow.as_primitive::<Int32Type>();
    let wider = |a: (i32, i32), b: (i32, i32)| (a.0.min(b.0), a.1.max(b.1));
    let nothing = (i32::MAX, i32::MIN);
    let extremes = |values: &[i32]| {
        let each = values.iter().map(|&value| (value, value));
        each.fold(nothing, wider)
    };
    let found = match integers.nulls() {
        None => {
            let chunks = integers.values().par_chunks(1 << 16).map(extremes);
            chunks.reduce(|| nothing, wider)
        }
        Some(_) => {
            let known = integers.iter().flatten().map(|value| (value, value));
            known.fold(nothing, wider)
        }
    };
    let (low, high) = if found == nothing { (0, 0) } else { found };
    if i64::from(high) - i64::from(low) >= COMBINED as i64 {
        return Ok(None);
    }
    let texts = (low..=high).map(|value| value.to_string()).collect();
    Ok(Some((Codes::Offsets(integers.clone(), low), texts)))
}
