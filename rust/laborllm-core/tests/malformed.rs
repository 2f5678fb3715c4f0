//! Arrays that no honest producer makes: an error that names the column, whatever the layout and the place.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow_array::types::{ArrowDictionaryKeyType, Int8Type, Int32Type, UInt32Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, DictionaryArray, Int64Array, LargeStringArray, PrimitiveArray,
    RecordBatch, RecordBatchIterator, StringArray, StringViewArray, make_array,
};
use arrow_buffer::Buffer;
use laborllm_core::panel::{Options, check};
use laborllm_core::stream::Stream;

const ROWS: usize = 3;
const COLUMNS: [&str; 7] = [
    "dataset",
    "worker_id",
    "occupation",
    "education",
    "gender",
    "region",
    "year",
];

/// The array with other buffers: `build_unchecked` is what arrays from the C interface go through.
///
/// Sound as long as nobody reads what the buffers say without a check, which is what these tests are for; all buffers
/// are as long as the layout asks for, so that reading offsets, views and keys themselves stays inside of them.
#[allow(unsafe_code)]
fn with_buffers(array: &dyn Array, buffers: Vec<Buffer>) -> ArrayRef {
    let data = array.to_data().into_builder().buffers(buffers);
    make_array(unsafe { data.build_unchecked() })
}

fn texts(offsets: [i32; ROWS + 1], bytes: &[u8]) -> ArrayRef {
    let like = StringArray::from(vec!["", "", ""]);
    with_buffers(&like, vec![Buffer::from_iter(offsets), Buffer::from(bytes)])
}

fn large_texts(offsets: [i64; ROWS + 1], bytes: &[u8]) -> ArrayRef {
    let like = LargeStringArray::from(vec!["", "", ""]);
    with_buffers(&like, vec![Buffer::from_iter(offsets), Buffer::from(bytes)])
}

/// The same view three times: 4 bytes of length, then the text or prefix, buffer and offset.
fn views(view: u128, bytes: &[u8]) -> ArrayRef {
    let like = StringViewArray::from(vec!["", "", ""]);
    with_buffers(
        &like,
        vec![Buffer::from_iter([view; ROWS]), Buffer::from(bytes)],
    )
}

fn keyed<K: ArrowDictionaryKeyType>(keys: [K::Native; ROWS], values: ArrayRef) -> ArrayRef {
    let zeros = PrimitiveArray::<K>::from_iter_values([K::Native::default(); ROWS]);
    let like = DictionaryArray::<K>::new(zeros, values);
    with_buffers(&like, vec![Buffer::from_iter(keys)])
}

fn malformed_texts() -> Vec<(&'static str, ArrayRef)> {
    let good: ArrayRef = Arc::new(StringArray::from(vec!["Cooks", "Cooks", "Cooks"]));
    let long = |length: u128, buffer: u128, offset: u128| length | buffer << 64 | offset << 96;
    vec![
        ("an offset falls", texts([0, 2, 1, 3], b"abc")),
        ("an offset is negative", texts([0, -2, 1, 3], b"abc")),
        ("an offset leaves the data", texts([0, 1, 2, 9], b"abc")),
        ("a large offset falls", large_texts([0, 2, 1, 3], b"abc")),
        (
            "a large offset is huge",
            large_texts([0, 1, i64::MAX, 3], b"abc"),
        ),
        (
            "a large offset is least",
            large_texts([i64::MIN, 1, 2, 3], b"abc"),
        ),
        ("bytes are no UTF-8", texts([0, 1, 2, 3], b"a\xffb")),
        ("a character is cut", texts([0, 1, 2, 3], "äb".as_bytes())),
        ("a view has no buffer", views(long(20, 7, 0), b"abc")),
        (
            "a view leaves its buffer",
            views(long(20, 0, 1), &[b'a'; 20]),
        ),
        (
            "a view is longer than all",
            views(long(u32::MAX.into(), 0, u32::MAX.into()), b"abc"),
        ),
        ("a short view is no UTF-8", views(2 | 0xffff << 32, b"")),
        (
            "a key is behind the values",
            keyed::<Int32Type>([0, 3, 1], good.clone()),
        ),
        (
            "a key is negative",
            keyed::<Int8Type>([0, -1, 1], good.clone()),
        ),
        (
            "a key is greatest",
            keyed::<UInt32Type>([0, u32::MAX, 1], good),
        ),
        (
            "a value falls",
            keyed::<Int32Type>([0, 1, 2], texts([0, 2, 1, 3], b"abc")),
        ),
        (
            "a value leaves its data",
            keyed::<Int32Type>([2, 2, 2], texts([0, 1, 2, 9], b"abc")),
        ),
        (
            "a value is no UTF-8",
            keyed::<Int32Type>([0, 1, 2], views(1 | 0xff << 32, b"")),
        ),
    ]
}

