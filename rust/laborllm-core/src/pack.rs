//! Careers, as token ids, in bins of one length: no career is split, and none sees another.

use std::collections::{HashMap, VecDeque};
use std::str::FromStr;

use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_schema::{ArrowError, Schema, SchemaRef};

use crate::bin_form::Form;
use crate::bins::{FirstFit, Groups, best_fit, shuffled};
use crate::error::within;
use crate::process::check_threads;
use crate::token_table::{Careers, Place};
use crate::{Error, Result};

/// The most bins that may be open.
const MOST: i32 = 1 << 24;

/// Which tokens are targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// All but the first of each career.
    All,
    /// Those of titles and their newlines.
    Titles,
}

impl FromStr for Labels {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        match word {
            "all" => Ok(Self::All),
            "titles" => Ok(Self::Titles),
            _ => Err(Error::LabelsChoice {
                found: word.to_owned(),
            }),
        }
    }
}

/// What bins look like.
#[derive(Debug, Clone)]
pub struct Options {
    /// Tokens of a bin, padding included.
    pub length: i64,
    /// The token that fills a bin up.
    pub pad_id: i64,
    /// Which labels are written, if any.
    pub labels: Option<Labels>,
    /// Whether position ids are written.
    pub position_ids: bool,
    /// Metadata of the schema.
    pub metadata: HashMap<String, String>,
}

/// A stream of bins: `input_ids`, `position_ids` and `labels` as fixed_size_list<int32>, `seq_lengths` (those of the
/// careers, then that of the padding, if any), `dataset` and `worker_id` (one per career).
///
/// As many batches as there are threads are written at once and wait for the reader.
#[derive(Debug)]
pub struct BestFit {
    form: Form,
    careers: Careers,
    bins: Groups,
    next: usize,
    ready: VecDeque<std::result::Result<RecordBatch, ArrowError>>,
}

impl BestFit {
    /// Pack a whole table by best fit decreasing; bins come in the order in which they are opened, or shuffled.
    ///
    /// Time O(careers + length) and one copy of the tokens while the stream is read; memory 16 bytes a career beside
    /// the table.
    ///
    /// # Errors
    /// Numbers out of range, columns that are absent or cannot be read, a career that is empty or longer than a bin.
    pub fn new(
        schema: &Schema,
        batches: &[RecordBatch],
        options: Options,
        seed: Option<u64>,
    ) -> Result<Self> {
        check_threads()?;
        let form = Form::new(schema, options)?;
        let mut careers = Careers::default();
        for batch in batches {
            careers.push(batch, &form.careers, form.length)?;
        }
        let (mut bin_of, bins) = best_fit(careers.lengths(), form.length as u32);
        if let Some(seed) = seed {
            let to = shuffled(bins, seed);
            bin_of.iter_mut().for_each(|bin| *bin = to[*bin as usize]);
        }
        Ok(Self {
            form,
            careers,
            bins: Groups::new(&bin_of, bins),
            next: 0,
            ready: VecDeque::new(),
        })
    }
}

impl Iterator for BestFit {
    type Item = std::result::Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty() {
            if let Err(error) = check_threads() {
                return Some(Err(ArrowError::ComputeError(error.sentence())));
            }
            let most = rayon::current_num_threads() * self.form.bins_per_batch();
            let stop = self.bins.len().min(self.next + most);
            let batches = self.form.write(&self.careers, &self.bins, self.next..stop);
            (self.ready, self.next) = (batches.into(), stop);
        }
        self.ready.pop_front()
    }
}

impl RecordBatchReader for BestFit {
    fn schema(&self) -> SchemaRef {
        self.form.schema.clone()
    }
}

/// Packs a stream by first fit: the careers of the open bins, and of about a batch of closed ones per thread, are held.
///
/// Bins come in the order in which they are opened; neither they nor the batches depend on how the stream is cut.
#[derive(Debug)]
pub struct Stream {
    form: Form,
    rule: FirstFit,
    careers: Careers,
    /// The bin of each career that is held, counted from `written`.
    bin_of: Vec<u32>,
    written: usize,
}

impl Stream {
    /// Begin with a number of bins that may be open at once.
    ///
    /// # Errors
    /// Numbers out of range, absent columns.
    pub fn new(schema: &Schema, options: Options, open_bins: i64) -> Result<Self> {
        let slots = within("open_bins", open_bins, 1, MOST)? as usize;
        let form = Form::new(schema, options)?;
        Ok(Self {
            rule: FirstFit::new(form.length as u32, slots),
            form,
            careers: Careers::default(),
            bin_of: Vec::new(),
            written: 0,
        })
    }

    /// Schema of the bins.
    pub fn schema(&self) -> SchemaRef {
        self.form.schema.clone()
    }

    /// Add careers; gives the batches that they complete.
    ///
    /// # Errors
    /// Columns that cannot be read, a career that is empty or longer than a bin.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<Vec<RecordBatch>> {
        self.careers
            .push(batch, &self.form.careers, self.form.length)?;
        for &length in &self.careers.lengths()[self.bin_of.len()..] {
            let bin = self.rule.place(length) - self.written;
            self.bin_of.push(bin as u32);
        }
        let per_batch = self.form.bins_per_batch();
        let complete = self.rule.closed().saturating_sub(self.written) / per_batch;
        if complete < rayon::current_num_threads() {
            return Ok(Vec::new());
        }
        self.release(complete * per_batch)
    }

    /// Close all bins; gives the last batches.
    ///
    /// # Errors
    /// Arrow's own.
    pub fn finish(&mut self) -> Result<Vec<RecordBatch>> {
        self.release(self.rule.opened() - self.written)
    }

    /// Write the first bins and hold the careers of the others alone.
    fn release(&mut self, bins: usize) -> Result<Vec<RecordBatch>> {
        if bins == 0 {
            return Ok(Vec::new());
        }
        check_threads()?;
        let unwritten = |error: ArrowError| Error::token_column("input_ids", &error);
        let groups = Groups::new(&self.bin_of, self.rule.opened() - self.written);
        let batches: std::result::Result<Vec<_>, _> = self
            .form
            .write(&self.careers, &groups, 0..bins)
            .into_iter()
            .collect();
        let held = |career: &u32| self.bin_of[*career as usize] as usize >= bins;
        let rest: Vec<u32> = (0..self.bin_of.len() as u32).filter(held).collect();
        let places: Vec<Place> = rest.iter().map(|&one| self.careers.place(one)).collect();
        let table = self.careers.take(&places).map_err(unwritten)?;
        self.bin_of = rest
            .iter()
            .map(|&career| self.bin_of[career as usize] - bins as u32)
            .collect();
        self.written += bins;
        self.careers = Careers::default();
        self.careers
            .push(&table, &self.form.careers, self.form.length)?;
        batches.map_err(unwritten)
    }
}
