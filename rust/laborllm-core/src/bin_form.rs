//! Bins as record batches: careers one after another, then padding.

use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, FixedSizeListArray, Int32Array, ListArray, RecordBatch};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use rayon::prelude::*;

use crate::Result;
use crate::bins::Groups;
use crate::error::within;
use crate::pack::{Labels, Options};
use crate::pool::{Element, Recycled};
use crate::token_table::{Careers, layout};

/// Tokens in a batch of bins; a column of them is 4 MB.
const BATCH_TOKENS: usize = 1 << 20;
/// The label of a token that is no target.
const IGNORED: i32 = -100;
/// The longest bin.
const LONGEST: i32 = 1 << 24;

type Arrow<T> = std::result::Result<T, ArrowError>;

/// The form of bins, for one schema of token tables.
#[derive(Debug)]
pub(crate) struct Form {
    /// Tokens of a bin.
    pub length: usize,
    /// Layout of the careers that come in.
    pub careers: SchemaRef,
    /// Schema of the bins.
    pub schema: SchemaRef,
    pad_id: i32,
    labels: Option<Labels>,
    position_ids: bool,
    /// 0, 1, 2 … length - 1.
    ramp: Vec<i32>,
}

impl Form {
    /// Choose the columns.
    ///
    /// # Errors
    /// Numbers out of range, absent columns.
    pub fn new(schema: &Schema, options: Options) -> Result<Self> {
        let length = within("length", options.length, 1, LONGEST)?;
        let pad_id = within("pad_id", options.pad_id, 0, i32::MAX)?;
        let careers = layout(schema, options.labels == Some(Labels::Titles))?;
        let wide = DataType::FixedSizeList(item(DataType::Int32), length);
        let shown = [
            ("input_ids", true),
            ("position_ids", options.position_ids),
            ("labels", options.labels.is_some()),
        ];
        let mut fields: Vec<Field> = shown
            .into_iter()
            .filter(|&(_, shown)| shown)
            .map(|(name, _)| Field::new(name, wide.clone(), true))
            .collect();
        let list = |name, kind| Field::new(name, DataType::List(item(kind)), true);
        fields.push(list("seq_lengths", DataType::Int32));
        for key in &careers.fields()[..2] {
            fields.push(list(key.name(), key.data_type().clone()));
        }
        Ok(Self {
            length: length as usize,
            pad_id,
            labels: options.labels,
            position_ids: options.position_ids,
            careers,
            schema: Arc::new(Schema::new(fields).with_metadata(options.metadata)),
            ramp: (0..length).collect(),
        })
    }

    /// Bins of every batch but the last.
    pub fn bins_per_batch(&self) -> usize {
        (BATCH_TOKENS / self.length).max(1)
    }

    /// The batches of some bins, on all cores.
    pub fn write(
        &self,
        careers: &Careers,
        bins: &Groups,
        range: Range<usize>,
    ) -> Vec<Arrow<RecordBatch>> {
        let many = self.bins_per_batch();
        let starts: Vec<usize> = range.clone().step_by(many).collect();
        starts
            .into_par_iter()
            .map(|start| self.batch(careers, bins, start..range.end.min(start + many)))
            .collect()
    }

