//! Tables of fragments, and the copy that printing consists of.

use crate::pool::Printable;

/// The fragments of one segment, one per code.
///
/// A fragment's first N elements lie beside its length, so that the usual one is copied by one look-up, without a call
/// and without a loop; what is longer lies apart.
#[derive(Debug)]
pub(crate) struct Table<T, const N: usize> {
    heads: Vec<Head<T, N>>,
    lengths: Vec<u32>,
    /// Whole fragments that are longer than N, by code.
    long: Vec<Vec<T>>,
    /// No fragment is longer than N / 2.
    short: bool,
}

#[derive(Debug, Clone, Copy)]
struct Head<T, const N: usize> {
    elements: [T; N],
    length: u32,
}

impl<T: Printable, const N: usize> Table<T, N> {
    pub fn new(fragments: impl IntoIterator<Item = Vec<T>>) -> Self {
        let (mut heads, mut long) = (Vec::new(), Vec::new());
        for fragment in fragments {
            let mut elements = [T::default(); N];
            let some = fragment.len().min(N);
            elements[..some].copy_from_slice(&fragment[..some]);
            heads.push(Head {
                elements,
                length: fragment.len() as u32,
            });
            long.push(if fragment.len() > N {
                fragment
            } else {
                Vec::new()
            });
        }
        let lengths: Vec<u32> = heads.iter().map(|head: &Head<T, N>| head.length).collect();
        let short = lengths.iter().all(|&length| length as usize <= N / 2);
        Self {
            heads,
            lengths,
            long,
            short,
        }
    }

    /// Elements of the fragments with these codes.
    pub fn length(&self, codes: &[u32]) -> usize {
        let lengths = codes
            .iter()
            .map(|&code| self.lengths[code as usize] as usize);
        lengths.sum()
    }

    /// Copy a fragment to `out[at..]` and return where it ends.
    ///
    /// N elements are written where `out` has room for them, so what stands behind the fragment is lost: print in
    /// order. Nothing is written behind `out`.
    #[inline(always)]
    fn put(&self, code: u32, out: &mut [T], at: usize) -> usize {
        let head = &self.heads[code as usize];
        let end = at + head.length as usize;
        match out.get_mut(at..at + N) {
            Some(to) if self.short => to[..N / 2].copy_from_slice(&head.elements[..N / 2]),
            Some(to) if head.length as usize <= N => to.copy_from_slice(&head.elements),
            _ => self.put_exactly(code, &mut out[at..end]),
        }
        end
    }

    #[cold]
    fn put_exactly(&self, code: u32, out: &mut [T]) {
        let (head, long) = (&self.heads[code as usize], &self.long[code as usize]);
        let short = long.is_empty();
        out.copy_from_slice(if short {
            &head.elements[..out.len()]
        } else {
            long
        });
    }
}

/// Where texts are printed to.
pub(crate) struct Places<'a, T: Printable> {
    pub values: &'a mut [T],
    /// Span of each title, one per row.
    pub starts: &'a mut [T::Place],
    pub stops: &'a mut [T::Place],
    /// Where each text ends.
    pub ends: &'a mut [i64],
}

impl<'a, T: Printable> Places<'a, T> {
    /// Hand out the first places.
    pub fn split_off(&mut self, length: usize, rows: usize, texts: usize) -> Self {
        Self {
            values: split_off(&mut self.values, length),
            starts: split_off(&mut self.starts, rows),
            stops: split_off(&mut self.stops, rows),
            ends: split_off(&mut self.ends, texts),
        }
    }
}

fn split_off<'a, T>(slice: &mut &'a mut [T], at: usize) -> &'a mut [T] {
    let (first, rest) = std::mem::take(slice).split_at_mut(at);
    *slice = rest;
    first
}

/// The place that is printed next.
pub(crate) struct Cursor<'a, T: Printable> {
    places: Places<'a, T>,
    at: usize,
    /// Start of the open text, number of rows and of texts so far.
    text: usize,
    rows: usize,
    texts: usize,
    base: usize,
    around: (usize, usize),
}

impl<'a, T: Printable> Cursor<'a, T> {
    /// `base` is where the first place stands in the batch, `around` the elements of a title's fragment before and
    /// behind its span.
    pub fn new(places: Places<'a, T>, base: usize, around: (usize, usize)) -> Self {
        Self {
            places,
            at: 0,
            text: 0,
            rows: 0,
            texts: 0,
            base,
            around,
        }
    }

    #[inline(always)]
    pub fn put<const N: usize>(&mut self, table: &Table<T, N>, code: u32) {
        self.at = table.put(code, self.places.values, self.at);
    }

    #[inline(always)]
    pub fn put_title<const N: usize>(&mut self, table: &Table<T, N>, code: u32) {
        self.places.starts[self.rows] = T::place(self.at + self.around.0 - self.text);
        self.put(table, code);
        self.places.stops[self.rows] = T::place(self.at - self.around.1 - self.text);
        self.rows += 1;
    }

    #[inline(always)]
    pub fn end_text(&mut self, end: &[T]) {
        self.places.values[self.at..self.at + end.len()].copy_from_slice(end);
        self.at += end.len();
        self.places.ends[self.texts] = (self.base + self.at) as i64;
        self.texts += 1;
        self.text = self.at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fragments_follow_each_other_and_nothing_else_is_written(
            fragments in prop::collection::vec(prop::collection::vec(1u8..255, 0..100), 1..8),
            codes in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
        ) {
            let table = Table::<u8, 32>::new(fragments.clone());
            let codes: Vec<usize> = codes.iter().map(|code| code.index(fragments.len())).collect();
            let expected: Vec<u8> = codes.iter().flat_map(|&code| fragments[code].clone()).collect();
            let mut out = vec![0; expected.len() + 7];
            let (text, behind) = out.split_at_mut(expected.len());
            let at = codes.iter().fold(0, |at, &code| table.put(code as u32, text, at));
            prop_assert_eq!(at, expected.len());
            prop_assert_eq!(&*text, &expected[..]);
            prop_assert_eq!(behind, [0; 7]);
            let codes: Vec<u32> = codes.iter().map(|&code| code as u32).collect();
            prop_assert_eq!(table.length(&codes), at);
        }
    }
}
