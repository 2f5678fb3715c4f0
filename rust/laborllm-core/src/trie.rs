//! The token sequences of titles as a trie of flat arrays: which tokens may come next, and which title has been said.

mod bitmask;
mod build;
mod check;
mod import;
mod sort;
mod steps;
mod subsets;
#[cfg(test)]
mod tests;

use arrow_buffer::{ArrowNativeType, ScalarBuffer};

use crate::{Error, Result};

pub use steps::Forced;
pub use subsets::Subsets;

/// The state of a sequence that left the trie; no trie has this node.
pub const NOWHERE: u32 = u32::MAX;
/// Tokens up to which the root's bitmask is kept: it is the one with many bits, and copied sooner than set.
const KEPT: u32 = 1 << 22;
/// Nodes for which one count of leaves is kept.
const BLOCK: usize = 512;

/// A trie over token ids in level order.
///
/// The edges of node `n` are `first[n]..first[n + 1]`, ascending by token, and edge `e` leads to node `e + 1`: node 0
/// is the root, no child list is stored. Every title ends in a leaf, since no unit begins another. A sequence's state
/// is its node. Memory: 6.2 bytes a node (8.2 where tokens exceed 65,535), 4 a title, and a bit for each token up to the
/// greatest.
#[derive(Debug, Clone)]
pub struct TitleTrie {
    first: ScalarBuffer<u32>,
    labels: Labels,
    /// The title of each leaf, in the order of nodes.
    titles: ScalarBuffer<u32>,
    /// Bit n: node n is a leaf.
    leaves: Vec<u64>,
    /// Leaves before each block of nodes.
    ranks: Vec<u32>,
    vocabulary: u32,
    /// The bitmask of what may follow the root; empty where tokens exceed [`KEPT`].
    root: Vec<i32>,
}

/// The token of each edge.
#[derive(Debug, Clone, PartialEq)]
pub enum Labels {
    /// Where no token exceeds 65,535.
    Narrow(ScalarBuffer<u16>),
    /// Where one does.
    Wide(ScalarBuffer<u32>),
}

/// One kind of labels.
pub trait Label: ArrowNativeType + Ord {
    /// A token, which is known to fit.
    fn new(token: u32) -> Self;
    /// The token.
    fn token(self) -> u32;
    /// The array of them.
    fn wrap(labels: ScalarBuffer<Self>) -> Labels;
}

impl Label for u16 {
    fn new(token: u32) -> Self {
        token as u16
    }

    fn token(self) -> u32 {
        self.into()
    }

    fn wrap(labels: ScalarBuffer<Self>) -> Labels {
        Labels::Narrow(labels)
    }
}

impl Label for u32 {
    fn new(token: u32) -> Self {
        token
    }

    fn token(self) -> u32 {
        self
    }

    fn wrap(labels: ScalarBuffer<Self>) -> Labels {
        Labels::Wide(labels)
    }
}

/// Run one expression with the labels as a slice of their kind.
macro_rules! with_labels {
    ($labels:expr, $slice:ident => $body:expr) => {
        match $labels {
            $crate::trie::Labels::Narrow($slice) => $body,
            $crate::trie::Labels::Wide($slice) => $body,
        }
    };
}
use with_labels;

/// The units of J titles: the tokens of each with its terminator, one after another.
#[derive(Debug, Clone, Copy)]
pub struct Units<'a> {
    tokens: &'a [u32],
    offsets: &'a [i64],
}

impl<'a> Units<'a> {
    /// Unit i is `tokens[offsets[i]..offsets[i + 1]]`.
    ///
    /// # Errors
    /// Offsets that are none, fall, or leave the tokens.
    pub fn new(tokens: &'a [u32], offsets: &'a [i64]) -> Result<Self> {
        let (Some(&start), Some(&stop)) = (offsets.first(), offsets.last()) else {
            return Err(Error::UnitOffsets);
        };
        let inside = start >= 0 && stop as usize <= tokens.len();
        if !inside || !offsets.is_sorted() || offsets.len() > i32::MAX as usize {
            return Err(Error::UnitOffsets);
        }
        Ok(Self { tokens, offsets })
    }

    fn len(self) -> usize {
        self.offsets.len() - 1
    }

    #[inline]
    fn get(self, row: usize) -> &'a [u32] {
        &self.tokens[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }

    /// The tokens of all units.
    fn all(self) -> &'a [u32] {
        &self.tokens[self.offsets[0] as usize..self.offsets[self.len()] as usize]
    }
}

impl TitleTrie {
    /// Build from one unit per title, in the order of the titles.
    ///
    /// Cost: a parallel radix sort of the units and two passes over their tokens.
    ///
    /// # Errors
    /// No unit; units that are empty, longer than 512 tokens, equal, or begin another, with all their rows.
    pub fn new(units: Units<'_>) -> Result<Self> {
        build::build(units)
    }

    /// Put together from arrays that came from a trie.
    ///
    /// # Errors
    /// Arrays that are no trie.
    pub fn from_arrays(
        first: ScalarBuffer<u32>,
        labels: Labels,
        titles: ScalarBuffer<u32>,
    ) -> Result<Self> {
        check::check(&first, &labels, &titles)?;
        Ok(Self::known(first, labels, titles))
    }

