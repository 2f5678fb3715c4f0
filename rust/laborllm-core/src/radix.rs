//! A stable sort of packed keys: parts of the rows are dealt out to buckets, then every bucket is settled by itself.

use arrow_buffer::ArrowNativeType;
use rayon::prelude::*;

/// Buckets are made to hold about 2 to this many keys, which fit into a core's own cache.
const BUCKET_BITS: u32 = 12;
/// Bits of the digit by which rows are dealt out, at most.
const DEAL_BITS: u32 = 11;
/// Bits of a digit inside a bucket, at most.
const SETTLE_BITS: u32 = 10;
/// Buckets below this many keys are sorted by comparison.
const FEW: usize = 256;
/// Keys of a part, at least.
const PART: usize = 1 << 15;

/// Keys whose bits from `low` up to `high` order them, and whose bits below `low` are the row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub low: u32,
    pub high: u32,
}

/// The rows of `total` keys in the order of their keys; equal keys keep the order in which they came.
///
/// `key` gives the keys, whose rows ascend; it is asked twice for each. Memory: 8 bytes a key beside the rows.
pub(crate) fn sorted<R: ArrowNativeType>(
    total: usize,
    key: impl Fn(usize) -> u64 + Sync,
    layout: Layout,
) -> Vec<R> {
    let wanted = total.max(1).ilog2().saturating_sub(BUCKET_BITS);
    let digit = wanted.clamp(1, DEAL_BITS).min(layout.high - layout.low);
    let rest = Layout {
        high: layout.high - digit,
        ..layout
    };
    let part_rows = total.div_ceil(rayon::current_num_threads()).max(PART);
    let mut dealt = vec![0; total];
    let parts = dealt.par_chunks_mut(part_rows).enumerate();
    let parts: Vec<Part> = parts
        .map(|(part, keys)| {
            let first = part * part_rows;
            Part::dealt(keys, |at| key(first + at), digit, rest.high)
        })
        .collect();
    let mut rows = vec![R::default(); total];
    let buckets = buckets(&parts, &mut rows, 1 << digit);
    let mask = (1 << layout.low) - 1;
    buckets.into_par_iter().enumerate().for_each_init(
        || (Vec::new(), Vec::new()),
        |(keys, spare), (bucket, rows)| {
            keys.clear();
            parts
                .iter()
                .for_each(|part| keys.extend_from_slice(part.bucket(bucket)));
            settle(keys, spare, rest);
            for (row, key) in rows.iter_mut().zip(keys) {
                *row = R::usize_as((*key & mask) as usize);
            }
        },
    );
    rows
}

/// The keys of some rows, bucket by bucket.
struct Part<'a> {
    keys: &'a [u64],
    /// First key of each bucket, then the number of keys.
    starts: Vec<usize>,
}

impl<'a> Part<'a> {
    fn dealt(keys: &'a mut [u64], key: impl Fn(usize) -> u64, digit: u32, shift: u32) -> Self {
        let mut ends = vec![0; (1 << digit) + 1];
        for at in 0..keys.len() {
            ends[(key(at) >> shift) as usize + 1] += 1;
        }
        summed(&mut ends);
        let starts = ends.clone();
        for at in 0..keys.len() {
            let key = key(at);
            let end = &mut ends[(key >> shift) as usize];
            keys[*end] = key;
            *end += 1;
        }
        Self { keys, starts }
    }

    fn bucket(&self, bucket: usize) -> &[u64] {
        &self.keys[self.starts[bucket]..self.starts[bucket + 1]]
    }
}

/// Room for the rows of each bucket.
fn buckets<'a, R>(parts: &[Part], mut rows: &'a mut [R], count: usize) -> Vec<&'a mut [R]> {
    let mut buckets = Vec::with_capacity(count);
    for bucket in 0..count {
        let length = parts.iter().map(|part| part.bucket(bucket).len()).sum();
        let (here, behind) = rows.split_at_mut(length);
        buckets.push(here);
        rows = behind;
    }
    buckets
}

/// Sort the keys of one bucket, which agree from `layout.high` upwards.
fn settle(keys: &mut Vec<u64>, spare: &mut Vec<u64>, layout: Layout) {
    if keys.len() < FEW {
        return keys.sort_unstable();
    }
    let bits = layout.high - layout.low;
    if bits == 0 {
        return;
    }
    let width = bits.div_ceil(bits.div_ceil(SETTLE_BITS));
    spare.resize(keys.len(), 0);
    for shift in (layout.low..layout.high).step_by(width as usize) {
        let mask = (1 << width.min(layout.high - shift)) - 1;
        let place = |key: u64| (key >> shift & mask) as usize;
        let mut ends = [0; (1 << SETTLE_BITS) + 1];
        keys.iter().for_each(|&key| ends[place(key) + 1] += 1);
        summed(&mut ends);
        for &key in keys.iter() {
            let end = &mut ends[place(key)];
            spare[*end] = key;
            *end += 1;
        }
        std::mem::swap(keys, spare);
    }
}

/// Counts, each one place further on, become starts.
fn summed(counts: &mut [usize]) {
    let mut sum = 0;
    for count in counts {
        sum += *count;
        *count = sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Keys of `bits` random bits over their row.
    fn keys(total: usize, bits: u32, mut seed: u64) -> (Vec<u64>, Layout) {
        let low = usize::BITS - total.leading_zeros();
        let random = |row: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = seed.checked_shr(u64::BITS - bits).unwrap_or_default();
            key << low | row as u64
        };
        let layout = Layout {
            low,
            high: low + bits,
        };
        ((0..total).map(random).collect(), layout)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn keys_of_any_width_and_number_are_sorted_as_numbers_are(
            total in prop_oneof![0usize..600, 60_000usize..150_000],
            bits in 0u32..46,
            seed in any::<u64>(),
        ) {
            let (keys, layout) = keys(total, bits, seed);
            let rows: Vec<u64> = sorted(total, |at| keys[at], layout);
            let mut plain = keys;
            plain.sort_unstable();
            let mask = (1 << layout.low) - 1;
            prop_assert_eq!(rows, plain.iter().map(|key| key & mask).collect::<Vec<_>>());
        }
    }
}
