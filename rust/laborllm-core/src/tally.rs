//! How often each combination of codes occurs: counted cell by cell where the cells are few beside the rows, else key by
//! key in buckets of the keys.

use std::ops::{AddAssign, Range};

use multiversion::multiversion;
use rayon::prelude::*;

use crate::process::check_threads;
use crate::{Error, Result};

/// Rows whose keys are made at a time, in a core's nearest cache.
const BLOCK: usize = 1 << 10;
/// Rows that a thread counts, at least.
const PART: usize = 1 << 16;
/// Cells below this, or below one in [`SPARSE`] rows, are all counted in one array.
const CELLS: u64 = 1 << 16;
const SPARSE: u64 = 8;
/// Buckets are made to hold about 2 to this many rows, and are 2 to [`DEAL_BITS`] at most.
const BUCKET_BITS: u32 = 12;
const DEAL_BITS: u32 = 11;
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
    match rows.weights {
        Some(_) if few => in_cells::<(u64, f64)>(rows, cells),
        Some(_) => in_buckets::<(u64, f64)>(rows, cells),
        None if few => in_cells::<u32>(rows, cells),
        None if cells <= 1 << u32::BITS => in_buckets::<u32>(rows, cells),
        None => in_buckets::<u64>(rows, cells),
    }
}

impl Codes<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Byte(codes) => codes.len(),
            Self::Int(codes) => codes.len(),
            Self::Long(codes) => codes.len(),
        }
    }

    fn get(&self, row: usize) -> i64 {
        match self {
            Self::Byte(codes) => codes[row].into(),
            Self::Int(codes) => codes[row].into(),
            Self::Long(codes) => codes[row],
        }
    }
}

impl Column<'_> {
    /// Carry the keys of some rows on by this column; true where a code is out of range.
    fn carry<K: Key>(&self, keys: &mut [K], rows: Range<usize>, least: i64) -> bool {
        let size = K::of(self.size as i64);
        let (low, high) = match self.codes {
            Codes::Byte(codes) => carried(keys, &codes[rows], size),
            Codes::Int(codes) => carried(keys, &codes[rows], size),
            Codes::Long(codes) => carried(keys, &codes[rows], size),
        };
        low < least || high >= self.size as i64
    }
}

/// Carry keys on by one code each, and give the least and the greatest of them, or 0.
#[multiversion(targets("x86_64+avx2"))]
fn carried<K: Key, T: Copy + Default + Ord + Into<i64>>(
    keys: &mut [K],
    codes: &[T],
    size: K,
) -> (i64, i64) {
    let zero = T::default();
    let (mut low, mut high) = (zero, zero);
    for (key, &code) in keys.iter_mut().zip(codes) {
        low = low.min(code);
        high = high.max(code);
        *key = key.carried(size, K::of(code.into()), code < zero);
    }
    (low.into(), high.into())
}

