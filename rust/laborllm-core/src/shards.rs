//! Which workers belong to a shard: by a named hash of who they are, so that neither order nor id type matters.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, UInt64Type};
use arrow_array::{Array, BooleanArray, Int64Array, RecordBatch};
use arrow_schema::DataType;
use arrow_select::filter::filter_record_batch;
use blake2::digest::consts::U8;
use blake2::{Blake2b, Digest};

use crate::careers::check_keys;
use crate::panel::Checked;
use crate::workers::check_starts;
use crate::{Error, Result};

/// One of several parts of a panel's workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Which one, counted from 0.
    pub index: u64,
    /// Of how many.
    pub count: u64,
}

/// One 64-bit number per worker: blake2b with 8 bytes of `<tag>:<dataset>:<id as text>`, big-endian.
///
/// `panel` is a checked panel or a part of one, `starts` are the first rows of its workers, then the number of rows.
///
/// # Errors
/// Rows that do not come from [`crate::panel::check`], starts that are not theirs.
pub fn draws(panel: &RecordBatch, starts: &Int64Array, tag: &str) -> Result<Vec<u64>> {
    let keys = panel.schema_ref().fields().iter().take(2);
    if !keys
        .map(|field| field.name().as_str())
        .eq(["dataset", "worker_id"])
    {
        let reason = "its first columns are not dataset and worker_id".to_owned();
        return Err(Error::Unchecked { reason });
    }
    check_keys(&panel.schema())?;
    check_starts(starts, panel.num_rows())?;
    Ok(drawn(panel, starts.values(), tag))
}

fn drawn(panel: &RecordBatch, starts: &[i64], tag: &str) -> Vec<u64> {
    let tags = panel.column(0).as_dictionary::<Int32Type>();
    let texts = tags.values().as_string::<i64>();
    let ids = panel.column(1);
    let id = |row: usize| match ids.data_type() {
        DataType::UInt64 => ids.as_primitive::<UInt64Type>().value(row).to_string(),
        DataType::Int64 => ids.as_primitive::<Int64Type>().value(row).to_string(),
        _ => ids.as_string::<i64>().value(row).to_owned(),
    };
    let heads = &starts[..starts.len() - 1];
    let draw = |&start: &i64| {
        let row = start as usize;
        let dataset = texts.value(tags.keys().value(row) as usize);
        let text = format!("{tag}:{dataset}:{}", id(row));
        u64::from_be_bytes(Blake2b::<U8>::digest(text.as_bytes()).into())
    };
    heads.iter().map(draw).collect()
}

/// The workers of a shard, None where there are none.
pub(crate) fn part(checked: Checked, shard: Option<Shard>) -> Result<Option<Checked>> {
    let Some(shard) = shard else {
        return Ok(Some(checked));
    };
    let draws = drawn(&checked.batch, &checked.starts, "shard");
    let chosen: Vec<bool> = draws
        .iter()
        .map(|draw| draw % shard.count == shard.index)
        .collect();
    if !chosen.contains(&true) {
        return Ok(None);
    }
    let mut mask = Vec::with_capacity(checked.batch.num_rows());
    let mut starts = vec![0];
    let mut kept = 0;
    for (pair, &chosen) in checked.starts.windows(2).zip(&chosen) {
        let rows = pair[1] - pair[0];
        mask.resize(mask.len() + rows as usize, chosen);
        if chosen {
            kept += rows;
            starts.push(kept);
        }
    }
    let batch = filter_record_batch(&checked.batch, &BooleanArray::from(mask))
        .map_err(|error| Error::unreadable("worker_id", &error))?;
    Ok(Some(Checked {
        batch,
        starts,
        report: checked.report,
    }))
}