fn malformed_integers() -> Vec<(&'static str, ArrayRef)> {
    let values: ArrayRef = Arc::new(Int64Array::from(vec![1990, 1991, 1992]));
    vec![
        (
            "a key is behind the integers",
            keyed::<Int32Type>([0, 3, 1], values.clone()),
        ),
        (
            "a key to integers is negative",
            keyed::<Int32Type>([0, -1, 1], values),
        ),
    ]
}

fn options() -> Options {
    Options {
        codes: vec!["0".to_owned()],
        titles: vec!["Cooks".to_owned()],
        ..Options::default()
    }
}

/// A sound panel but for one column.
fn panel_with(column: &str, array: &ArrayRef) -> RecordBatch {
    let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; ROWS])) };
    let columns = COLUMNS.map(|name| {
        let sound = match name {
            "worker_id" => Arc::new(Int64Array::from(vec![1, 1, 1])),
            "year" => Arc::new(Int64Array::from(vec![1990, 1991, 1992])) as ArrayRef,
            _ => text("Cooks"),
        };
        let array = if name == column { array.clone() } else { sound };
        (name, array, true)
    });
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn refused(column: &str, what: &str, array: &ArrayRef) {
    let batch = panel_with(column, array);
    let named = |message: String, how: &str| {
        let expected = format!("the column '{column}' cannot be read");
        assert!(message.starts_with(&expected), "{what}, {how}: {message}");
    };
    let error = check(&batch.schema(), std::slice::from_ref(&batch), &options());
    named(error.unwrap_err().to_string(), "whole");
    let halves = [batch.slice(0, 2), batch.slice(2, 1)];
    let error = check(&batch.schema(), &halves, &options());
    named(error.unwrap_err().to_string(), "in halves");
    for rows in [1, ROWS] {
        let source = RecordBatchIterator::new([Ok(batch.clone())], batch.schema());
        let mut stream = Stream::new(Box::new(source), options(), None, rows);
        let error = stream.find_map(Result::err).unwrap();
        named(error.to_string(), "streamed");
    }
}

#[test]
fn text_that_is_none_is_an_error_that_names_its_column() {
    for (what, array) in malformed_texts() {
        for column in COLUMNS.iter().filter(|&&column| column != "year") {
            refused(column, what, &array);
        }
    }
}

#[test]
fn columns_that_are_only_passed_on_are_looked_at_too() {
    let like = BinaryArray::from_vec(vec![b"", b"", b""]);
    let buffers = vec![Buffer::from_iter([0, 2, 1, 3]), Buffer::from(b"abc")];
    refused(
        "region",
        "bytes whose offset falls",
        &with_buffers(&like, buffers),
    );
}

#[test]
fn keys_to_integers_out_of_range_are_an_error_that_names_their_column() {
    for (what, array) in malformed_integers() {
        for column in [
            "worker_id",
            "year",
            "occupation",
            "education",
            "gender",
            "region",
        ] {
            refused(column, what, &array);
        }
    }
}
