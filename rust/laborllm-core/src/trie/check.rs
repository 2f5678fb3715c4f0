//! Whether arrays that came from elsewhere are a trie, so that no walk can leave them.

use std::ops::Range;

use rayon::prelude::*;

use super::{Label, Labels, greatest, with_labels};
use crate::process::check_threads;
use crate::{Error, Result};

/// Nodes that are looked at in one go.
const RUN: usize = 1 << 14;

/// Refuse arrays that are no trie.
pub(super) fn check(first: &[u32], labels: &Labels, titles: &[u32]) -> Result<()> {
    check_threads()?;
    let leaves = with_labels!(labels, labels => leaves(first, labels))?;
    if leaves != titles.len() {
        return Err(broken(format!(
            "{} titles end in {leaves} leaves",
            titles.len()
        )));
    }
    let mut seen = vec![false; titles.len()];
    for &title in titles {
        match seen.get_mut(title as usize) {
            Some(seen) if !*seen => *seen = true,
            _ => {
                return Err(broken(format!(
                    "the title {title} is unknown or ends twice"
                )));
            }
        }
    }
    Ok(())
}

/// How many nodes have no edges, once nodes and edges are those of a trie.
fn leaves<L: Label>(first: &[u32], labels: &[L]) -> Result<usize> {
    let edges = labels.len();
    let ends = (first.first(), first.last());
    if edges == 0 || first.len() != edges + 2 || ends != (Some(&0), Some(&(edges as u32))) {
        return Err(broken(format!(
            "{} numbers are not the first edges of {edges}",
            first.len()
        )));
    }
    if greatest(labels) >= i32::MAX as u32 {
        return Err(broken("it holds what is no token".to_owned()));
    }
    let starts: Vec<usize> = (0..=edges).step_by(RUN).collect();
    let runs = starts.into_par_iter();
    let runs = runs.map(|start| run(first, labels, start..(start + RUN).min(edges + 1)));
    runs.try_reduce(|| 0, |left, right| Ok(left + right))
}

/// The leaves among some nodes: each node's edges follow those of the node before it, lead further, and ascend.
fn run<L: Label>(first: &[u32], labels: &[L], nodes: Range<usize>) -> Result<usize> {
    let mut leaves = 0;
    let around = &first[nodes.start..=nodes.end];
    for (node, (&start, &stop)) in nodes.zip(around.iter().zip(&around[1..])) {
        leaves += usize::from(start == stop);
        let ascend = || {
            let edges = labels.get(start as usize..stop as usize);
            edges.is_some_and(|edges| edges.is_sorted_by(|left, right| left < right))
        };
        if (start as usize) < node || stop.wrapping_sub(start) > 1 && !ascend() {
            return Err(broken(format!("the edges of node {node} are out of order")));
        }
    }
    Ok(leaves)
}

fn broken(reason: String) -> Error {
    Error::BrokenTrie { reason }
}