    fn batch(&self, careers: &Careers, bins: &Groups, range: Range<usize>) -> Arrow<RecordBatch> {
        let mut wide = Wide::new(self, range.len() * self.length);
        let mut places = Vec::with_capacity(bins.members(range.clone()).len());
        let mut lengths = Vec::with_capacity(places.capacity() + range.len());
        let (mut segments, mut workers) = (Vec::new(), Vec::new());
        for bin in range.clone() {
            if bin + 1 < range.end {
                read_ahead(careers, bins.members(bin + 1..bin + 2));
            }
            let (first, stop) = (lengths.len(), wide.at + self.length);
            let members = bins.members(bin..bin + 1);
            for &career in members {
                let place = careers.place(career);
                let tokens = careers.ids(place);
                wide.career(self, tokens, careers.spans(place));
                lengths.push(tokens.len() as i32);
                places.push(place);
            }
            if wide.at < stop {
                lengths.push((stop - wide.at) as i32);
                wide.pad(self, stop);
            }
            segments.push(lengths.len() - first);
            workers.push(members.len());
        }
        let mut columns = wide.columns(self.length as i32)?;
        columns.push(list(Arc::new(Int32Array::from(lengths)), &segments)?);
        columns.push(list(careers.key(0, &places)?, &workers)?);
        columns.push(list(careers.key(1, &places)?, &workers)?);
        RecordBatch::try_new(self.schema.clone(), columns)
    }
}

/// The columns with a value per token, filled up to `at`.
struct Wide {
    ids: Recycled<i32>,
    positions: Option<Recycled<i32>>,
    labels: Option<Recycled<i32>>,
    at: usize,
}

impl Wide {
    fn new(form: &Form, tokens: usize) -> Self {
        let column = |shown: bool| shown.then(|| i32::pool().take(tokens));
        Self {
            ids: i32::pool().take(tokens),
            positions: column(form.position_ids),
            labels: column(form.labels.is_some()),
            at: 0,
        }
    }

    /// Its first token follows nothing, so it is never a label.
    fn career(&mut self, form: &Form, tokens: &[i32], spans: impl Iterator<Item = (i32, i32)>) {
        let own = self.at..self.at + tokens.len();
        self.at = own.end;
        self.ids[own.clone()].copy_from_slice(tokens);
        if let Some(positions) = &mut self.positions {
            positions[own.clone()].copy_from_slice(&form.ramp[..tokens.len()]);
        }
        if let Some(labels) = &mut self.labels {
            let labels = &mut labels[own];
            if form.labels == Some(Labels::All) {
                labels.copy_from_slice(tokens);
            } else {
                labels.fill(IGNORED);
                for (start, stop) in spans {
                    let span = start as usize..stop as usize;
                    labels[span.clone()].copy_from_slice(&tokens[span]);
                }
            }
            labels[0] = IGNORED;
        }
    }

    fn pad(&mut self, form: &Form, stop: usize) {
        let own = self.at..stop;
        self.at = stop;
        if let Some(positions) = &mut self.positions {
            positions[own.clone()].copy_from_slice(&form.ramp[..own.len()]);
        }
        if let Some(labels) = &mut self.labels {
            labels[own.clone()].fill(IGNORED);
        }
        self.ids[own].fill(form.pad_id);
    }

    fn columns(self, length: i32) -> Arrow<Vec<ArrayRef>> {
        let shown = [Some(self.ids), self.positions, self.labels];
        let matrix = |values: Recycled<i32>| {
            let values = Arc::new(Int32Array::new(values.into_buffer().into(), None));
            let array = FixedSizeListArray::try_new(item(DataType::Int32), length, values, None)?;
            Ok(Arc::new(array) as ArrayRef)
        };
        shown.into_iter().flatten().map(matrix).collect()
    }
}

/// Ask for the first tokens of careers, so that they are on their way from memory while others are copied: packing
/// took 53 ms with it and 62 without (200,000 careers, one thread).
fn read_ahead(careers: &Careers, members: &[u32]) {
    let first = |&career: &u32| careers.ids(careers.place(career))[0];
    black_box(members.iter().map(first).fold(0, |sum, token| sum ^ token));
}

fn item(kind: DataType) -> Arc<Field> {
    Arc::new(Field::new("item", kind, true))
}

fn list(values: ArrayRef, lengths: &[usize]) -> Arrow<ArrayRef> {
    let offsets = OffsetBuffer::from_lengths(lengths.iter().copied());
    let item = item(values.data_type().clone());
    Ok(Arc::new(ListArray::try_new(item, offsets, values, None)?))
}
