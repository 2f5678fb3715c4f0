//! What may follow each of a batch of states as bits, in the layout of engines for grammars.

use super::steps::same_rows;
use super::{Label, Subsets, TitleTrie, with_labels};
use crate::{Error, Result};

/// A row of a bitmask is cleared, and the root's copied, as a whole where there is an edge for every so many words.
const CROWD: usize = 16;

impl TitleTrie {
    /// Set the bit of every token that may follow each state, and no other: bit t of a row is bit t % 32 of its word
    /// t / 32.
    ///
    /// `bitmask` holds `width` words a row. With `previous`, it holds the bits of those states and no others, and only
    /// their words are cleared. The subsets are those of `states`; `previous` may have been filled under others.
    ///
    /// # Errors
    /// A state this trie does not have; rows too narrow for its tokens; lengths that do not agree.
    pub fn fill_bitmask(
        &self,
        states: &[u32],
        bitmask: &mut [i32],
        width: usize,
        previous: Option<&[u32]>,
        subsets: Option<&Subsets<'_>>,
    ) -> Result<()> {
        let needed = (self.vocabulary as usize).div_ceil(32);
        if width < needed {
            return Err(Error::NarrowBitmask { width, needed });
        }
        same_rows(states, "rows of the bitmask", bitmask.len() / width.max(1))?;
        same_rows(
            states,
            "previous states",
            previous.map_or(states.len(), <[u32]>::len),
        )?;
        self.check_states(states)?;
        self.check_states(previous.unwrap_or_default())?;
        subsets.map_or(Ok(()), |subsets| subsets.check(states.len()))?;
        with_labels!(&self.labels, labels => self.fill(labels, states, bitmask, width, previous, subsets))
    }

    fn fill<L: Label>(
        &self,
        labels: &[L],
        states: &[u32],
        bitmask: &mut [i32],
        width: usize,
        previous: Option<&[u32]>,
        subsets: Option<&Subsets<'_>>,
    ) -> Result<()> {
        let place = |edge: usize| {
            let token = labels[edge].token();
            (token as usize / 32, 1 << (token % 32))
        };
        let rows = states.iter().zip(bitmask.chunks_exact_mut(width));
        for (row, (&state, words)) in rows.enumerate() {
            let old = previous.map(|previous| self.edges_from(previous[row]));
            match old.filter(|old| old.len() * CROWD < width) {
                Some(old) => old.for_each(|edge| words[place(edge).0] = 0),
                None => words.fill(0),
            }
            let edges = self.edges_from(state);
            let crowd = edges.len() * CROWD >= width;
            let mut set = |edge| {
                let (word, bit) = place(edge);
                words[word] |= bit;
            };
            match subsets {
                None if state == 0 && crowd && !self.root.is_empty() => {
                    words[..self.root.len()].copy_from_slice(&self.root)
                }
                None => edges.for_each(set),
                Some(subsets) => {
                    let nodes = subsets.row(row)?;
                    edges
                        .filter(|&edge| nodes.holds(edge + 1))
                        .for_each(&mut set);
                }
            }
        }
        Ok(())
    }
}
