//! Panels larger than memory: a stream whose workers ascend is checked piece by piece, each of whole workers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, UInt64Type};
use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_ord::ord::{DynComparator, make_comparator};
use arrow_schema::{DataType, SortOptions};
use rayon::prelude::*;

use crate::columns::validated;
use crate::panel::{self, Checked, Options, Report};
use crate::shards::{self, Shard};
use crate::{Error, Result};

/// Rows of a piece, about; a worker is never cut.
pub const PIECE_ROWS: usize = 1 << 17;

/// Rows that are searched at once for the end of a worker.
const TAIL_ROWS: usize = 1 << 10;

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

    /// The last pending row at which another worker begins, behind the wanted number of rows if there is one.
    fn boundary(&self) -> Result<Option<usize>> {
        let keys = self.key_columns();
        let mut end = self.pending_rows;
        for (position, batch) in self.pending.iter().enumerate().rev() {
            let start = end - batch.num_rows();
            if let Some(row) = last_change(batch, &keys)? {
                return Ok(Some(start + row));
            }
            if let Some(above) = position.checked_sub(1).map(|above| &self.pending[above]) {
                let above = above.slice(above.num_rows() - 1, 1);
                let across = comparators(&above, &batch.slice(0, 1), &keys)?;
                if across.iter().any(|compare| compare(0, 0).is_ne()) {
                    return Ok(Some(start));
                }
            }
            end = start;
        }
        Ok(None)
    }

    /// Names and positions of the columns that tell workers apart.
    fn key_columns(&self) -> Vec<(&'static str, usize)> {
        let schema = self.source.schema();
        let name = |canonical: &str| {
            let mapped = self.options.columns.iter().find(|(to, _)| to == canonical);
            mapped.map_or_else(|| canonical.to_owned(), |(_, from)| from.clone())
        };
        let position = |canonical| Some((canonical, schema.index_of(&name(canonical)).ok()?));
        let known = |&(_, at): &(_, usize)| schema.field(at).data_type() != &DataType::Null;
        let found = ["dataset", "worker_id"].into_iter().filter_map(position);
        found.filter(known).collect()
    }

    /// Check the next pieces, one per thread.
    fn refill(&mut self) -> Result<()> {
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
                Err(Error::Empty { rows_in, dropped }) => self.tally(&Report {
                    rows_in,
                    dropped,
                    ..Report::default()
                }),
                Err(error) => {
                    // a fall at the piece's first row comes before what is wrong further down
                    if let Ok(head) = panel::check(&schema, &piece.head(), &self.options) {
                        self.follow(&head, piece.first_row)?;
                    }
                    return Err(error.shifted(piece.first_row));
                }
                Ok(checked) => {
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

/// The last row whose worker is not that of the row above; looked for from the end, some rows at a time.
fn last_change(batch: &RecordBatch, keys: &[(&str, usize)]) -> Result<Option<usize>> {
    let mut end = batch.num_rows();
    while end > 1 {
        let start = end.saturating_sub(TAIL_ROWS);
        let rows = batch.slice(start, end - start);
        let inside = comparators(&rows, &rows, keys)?;
        let begins = |row: &usize| inside.iter().any(|compare| compare(row - 1, *row).is_ne());
        if let Some(row) = (1..rows.num_rows()).rev().find(begins) {
            return Ok(Some(start + row));
        }
        end = start + 1;
    }
    Ok(None)
}

/// How rows of two batches compare, by each key.
fn comparators(
    a: &RecordBatch,
    b: &RecordBatch,
    keys: &[(&str, usize)],
) -> Result<Vec<DynComparator>> {
    let pair = |&(name, at): &(&str, usize)| {
        let (a, b) = (validated(a.column(at)), validated(b.column(at)));
        let pair = a.and_then(|a| make_comparator(&a, &b?, SortOptions::default()));
        pair.map_err(|error| Error::unreadable(name, &error))
    };
    keys.iter().map(pair).collect()
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
