//! Tables of fragments and the cursor that prints them.

use crate::fragments::{Cursor, Places, Table};

/// Fragments and codes drawn from bytes: what is printed is the fragments one after another, and nothing else is
/// written.
pub fn fragments(data: &[u8]) {
    let (head, codes) = data.split_at(data.len() / 2);
    let mut fragments: Vec<Vec<u8>> = head
        .split(|&byte| byte % 16 == 0)
        .map(|title| [b" ", title, b"\n"].concat())
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
    let spans: Vec<(i64, i64)> = codes
        .iter()
        .scan(0, |end, &code| {
            let start = *end;
            *end += fragments[code as usize].len() as i64;
            Some((start + 1, *end - 1))
        })
        .collect();
    let singly = |cursor: &mut Cursor<u8>| {
        for &code in &codes {
            cursor.put_title(&table, code);
        }
    };
    assert_eq!(
        printed(expected.len(), codes.len(), singly),
        (expected.clone(), spans.clone())
    );
    let pairs = codes.chunks_exact(2);
    let (odd, last) = (
        pairs.remainder(),
        expected.len() - table.length(pairs.remainder()),
    );
    let (leads, titles): (Vec<u32>, Vec<u32>) = pairs.map(|pair| (pair[0], pair[1])).unzip();
    let paired = |cursor: &mut Cursor<u8>| cursor.put_pairs((&table, &leads), (&table, &titles));
    let seconds = spans[..codes.len() - odd.len()].iter().skip(1).step_by(2);
    let second = (expected[..last].to_vec(), seconds.copied().collect());
    assert_eq!(printed(last, titles.len(), paired), second);
}

/// One text of so many bytes and rows, and the spans of its titles; what lies behind it stays as it was.
fn printed(
    length: usize,
    rows: usize,
    print: impl Fn(&mut Cursor<u8>),
) -> (Vec<u8>, Vec<(i64, i64)>) {
    let mut out = vec![0xAB; length + 3];
    let (mut starts, mut stops, mut ends) = (vec![0; rows], vec![0; rows], vec![0]);
    let places = Places {
        values: &mut out[..length],
        starts: &mut starts,
        stops: &mut stops,
        ends: &mut ends,
    };
    let mut cursor = Cursor::new(places, 5);
    print(&mut cursor);
    cursor.end_text();
    assert_eq!(ends, [length as i64 + 5]);
    assert_eq!(out.split_off(length), [0xAB; 3]);
    (out, starts.into_iter().zip(stops).collect())
}
