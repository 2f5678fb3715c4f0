//! Tables of fragments, and the copy that printing consists of.

use crate::pool::Printable;

/// The fragments of one segment, one per code.
///
/// A fragment's first N elements lie beside its length, so that the usual one is copied by one look-up, without a call
/// and without a loop; what is longer lies apart. N elements and a length fill a line of cache.
#[derive(Debug)]
pub(crate) struct Table<T, const N: usize> {
    heads: Vec<Head<T, N>>,
    lengths: Vec<u32>,
    /// Whole fragments that are longer than N, by code, filled up to lines of cache.
    long: Vec<Vec<T>>,
    /// No fragment is longer than half of N.
    short: bool,
}

#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Head<T, const N: usize> {
    elements: [T; N],
    length: u32,
}

impl<T: Printable, const N: usize> Table<T, N> {
    const HALF: usize = N.div_ceil(2);
    /// Elements that fill a line of cache.
    const LINE: usize = 64 / size_of::<T>();

    pub fn new(fragments: impl IntoIterator<Item = Vec<T>>) -> Self {
        let (mut heads, mut long) = (Vec::new(), Vec::new());
        for mut fragment in fragments {
            let mut elements = [T::default(); N];
            let some = fragment.len().min(N);
            elements[..some].copy_from_slice(&fragment[..some]);
            heads.push(Head {
                elements,
                length: fragment.len() as u32,
            });
            let lines = if fragment.len() > N {
                fragment.len().next_multiple_of(Self::LINE)
            } else {
                0
            };
            fragment.resize(lines, T::default());
            long.push(fragment);
        }
        let lengths: Vec<u32> = heads.iter().map(|head: &Head<T, N>| head.length).collect();
        let short = lengths.iter().all(|&length| length as usize <= Self::HALF);
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

    /// Copy a fragment to the front of `out` and return what is left of `out`.
    ///
    /// More than the fragment is written where `out` has room for it, so what stands behind the fragment is lost: print
    /// in order. Nothing is written behind `out`.
    #[inline(always)]
    fn put<'a>(&self, code: u32, out: &'a mut [T]) -> &'a mut [T] {
        let long = &self.long[code as usize];
        if long.is_empty() || out.len() < long.len() {
            return self.put_from::<false>(&self.heads, code, out);
        }
        let lines = out.chunks_exact_mut(Self::LINE);
        for (to, line) in lines.zip(long.chunks_exact(Self::LINE)) {
            to.copy_from_slice(line);
        }
        &mut out[self.lengths[code as usize] as usize..]
    }

    /// As `put`, for a loop that has the heads at hand and seldom meets long fragments: N elements are written, or half
    /// of them if all fragments are `SHORT`.
    #[inline(always)]
    fn put_from<'a, const SHORT: bool>(
        &self,
        heads: &[Head<T, N>],
        code: u32,
        out: &'a mut [T],
    ) -> &'a mut [T] {
        let head = &heads[code as usize];
        let (copied, length) = (if SHORT { Self::HALF } else { N }, head.length as usize);
        if out.len() < copied || length > copied {
            return self.put_exactly(code, out);
        }
        out[..copied].copy_from_slice(&head.elements[..copied]);
        &mut out[length..]
    }

    #[cold]
    #[inline(never)]
    fn put_exactly<'a>(&self, code: u32, out: &'a mut [T]) -> &'a mut [T] {
        let (head, long) = (&self.heads[code as usize], &self.long[code as usize]);
        let (fragment, rest) = out.split_at_mut(head.length as usize);
        let whole = if long.is_empty() {
            &head.elements[..]
        } else {
            long
        };
        fragment.copy_from_slice(&whole[..fragment.len()]);
        rest
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
    /// What is not printed yet.
    places: Places<'a, T>,
    /// Elements at the start, and elements left at the start of the open text.
    length: usize,
    text: usize,
    base: usize,
}

impl<'a, T: Printable> Cursor<'a, T> {
    /// `base` is where the first place stands in the batch.
    pub fn new(places: Places<'a, T>, base: usize) -> Self {
        let length = places.values.len();
        Self {
            places,
            length,
            text: length,
            base,
        }
    }

    #[inline(always)]
    pub fn put<const N: usize>(&mut self, table: &Table<T, N>, code: u32) {
        let values = std::mem::take(&mut self.places.values);
        self.places.values = table.put(code, values);
    }

    #[inline(always)]
    pub fn put_title<const N: usize>(&mut self, table: &Table<T, N>, code: u32) {
        let start = self.text - self.places.values.len() + T::AROUND;
        split_off(&mut self.places.starts, 1)[0] = T::place(start);
        self.put(table, code);
        let stop = self.text - self.places.values.len() - T::AROUND;
        split_off(&mut self.places.stops, 1)[0] = T::place(stop);
    }

    /// One lead and one title for each of some rows.
    #[inline(always)]
    pub fn put_pairs<const N: usize>(
        &mut self,
        (lead, leads): (&Table<T, N>, &[u32]),
        (title, titles): (&Table<T, N>, &[u32]),
    ) {
        match (lead.short, title.short) {
            (true, true) => self.put_sized::<N, true, true>((lead, leads), (title, titles)),
            (true, false) => self.put_sized::<N, true, false>((lead, leads), (title, titles)),
            (false, true) => self.put_sized::<N, false, true>((lead, leads), (title, titles)),
            (false, false) => self.put_sized::<N, false, false>((lead, leads), (title, titles)),
        }
    }

    #[inline(always)]
    fn put_sized<const N: usize, const LEAD: bool, const TITLE: bool>(
        &mut self,
        (lead, leads): (&Table<T, N>, &[u32]),
        (title, titles): (&Table<T, N>, &[u32]),
    ) {
        let text = self.text;
        let starts = split_off(&mut self.places.starts, leads.len());
        let stops = split_off(&mut self.places.stops, leads.len());
        let mut out = std::mem::take(&mut self.places.values);
        let spans = starts.iter_mut().zip(stops);
        let (lead_heads, heads) = (&lead.heads[..], &title.heads[..]);
        for ((&lead_code, &code), (from, to)) in leads.iter().zip(titles).zip(spans) {
            out = lead.put_from::<LEAD>(lead_heads, lead_code, out);
            *from = T::place(text - out.len() + T::AROUND);
            out = title.put_from::<TITLE>(heads, code, out);
            *to = T::place(text - out.len() - T::AROUND);
        }
        self.places.values = out;
    }

    #[inline(always)]
    pub fn end_text(&mut self) {
        self.text = self.places.values.len();
        split_off(&mut self.places.ends, 1)[0] = (self.base + self.length - self.text) as i64;
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
            let table = Table::<u8, 60>::new(fragments.clone());
            let codes: Vec<usize> = codes.iter().map(|code| code.index(fragments.len())).collect();
            let expected: Vec<u8> = codes.iter().flat_map(|&code| fragments[code].clone()).collect();
            let mut out = vec![0; expected.len() + 7];
            let (text, behind) = out.split_at_mut(expected.len());
            let left = codes.iter().fold(&mut text[..], |out, &code| table.put(code as u32, out));
            prop_assert!(left.is_empty());
            prop_assert_eq!(&*text, &expected[..]);
            prop_assert_eq!(behind, [0; 7]);
            let codes: Vec<u32> = codes.iter().map(|&code| code as u32).collect();
            prop_assert_eq!(table.length(&codes), expected.len());
        }
    }
}
