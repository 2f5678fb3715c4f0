//! Careers printed from tables of fragments, as bytes of text or as token ids.

use std::ops::Range;

use multiversion::multiversion;
use rayon::prelude::*;

use crate::fragments::{Cursor, Places, Table};
use crate::pool::{Element, Printable, Recycled};
use crate::segments::Segments;
use crate::windows::{Window, Windows};

/// A part of the template with its fragments in elements of type T.
#[derive(Debug)]
pub(crate) struct Part<T, const N: usize> {
    segments: Segments,
    tables: Vec<Table<T, N>>,
}

impl<T: Printable, const N: usize> Part<T, N> {
    pub fn new(segments: Segments, tables: Vec<Table<T, N>>) -> Self {
        Self { segments, tables }
    }

    fn codes(&self, rows: Range<usize>, starts: &[i64]) -> Vec<Recycled<u32>> {
        let segments = self.segments.all.iter();
        segments
            .map(|one| one.codes(rows.clone(), starts))
            .collect()
    }

    fn columns<'a>(&'a self, codes: &'a [Recycled<u32>]) -> Vec<Column<'a, T, N>> {
        let codes = codes.iter().map(|codes| &codes[..]);
        self.tables.iter().zip(codes).collect()
    }
}

/// A table and the codes of rows in it.
type Column<'a, T, const N: usize> = (&'a Table<T, N>, &'a [u32]);

/// All that the texts of one panel are printed from.
#[derive(Debug)]
pub(crate) struct Press<T, const N: usize> {
    /// One row per worker, from the worker's first.
    pub header: Part<T, N>,
    pub row: Part<T, N>,
    /// One fragment.
    pub end: Table<T, N>,
    pub windows: Windows,
}

/// Texts one after another.
pub(crate) struct Printed<T: Printable> {
    pub texts: Vec<Window>,
    pub values: Recycled<T>,
    /// Where each text begins, then where the last one ends.
    pub offsets: Recycled<i64>,
    /// Spans of the titles, row by row, counted from the start of their text.
    pub starts: Recycled<T::Place>,
    pub stops: Recycled<T::Place>,
}

/// Texts of a batch that one thread prints: their codes, known before their places are.
pub(crate) struct Share {
    texts: Vec<Window>,
    header: Vec<Recycled<u32>>,
    /// The worker that the first code of `header` belongs to.
    first_worker: usize,
    row: Vec<Recycled<u32>>,
    /// The row that the first code of `row` belongs to.
    first_row: usize,
    length: usize,
}

impl Share {
    /// Elements, and texts.
    pub fn size(&self) -> (usize, usize) {
        (self.length, self.texts.len())
    }

    pub fn rows(&self) -> usize {
        self.texts.iter().map(|text| text.rows.len()).sum()
    }
}

impl<T: Printable, const N: usize> Press<T, N> {
    /// Print some of the texts, on so many threads.
    pub fn print(&self, texts: Range<usize>, threads: usize) -> Printed<T> {
        let each = texts.len().div_ceil(threads).max(1);
        let cuts = texts.clone().into_par_iter().step_by(each);
        let shares: Vec<Share> = cuts
            .map(|first| self.share(first..texts.end.min(first + each)))
            .collect();
        let rows = shares.iter().map(Share::rows).sum();
        let mut values = T::pool().take(shares.iter().map(|share| share.length).sum());
        let (mut starts, mut stops) = (T::Place::pool().take(rows), T::Place::pool().take(rows));
        let mut offsets = i64::pool().take(texts.len() + 1);
        offsets[0] = 0;
        let mut free = Places {
            values: &mut values,
            starts: &mut starts,
            stops: &mut stops,
            ends: &mut offsets[1..],
        };
        let (mut base, mut jobs) = (0, Vec::with_capacity(shares.len()));
        for share in &shares {
            let places = free.split_off(share.length, share.rows(), share.texts.len());
            jobs.push((share, base, places));
            base += share.length;
        }
        jobs.into_par_iter()
            .for_each(|(share, base, places)| self.fill(share, base, places));
        let texts = shares.into_iter().map(|share| share.texts);
        Printed {
            texts: texts
                .reduce(|all, more| [all, more].concat())
                .unwrap_or_default(),
            values,
            offsets,
            starts,
            stops,
        }
    }

    /// Cut the texts into batches of about so many elements, equal in number, by the length of the first thousand.
    pub fn batches(&self, elements: usize) -> Vec<Range<usize>> {
        let texts = self.windows.len();
        let some = texts.min(1000);
        let mean = (self.share(0..some).length / some.max(1)).max(1);
        let most = (elements / mean).max(1);
        let each = texts.div_ceil(texts.div_ceil(most).max(1)).max(1);
        let batches = (0..texts).step_by(each);
        batches
            .map(|first| first..texts.min(first + each))
            .collect()
    }

