//! Distinct texts and their codes: a table that compares texts by words of eight bytes.

use arrow_schema::ArrowError;
use hashbrown::HashTable;

/// Texts up to this length are told apart by their words alone.
const SHORT: usize = 32;
/// By length of a text: which bits of its four words belong to it.
const MASKS: [[u64; 4]; SHORT + 1] = masks();
const FACTORS: [u64; 4] = [
    0x9e37_79b9_7f4a_7c15,
    0xc2b2_ae3d_27d4_eb4f,
    0x1656_67b1_9e37_79f9,
    0xd6e8_feb8_6659_fd93,
];

/// Where a text stands, not yet looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub data: &'a [u8],
    pub start: usize,
    pub end: usize,
}

/// Texts in the order in which they were first seen; the code of a text is its place among them.
#[derive(Default)]
pub(crate) struct Distinct<'a> {
    table: HashTable<Entry>,
    pub texts: Vec<&'a str>,
}

struct Entry {
    words: [u64; 4],
    hash: u64,
    /// Capped: what is longer than [`SHORT`] is compared byte by byte anyway.
    length: u32,
    code: i32,
}

impl<'a> Distinct<'a> {
    /// The code of a text, -1 for the empty one.
    ///
    /// # Errors
    /// A place outside its data; text that is not UTF-8; more texts than codes.
    #[inline]
    pub fn code(&mut self, place: Place<'a>) -> Result<i32, ArrowError> {
        let Some(bytes) = place.data.get(place.start..place.end) else {
            return Err(outside());
        };
        if bytes.is_empty() {
            return Ok(-1);
        }
        let words = words(place.data, place.start, bytes);
        let (hash, length) = (
            hash(&words, bytes),
            bytes.len().min(u32::MAX as usize) as u32,
        );
        let texts = &self.texts;
        let same = |entry: &Entry| {
            same_words(&entry.words, &words)
                && entry.length == length
                && (bytes.len() <= SHORT || texts[entry.code as usize].as_bytes() == bytes)
        };
        match self.table.find(hash, same) {
            Some(entry) => Ok(entry.code),
            None => self.insert(words, hash, length, bytes),
        }
    }

    #[cold]
    fn insert(
        &mut self,
        words: [u64; 4],
        hash: u64,
        length: u32,
        bytes: &'a [u8],
    ) -> Result<i32, ArrowError> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            ArrowError::InvalidArgumentError(format!("it holds text that is not UTF-8: {error}"))
        })?;
        let code = i32::try_from(self.texts.len()).map_err(|_| many())?;
        self.texts.push(text);
        let entry = Entry {
            words,
            hash,
            length,
            code,
        };
        self.table.insert_unique(hash, entry, |entry| entry.hash);
        Ok(code)
    }
}

/// Offsets, views or keys that point nowhere.
pub(crate) fn outside() -> ArrowError {
    ArrowError::InvalidArgumentError("an offset or key points outside of its data".to_owned())
}

/// More distinct texts than 32-bit codes.
pub(crate) fn many() -> ArrowError {
    ArrowError::InvalidArgumentError("it holds more than 2³¹ distinct texts".to_owned())
}

/// The text itself, padded with zeros, where it is short; else its first 24 and its last 8 bytes.
#[inline]
fn words(data: &[u8], start: usize, bytes: &[u8]) -> [u64; 4] {
    let length = bytes.len();
    if length > SHORT
        && let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk::<8>())
    {
        let [a, b, c, _] = split(first);
        return [a, b, c, u64::from_le_bytes(*last)];
    }
    let mask = &MASKS[length.min(SHORT)];
    let rest = data.get(start..).unwrap_or_default();
    let loaded = match rest.first_chunk::<SHORT>() {
        Some(window) => split(window),
        None => loaded(bytes),
    };
    std::array::from_fn(|at| loaded[at] & mask[at])
}

/// Up to 32 bytes as little-endian words.
fn loaded(bytes: &[u8]) -> [u64; 4] {
    let mut padded = [0; SHORT];
    let length = bytes.len().min(SHORT);
    padded[..length].copy_from_slice(&bytes[..length]);
    split(&padded)
}

#[inline]
fn split(window: &[u8; SHORT]) -> [u64; 4] {
    let (words, _) = window.as_chunks::<8>();
    std::array::from_fn(|at| u64::from_le_bytes(words[at]))
}

/// Word by word: arrays would be written to memory to be compared there.
#[inline]
fn same_words(a: &[u64; 4], b: &[u64; 4]) -> bool {
    (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) == 0
}

#[inline]
fn hash(words: &[u64; 4], bytes: &[u8]) -> u64 {
    let [a, b, c, d] = FACTORS;
    let length = bytes.len() as u64;
    let mut hash = folded(words[0] ^ a ^ length, words[1] ^ b) ^ folded(words[2] ^ c, words[3] ^ d);
    if bytes.len() > SHORT {
        let (middle, rest) = bytes[24..].as_chunks::<8>();
        for word in middle {
            hash = folded(hash ^ u64::from_le_bytes(*word), a);
        }
        // the rest stands in the last word already
        hash ^= rest.len() as u64;
    }
    hash
}

/// The high and the low half of a product.
#[inline]
fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64
}

const fn masks() -> [[u64; 4]; SHORT + 1] {
    let mut masks = [[0; 4]; SHORT + 1];
    let mut length = 0;
    while length <= SHORT {
        let mut byte = 0;
        while byte < length {
            masks[length][byte / 8] |= 0xff << (byte % 8 * 8);
            byte += 1;
        }
        length += 1;
    }
    masks
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use proptest::prelude::*;

    fn code<'a>(distinct: &mut Distinct<'a>, data: &'a str, start: usize, end: usize) -> i32 {
        let data = data.as_bytes();
        distinct.code(Place { data, start, end }).unwrap()
    }

    proptest! {
        #[test]
        fn texts_get_the_codes_that_a_map_gives_them(
            texts in prop::collection::vec("[ab\u{0}]{0,3}|[ab]{5,10}|x{20,36}[ab]{0,2}x{6,12}", 0..60)
        ) {
            let all = texts.concat();
            let (mut distinct, mut map) = (Distinct::default(), HashMap::new());
            let mut start = 0;
            for text in &texts {
                let known = map.len() as i32;
                let expected = if text.is_empty() { -1 } else { *map.entry(text).or_insert(known) };
                prop_assert_eq!(code(&mut distinct, &all, start, start + text.len()), expected);
                start += text.len();
            }
            prop_assert_eq!(distinct.texts.len(), map.len());
        }
    }

    #[test]
    fn long_texts_that_differ_in_one_middle_byte_hash_apart() {
        let text = |digit: usize| format!("{}{digit:06}{}", "a".repeat(40), "b".repeat(40));
        let hashes = (0..1000).map(|digit| {
            let text = text(digit);
            hash(&words(text.as_bytes(), 0, text.as_bytes()), text.as_bytes())
        });
        let distinct: std::collections::HashSet<u64> = hashes.collect();
        assert_eq!(distinct.len(), 1000);
    }

    #[test]
    fn what_is_no_text_is_an_error() {
        let mut distinct = Distinct::default();
        let mut refused = |data: &'static [u8], start, end| {
            let error = distinct.code(Place { data, start, end }).unwrap_err();
            error.to_string()
        };
        assert!(refused(b"abc", 1, 4).contains("outside of its data"));
        assert!(refused(b"abc", 2, 1).contains("outside of its data"));
        assert!(refused(b"abc", usize::MAX, 1).contains("outside of its data"));
        assert!(refused(b"a\xff", 0, 2).contains("not UTF-8"));
    }
}
