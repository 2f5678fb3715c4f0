//! Tries from any units and from any arrays: a walk never leaves them.

use std::collections::{BTreeMap, BTreeSet};

use arrow_buffer::ScalarBuffer;

use super::{Choices, one_line};
use crate::trie::{Labels, NOWHERE, TitleTrie, Units};

/// Build a trie of units and hold it to its units; then damage its arrays and hold what is still a trie to its edges.
pub fn tries(input: &[u8]) {
    let mut choices = Choices(input);
    let (tokens, offsets) = units(&mut choices);
    let Some(trie) = built(&tokens, &offsets) else {
        return;
    };
    if let Some(trie) = damaged(&trie, &mut choices) {
        walked(&trie);
    }
}

fn units(choices: &mut Choices<'_>) -> (Vec<u32>, Vec<i64>) {
    let known = [
        0,
        1,
        2,
        3,
        255,
        65_535,
        65_536,
        i32::MAX as u32 - 1,
        i32::MAX as u32,
        u32::MAX,
    ];
    let usual = if choices.once_in(8) { known.len() } else { 4 };
    let (mut tokens, mut offsets) = (Vec::new(), vec![0]);
    let (distinct, mut seen) = (!choices.once_in(8), BTreeSet::new());
    for _ in 0..choices.below(60) {
        let many = if choices.once_in(250) {
            600
        } else {
            choices.below(7)
        };
        tokens.extend((0..many).map(|_| known[choices.below(usual)]));
        if !choices.once_in(200) {
            tokens.push(9);
        }
        let start = *offsets.last().unwrap() as usize;
        if distinct && !seen.insert(tokens[start..].to_vec()) {
            tokens.truncate(start);
        } else {
            offsets.push(tokens.len() as i64);
        }
    }
    if choices.once_in(16) {
        let at = choices.below(offsets.len());
        offsets[at] += i64::from(choices.byte()) - 128;
    }
    (tokens, offsets)
}

fn built(tokens: &[u32], offsets: &[i64]) -> Option<TitleTrie> {
    let units = Units::new(tokens, offsets).inspect_err(one_line).ok()?;
    let trie = TitleTrie::new(units).inspect_err(one_line).ok()?;
    let mut titles = BTreeMap::new();
    for (row, pair) in offsets.windows(2).enumerate() {
        let unit = tokens[pair[0] as usize..pair[1] as usize].iter();
        titles.insert(
            unit.map(|&token| i64::from(token)).collect::<Vec<_>>(),
            row as i64,
        );
    }
    let ends = trie.walk(titles.keys().map(Vec::as_slice));
    let found = trie.title_of(&ends).unwrap();
    assert!(titles.values().eq(&found), "{tokens:?} {offsets:?}");
    walked(&trie);
    Some(trie)
}

/// A number of one of the arrays becomes another, or an array becomes shorter.
fn damaged(trie: &TitleTrie, choices: &mut Choices<'_>) -> Option<TitleTrie> {
    let mut first = trie.first().to_vec();
    let mut titles = trie.titles().to_vec();
    let mut labels: Vec<u32> = match trie.labels() {
        Labels::Narrow(labels) => labels.iter().map(|&label| label.into()).collect(),
        Labels::Wide(labels) => labels.to_vec(),
    };
    for _ in 0..=choices.below(3) {
        let array = [&mut first, &mut titles, &mut labels][choices.below(3)].as_mut_slice();
        let Some(last) = array.len().checked_sub(1) else {
            continue;
        };
        let at = usize::from(choices.byte()).min(last);
        array[at] = choices.one_of(&[0, 1, 2, 3, array[last], NOWHERE, array[at] ^ 1, 1 << 31]);
    }
    if choices.once_in(4) {
        [&mut first, &mut titles, &mut labels][choices.below(3)].pop();
    }
    let labels = Labels::Wide(ScalarBuffer::from(labels));
    TitleTrie::from_arrays(first.into(), labels, titles.into())
        .inspect_err(one_line)
        .ok()
}

/// Every state gives what may follow it, and every edge leads further.
fn walked(trie: &TitleTrie) {
    let states: Vec<u32> = (0..trie.num_nodes() as u32).chain([NOWHERE]).collect();
    let edges = trie.edges(&states, None).unwrap();
    let tokens: Vec<u32> = match trie.labels() {
        Labels::Narrow(labels) => labels.iter().map(|&label| label.into()).collect(),
        Labels::Wide(labels) => labels.to_vec(),
    };
    assert_eq!(trie.allowed(&tokens, &states, None).unwrap().1, tokens);
    assert!(edges.iter().copied().eq(0..trie.num_nodes() as u32 - 1));
    let next = trie.advance(&edges).unwrap();
    let back = trie.rollback(&next, 1).unwrap();
    assert!(back.iter().zip(&next).all(|(back, next)| back < next));
    let ends = trie.title_of(&states).unwrap();
    assert_eq!(
        ends.iter().filter(|&&title| title >= 0).count(),
        trie.num_titles()
    );
    assert_eq!(trie.forced(&states).unwrap().states.len(), states.len());
    let none = trie.restrict(&vec![false; trie.num_titles()]).unwrap();
    assert_eq!(none.iter().map(|bits| bits.count_ones()).sum::<u32>(), 1);
}
