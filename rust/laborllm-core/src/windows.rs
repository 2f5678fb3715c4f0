//! Which rows are printed as one text.

use std::ops::Range;

use arrow_array::{BooleanArray, Int64Array};

use crate::workers::check_starts;
use crate::{Error, Result};

/// One text: rows of one worker, and whether the end follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    pub worker: usize,
    pub rows: Range<usize>,
    pub ended: bool,
}

/// The texts of a panel: every worker's whole career, or the ranges of rows that were asked for.
#[derive(Debug)]
pub(crate) struct Windows {
    /// First row of each worker, then the number of rows.
    pub starts: Int64Array,
    /// Whether each worker's last row ends the career. None: all of them.
    complete: Option<BooleanArray>,
    /// Worker, first and stop row of each text. None: whole careers.
    ranges: Option<Vec<(usize, Range<usize>)>>,
}

impl Windows {
    /// # Errors
    /// Starts that are none of so many rows, `complete` of another length than the workers, a range that is no range of
    /// rows of one worker.
    pub fn new(
        rows: usize,
        starts: Int64Array,
        complete: Option<BooleanArray>,
        ranges: Option<(Int64Array, Int64Array)>,
    ) -> Result<Self> {
        check_starts(&starts, rows)?;
        let workers = starts.len() - 1;
        let unchecked = |reason: String| Err(Error::Unchecked { reason });
        if complete
            .as_ref()
            .is_some_and(|flags| flags.len() != workers)
        {
            return unchecked(format!(
                "complete has another length than the {workers} workers"
            ));
        }
        let ranges = match ranges {
            Some((firsts, stops)) if firsts.len() != stops.len() => {
                return unchecked("first and stop rows of the windows differ in number".to_owned());
            }
            Some((firsts, stops)) => {
                let pairs = firsts.values().iter().zip(stops.values()).enumerate();
                let owned =
                    pairs.map(|(window, (&first, &stop))| owned(&starts, window, first, stop));
                Some(owned.collect::<Result<Vec<_>>>()?)
            }
            None => None,
        };
        Ok(Self {
            starts,
            complete,
            ranges,
        })
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        let careers = self.starts.len() - 1;
        self.ranges.as_ref().map_or(careers, Vec::len)
    }

    /// One text.
    pub fn get(&self, window: usize) -> Window {
        let own = |worker: usize| self.start(worker)..self.start(worker + 1);
        let (worker, rows) = match &self.ranges {
            None => (window, own(window)),
            Some(ranges) => ranges[window].clone(),
        };
        let complete = self
            .complete
            .as_ref()
            .is_none_or(|flags| flags.value(worker));
        Window {
            worker,
            ended: complete && rows == own(worker),
            rows,
        }
    }

    /// First rows of the workers that begin in these rows.
    pub fn starts_in(&self, rows: &Range<usize>) -> &[i64] {
        let starts = self.starts.values();
        let before = |row: usize| starts.partition_point(|&start| (start as usize) < row);
        &starts[before(rows.start)..before(rows.end)]
    }

    /// First row of a worker.
    pub fn start(&self, worker: usize) -> usize {
        self.starts.value(worker) as usize
    }
}

/// The worker whose rows these are.
fn owned(
    starts: &Int64Array,
    window: usize,
    first: i64,
    stop: i64,
) -> Result<(usize, Range<usize>)> {
    let starts = starts.values();
    let worker = starts.partition_point(|&start| start <= first);
    match (worker.checked_sub(1), starts.get(worker)) {
        (Some(worker), Some(&end)) if first <= stop && stop <= end => {
            Ok((worker, first as usize..stop as usize))
        }
        _ => Err(Error::Window {
            window,
            first,
            stop,
        }),
    }
}
