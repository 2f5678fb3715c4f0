//! Rows dealt out to buckets of successive keys, every bucket counted by itself.

use std::ops::Range;

use rayon::prelude::*;

use super::rows::Row;
use super::{Found, Rows, SPARSE};
use crate::Result;

/// Buckets are made to hold about 2 to this many rows, and are 2 to [`DEAL_BITS`] at most.
const BUCKET_BITS: u32 = 12;
const DEAL_BITS: u32 = 11;

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
pub fn in_buckets<R: Row>(rows: &Rows, cells: u64) -> Result<(Vec<i64>, Vec<f64>)> {
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
