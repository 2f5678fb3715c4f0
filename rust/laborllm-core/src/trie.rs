//! The token sequences of J titles as a trie whose arrays are two flat vectors.

use crate::{Error, Result};

/// A trie over token ids in level order.
///
/// The edges of node `n` are `first[n]..first[n + 1]`, ascending by token, and edge `e` leads to node `e + 1`: node 0
/// is the root, no child list is stored. Every title ends in a leaf, since no unit begins another.
#[derive(Debug, Clone)]
pub struct TitleTrie {
    first: Vec<u32>,
    labels: Vec<u32>,
    title_of: Vec<i32>,
}

impl TitleTrie {
    /// Build from one unit (the tokens of title and terminator) per title, in the order of the titles.
    ///
    /// Cost: a sort of the units and one pass over their tokens.
    ///
    /// # Errors
    /// An empty unit, two equal units, or a unit that begins another; rows are positions in `units`.
    pub fn new(units: &[Vec<u32>]) -> Result<Self> {
        let order = checked_order(units)?;
        let tokens = units.iter().map(Vec::len).sum::<usize>();
        if tokens >= i32::MAX as usize {
            return Err(Error::TrieSize { tokens });
        }
        let (mut first, mut labels, mut title_of) = (vec![0], Vec::new(), Vec::new());
        let mut level = vec![(0, order.len())];
        let mut depth = 0;
        while !level.is_empty() {
            let mut next = Vec::new();
            for (low, high) in level {
                let leaf = high - low == 1 && units[order[low]].len() == depth;
                title_of.push(if leaf { order[low] as i32 } else { -1 });
                let mut start = low;
                while !leaf && start < high {
                    let token = units[order[start]][depth];
                    let same = order[start..high]
                        .iter()
                        .take_while(|&&unit| units[unit][depth] == token)
                        .count();
                    labels.push(token);
                    next.push((start, start + same));
                    start += same;
                }
                first.push(labels.len() as u32);
            }
            level = next;
            depth += 1;
        }
        Ok(Self {
            first,
            labels,
            title_of,
        })
    }

    /// Nodes, the root among them.
    pub fn num_nodes(&self) -> usize {
        self.title_of.len()
    }

    /// First edge of each node, then the number of edges.
    pub fn first(&self) -> &[u32] {
        &self.first
    }

    /// Token of each edge.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The title that ends at each node, -1 where none does.
    pub fn title_of(&self) -> &[i32] {
        &self.title_of
    }

    /// Tokens that may follow a node, ascending; empty at a leaf, None for a node this trie does not have.
    pub fn allowed(&self, state: u32) -> Option<&[u32]> {
        let state = state as usize;
        let (low, high) = (self.first.get(state)?, self.first.get(state + 1)?);
        self.labels.get(*low as usize..*high as usize)
    }

    /// The node after one token, None where the token is not allowed.
    pub fn advance(&self, state: u32, token: u32) -> Option<u32> {
        let low = *self.first.get(state as usize)?;
        let edge = self.allowed(state)?.binary_search(&token).ok()?;
        Some(low + edge as u32 + 1)
    }

    /// The node after several tokens from the root.
    pub fn walk(&self, tokens: &[u32]) -> Option<u32> {
        tokens
            .iter()
            .try_fold(0, |state, &token| self.advance(state, token))
    }

    /// The title that ends at a node.
    pub fn title(&self, state: u32) -> Option<u32> {
        self.title_of
            .get(state as usize)
            .and_then(|&title| u32::try_from(title).ok())
    }
}

/// Positions of the units in lexicographic order, once no unit is empty, repeated or the beginning of another.
fn checked_order(units: &[Vec<u32>]) -> Result<Vec<usize>> {
    if let Some(row) = units.iter().position(Vec::is_empty) {
        return Err(Error::EmptyUnit { row });
    }
    let mut order: Vec<usize> = (0..units.len()).collect();
    order.sort_by_key(|&unit| &units[unit]);
    for pair in order.windows(2) {
        let (shorter, longer) = (pair[0], pair[1]);
        if units[shorter] == units[longer] {
            return Err(Error::RepeatedUnit {
                rows: [shorter, longer],
            });
        }
        if units[longer].starts_with(&units[shorter]) {
            return Err(Error::PrefixUnit { shorter, longer });
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn every_unit_and_nothing_else_ends_in_its_title(
            bodies in prop::collection::btree_set(prop::collection::vec(0u32..4, 0..5), 1..40),
        ) {
            let units: Vec<Vec<u32>> = bodies.iter().map(|body| body.iter().copied().chain([9]).collect()).collect();
            let trie = TitleTrie::new(&units).map_err(|error| TestCaseError::fail(error.to_string()))?;
            let prefixes: BTreeSet<&[u32]> = units.iter().flat_map(|unit| (0..=unit.len()).map(|end| &unit[..end])).collect();
            prop_assert_eq!(trie.num_nodes(), prefixes.len());
            prop_assert_eq!(trie.labels().len() + 1, trie.num_nodes());
            for (row, unit) in units.iter().enumerate() {
                let end = trie.walk(unit);
                prop_assert_eq!(end.and_then(|state| trie.title(state)), Some(row as u32));
                prop_assert_eq!(end.and_then(|state| trie.allowed(state)), Some(&[][..]));
                for depth in 0..unit.len() {
                    let allowed: BTreeSet<u32> = units.iter().filter(|other| other.starts_with(&unit[..depth])).map(|other| other[depth]).collect();
                    let state = trie.walk(&unit[..depth]).unwrap_or(u32::MAX);
                    prop_assert_eq!(trie.allowed(state), Some(&allowed.into_iter().collect::<Vec<_>>()[..]));
                    prop_assert_eq!(trie.title(state), None);
                }
            }
        }
    }

    #[test]
    fn units_that_cannot_be_told_apart_are_refused_by_row() {
        let new = |units: &[&[u32]]| {
            TitleTrie::new(&units.iter().map(|unit| unit.to_vec()).collect::<Vec<_>>()).err()
        };
        assert_eq!(new(&[&[1], &[]]), Some(Error::EmptyUnit { row: 1 }));
        assert_eq!(
            new(&[&[5, 6], &[1], &[5, 6]]),
            Some(Error::RepeatedUnit { rows: [0, 2] })
        );
        assert_eq!(
            new(&[&[5, 6, 7], &[1], &[5, 6]]),
            Some(Error::PrefixUnit {
                shorter: 2,
                longer: 0
            })
        );
        assert_eq!(TitleTrie::new(&[]).map(|trie| trie.num_nodes()), Ok(1));
    }
}
