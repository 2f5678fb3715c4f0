//! The one order of every output: dataset bytewise, worker, year.

use arrow_buffer::{ArrowNativeType, ScalarBuffer};
use rayon::prelude::*;

use crate::radix::{self, Layout};
use crate::workers::every;

/// Rows that a thread takes at once.
const BLOCK: usize = 1 << 14;

/// What rows are ordered by. `datasets` are order-preserving ranks; so are `workers`, once the bits of `flip` are flipped.
pub(crate) struct Keys {
    pub datasets: ScalarBuffer<i32>,
    pub workers: ScalarBuffer<u64>,
    pub flip: u64,
    pub years: ScalarBuffer<i32>,
}

impl Keys {
    fn of(&self, row: usize) -> (i32, u64, i32) {
        let (dataset, worker) = self.worker(row);
        (dataset, worker, self.years[row])
    }

    fn worker(&self, row: usize) -> (i32, u64) {
        (self.datasets[row], self.workers[row] ^ self.flip)
    }

    /// The keys of rows in order.
    pub fn gathered(&self, rows: &Rows) -> Self {
        Self {
            datasets: rows.gather(&self.datasets),
            workers: rows.gather(&self.workers),
            flip: self.flip,
            years: rows.gather(&self.years),
        }
    }

    /// Whether both rows are of one worker.
    pub fn same_worker(&self, a: usize, b: usize) -> bool {
        self.workers[a] == self.workers[b] && self.datasets[a] == self.datasets[b]
    }

    /// The first row whose worker comes before that of the row above.
    pub fn first_fall(&self) -> Option<usize> {
        (1..self.years.len()).find(|&row| self.worker(row) < self.worker(row - 1))
    }

    /// Input rows in canonical order, or None where the `kept` rows (None: all of them) stand in it already.
    /// Equal keys keep the order of their rows.
    pub fn sorted(&self, kept: Option<Vec<u64>>) -> Option<Vec<u64>> {
        let ascending = match &kept {
            None => every(self.years.len(), |a, b| self.of(a) <= self.of(b)),
            Some(rows) => every(rows.len(), |a, b| {
                self.of(rows[a] as usize) <= self.of(rows[b] as usize)
            }),
        };
        if ascending {
            return kept;
        }
        Some(match self.packing() {
            Some(packing) => self.sort_packed(kept, packing),
            None => {
                self.sort_tuples(kept.unwrap_or_else(|| (0..self.years.len() as u64).collect()))
            }
        })
    }

    fn sort_tuples(&self, mut rows: Vec<u64>) -> Vec<u64> {
        rows.par_sort_unstable_by_key(|&row| (self.of(row as usize), row));
        rows
    }

    fn sort_packed(&self, kept: Option<Vec<u64>>, packing: Packing) -> Vec<u64> {
        let pack = |row: usize| packing.pack(self.of(row)) | row as u64;
        match kept {
            None => radix::sorted(self.years.len(), pack, packing.layout),
            Some(rows) => radix::sorted(rows.len(), |at| pack(rows[at] as usize), packing.layout),
        }
    }

    /// How the key and its row fit into 64 bits, where they do.
    fn packing(&self) -> Option<Packing> {
        let datasets = extremes(&self.datasets, |dataset| dataset)?;
        let workers = extremes(&self.workers, |worker| worker ^ self.flip)?;
        let years = extremes(&self.years, |year| year)?;
        let spans = [
            (datasets.1 - datasets.0) as u64,
            workers.1 - workers.0,
            (i64::from(years.1) - i64::from(years.0)) as u64,
        ];
        let [_, worker_bits, year_bits] = spans.map(bits);
        let low = bits(self.years.len() as u64);
        let high = low + spans.map(bits).iter().sum::<u32>();
        (high < u64::BITS).then_some(Packing {
            least: (datasets.0, workers.0, years.0),
            shifts: [low + year_bits + worker_bits, low + year_bits, low],
            layout: Layout { low, high },
        })
    }
}

/// Where each part of a key stands in a packed one, whose lowest bits are the row.
struct Packing {
    least: (i32, u64, i32),
    shifts: [u32; 3],
    layout: Layout,
}

