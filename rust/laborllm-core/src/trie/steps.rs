//! One step for a batch of sequences, whose state is a node each.

use std::ops::Range;

use super::{Label, NOWHERE, Subsets, TitleTrie, with_labels};
use crate::{Error, Result};

/// Up to so many tokens are copied, and searched, without a look at how many there are.
const SHORT: usize = 8;
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
    /// The tokens that may follow each state, ascending; none after a title, nor at [`NOWHERE`].
    ///
    /// Those of state b stand at `[indptr[b]..indptr[b + 1]]` of the second array. `labels` are this trie's. With
    /// subsets, only what leads to one of the row's titles.
    ///
    /// # Errors
    /// A state this trie does not have; subsets of another trie, or of another number of rows.
    pub fn allowed<L: Label>(
        &self,
        labels: &[L],
        states: &[u32],
        subsets: Option<&Subsets<'_>>,
    ) -> Result<(Vec<i64>, Vec<L>)> {
        match subsets {
            None => self.each(states, |tokens, edges| append(tokens, labels, edges)),
            Some(subsets) => self.each_of(states, subsets, |edge| labels[edge]),
        }
    }

    /// The edges of the tokens that [`TitleTrie::allowed`] gives: edge e leads to node e + 1.
    ///
    /// # Errors
    /// Those of [`TitleTrie::allowed`].
    pub fn edges(&self, states: &[u32], subsets: Option<&Subsets<'_>>) -> Result<Vec<u32>> {
        let found = match subsets {
            None => self.each(states, append_range),
            Some(subsets) => self.each_of(states, subsets, |edge| edge as u32),
        };
        found.map(|(_, edges)| edges)
    }

    /// Append something for all edges of each state.
    #[inline]
    fn each<T>(
        &self,
        states: &[u32],
        append: impl Fn(&mut Vec<T>, Range<usize>),
    ) -> Result<(Vec<i64>, Vec<T>)> {
        let mut indptr = Vec::with_capacity(states.len() + 1);
        let mut end = 0;
        indptr.push(end);
        for (row, &state) in states.iter().enumerate() {
            end += self.known_edges(row, state)?.len() as i64;
            indptr.push(end);
        }
        let mut found = Vec::with_capacity(end as usize + SHORT);
        for (row, &state) in states.iter().enumerate() {
            append(&mut found, self.known_edges(row, state)?);
        }
        Ok((indptr, found))
    }

    /// Append something for each edge that leads to a title of the row's subset.
    fn each_of<T>(
        &self,
        states: &[u32],
        subsets: &Subsets<'_>,
        one: impl Fn(usize) -> T,
    ) -> Result<(Vec<i64>, Vec<T>)> {
        subsets.check(states.len())?;
        let (mut indptr, mut found) = (vec![0], Vec::new());
        for (row, &state) in states.iter().enumerate() {
            let nodes = subsets.row(row)?;
            let edges = self.known_edges(row, state)?;
            found.extend(edges.filter(|&edge| nodes.holds(edge + 1)).map(&one));
            indptr.push(found.len() as i64);
        }
        Ok((indptr, found))
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
        let edges = self.edges_of(state);
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
                edges = self.edges_of(state);
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

    /// Refuse states that this trie does not have.
    pub(super) fn check_states(&self, states: &[u32]) -> Result<()> {
        let nodes = self.num_nodes() as u32;
        if states
            .iter()
            .all(|&state| state < nodes || state == NOWHERE)
        {
            return Ok(());
        }
        let mut rows = states.iter().enumerate();
        rows.try_for_each(|(row, &state)| self.known_edges(row, state).map(drop))
    }

    /// The edges of a known state, none at [`NOWHERE`].
    #[inline]
    pub(super) fn edges_from(&self, state: u32) -> Range<usize> {
        if state == NOWHERE {
            0..0
        } else {
            self.edges_of(state)
        }
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

pub(super) fn same_rows(states: &[u32], what: &'static str, other: usize) -> Result<()> {
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
