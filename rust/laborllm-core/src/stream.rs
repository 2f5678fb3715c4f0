//! Panels larger than memory: a stream whose workers ascend is checked piece by piece, each of whole workers.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, UInt64Type};
use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_schema::DataType;
use rayon::prelude::*;

use crate::factorise::factorise;
use crate::panel::{self, Checked, Options, Report};
use crate::process::check_threads;
use crate::shards::{self, Shard};
use crate::{Error, Result};

/// Rows of a piece, about; a worker is never cut.
pub const PIECE_ROWS: usize = 1 << 17;
/// Rows among which the start of a worker is sought first.
const SOUGHT_ROWS: usize = 64;

/// Batches as they come.
pub type Source = Box<dyn RecordBatchReader + Send>;

/// Checked pieces of a stream, in order. Their rows are the whole panel's, whatever the batches they came in.
///
/// Memory: as many pieces as there are threads, before and after the check.
pub struct Stream {
    source: Source,
    options: Options,
    shard: Option<Shard>,
    piece_rows: usize,
    /// Batches that are not cut yet, and their rows.
    pending: Vec<RecordBatch>,
    pending_rows: usize,
    /// Input rows that were cut off so far.
    cut_rows: u64,
    ended: bool,
    ready: VecDeque<Checked>,
    failed: Option<Error>,
    finished: bool,
    last: Option<Key>,
    /// First row without a dataset, and whether any row has one.
    untagged: Option<u64>,
    tagged: bool,
    report: Arc<Mutex<Report>>,
}

/// Raw rows of whole workers.
struct Piece {
    batches: Vec<RecordBatch>,
    first_row: u64,
}

impl Piece {
    /// The first row alone.
    fn head(&self) -> Vec<RecordBatch> {
        let first = self.batches.first();
        first.map(|batch| batch.slice(0, 1)).into_iter().collect()
    }
}

/// The last row whose value in this column is not that of the row above.
fn last_change(&(name, at): &(&str, usize), parts: &[RecordBatch]) -> Result<Option<usize>> {
    let chunks: Vec<_> = parts.iter().map(|part| part.column(at).clone()).collect();
    let coded = factorise(&chunks).map_err(|error| Error::unreadable(name, &error))?;
    let mut rows = 1..coded.codes.len();
    Ok(rows.rfind(|&row| coded.codes[row] != coded.codes[row - 1]))
}

/// What workers are ordered by.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
struct Key {
    dataset: String,
    id: Id,
}

/// One variant in one stream.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
enum Id {
    Signed(i64),
    Unsigned(u64),
    Text(String),
}

impl Stream {
    /// A stream whose pieces are read when they are asked for; what is wrong comes with the piece that it is in.
    pub fn new(source: Source, options: Options, shard: Option<Shard>, piece_rows: usize) -> Self {
        let options = Options {
            in_order: true,
            ..options
        };
        Self {
            source,
            options,
            shard,
            piece_rows: piece_rows.max(1),
            pending: Vec::new(),
            pending_rows: 0,
            cut_rows: 0,
            ended: false,
            ready: VecDeque::new(),
            failed: None,
            finished: false,
            last: None,
            untagged: None,
            tagged: false,
            report: Arc::default(),
        }
    }

    /// What was counted so far.
    pub fn report(&self) -> Arc<Mutex<Report>> {
        self.report.clone()
    }

    /// Read until a piece is whole; None at the end.
    fn cut(&mut self) -> Result<Option<Piece>> {
        loop {
            if self.ended || self.pending_rows > self.piece_rows {
                let row = if self.ended {
                    Some(self.pending_rows)
                } else {
                    self.boundary()?
                };
                if let Some(rows) = row {
                    return Ok((rows > 0).then(|| self.take(rows)));
                }
            }
            match self.source.next() {
                None => self.ended = true,
                Some(Err(error)) => {
                    let reason = error.to_string().replace('\n', " ");
                    let rows = self.cut_rows + self.pending_rows as u64;
                    return Err(Error::Source { rows, reason });
                }
                Some(Ok(batch)) if batch.num_rows() == 0 => {}
                Some(Ok(batch)) => {
                    self.pending_rows += batch.num_rows();
                    self.pending.push(batch);
                }
            }
        }
    }

    fn take(&mut self, rows: usize) -> Piece {
        let (mut batches, mut rest) = (Vec::new(), rows);
        let mut left = Vec::new();
        for batch in self.pending.drain(..) {
            let some = rest.min(batch.num_rows());
            if some > 0 {
                batches.push(batch.slice(0, some));
            }
            if some < batch.num_rows() {
                left.push(batch.slice(some, batch.num_rows() - some));
            }
            rest -= some;
        }
        self.pending = left;
        self.pending_rows -= rows;
        let first_row = self.cut_rows;
        self.cut_rows += rows as u64;
        Piece { batches, first_row }
    }

    /// The last pending row at which another worker begins; it is sought from the end, in ever more rows.
    fn boundary(&self) -> Result<Option<usize>> {
        let keys = self.key_columns();
        let (mut end, mut many) = (self.pending_rows, SOUGHT_ROWS);
        loop {
            let start = end.saturating_sub(many);
            let parts = self.pending_slices(start..end);
            let changes = keys.iter().map(|key| last_change(key, &parts));
            let last = changes.collect::<Result<Vec<_>>>()?.into_iter().flatten();
            match last.max() {
                Some(row) => return Ok(Some(start + row)),
                None if start == 0 => return Ok(None),
                None => (end, many) = (start + 1, 2 * many),
            }
        }
    }