    /// Codes and lengths of some of the texts.
    pub fn share(&self, texts: Range<usize>) -> Share {
        let texts: Vec<Window> = texts.map(|text| self.windows.get(text)).collect();
        let rows = span(texts.iter().map(|text| text.rows.clone()));
        let workers = span(texts.iter().map(|text| text.worker..text.worker + 1));
        let starts = self.windows.starts_in(&rows);
        let mut share = Share {
            header: self.header.codes(workers.clone(), &[]),
            first_worker: workers.start,
            row: self.row.codes(rows.clone(), starts),
            first_row: rows.start,
            length: 0,
            texts,
        };
        share.length = self.length_of(&share);
        share
    }

    fn length_of(&self, share: &Share) -> usize {
        let ended = share.texts.iter().filter(|text| text.ended).count();
        let adjoining = |pair: &[Window]| {
            pair[0].rows.end == pair[1].rows.start && pair[0].worker < pair[1].worker
        };
        let (header, row) = (
            self.header.columns(&share.header),
            self.row.columns(&share.row),
        );
        let whole = |columns: &[Column<T, N>]| -> usize {
            columns
                .iter()
                .map(|(table, codes)| table.length(codes))
                .sum()
        };
        if share.texts.windows(2).all(adjoining) && workers_all(&share.texts) {
            return whole(&header) + whole(&row) + ended * self.end.length(&[0]);
        }
        let some = |columns: &[Column<T, N>], range: Range<usize>| -> usize {
            let lengths = columns
                .iter()
                .map(|(table, codes)| table.length(&codes[range.clone()]));
            lengths.sum()
        };
        let lengths = share.texts.iter().map(|text| {
            let worker = text.worker - share.first_worker;
            let rows = text.rows.start - share.first_row..text.rows.end - share.first_row;
            some(&header, worker..worker + 1) + some(&row, rows)
        });
        lengths.sum::<usize>() + ended * self.end.length(&[0])
    }

    /// Print a share to its places; `base` is where it begins in the batch.
    pub fn fill(&self, share: &Share, base: usize, places: Places<'_, T>) {
        let row = self.row.columns(&share.row);
        let (before, title) = row.split_at(self.row.segments.title.unwrap_or(0));
        if let Some((&title, after)) = title.split_first() {
            let columns = Columns {
                header: &self.header.columns(&share.header),
                before,
                title,
                after,
            };
            fill(share, columns, &self.end, &mut Cursor::new(places, base));
        }
    }
}

/// What the texts of a share are printed from.
struct Columns<'a, T, const N: usize> {
    header: &'a [Column<'a, T, N>],
    before: &'a [Column<'a, T, N>],
    title: Column<'a, T, N>,
    after: &'a [Column<'a, T, N>],
}

/// The copy itself, with wide registers where the machine has them.
#[multiversion(targets("x86_64+avx2"))]
fn fill<T: Printable, const N: usize>(
    share: &Share,
    columns: Columns<'_, T, N>,
    end: &Table<T, N>,
    cursor: &mut Cursor<'_, T>,
) {
    let (title, titles) = columns.title;
    for text in &share.texts {
        for (table, codes) in columns.header {
            cursor.put(table, codes[text.worker - share.first_worker]);
        }
        let rows = text.rows.start - share.first_row..text.rows.end - share.first_row;
        if let ([(lead, leads)], []) = (columns.before, columns.after) {
            cursor.put_pairs((lead, &leads[rows.clone()]), (title, &titles[rows]));
        } else {
            for row in rows {
                let fields = |columns: &[Column<'_, T, N>], cursor: &mut Cursor<'_, T>| {
                    columns
                        .iter()
                        .for_each(|(table, codes)| cursor.put(table, codes[row]));
                };
                fields(columns.before, cursor);
                cursor.put_title(title, titles[row]);
                fields(columns.after, cursor);
            }
        }
        if text.ended {
            cursor.put(end, 0);
        }
        cursor.end_text();
    }
}

/// From the least start to the greatest end.
fn span(ranges: impl Iterator<Item = Range<usize>>) -> Range<usize> {
    let wider = |a: Range<usize>, b: Range<usize>| a.start.min(b.start)..a.end.max(b.end);
    ranges.reduce(wider).unwrap_or(0..0)
}

/// No worker between the first and the last is left out.
fn workers_all(texts: &[Window]) -> bool {
    let (first, last) = (texts.first(), texts.last());
    first
        .zip(last)
        .is_none_or(|(first, last)| last.worker - first.worker + 1 == texts.len())
}