impl Packing {
    fn pack(&self, (dataset, worker, year): (i32, u64, i32)) -> u64 {
        let [a, b, c] = self.shifts;
        let year = (i64::from(year) - i64::from(self.least.2)) as u64;
        ((dataset - self.least.0) as u64) << a | (worker - self.least.1) << b | year << c
    }
}

fn extremes<T: Copy + Ord + Send + Sync>(
    values: &[T],
    seen: impl Fn(T) -> T + Sync,
) -> Option<(T, T)> {
    let chunks = values.par_chunks(BLOCK).filter_map(|chunk| {
        let seen = || chunk.iter().map(|&value| seen(value));
        Some((seen().min()?, seen().max()?))
    });
    chunks.reduce_with(|a, b| (a.0.min(b.0), a.1.max(b.1)))
}

fn bits(span: u64) -> u32 {
    u64::BITS - span.leading_zeros()
}

/// Which input row stands where.
pub(crate) struct Rows {
    pub order: Option<Vec<u64>>,
    pub total: usize,
}

impl Rows {
    pub fn len(&self) -> usize {
        self.order.as_ref().map_or(self.total, Vec::len)
    }

    pub fn input(&self, position: usize) -> usize {
        self.order
            .as_ref()
            .map_or(position, |order| order[position] as usize)
    }

    /// The values of input rows, in order; not copied where rows stand in it already.
    pub fn gather<T: ArrowNativeType + Send + Sync>(
        &self,
        values: &ScalarBuffer<T>,
    ) -> ScalarBuffer<T> {
        let Some(order) = &self.order else {
            return values.clone();
        };
        let rows = order.par_iter().with_min_len(BLOCK);
        let values: &[T] = values;
        rows.map(|&row| values[row as usize])
            .collect::<Vec<T>>()
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(rows: &[(i32, u64, i32)], flip: u64) -> Keys {
        Keys {
            datasets: rows.iter().map(|row| row.0).collect(),
            workers: rows.iter().map(|row| row.1 ^ flip).collect(),
            flip,
            years: rows.iter().map(|row| row.2).collect(),
        }
    }

    proptest! {
        #[test]
        fn packed_and_plain_sorts_agree(
            rows in prop::collection::vec((0i32..3, 0u64..9, 1990i32..1996, prop::bool::ANY), 1..60),
            drop in prop::bool::ANY,
        ) {
            let kept = (0..rows.len() as u64).filter(|&row| rows[row as usize].3);
            let kept: Option<Vec<u64>> = drop.then(|| kept.collect());
            let rows: Vec<_> = rows.iter().map(|row| (row.0, row.1, row.2)).collect();
            let all = kept.clone().unwrap_or_else(|| (0..rows.len() as u64).collect());
            let keys = keys(&rows, 1 << 63);
            let plain = keys.sort_tuples(all.clone());
            let packing = keys.packing().ok_or_else(|| TestCaseError::fail("does not fit"))?;
            prop_assert_eq!(&keys.sort_packed(kept.clone(), packing), &plain);
            prop_assert_eq!(keys.sorted(kept).unwrap_or(all), plain);
        }
    }

    #[test]
    fn keys_that_do_not_fit_64_bits_are_sorted_all_the_same() {
        let rows = [(0, u64::MAX, i32::MAX), (0, u64::MAX, i32::MIN), (0, 0, 0)];
        let keys = keys(&rows, 0);
        assert!(keys.packing().is_none());
        assert_eq!(keys.sorted(None), Some(vec![2, 1, 0]));
    }

    #[test]
    fn rows_in_order_share_their_values() {
        let values: ScalarBuffer<i32> = vec![3, 1, 2].into();
        let (shared, total) = (None, values.len());
        let same = Rows {
            order: shared,
            total,
        }
        .gather(&values);
        assert_eq!(same.as_ptr(), values.as_ptr());
        let order = Some(vec![1, 2]);
        assert_eq!(*Rows { order, total }.gather(&values), [1, 2]);
    }
}
