//! One step for a batch of sequences, whose state is a node each.

use std::ops::Range;

use super::{Label, NOWHERE, Subsets, TitleTrie, with_labels};
use crate::{Error, Result};

/// Up to so many tokens are copied, and searched, without a look at how many there are.
const SHORT: usize = 8;

/// What may follow each of a batch of states.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed<L> {
    /// What may follow state b stands at `indptr[b]..indptr[b + 1]`.
    pub indptr: Vec<i64>,
    /// Tokens, ascending for each state.
    pub tokens: Vec<L>,
    /// The edges that they are: edge e leads to node e + 1.
    pub edges: Vec<u32>,
}

/// Chains of nodes without a choice, one per state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forced {
    /// The tokens that must follow state b stand at `indptr[b]..indptr[b + 1]`.
    pub indptr: Vec<i64>,
    /// Those tokens.
    pub tokens: Vec<u32>,
    /// Where each chain ends: a choice, or the end of a title.
    pub states: Vec<u32>,
}

impl TitleTrie {
    /// The tokens that may follow each state, and their edges; none after a title, nor at [`NOWHERE`].
    ///
    /// `labels` are this trie's. With subsets, only what leads to one of the row's titles.
    ///
    /// # Errors
    /// A state this trie does not have; subsets of another trie, or of another number of rows.
    pub fn allowed<L: Label>(
        &self,
        labels: &[L],
        states: &[u32],
        subsets: Option<&Subsets<'_>>,
    ) -> Result<Allowed<L>> {
        let mut indptr = Vec::with_capacity(states.len() + 1);
        indptr.push(0);
        let (mut tokens, mut edges) = (
            Vec::with_capacity(states.len() * SHORT + SHORT),
            Vec::with_capacity(states.len() * SHORT + SHORT),
        );
        for (row, &state) in states.iter().enumerate() {
            let range = self.known_edges(row, state)?;
            match subsets {
                None => {
                    append(&mut tokens, labels, range.clone());
                    append_range(&mut edges, range);
                }
                Some(subsets) => {
                    let bits = subsets.row(row)?;
                    for edge in range.filter(|&edge| bits.holds(edge + 1)) {
                        tokens.push(labels[edge]);
                        edges.push(edge as u32);
                    }
                }
            }
            indptr.push(tokens.len() as i64);
        }
        Ok(Allowed {
            indptr,
            tokens,
            edges,
        })
    }

    /// The states that edges lead to.
    ///
    /// # Errors
    /// An edge this trie does not have.
    pub fn advance(&self, edges: &[u32]) -> Result<Vec<u32>> {
        let known = self.num_nodes() - 1;
        match edges.iter().position(|&edge| edge as usize >= known) {
            None => Ok(edges.iter().map(|&edge| edge + 1).collect()),
            Some(row) => Err(Error::UnknownEdge {
                edge: edges[row],
                row,
                edges: known,
            }),
        }
    }

