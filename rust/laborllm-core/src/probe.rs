//! For benches and fuzzers: the copy beside memcpy, and bodies that take any bytes and must hold.

use std::time::{Duration, Instant};

use arrow_array::RecordBatch;

use crate::careers::Careers;
use crate::fragments::{Cursor, Places, Table};
use crate::pool::{Element, Printable};
use crate::resume::{Choice, Form};
use crate::{Result, resume};

/// What one pass over a panel took.
#[derive(Debug, Clone, Copy)]
pub struct Emitted {
    /// Bytes of text.
    pub bytes: usize,
    /// Codes and lengths of all rows.
    pub prepare: Duration,
    /// The copy of all fragments, and the spans.
    pub emit: Duration,
    /// memcpy of as many bytes, from a source that no cache holds, into the same buffers.
    pub copy: Duration,
}

/// Print a panel on one thread into a ring of buffers, and copy as many bytes from `source` into the same ring.
///
/// # Errors
/// As [`crate::resume::render`].
pub fn emit(panel: &RecordBatch, form: &Form, choice: Choice, source: &[u8]) -> Result<Emitted> {
    let press = resume::press(&Careers::new(panel)?, panel, form, choice)?;
    let mut found = Emitted {
        bytes: 0,
        prepare: Duration::ZERO,
        emit: Duration::ZERO,
        copy: Duration::ZERO,
    };
    let mut ring: Vec<Vec<u8>> = vec![Vec::new(); 3];
    for (turn, texts) in press.batches(form.batch_bytes).into_iter().enumerate() {
        let begun = Instant::now();
        let share = press.share(texts);
        found.prepare += begun.elapsed();
        let ((length, texts), rows) = (share.size(), share.rows());
        let (mut starts, mut stops) = (i64::pool().take(rows), i64::pool().take(rows));
        let mut ends = i64::pool().take(texts);
        let buffer = &mut ring[turn % 3];
        buffer.resize(buffer.len().max(length), 0);
        let places = Places {
            values: &mut buffer[..length],
            starts: &mut starts,
            stops: &mut stops,
            ends: &mut ends,
        };
        let begun = Instant::now();
        press.fill(&share, 0, places);
        found.emit += begun.elapsed();
        let from = found.bytes % (source.len() - length);
        let begun = Instant::now();
        buffer[..length].copy_from_slice(&source[from..from + length]);
        found.copy += begun.elapsed();
        found.bytes += length;
    }
    Ok(found)
}

/// Fragments and codes drawn from bytes: what is printed is the fragments one after another, and nothing else is
/// written.
pub fn table(data: &[u8]) {
    let (head, codes) = data.split_at(data.len() / 2);
    let mut fragments: Vec<Vec<u8>> = head
        .split(|&byte| byte % 16 == 0)
        .map(<[u8]>::to_vec)
        .collect();
    if let Some(long) = fragments.first_mut() {
        *long = long.repeat(1 + codes.len() % 9);
    }
    let codes: Vec<u32> = codes
        .iter()
        .map(|&code| u32::from(code) % fragments.len() as u32)
        .collect();
    let expected: Vec<u8> = codes
        .iter()
        .flat_map(|&code| &fragments[code as usize])
        .copied()
        .collect();
    let table = Table::<u8, 60>::new(fragments.clone());
    assert_eq!(table.length(&codes), expected.len());
    let mut out = vec![0xAB; expected.len() + 3];
    let (mut starts, mut stops, mut ends) = (vec![0; codes.len()], vec![0; codes.len()], vec![0]);
    let places = Places {
        values: &mut out[..expected.len()],
        starts: &mut starts,
        stops: &mut stops,
        ends: &mut ends,
    };
    let mut cursor = Cursor::new(places, 5);
    for &code in &codes {
        cursor.put_title(&table, code);
    }
    cursor.end_text();
    assert_eq!(out[..expected.len()], expected);
    assert_eq!(out[expected.len()..], [0xAB; 3]);
    assert_eq!(ends, [expected.len() as i64 + 5]);
    for (code, (start, stop)) in codes.iter().zip(starts.iter().zip(&stops)) {
        assert_eq!((stop - start) as usize, fragments[*code as usize].len());
    }
    assert_eq!(<u8 as Printable>::place(3), 3);
}
