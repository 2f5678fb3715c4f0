//! Units in lexicographic order: by their first tokens with a radix sort, then group by group.

use std::ops::Range;

use rayon::prelude::*;

use super::{Units, cut};
use crate::radix::{self, Layout};

/// Groups of units below this size are sorted by comparison.
const FEW: usize = 2_048;
/// Units of a part, at least.
const PART: usize = 1 << 12;

/// Units, copied so that neighbours in order are neighbours in memory, and their order.
pub(super) struct Sorted {
    tokens: Vec<u32>,
    offsets: Vec<i64>,
    /// The row that each of them came from.
    rows: Vec<u32>,
    /// Their places, in lexicographic order; equal ones stand in any.
    order: Vec<u32>,
}

impl Sorted {
    /// Sort units, of whose tokens one is the greatest.
    pub fn new(units: Units<'_>, greatest: u32) -> Self {
        let bits = (u64::from(greatest) + 1).ilog2() + 1;
        let mut rows: Vec<u32> = (0..units.len() as u32).collect();
        let mut order = rows.clone();
        let many = rows.len() >= FEW;
        let known = many.then(|| Keys { units, bits }.by_next(&mut rows, 0));
        let (tokens, offsets) = gathered(units, &rows);
        let units = Units {
            tokens: &tokens,
            offsets: &offsets,
        };
        match known {
            Some(known) => Keys { units, bits }.sort_groups(&mut order, 0, known),
            None => Keys { units, bits }.sort(&mut order, 0),
        }
        Self {
            tokens,
            offsets,
            rows,
            order,
        }
    }

    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// The unit at a place of the order.
    #[inline]
    pub fn unit(&self, at: usize) -> &[u32] {
        let place = self.order[at] as usize;
        &self.tokens[self.offsets[place] as usize..self.offsets[place + 1] as usize]
    }

    /// The row that it came from.
    #[inline]
    pub fn row(&self, at: usize) -> u32 {
        self.rows[self.order[at] as usize]
    }
}

/// The units of these rows, one after another.
fn gathered(units: Units<'_>, rows: &[u32]) -> (Vec<u32>, Vec<i64>) {
    let lengths = rows.iter().map(|&row| units.get(row as usize).len() as i64);
    let ends = lengths.scan(0, |end, length| {
        *end += length;
        Some(*end)
    });
    let offsets: Vec<i64> = std::iter::once(0).chain(ends).collect();
    let mut tokens = vec![0; units.all().len()];
    let size = rows.len().div_ceil(rayon::current_num_threads()).max(PART);
    let mut rest = &mut tokens[..];
    let parts: Vec<_> = (0..rows.len())
        .step_by(size)
        .map(|start| {
            let stop = rows.len().min(start + size);
            let many = offsets[stop] - offsets[start];
            (cut(&mut rest, many as usize), &rows[start..stop])
        })
        .collect();
    parts.into_par_iter().for_each(|(mut tokens, rows)| {
        for &row in rows {
            let unit = units.get(row as usize);
            cut(&mut tokens, unit.len()).copy_from_slice(unit);
        }
    });
    (tokens, offsets)
}

/// The next tokens of a unit as one number, each one more than it is, 0 where the unit has ended.
#[derive(Clone, Copy)]
struct Keys<'a> {
    units: Units<'a>,
    /// Bits of a token plus one.
    bits: u32,
}

impl Keys<'_> {
    fn packed(self, row: u32, depth: usize, tokens: u32) -> u64 {
        let unit = self.units.get(row as usize);
        let next = unit.get(depth..).unwrap_or_default();
        (0..tokens as usize).fold(0, |key, at| {
            let token = next.get(at).map_or(0, |&token| u64::from(token) + 1);
            key << self.bits | token
        })
    }

    /// Sort units that agree before `depth`.
    fn sort(self, rows: &mut [u32], depth: usize) {
        if rows.len() < FEW {
            return self.settle(rows, depth, &mut Vec::new());
        }
        let tokens = self.by_next(rows, depth);
        self.sort_groups(rows, depth, tokens);
    }

    /// Sort units by as many of their next tokens as are given back.
    fn by_next(self, rows: &mut [u32], depth: usize) -> u32 {
        let low = usize::BITS - rows.len().leading_zeros();
        let tokens = ((u64::BITS - low) / self.bits).max(1);
        let high = low + tokens * self.bits;
        let key = |at: usize| self.packed(rows[at], depth, tokens) << low | at as u64;
        let places: Vec<u32> = radix::sorted(rows.len(), key, Layout { low, high });
        let next: Vec<u32> = places.par_iter().map(|&at| rows[at as usize]).collect();
        rows.copy_from_slice(&next);
        tokens
    }

    /// Sort the groups of units that agree in the `tokens` behind `depth`, by which they are sorted.
    fn sort_groups(self, rows: &mut [u32], depth: usize, tokens: u32) {
        let keys: Vec<u64> = rows
            .par_iter()
            .map(|&row| self.packed(row, depth, tokens))
            .collect();
        let depth = depth + tokens as usize;
        let mut ties = ties(&keys, |&key| key);
        ties.retain(|tie| !self.ended(keys[tie.start]));
        split(rows, &ties)
            .into_par_iter()
            .for_each_init(Vec::new, |spare, group| {
                if group.len() < FEW {
                    self.settle(group, depth, spare);
                } else {
                    self.sort(group, depth);
                }
            });
    }

    fn settle(self, rows: &mut [u32], depth: usize, spare: &mut Vec<(u64, u32)>) {
        let tokens = u64::BITS / self.bits;
        spare.clear();
        spare.extend(
            rows.iter()
                .map(|&row| (self.packed(row, depth, tokens), row)),
        );
        spare.sort_unstable();
        for (row, &(_, settled)) in rows.iter_mut().zip(spare.iter()) {
            *row = settled;
        }
        let mut ties = ties(spare, |&(key, _)| key);
        ties.retain(|tie| !self.ended(spare[tie.start].0));
        for tie in ties {
            self.settle(&mut rows[tie], depth + tokens as usize, spare);
        }
    }

    /// Whether the units of a key have no further tokens.
    fn ended(self, key: u64) -> bool {
        key & ((1 << self.bits) - 1) == 0
    }
}

/// Ranges of two and more neighbours with one key.
fn ties<T>(sorted: &[T], key: impl Fn(&T) -> u64) -> Vec<Range<usize>> {
    let mut start = 0;
    sorted
        .chunk_by(|left, right| key(left) == key(right))
        .filter_map(|group| {
            let range = start..start + group.len();
            start = range.end;
            (group.len() > 1).then_some(range)
        })
        .collect()
}

/// These ranges, which ascend, as slices.
fn split<'a>(mut rest: &'a mut [u32], ranges: &[Range<usize>]) -> Vec<&'a mut [u32]> {
    let mut begun = 0;
    let mut parts = Vec::with_capacity(ranges.len());
    for range in ranges {
        let (_, from) = rest.split_at_mut(range.start - begun);
        let (part, behind) = from.split_at_mut(range.len());
        parts.push(part);
        rest = behind;
        begun = range.end;
    }
    parts
}
