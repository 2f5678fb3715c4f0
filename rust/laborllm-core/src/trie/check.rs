//! Whether arrays that came from elsewhere are a trie, so that no walk can leave them.

use rayon::prelude::*;

use super::{Label, Labels, with_labels};
use crate::{Error, Result};

/// Nodes that are looked at in one go.
const RUN: usize = 1 << 14;

/// Refuse arrays that are no trie.
pub(super) fn check(first: &[u32], labels: &Labels, titles: &[u32]) -> Result<()> {
    with_labels!(labels, labels => {
        let edges = labels.len();
        if edges == 0 || first.len() != edges + 2 || first[0] != 0 || first[edges + 1] as usize != edges {
            let reason = format!("{} nodes cannot have {edges} edges", first.len() - first.len().min(1));
            return Err(Error::BrokenTrie { reason });
        }
        let nodes: Vec<usize> = (0..=edges).step_by(RUN).collect();
        let leaves = nodes.into_par_iter().map(|start| run(first, labels, start..(start + RUN).min(edges + 1)));
        let leaves = leaves.try_reduce(|| 0, |left, right| Ok(left + right))?;
        if leaves != titles.len() {
            let reason = format!("{} titles end in {leaves} leaves", titles.len());
            return Err(Error::BrokenTrie { reason });
        }
    });
    let mut seen = vec![false; titles.len()];
    for &title in titles {
        match seen.get_mut(title as usize) {
            Some(seen) if !*seen => *seen = true,
            _ => {
                let reason = format!("the title {title} is unknown or ends twice");
                return Err(Error::BrokenTrie { reason });
            }
        }
    }
    Ok(())
}

/// The leaves among some nodes: each node's edges follow those of the node before it, lead further, and ascend.
fn run<L: Label>(first: &[u32], labels: &[L], nodes: std::ops::Range<usize>) -> Result<usize> {
    let mut leaves = 0;
    for node in nodes {
        let (start, stop) = (first[node] as usize, first[node + 1] as usize);
        let edges = labels.get(start..stop).filter(|_| start >= node);
        match edges {
            Some([]) => leaves += 1,
            Some(edges) if ascending(edges) => {}
            _ => {
                let reason = format!("the edges of node {node} are out of order");
                return Err(Error::BrokenTrie { reason });
            }
        }
    }
    Ok(leaves)
}

fn ascending<L: Label>(labels: &[L]) -> bool {
    let greatest = labels.last().map_or(0, |label| label.token());
    labels.is_sorted_by(|left, right| left < right) && greatest < i32::MAX as u32
}