impl Rows<'_> {
    fn len(&self) -> usize {
        self.outcomes.codes.len()
    }

    /// Columns with the least code that each may hold.
    fn columns(&self) -> impl Iterator<Item = (&Column<'_>, i64)> {
        let contexts = self.contexts.iter().map(|column| (column, -1));
        contexts.chain([(&self.outcomes, 0)])
    }

    /// How many keys there may be.
    fn cells(&self) -> Result<u64> {
        let lengths = self.contexts.iter().map(|column| column.codes.len());
        let lengths = lengths.chain(self.chosen.map(<[bool]>::len));
        let mut lengths = lengths.chain(self.weights.map(<[f64]>::len));
        if let Some(other) = lengths.find(|&length| length != self.len()) {
            let outcomes = self.len();
            return Err(Error::CountRows { outcomes, other });
        }
        let product = |cells: u64, (column, _): (&Column, i64)| cells.checked_mul(column.size);
        let cells = self.columns().try_fold(1, product);
        let fits = cells.filter(|&cells| i64::try_from(cells).is_ok());
        fits.ok_or_else(|| Error::CountCells {
            sizes: self.columns().map(|(column, _)| column.size).collect(),
        })
    }

    /// Parts of the rows, one a thread.
    fn parts(&self) -> Vec<Range<usize>> {
        let step = self.len().div_ceil(rayon::current_num_threads()).max(PART);
        let starts = (0..self.len()).step_by(step);
        starts
            .map(|start| start..(start + step).min(self.len()))
            .collect()
    }

    /// The rows of a part that count, in blocks.
    fn visit<R: Row>(&self, part: Range<usize>, mut take: impl FnMut(&[R])) -> Result<()> {
        let (mut keys, mut kept) = ([R::Key::default(); BLOCK], [R::default(); BLOCK]);
        for start in part.clone().step_by(BLOCK) {
            let rows = start..(start + BLOCK).min(part.end);
            let keys = &mut keys[..rows.len()];
            keys.fill(R::Key::default());
            let mut strange = false;
            for (column, least) in self.columns() {
                strange |= column.carry(keys, rows.clone(), least);
            }
            if strange {
                self.check(rows.clone())?;
            }
            let chosen = self.chosen.map(|chosen| &chosen[rows.clone()]);
            let weights = self.weights.map(|weights| &weights[rows]);
            let mut count = 0;
            if chosen.is_none() && weights.is_none() {
                kept.iter_mut()
                    .zip(keys.iter())
                    .for_each(|(row, &key)| *row = R::new(key, 1.0));
                count = keys.len();
            } else {
                for (at, &key) in keys.iter().enumerate() {
                    let weight = weights.map_or(1.0, |weights| weights[at]);
                    kept[count] = R::new(key, weight);
                    count += usize::from(chosen.is_none_or(|chosen| chosen[at]) & (weight > 0.0));
                }
            }
            take(&kept[..count]);
        }
        Ok(())
    }

    /// Refuse the first code out of range in a row that counts.
    fn check(&self, rows: Range<usize>) -> Result<()> {
        let counts = |row: &usize| {
            self.chosen.is_none_or(|chosen| chosen[*row])
                && self.weights.is_none_or(|weights| weights[*row] > 0.0)
        };
        for row in rows.filter(counts) {
            for (place, (column, least)) in self.columns().enumerate() {
                let (code, size) = (column.codes.get(row), column.size);
                if code < least || code >= 0 && code as u64 >= size || size == 0 {
                    return Err(Error::CodeRange {
                        row,
                        place,
                        code,
                        least,
                        size,
                    });
                }
            }
        }
        Ok(())
    }
}

/// Integers that hold every key.
trait Key: Copy + Default + Send + Sync {
    /// The lowest bits.
    fn of(code: i64) -> Self;
    /// self * size + code, or the last of the size codes in its place.
    fn carried(self, size: Self, code: Self, last: bool) -> Self;
}

impl Key for u32 {
    fn of(code: i64) -> Self {
        code as u32
    }

    fn carried(self, size: Self, code: Self, last: bool) -> Self {
        let code = if last { size.wrapping_sub(1) } else { code };
        self.wrapping_mul(size).wrapping_add(code)
    }
}

impl Key for u64 {
    fn of(code: i64) -> Self {
        code as u64
    }

    fn carried(self, size: Self, code: Self, last: bool) -> Self {
        let code = if last { size.wrapping_sub(1) } else { code };
        self.wrapping_mul(size).wrapping_add(code)
    }
}

/// A key and what its row counts.
trait Row: Copy + Default + Send + Sync {
    type Key: Key;
    type Sum: Copy + Default + PartialEq + AddAssign + Into<f64> + Send;

    fn new(key: Self::Key, weight: f64) -> Self;
    fn key(self) -> u64;
    fn count(self) -> Self::Sum;
}

impl Row for u32 {
    type Key = u32;
    type Sum = u32;

    fn new(key: u32, _: f64) -> Self {
        key
    }

    fn key(self) -> u64 {
        self.into()
    }

    fn count(self) -> u32 {
        1
    }
}

impl Row for u64 {
    type Key = u64;
    type Sum = u32;