    fn known(first: ScalarBuffer<u32>, labels: Labels, titles: ScalarBuffer<u32>) -> Self {
        let (leaves, ranks) = leaves(&first);
        let begin = first[1] as usize;
        let (greatest, root) = with_labels!(&labels, labels => {
            let begin = labels[..begin].iter().map(|label| label.token());
            match greatest(labels) {
                greatest if greatest < KEPT => (greatest, bits_of(begin)),
                greatest => (greatest, Vec::new()),
            }
        });
        Self {
            first,
            labels,
            titles,
            leaves,
            ranks,
            vocabulary: greatest + 1,
            root,
        }
    }

    /// Nodes, the root among them.
    pub fn num_nodes(&self) -> usize {
        self.first.len() - 1
    }

    /// Titles.
    pub fn num_titles(&self) -> usize {
        self.titles.len()
    }

    /// Bytes of all arrays.
    pub fn num_bytes(&self) -> usize {
        let labels = with_labels!(&self.labels, labels => labels.inner().len());
        let words = 8 * self.leaves.len() + 4 * (self.ranks.len() + self.root.len());
        self.first.inner().len() + labels + self.titles.inner().len() + words
    }

    /// The greatest token plus one.
    pub fn vocabulary(&self) -> u32 {
        self.vocabulary
    }

    /// First edge of each node, then the number of edges.
    pub fn first(&self) -> &ScalarBuffer<u32> {
        &self.first
    }

    /// Token of each edge.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The title of each leaf, in the order of nodes.
    pub fn titles(&self) -> &ScalarBuffer<u32> {
        &self.titles
    }

    /// CRC-32 of the arrays that make a trie, whose other arrays follow from them.
    pub fn checksum(&self) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        crc.update(bytemuck::cast_slice::<u32, u8>(&self.first));
        with_labels!(&self.labels, labels => crc.update(bytemuck::cast_slice(&labels[..])));
        crc.update(bytemuck::cast_slice::<u32, u8>(&self.titles));
        crc.finalize()
    }

    /// The node at which each of `titles` ends, ascending.
    pub fn leaves(&self) -> Vec<u32> {
        let words = self.leaves.iter().enumerate();
        let nodes = words
            .flat_map(|(word, &bits)| ones(bits).map(move |bit| word as u32 * u64::BITS + bit));
        nodes.collect()
    }

    /// The title that ends at a node.
    pub fn title(&self, node: u32) -> Option<u32> {
        let (word, bit) = (node as usize / 64, node % 64);
        let bits = *self.leaves.get(word)?;
        if bits >> bit & 1 == 0 {
            return None;
        }
        let block = node as usize / BLOCK;
        let before = self.leaves[block * (BLOCK / 64)..word].iter();
        let before: u32 = before.map(|bits| bits.count_ones()).sum();
        let rank = self.ranks[block] + before + (bits & ((1 << bit) - 1)).count_ones();
        self.titles.get(rank as usize).copied()
    }

    /// The edges of a node, which is known.
    #[inline]
    fn edges_of(&self, node: u32) -> std::ops::Range<usize> {
        self.first[node as usize] as usize..self.first[node as usize + 1] as usize
    }
}

fn greatest<L: Label>(labels: &[L]) -> u32 {
    let greatest = labels
        .iter()
        .fold(L::default(), |greatest, &label| greatest.max(label));
    greatest.token()
}

/// A bitmask with the bits of ascending tokens.
fn bits_of(tokens: impl Iterator<Item = u32>) -> Vec<i32> {
    let mut words = Vec::new();
    for token in tokens {
        words.resize(token as usize / 32 + 1, 0);
        words[token as usize / 32] |= 1 << (token % 32);
    }
    words
}

/// The bits that are set.
fn ones(mut bits: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = (bits != 0).then(|| bits.trailing_zeros());
        bits &= bits.wrapping_sub(1);
        bit
    })
}

/// Take so many elements off the front.
fn cut<'a, T>(rest: &mut &'a mut [T], many: usize) -> &'a mut [T] {
    let (front, behind) = std::mem::take(rest).split_at_mut(many);
    *rest = behind;
    front
}

/// Which nodes have no edges, as bits, and how many of them stand before each block.
fn leaves(first: &[u32]) -> (Vec<u64>, Vec<u32>) {
    use rayon::prelude::*;
    let nodes = first.len() - 1;
    let word = |word: usize| {
        let around = &first[word * 64..=nodes.min(word * 64 + 64)];
        let pairs = around.iter().zip(&around[1..]).enumerate();
        pairs.fold(0, |bits, (bit, (start, stop))| {
            bits | u64::from(start == stop) << bit
        })
    };
    let words = (0..nodes.div_ceil(64)).into_par_iter().with_min_len(BLOCK);
    let leaves: Vec<u64> = words.map(word).collect();
    let counts = leaves
        .chunks(BLOCK / 64)
        .map(|block| block.iter().map(|bits| bits.count_ones()).sum::<u32>());
    let ranks = counts.scan(0, |before, count| {
        let rank = *before;
        *before += count;
        Some(rank)
    });
    let ranks = ranks.collect();
    (leaves, ranks)
}
