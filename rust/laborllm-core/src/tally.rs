//! How often each combination of codes occurs: counted cell by cell where the cells are few beside the rows, else key by
//! key in buckets of the keys.

mod buckets;
mod rows;
#[cfg(test)]
mod tests;

use std::ops::Range;

use rayon::prelude::*;

use crate::Result;
use crate::process::check_threads;
use buckets::in_buckets;
use rows::Row;

/// Cells below this, or below one in [`SPARSE`] rows, are all counted in one array.
const CELLS: u64 = 1 << 16;
/// Cells to a row that are worth the look at the empty ones.
const SPARSE: u64 = 8;
/// Cells that are looked at together for one that is not empty.
const GROUP: usize = 16;

/// Integers of the widths that numpy gives.
#[derive(Debug, Clone, Copy)]
pub enum Codes<'a> {
    /// Of 8 bits, as truth values are.
    Byte(&'a [i8]),
    /// Of 32 bits.
    Int(&'a [i32]),
    /// Of 64 bits.
    Long(&'a [i64]),
}

/// One code for each row.
#[derive(Debug, Clone, Copy)]
pub struct Column<'a> {
    /// In [0, size); in a context -1 stands for the last of them.
    pub codes: Codes<'a>,
    /// How many codes there may be.
    pub size: u64,
}

/// What is counted.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Columns that make up the context, the slowest first; none make one context of all rows.
    pub contexts: &'a [Column<'a>],
    /// What happened.
    pub outcomes: Column<'a>,
    /// Rows that count; all where there is none. Others may hold any code.
    pub chosen: Option<&'a [bool]>,
    /// What a row counts, one where there is none; rows that are not above zero count nowhere.
    pub weights: Option<&'a [f64]>,
}

/// Keys (context * outcomes + outcome) ascending, and the counts of each, all above zero.
///
/// Weights are added in the order of rows, whatever the number of threads. Time N, and N log N at worst where there are
/// far more cells than rows; memory 8 to 16 bytes a row.
///
/// # Errors
/// Columns of different lengths, more cells than int64 numbers, a code outside its range.
pub fn tally(rows: &Rows) -> Result<(Vec<i64>, Vec<f64>)> {
    check_threads()?;
    let cells = rows.cells()?;
    let few = cells <= CELLS.max(rows.len() as u64 / SPARSE);
    let short = |number: u64| u32::try_from(number).is_ok();
    match rows.weights.is_none() && short(rows.len() as u64) {
        true if few => in_cells::<u32>(rows, cells),
        true if short(cells) => in_buckets::<u32>(rows, cells),
        true => in_buckets::<u64>(rows, cells),
        false if few => in_cells::<(u64, f64)>(rows, cells),
        false => in_buckets::<(u64, f64)>(rows, cells),
    }
}

/// Pairs found so far.
#[derive(Default)]
struct Found {
    keys: Vec<i64>,
    values: Vec<f64>,
}

impl Found {
    fn push(&mut self, key: u64, value: f64) {
        self.keys.push(key as i64);
        self.values.push(value);
    }

    /// Take what is in some cells, whose keys begin at `base`, and leave them empty.
    fn drain<S: Copy + Default + PartialEq + Into<f64>>(&mut self, cells: &mut [S], base: u64) {
        let empty = S::default();
        for (group, cells) in cells.chunks_mut(GROUP).enumerate() {
            if cells.iter().fold(true, |all, &cell| all & (cell == empty)) {
                continue;
            }
            let base = base + (group * GROUP) as u64;
            for (key, cell) in (base..).zip(cells) {
                if *cell != empty {
                    self.push(key, std::mem::take(cell).into());
                }
            }
        }
    }
}

/// Count in an array of all cells.
fn in_cells<R: Row>(rows: &Rows, cells: u64) -> Result<(Vec<i64>, Vec<f64>)> {
    let counted = |part: Range<usize>| {
        let mut sums = vec![R::Sum::default(); cells as usize];
        let take = |rows: &[R]| {
            rows.iter()
                .for_each(|row| sums[row.key() as usize] += row.count())
        };
        rows.visit(part, take).map(|()| sums)
    };
    let parts = match rows.weights {
        Some(_) => std::iter::once(0..rows.len()).collect(),
        None => rows.parts(),
    };
    let parts: Vec<Result<Vec<R::Sum>>> = parts.into_par_iter().map(counted).collect();
    let mut sums = vec![R::Sum::default(); cells as usize];
    for part in parts {
        sums.iter_mut()
            .zip(part?)
            .for_each(|(sum, more)| *sum += more);
    }
    let mut found = Found::default();
    found.drain(&mut sums, 0);
    Ok((found.keys, found.values))
}