    /// Some of the pending rows.
    fn pending_slices(&self, rows: Range<usize>) -> Vec<RecordBatch> {
        let (mut parts, mut at) = (Vec::new(), 0);
        for batch in &self.pending {
            let first = rows.start.clamp(at, at + batch.num_rows());
            let stop = rows.end.clamp(at, at + batch.num_rows());
            if first < stop {
                parts.push(batch.slice(first - at, stop - first));
            }
            at += batch.num_rows();
        }
        parts
    }

    /// Names and positions of the columns that tell workers apart.
    fn key_columns(&self) -> Vec<(&'static str, usize)> {
        let schema = self.source.schema();
        let known = |&(_, at): &(_, usize)| schema.field(at).data_type() != &DataType::Null;
        let found = ["dataset", "worker_id"].map(|name| Some((name, self.column(name)?)));
        found.into_iter().flatten().filter(known).collect()
    }

    /// Position of a column by its canonical name.
    fn column(&self, canonical: &str) -> Option<usize> {
        let mapped = self.options.columns.iter().find(|(to, _)| to == canonical);
        let name = mapped.map_or(canonical, |(_, from)| from);
        self.source.schema().index_of(name).ok()
    }

    /// Datasets are null in all rows or in none: a check sees to it inside a piece, this from piece to piece.
    fn check_tag(&mut self, piece: &Piece) -> Result<()> {
        let (Some(at), Some(first)) = (self.column("dataset"), piece.batches.first()) else {
            return Ok(());
        };
        let column = first.column(at).slice(0, 1);
        let coded = factorise(&[column]).map_err(|error| Error::unreadable("dataset", &error))?;
        if coded.codes[0] < 0 {
            self.untagged.get_or_insert(piece.first_row);
        } else {
            self.tagged = true;
        }
        match self.untagged {
            Some(row) if self.tagged => Err(Error::NullKey {
                column: "dataset".to_owned(),
                row,
                worker: None,
            }),
            _ => Ok(()),
        }
    }

    /// Check the next pieces, one per thread.
    fn refill(&mut self) -> Result<()> {
        check_threads()?;
        let mut pieces = Vec::new();
        let mut cut = Ok(());
        while pieces.len() < rayon::current_num_threads() {
            match self.cut() {
                Ok(Some(piece)) => pieces.push(piece),
                Ok(None) => break,
                Err(error) => {
                    cut = Err(error);
                    break;
                }
            }
        }
        let (schema, options) = (self.source.schema(), &self.options);
        let check = |piece: &Piece| panel::check(&schema, &piece.batches, options);
        let checked: Vec<_> = pieces.par_iter().map(check).collect();
        for (piece, checked) in pieces.iter().zip(checked) {
            match checked {
                Err(Error::Empty { rows_in, dropped }) => {
                    self.check_tag(piece)?;
                    self.tally(&Report {
                        rows_in,
                        dropped,
                        ..Report::default()
                    });
                }
                Err(error) => {
                    // a fall at the piece's first row comes before what is wrong further down
                    if let Ok(head) = panel::check(&schema, &piece.head(), &self.options) {
                        self.follow(&head, piece.first_row)?;
                    }
                    return Err(error.shifted(piece.first_row));
                }
                Ok(checked) => {
                    self.check_tag(piece)?;
                    self.follow(&checked, piece.first_row)?;
                    self.tally(&checked.report);
                    self.ready.extend(shards::part(checked, self.shard)?);
                }
            }
        }
        cut
    }

    /// A piece must begin behind the worker that the piece before ended with.
    fn follow(&mut self, checked: &Checked, first_row: u64) -> Result<()> {
        let first = Key::of(&checked.batch, 0);
        if let Some(last) = &self.last
            && first <= *last
        {
            return Err(Error::Falls {
                worker: first.name(),
                previous: last.name(),
                row: first_row,
            });
        }
        self.last = Some(Key::of(&checked.batch, checked.batch.num_rows() - 1));
        Ok(())
    }

    fn tally(&self, report: &Report) {
        let mut counted = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        counted.add(report);
    }

    /// A stream without any row is an error, once.
    fn finish(&mut self) -> Option<Result<Checked>> {
        if std::mem::replace(&mut self.finished, true) || self.last.is_some() {
            return None;
        }
        let report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Err(Error::Empty {
            rows_in: report.rows_in,
            dropped: report.dropped,
        }))
    }
}

impl Iterator for Stream {
    type Item = Result<Checked>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() && !(self.ended && self.pending_rows == 0) {
            if let Err(error) = self.refill() {
                (self.ended, self.finished) = (true, true);
                self.pending.clear();
                self.pending_rows = 0;
                self.failed = Some(error);
            }
        }
        let next = self.ready.pop_front().map(Ok);
        next.or_else(|| self.failed.take().map(Err))
            .or_else(|| self.finish())
    }
}

impl Key {
    /// The key of one row of a checked panel.
    fn of(batch: &RecordBatch, row: usize) -> Self {
        let tags = batch.column(0).as_dictionary::<Int32Type>();
        let tag = tags
            .values()
            .as_string::<i64>()
            .value(tags.keys().value(row) as usize);
        let ids = batch.column(1);
        let id = match ids.data_type() {
            DataType::UInt64 => Id::Unsigned(ids.as_primitive::<UInt64Type>().value(row)),
            DataType::Int64 => Id::Signed(ids.as_primitive::<Int64Type>().value(row)),
            _ => Id::Text(ids.as_string::<i64>().value(row).to_owned()),
        };
        Self {
            dataset: tag.to_owned(),
            id,
        }
    }

    fn name(&self) -> String {
        let id = match &self.id {
            Id::Signed(id) => id.to_string(),
            Id::Unsigned(id) => id.to_string(),
            Id::Text(id) => id.clone(),
        };
        if self.dataset.is_empty() {
            return id;
        }
        format!("{id} ({})", self.dataset)
    }
}
