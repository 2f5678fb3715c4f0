//! Tables of fragments and the cursor that prints them.

use crate::fragments::{Cursor, Places, Table};
use crate::pool::Printable;

/// Fragments and codes drawn from bytes: what is printed is the fragments one after another, and nothing else is
/// written.
pub fn fragments(data: &[u8]) {
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
    let table = Table::<u8, 64>::new(fragments.clone());
    assert_eq!(table.length(&codes), expected.len());
    let mut out = vec![0xAB; expected.len() + 3];
    let (mut starts, mut stops, mut ends) = (vec![0; codes.len()], vec![0; codes.len()], vec![0]);
    let places = Places {
        values: &mut out[..expected.len()],
        starts: &mut starts,
        stops: &mut stops,
        ends: &mut ends,
    };
    let mut cursor = Cursor::new(places, 5, (0, 0));
    for &code in &codes {
        cursor.put_title(&table, code);
    }
    cursor.end_text(&[]);
    assert_eq!(out[..expected.len()], expected);
    assert_eq!(out[expected.len()..], [0xAB; 3]);
    assert_eq!(ends, [expected.len() as i64 + 5]);
    for (code, (start, stop)) in codes.iter().zip(starts.iter().zip(&stops)) {
        assert_eq!((stop - start) as usize, fragments[*code as usize].len());
    }
    assert_eq!(<u8 as Printable>::place(3), 3);
}