    fn new(key: u64, _: f64) -> Self {
        key
    }

    fn key(self) -> u64 {
        self
    }

    fn count(self) -> u32 {
        1
    }
}

impl Row for (u64, f64) {
    type Key = u64;
    type Sum = f64;

    fn new(key: u64, weight: f64) -> Self {
        (key, weight)
    }

    fn key(self) -> u64 {
        self.0
    }

    fn count(self) -> f64 {
        self.1
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
        Some(_) => vec![0..rows.len()],
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

/// The rows of one part that count, bucket by bucket, each bucket in the order of rows.
struct Dealt<R> {
    rows: Vec<R>,
    /// One past the last row of each bucket.
    ends: Vec<usize>,
}

impl<R: Row> Dealt<R> {
    fn of(rows: &Rows, part: Range<usize>, shift: u32, buckets: usize) -> Result<Self> {
        let mut ends = vec![0; buckets];
        let mut total = 0;
        rows.visit(part.clone(), |block: &[R]| {
            total += block.len();
            block
                .iter()
                .for_each(|row| ends[(row.key() >> shift) as usize] += 1);
        })?;
        let mut start = 0;
        for end in &mut ends {
            start += std::mem::replace(end, start);
        }
        let mut dealt = vec![R::default(); total];
        rows.visit(part, |block: &[R]| {
            for &row in block {
                let end = &mut ends[(row.key() >> shift) as usize];
                dealt[*end] = row;
                *end += 1;
            }
        })?;
        Ok(Self { rows: dealt, ends })
    }

    fn bucket(&self, bucket: usize) -> &[R] {
        let start = bucket.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.rows[start..self.ends[bucket]]
    }
}

/// Deal the rows out to buckets of successive keys and count every bucket by itself.
fn in_buckets<R: Row>(rows: &Rows, cells: u64) -> Result<(Vec<i64>, Vec<f64>)> {
    let bits = cells.ilog2() + 1;
    let deal = rows.len().max(1).ilog2().saturating_sub(BUCKET_BITS);
    let shift = bits - deal.clamp(1, DEAL_BITS).min(bits);
    let buckets = ((cells - 1) >> shift) as usize + 1;
    let parts = rows.parts();
    let parts = parts
        .into_par_iter()
        .map(|part| Dealt::of(rows, part, shift, buckets));
    let parts: Vec<Result<Dealt<R>>> = parts.collect();
    let parts = parts.into_iter().collect::<Result<Vec<_>>>()?;
    let settled = (0..buckets)
        .into_par_iter()
        .map_init(Vec::new, |sums, bucket| {
            let held = parts.iter().map(|part| part.bucket(bucket));
            settled(held, (bucket as u64) << shift, 1 << shift, sums)
        });
    let settled: Vec<Found> = settled.collect();
    let keys: Vec<_> = settled.iter().map(|found| found.keys.as_slice()).collect();
    let values: Vec<_> = settled
        .iter()
        .map(|found| found.values.as_slice())
        .collect();
    Ok((keys.concat(), values.concat()))
}

/// Count the rows of one bucket, whose keys are the `cells` from `base` on.
fn settled<'a, R: Row + 'a>(
    held: impl Iterator<Item = &'a [R]> + Clone,
    base: u64,
    cells: u64,
    sums: &mut Vec<R::Sum>,
) -> Found {
    let mut found = Found::default();
    let total: usize = held.clone().map(<[R]>::len).sum();
    if cells / SPARSE <= total as u64 {
        sums.resize(cells as usize, R::Sum::default());
        let rows = held.flatten();
        rows.for_each(|row| sums[(row.key() - base) as usize] += row.count());
        found.drain(sums, base);
        return found;
    }
    let mut rows: Vec<R> = held.flatten().copied().collect();
    rows.sort_by_key(|row| row.key());
    for equal in rows.chunk_by(|one, other| one.key() == other.key()) {
        let mut sum = R::Sum::default();
        equal.iter().for_each(|row| sum += row.count());
        found.push(equal[0].key(), sum.into());
    }
    found
}
