//! The keys of rows, block by block.

use std::ops::{AddAssign, Range};

use multiversion::multiversion;

use super::{Codes, Column, Rows};
use crate::{Error, Result};

/// Rows whose keys are made at a time, in a core's nearest cache.
const BLOCK: usize = 1 << 10;
/// Rows that a thread counts, at least.
pub const PART: usize = 1 << 16;

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
    pub(super) fn len(&self) -> usize {
        self.outcomes.codes.len()
    }

    /// Columns with the least code that each may hold.
    fn columns(&self) -> impl Iterator<Item = (&Column<'_>, i64)> {
        let contexts = self.contexts.iter().map(|column| (column, -1));
        contexts.chain([(&self.outcomes, 0)])
    }

    /// How many keys there may be.
    pub(super) fn cells(&self) -> Result<u64> {
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
    pub(super) fn parts(&self) -> Vec<Range<usize>> {
        let step = self.len().div_ceil(rayon::current_num_threads()).max(PART);
        let starts = (0..self.len()).step_by(step);
        starts
            .map(|start| start..(start + step).min(self.len()))
            .collect()
    }

    /// The rows of a part that count, in blocks.
    pub(super) fn visit<R: Row>(
        &self,
        part: Range<usize>,
        mut take: impl FnMut(&[R]),
    ) -> Result<()> {
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
            let count = gathered(keys, chosen, weights, &mut kept);
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

/// Write the rows that count next to each other, and give their number.
fn gathered<R: Row>(
    keys: &[R::Key],
    chosen: Option<&[bool]>,
    weights: Option<&[f64]>,
    kept: &mut [R],
) -> usize {
    if chosen.is_none() && weights.is_none() {
        let rows = kept.iter_mut().zip(keys);
        rows.for_each(|(row, &key)| *row = R::new(key, 1.0));
        return keys.len();
    }
    let mut count = 0;
    for (at, &key) in keys.iter().enumerate() {
        let weight = weights.map_or(1.0, |weights| weights[at]);
        kept[count] = R::new(key, weight);
        count += usize::from(chosen.is_none_or(|chosen| chosen[at]) & (weight > 0.0));
    }
    count
}

/// Integers that hold every key.
pub trait Key: Copy + Default + Send + Sync {
    /// The lowest bits.
    fn of(code: i64) -> Self;
    /// self * size + code, or the last of the size codes in its place.
    fn carried(self, size: Self, code: Self, last: bool) -> Self;
}

/// A key and what its row counts.
pub trait Row: Copy + Default + Send + Sync {
    type Key: Key;
    type Sum: Copy + Default + PartialEq + AddAssign + Into<f64> + Send;

    fn new(key: Self::Key, weight: f64) -> Self;
    fn key(self) -> u64;
    fn count(self) -> Self::Sum;
}

/// Integers are keys, and rows that count one.
macro_rules! integers {
    ($($kind:ty),*) => {$(
        impl Key for $kind {
            #[inline(always)]
            fn of(code: i64) -> Self {
                code as $kind
            }

            #[inline(always)]
            fn carried(self, size: Self, code: Self, last: bool) -> Self {
                let code = if last { size.wrapping_sub(1) } else { code };
                self.wrapping_mul(size).wrapping_add(code)
            }
        }

        impl Row for $kind {
            type Key = $kind;
            type Sum = u32;

            fn new(key: $kind, _: f64) -> Self {
                key
            }

            fn key(self) -> u64 {
                self.into()
            }

            fn count(self) -> u32 {
                1
            }
        }
    )*};
}

integers!(u32, u64);

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