    /// The state of each row of tokens, from the root: [`NOWHERE`] where a row leaves the trie.
    ///
    /// What follows the last token of a title is not looked at.
    pub fn walk<'a>(&self, rows: impl Iterator<Item = &'a [i64]>) -> Vec<u32> {
        with_labels!(&self.labels, labels => rows
            .map(|row| {
                let mut state = 0;
                for &token in row {
                    let next = self.next(labels, state, token);
                    if next == state || next == NOWHERE {
                        return next;
                    }
                    state = next;
                }
                state
            })
            .collect())
    }

    /// The state after one more token each: the same one at the end of a title, [`NOWHERE`] for a token not allowed.
    ///
    /// # Errors
    /// A state this trie does not have.
    pub fn step(&self, states: &[u32], tokens: &[i64]) -> Result<Vec<u32>> {
        same_rows(states, "tokens", tokens.len())?;
        with_labels!(&self.labels, labels => {
            let steps = states.iter().zip(tokens).enumerate();
            steps.map(|(row, (&state, &token))| {
                self.known_edges(row, state)?;
                Ok(if state == NOWHERE { state } else { self.next(labels, state, token) })
            })
            .collect()
        })
    }

    #[inline]
    fn next<L: Label>(&self, labels: &[L], state: u32, token: i64) -> u32 {
        let edges = self.edges(state);
        if edges.is_empty() {
            return state;
        }
        let allowed = &labels[edges.clone()];
        let at = if allowed.len() <= SHORT {
            allowed
                .iter()
                .position(|&label| i64::from(label.token()) == token)
        } else {
            allowed
                .binary_search_by(|label| i64::from(label.token()).cmp(&token))
                .ok()
        };
        at.map_or(NOWHERE, |at| (edges.start + at) as u32 + 1)
    }

    /// The tokens that must follow each state, and where they lead.
    ///
    /// # Errors
    /// A state this trie does not have.
    pub fn forced(&self, states: &[u32]) -> Result<Forced> {
        let mut forced = Forced {
            indptr: vec![0],
            ..Forced::default()
        };
        with_labels!(&self.labels, labels => for (row, &state) in states.iter().enumerate() {
            let mut edges = self.known_edges(row, state)?;
            let mut state = state;
            while edges.len() == 1 {
                forced.tokens.push(labels[edges.start].token());
                state = edges.start as u32 + 1;
                edges = self.edges(state);
            }
            forced.indptr.push(forced.tokens.len() as i64);
            forced.states.push(state);
        });
        Ok(forced)
    }

    /// The state so many tokens before each; the root's is the root, [`NOWHERE`]'s itself.
    ///
    /// Cost: a binary search a token.
    ///
    /// # Errors
    /// A state this trie does not have.
    pub fn rollback(&self, states: &[u32], steps: usize) -> Result<Vec<u32>> {
        let back = |(row, &state): (usize, &u32)| {
            self.known_edges(row, state)?;
            let mut node = state;
            for _ in 0..steps {
                if node == 0 || node == NOWHERE {
                    break;
                }
                node = self.first.partition_point(|&edge| edge < node) as u32 - 1;
            }
            Ok(node)
        };
        states.iter().enumerate().map(back).collect()
    }

    /// The title that ends at each state, -1 inside of titles.
    ///
    /// # Errors
    /// A state this trie does not have.
    pub fn title_of(&self, states: &[u32]) -> Result<Vec<i64>> {
        let title = |(row, &state): (usize, &u32)| {
            self.known_edges(row, state)?;
            Ok(self.title(state).map_or(-1, i64::from))
        };
        states.iter().enumerate().map(title).collect()
    }

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
        for (row, &state) in states
            .iter()
            .chain(previous.unwrap_or_default())
            .enumerate()
        {
            self.known_edges(row % states.len(), state)?;
        }
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
        for (row, (&state, words)) in states
            .iter()
            .zip(bitmask.chunks_exact_mut(width))
            .enumerate()
        {
            match previous {
                None => words.fill(0),
                Some(previous) => {
                    for edge in self.known_edges(row, previous[row])? {
                        words[place(edge).0] = 0;
                    }
                }
            }
            let edges = self.known_edges(row, state)?;
            match subsets {
                None => edges.for_each(|edge| {
                    let (word, bit) = place(edge);
                    words[word] |= bit;
                }),
                Some(subsets) => {
                    let bits = subsets.row(row)?;
                    for edge in edges.filter(|&edge| bits.holds(edge + 1)) {
                        let (word, bit) = place(edge);
                        words[word] |= bit;
                    }
                }
            }
        }
        Ok(())
    }

    /// The edges of a state, none at [`NOWHERE`]; an error for a state this trie does not have.
    #[inline]
    fn known_edges(&self, row: usize, state: u32) -> Result<Range<usize>> {
        match self.first.get(state as usize..) {
            Some(&[start, stop, ..]) => Ok(start as usize..stop as usize),
            _ if state == NOWHERE => Ok(0..0),
            _ => Err(Error::UnknownNode {
                state,
                row,
                nodes: self.num_nodes(),
            }),
        }
    }
}

fn same_rows(states: &[u32], what: &'static str, other: usize) -> Result<()> {
    match states.len() {
        rows if rows == other => Ok(()),
        rows => Err(Error::BatchRows {
            states: rows,
            what,
            other,
        }),
    }
}

/// Append a range of labels; short ones with one store of a fixed length, of which the rest is taken back.
#[inline]
fn append<L: Label>(tokens: &mut Vec<L>, labels: &[L], range: Range<usize>) {
    match labels.get(range.start..range.start + SHORT) {
        Some(store) if range.len() <= SHORT => {
            let kept = tokens.len() + range.len();
            tokens.extend_from_slice(store);
            tokens.truncate(kept);
        }
        _ => tokens.extend_from_slice(&labels[range]),
    }
}

/// Append the numbers of a range.
#[inline]
fn append_range(edges: &mut Vec<u32>, range: Range<usize>) {
    let (start, many) = (range.start as u32, range.len());
    if many <= SHORT {
        let kept = edges.len() + many;
        edges.extend_from_slice(&std::array::from_fn::<u32, SHORT, _>(|at| {
            start.wrapping_add(at as u32)
        }));
        edges.truncate(kept);
    } else {
        edges.extend(start..range.end as u32);
    }
}
