//! Arrays as the C interface of Arrow brings them in: nobody has looked at their offsets, keys, views and bytes.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, Int32Array, ListArray, RecordBatch, RecordBatchIterator, make_array,
    types::Int32Type,
};
use arrow_buffer::Buffer;
use arrow_data::ArrayData;
use arrow_schema::{DataType, Field, Schema};

use super::Choices;
use super::layouts::{integers, text_kind, texts};
use super::panels::printed;
use crate::Result;
use crate::panel::{self, Checked, Options};
use crate::stream::Stream;

const TITLES: [&str; 3] = ["Cooks", "Köche und Köchinnen", "料理人"];
/// Written over offsets, keys, lengths and text.
const WORDS: [i64; 12] = [
    0,
    1,
    -1,
    2,
    5,
    12,
    13,
    127,
    255,
    i32::MAX as i64,
    i32::MIN as i64,
    i64::MAX,
];

/// Whatever stands in its buffers, a panel is refused or checked and printed as valid text.
pub fn import(data: &[u8]) {
    let mut choices = Choices(data);
    let rows = 1 + choices.below(12);
    let columns = columns(&mut choices, rows);
    let fields = columns
        .iter()
        .map(|(name, array)| Field::new(*name, array.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let arrays = columns
        .into_iter()
        .map(|(_, array)| scribbled(&mut choices, &array))
        .collect();
    let batch = RecordBatch::try_new(schema.clone(), arrays).unwrap();
    let cut = choices.below(rows + 1);
    let batches = [batch.slice(0, cut), batch.slice(cut, rows - cut)];
    let options = Options {
        codes: (0..TITLES.len()).map(|code| code.to_string()).collect(),
        titles: TITLES.map(str::to_owned).to_vec(),
        ..Options::default()
    };
    hold(panel::check(&schema, &batches, &options));
    let source = RecordBatchIterator::new(batches.map(Ok), schema);
    let stream = Stream::new(Box::new(source), options, None, 1 + choices.below(4));
    stream.take(rows + 1).for_each(hold);
}

fn hold(checked: Result<Checked>) {
    match checked {
        Err(error) => super::one_line(&error),
        Ok(checked) => {
            for column in checked.batch.columns() {
                column.to_data().validate_full().unwrap();
            }
            printed(&checked.batch, 100);
        }
    }
}

/// A panel without a fault: one worker or several, in order.
fn columns(choices: &mut Choices<'_>, rows: usize) -> Vec<(&'static str, ArrayRef)> {
    let each = 1 + choices.below(rows);
    let workers: Vec<_> = (0..rows).map(|row| row / each).collect();
    let text = |choices: &mut Choices<'_>, values: Vec<Option<&str>>| {
        let kind = text_kind(choices);
        texts(choices, &values, &kind)
    };
    let ids: Vec<Option<i128>> = workers.iter().map(|&worker| Some(worker as i128)).collect();
    let names: Vec<String> = workers
        .iter()
        .map(|worker| format!("a long worker {worker:02}"))
        .collect();
    let worker_id = if choices.once_in(2) {
        text(
            choices,
            names.iter().map(|name| Some(name.as_str())).collect(),
        )
    } else {
        integers(choices, &ids, &DataType::Int64)
    };
    let title = |row: usize| Some(TITLES[row % TITLES.len()]);
    let level = |row: usize| [Some("school"), None, Some("a college of some name")][row % 3];
    let tags = (0..rows).map(|row| Some(vec![Some(row as i32); row % 3]));
    vec![
        ("dataset", text(choices, vec![Some("PSID"); rows])),
        ("worker_id", worker_id),
        (
            "year",
            Arc::new(
                (0..rows as i32)
                    .map(|row| 1990 + row)
                    .collect::<Int32Array>(),
            ),
        ),
        ("occupation", text(choices, (0..rows).map(title).collect())),
        ("gender", text(choices, vec![None; rows])),
        ("education", text(choices, (0..rows).map(level).collect())),
        ("region", text(choices, (0..rows).map(level).collect())),
        ("hours", Arc::new((0..rows as i32).collect::<Int32Array>())),
        (
            "tags",
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(tags)),
        ),
    ]
}

/// The array with words written over some of its buffers, now and then.
fn scribbled(choices: &mut Choices<'_>, array: &ArrayRef) -> ArrayRef {
    let mut scribbles = [0, 0, 0, 1, 1, 2][choices.below(6)];
    make_array(over(choices, &array.to_data(), &mut scribbles))
}

#[expect(unsafe_code, reason = "malformed arrays are the point")]
fn over(choices: &mut Choices<'_>, data: &ArrayData, scribbles: &mut usize) -> ArrayData {
    let children = data
        .child_data()
        .iter()
        .map(|child| over(choices, child, scribbles))
        .collect();
    let nulls = data
        .nulls()
        .map(|nulls| write(choices, nulls.buffer(), scribbles));
    let buffers = data
        .buffers()
        .iter()
        .map(|buffer| write(choices, buffer, scribbles))
        .collect();
    // SAFETY: no buffer is shorter than before, so that `make_array` stays inside them; it reads nothing of what they
    // hold. The import of the C interface makes arrays of foreign buffers by the same call, and no more is known of
    // those: that what is handed such arrays reads them with care is what the fuzzer tests, under an address sanitizer
    // too.
    unsafe {
        ArrayData::new_unchecked(
            data.data_type().clone(),
            data.len(),
            Some(data.null_count()),
            nulls,
            data.offset(),
            buffers,
            children,
        )
    }
}

fn write(choices: &mut Choices<'_>, buffer: &Buffer, scribbles: &mut usize) -> Buffer {
    if *scribbles == 0 || buffer.is_empty() || choices.once_in(2) {
        return buffer.clone();
    }
    *scribbles -= 1;
    let mut bytes = buffer.to_vec();
    let width = choices.one_of(&[1, 4, 8]).min(bytes.len());
    let at = choices.below(bytes.len().min(256)) / width * width;
    let word = choices.one_of(&WORDS).to_le_bytes();
    let end = bytes.len().min(at + width);
    bytes[at..end].copy_from_slice(&word[..end - at]);
    Buffer::from_slice_ref(&bytes)
}
