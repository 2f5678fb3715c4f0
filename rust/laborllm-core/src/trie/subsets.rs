//! Which nodes lead to one of some titles: a bitmap over nodes for each set of titles.

use super::TitleTrie;
use crate::{Error, Result};

/// Sets of titles as bitmaps over the nodes of one trie, and which of them holds for each row.
#[derive(Debug, Clone, Copy)]
pub struct Subsets<'a> {
    bitmaps: &'a [u64],
    words: usize,
    which: Option<&'a [i64]>,
}

/// One of the bitmaps.
#[derive(Clone, Copy)]
pub(super) struct Nodes<'a>(&'a [u64]);

impl Nodes<'_> {
    #[inline]
    pub fn holds(self, node: usize) -> bool {
        self.0[node / 64] >> (node % 64) & 1 == 1
    }
}

impl<'a> Subsets<'a> {
    /// Bitmaps that [`TitleTrie::restrict`] gave, one after another.
    ///
    /// Row b is under bitmap `which[b]`; without `which` under bitmap b, or under the only one.
    ///
    /// # Errors
    /// Bitmaps that are not of this trie.
    pub fn new(
        trie: &TitleTrie,
        bitmaps: &'a [u64],
        words: usize,
        which: Option<&'a [i64]>,
    ) -> Result<Self> {
        let needed = trie.num_nodes().div_ceil(64);
        if words != needed || bitmaps.is_empty() || !bitmaps.len().is_multiple_of(words) {
            return Err(Error::SubsetWords { words, needed });
        }
        Ok(Self {
            bitmaps,
            words,
            which,
        })
    }

    fn len(&self) -> usize {
        self.bitmaps.len() / self.words
    }

    pub(super) fn check(&self, rows: usize) -> Result<()> {
        let given = self.which.map_or(self.len(), <[i64]>::len);
        if given != rows && (self.which.is_some() || given != 1) {
            let what = if self.which.is_some() {
                "entries of which"
            } else {
                "subsets"
            };
            return Err(Error::BatchRows {
                states: rows,
                what,
                other: given,
            });
        }
        (0..rows).try_for_each(|row| self.row(row).map(drop))
    }

    #[inline]
    pub(super) fn row(&self, row: usize) -> Result<Nodes<'a>> {
        let subset = match self.which {
            Some(which) => which.get(row).copied().unwrap_or(-1),
            None if self.len() == 1 => 0,
            None => row as i64,
        };
        let start = usize::try_from(subset)
            .ok()
            .and_then(|subset| subset.checked_mul(self.words));
        let bits = start.and_then(|start| self.bitmaps.get(start..)?.get(..self.words));
        bits.map(Nodes).ok_or_else(|| Error::UnknownSubset {
            row,
            subset,
            subsets: self.len(),
        })
    }
}

impl TitleTrie {
    /// The nodes that lead to one of some titles, the root always among them: one bit a node.
    ///
    /// Cost: one pass over the nodes.
    ///
    /// # Errors
    /// Another number of titles than the trie's.
    pub fn restrict(&self, titles: &[bool]) -> Result<Vec<u64>> {
        if titles.len() != self.num_titles() {
            return Err(Error::SubsetTitles {
                titles: titles.len(),
                expected: self.num_titles(),
            });
        }
        let mut bits = vec![0_u64; self.num_nodes().div_ceil(64)];
        for (node, &title) in self.leaves().into_iter().zip(self.titles.iter()) {
            bits[node as usize / 64] |= u64::from(titles[title as usize]) << (node % 64);
        }
        for node in (0..self.num_nodes()).rev() {
            let edges = self.edges_of(node as u32);
            let nodes = Nodes(&bits);
            if edges.into_iter().any(|edge| nodes.holds(edge + 1)) {
                bits[node / 64] |= 1 << (node % 64);
            }
        }
        bits[0] |= 1;
        Ok(bits)
    }
}
