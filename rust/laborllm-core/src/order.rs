//! The one order of every output: dataset bytewise, worker, year.

use rayon::prelude::*;

/// What rows are ordered by; `datasets` and `workers` are order-preserving ranks.
pub(crate) struct Keys<'a> {
    pub datasets: &'a [i32],
    pub workers: &'a [u64],
    pub years: &'a [i32],
}

impl Keys<'_> {
    fn of(&self, row: usize) -> (i32, u64, i32) {
        (self.datasets[row], self.workers[row], self.years[row])
    }

    /// The first row whose worker comes before that of the row above.
    pub fn first_fall(&self) -> Option<usize> {
        let worker = |row: usize| (self.datasets[row], self.workers[row]);
        (1..self.years.len()).find(|&row| worker(row) < worker(row - 1))
    }

    /// Input rows in canonical order, or None where the `kept` rows (None: all of them) stand in it already.
    /// Equal keys keep the order of their rows.
    pub fn sorted(&self, kept: Option<Vec<u64>>) -> Option<Vec<u64>> {
        let ascending = match &kept {
            None => (1..self.years.len())
                .into_par_iter()
                .all(|row| self.of(row - 1) <= self.of(row)),
            Some(rows) => rows
                .par_windows(2)
                .all(|pair| self.of(pair[0] as usize) <= self.of(pair[1] as usize)),
        };
        if ascending {
            return kept;
        }
        let rows = kept.unwrap_or_else(|| (0..self.years.len() as u64).collect());
        Some(match self.packing() {
            Some(packing) => self.sort_packed(rows, packing),
            None => self.sort_tuples(rows),
        })
    }

    fn sort_tuples(&self, mut rows: Vec<u64>) -> Vec<u64> {
        rows.par_sort_unstable_by_key(|&row| (self.of(row as usize), row));
        rows
    }

    fn sort_packed(&self, rows: Vec<u64>, packing: Packing) -> Vec<u64> {
        let pack = |row: u64| {
            let (dataset, worker, year) = self.of(row as usize);
            let dataset = (dataset - packing.datasets.0) as u64;
            let year = (i64::from(year) - i64::from(packing.years.0)) as u64;
            let key = (dataset << packing.workers.1 | (worker - packing.workers.0))
                << packing.years.1
                | year;
            key << packing.row_bits | row
        };
        let mut keys: Vec<u64> = rows.into_par_iter().map(pack).collect();
        keys.par_sort_unstable();
        let mask = (1 << packing.row_bits) - 1;
        keys.par_iter_mut().for_each(|key| *key &= mask);
        keys
    }

    /// How the key and its row fit into 64 bits, where they do.
    fn packing(&self) -> Option<Packing> {
        let (low, high) = (self.datasets.iter().min()?, self.datasets.iter().max()?);
        let datasets = (*low, bits((high - low) as u64));
        let (low, high) = (
            self.workers.par_iter().min()?,
            self.workers.par_iter().max()?,
        );
        let workers = (*low, bits(high - low));
        let (low, high) = (self.years.par_iter().min()?, self.years.par_iter().max()?);
        let years = (*low, bits((i64::from(*high) - i64::from(*low)) as u64));
        let row_bits = bits(self.years.len() as u64);
        let total = datasets.1 + workers.1 + years.1 + row_bits;
        (total < 64).then_some(Packing {
            datasets,
            workers,
            years,
            row_bits,
        })
    }
}

/// Least value and width in bits of each part of a packed key.
struct Packing {
    datasets: (i32, u32),
    workers: (u64, u32),
    years: (i32, u32),
    row_bits: u32,
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

    pub fn gather<T: Copy + Send + Sync>(&self, values: &[T]) -> Vec<T> {
        match &self.order {
            None => values.to_vec(),
            Some(order) => order.iter().map(|&row| values[row as usize]).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packed_and_plain_sorts_agree(rows in prop::collection::vec((0i32..3, 0u64..9, 1990i32..1996), 1..60)) {
            let datasets: Vec<i32> = rows.iter().map(|row| row.0).collect();
            let workers: Vec<u64> = rows.iter().map(|row| row.1).collect();
            let years: Vec<i32> = rows.iter().map(|row| row.2).collect();
            let keys = Keys { datasets: &datasets, workers: &workers, years: &years };
            let all: Vec<u64> = (0..rows.len() as u64).collect();
            let plain = keys.sort_tuples(all.clone());
            let packing = keys.packing().ok_or_else(|| TestCaseError::fail("does not fit"))?;
            prop_assert_eq!(&keys.sort_packed(all.clone(), packing), &plain);
            prop_assert_eq!(keys.sorted(None).unwrap_or(all), plain);
        }
    }

    #[test]
    fn keys_that_do_not_fit_64_bits_are_sorted_all_the_same() {
        let (datasets, years) = (vec![0; 3], vec![i32::MAX, i32::MIN, 0]);
        let workers = vec![u64::MAX, u64::MAX, 0];
        let keys = Keys {
            datasets: &datasets,
            workers: &workers,
            years: &years,
        };
        assert!(keys.packing().is_none());
        assert_eq!(keys.sorted(None), Some(vec![2, 1, 0]));
    }
}
