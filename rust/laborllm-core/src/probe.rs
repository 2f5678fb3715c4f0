//! For benches: the copy of fragments beside memcpy.

use std::time::{Duration, Instant};

use arrow_array::RecordBatch;

use crate::careers::Careers;
use crate::fragments::Places;
use crate::pool::Element;
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
