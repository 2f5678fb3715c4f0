//! Sorted units in level order: what each does not share with the one before it, laid out by depth.

use std::ops::Range;

use rayon::prelude::*;

use super::sort::Sorted;
use super::{Label, NOWHERE, TitleTrie, Units, cut};
use crate::process::check_threads;
use crate::{Error, Result};

/// Units of a part, at least.
const PART: usize = 1 << 12;
/// Tokens of a unit, at most: a title has dozens at worst, and sorting goes one level deeper every one or two tokens.
const LONGEST: usize = 512;

/// The trie over some units.
///
/// # Errors
/// Units that are empty, equal, or begin another, with all their rows; more tokens than 32 bits count.
pub(super) fn build(units: Units<'_>) -> Result<TitleTrie> {
    check_threads()?;
    if units.all().len() >= NOWHERE as usize {
        return Err(Error::TrieSize {
            tokens: units.all().len(),
        });
    }
    if units.len() == 0 {
        return Err(Error::NoUnits);
    }
    let rows = |odd: &dyn Fn(usize) -> bool| -> Vec<usize> {
        (0..units.len())
            .filter(|&row| odd(units.get(row).len()))
            .collect()
    };
    let empty = rows(&|length| length == 0);
    if !empty.is_empty() {
        return Err(Error::EmptyUnits { rows: empty });
    }
    let long = rows(&|length| length > LONGEST);
    if !long.is_empty() {
        return Err(Error::LongUnits {
            rows: long,
            longest: LONGEST,
        });
    }
    let greatest = units.all().par_iter().copied().max().unwrap_or_default();
    if greatest >= i32::MAX as u32 {
        return Err(no_token(units, greatest));
    }
    let sorted = Sorted::new(units, greatest);
    let shared = shared(&sorted)?;
    Ok(if greatest > u32::from(u16::MAX) {
        laid_out::<u32>(&sorted, &shared)
    } else {
        laid_out::<u16>(&sorted, &shared)
    })
}

fn no_token(units: Units<'_>, greatest: u32) -> Error {
    let row = (0..units.len()).find(|&row| units.get(row).contains(&greatest));
    Error::TokenRange {
        row: row.unwrap_or_default(),
        token: greatest.to_string(),
    }
}

/// How many tokens each unit shares with the one before it in order.
fn shared(sorted: &Sorted) -> Result<Vec<u16>> {
    let mut shared = vec![0; sorted.len()];
    let places = shared.par_iter_mut().enumerate().skip(1);
    places.for_each(|(at, shared)| {
        let pairs = sorted.unit(at - 1).iter().zip(sorted.unit(at));
        *shared = pairs.take_while(|(left, right)| left == right).count() as u16;
    });
    let begins = |at: &usize| usize::from(shared[*at]) == sorted.unit(at - 1).len();
    let indistinct: Vec<usize> = (1..sorted.len()).into_par_iter().filter(begins).collect();
    if indistinct.is_empty() {
        Ok(shared)
    } else {
        Err(not_distinct(sorted, &indistinct))
    }
}

/// The error of units that equal, or begin, the one behind them in order.
fn not_distinct(sorted: &Sorted, places: &[usize]) -> Error {
    let rows = |&at: &usize| [sorted.row(at - 1) as usize, sorted.row(at) as usize];
    let equal = |&&at: &&usize| sorted.unit(at - 1) == sorted.unit(at);
    let (equal, begun): (Vec<&usize>, Vec<&usize>) = places.iter().partition(equal);
    let ascending = |mut pairs: Vec<[usize; 2]>| {
        pairs.sort_unstable();
        pairs
    };
    if equal.is_empty() {
        let rows = ascending(begun.into_iter().map(rows).collect());
        return Error::PrefixUnits { rows };
    }
    let pair = |[left, right]: [usize; 2]| [left.min(right), left.max(right)];
    let rows = ascending(equal.into_iter().map(|at| pair(rows(at))).collect());
    Error::RepeatedUnits { rows }
}

/// The part of every array that one run of sorted units fills, depth by depth.
struct Part<'a, L> {
    units: Range<usize>,
    levels: Vec<Level<'a, L>>,
}

/// The nodes of one depth that begin in one part.
struct Level<'a, L> {
    /// Nodes before these, in level order.
    nodes: usize,
    first: &'a mut [u32],
    labels: &'a mut [L],
    titles: &'a mut [u32],
    /// What of it is written.
    done: Count,
}

/// Nodes and ends of titles at each depth.
#[derive(Default, Clone, Copy)]
struct Count {
    nodes: usize,
    titles: usize,
}

/// Lay sorted units out in level order. A unit opens one node at each depth beyond what it shares with the one before.
fn laid_out<L: Label>(sorted: &Sorted, shared: &[u16]) -> TitleTrie {
    let size = sorted.len().div_ceil(rayon::current_num_threads());
    let size = size.max(PART);
    let ranges = (0..sorted.len()).step_by(size);
    let ranges = ranges.map(|start| start..sorted.len().min(start + size));
    let ranges: Vec<Range<usize>> = ranges.collect();
    let longest = (0..sorted.len()).map(|at| sorted.unit(at).len()).max();
    let depths = longest.unwrap_or_default() + 1;
    let counts = ranges
        .par_iter()
        .map(|range| counted(sorted, shared, range, depths));
    let counts: Vec<Vec<Count>> = counts.collect();
    let edges: usize = counts.iter().flatten().map(|count| count.nodes).sum();
    let mut first = vec![0; edges + 2];
    let mut labels = vec![L::default(); edges];
    let mut titles = vec![0; sorted.len()];
    let arrays = (&mut first[1..=edges], &mut labels[..], &mut titles[..]);
    let parts = parts(&ranges, &counts, arrays);
    parts
        .into_par_iter()
        .for_each(|part| part.fill(sorted, shared, edges));
    first[edges + 1] = edges as u32;
    TitleTrie::known(first.into(), L::wrap(labels.into()), titles.into())
}

/// What a run of units opens and ends at each depth.
fn counted(sorted: &Sorted, shared: &[u16], range: &Range<usize>, depths: usize) -> Vec<Count> {
    let mut counts = vec![Count::default(); depths];
    let mut begins = vec![0; depths + 1];
    for at in range.clone() {
        begins[usize::from(shared[at]) + 1] += 1;
        counts[sorted.unit(at).len()].titles += 1;
    }
    let mut open = 0;
    for (depth, count) in counts.iter_mut().enumerate() {
        open += begins[depth];
        count.nodes = open;
        open -= count.titles;
    }
    counts
}

/// What each part fills: every array is cut by depth, every depth by part.
fn parts<'a, L>(
    ranges: &[Range<usize>],
    counts: &[Vec<Count>],
    (mut first, mut labels, mut titles): (&'a mut [u32], &'a mut [L], &'a mut [u32]),
) -> Vec<Part<'a, L>> {
    let part = |units: &Range<usize>| Part {
        units: units.clone(),
        levels: Vec::new(),
    };
    let mut parts: Vec<Part<'a, L>> = ranges.iter().map(part).collect();
    let mut nodes = 0;
    for depth in 0..counts.first().map_or(0, Vec::len) {
        for (part, counts) in parts.iter_mut().zip(counts) {
            let count = counts[depth];
            part.levels.push(Level {
                nodes,
                first: cut(&mut first, count.nodes),
                labels: cut(&mut labels, count.nodes),
                titles: cut(&mut titles, count.titles),
                done: Count::default(),
            });
            nodes += count.nodes;
        }
    }
    parts
}

impl<L: Label> Part<'_, L> {
    fn fill(mut self, sorted: &Sorted, shared: &[u16], edges: usize) {
        for at in self.units {
            let unit = sorted.unit(at);
            for depth in usize::from(shared[at]) + 1..=unit.len() {
                let below = self.levels.get(depth + 1);
                let below = below.map_or(edges, |level| level.nodes + level.done.nodes);
                let level = &mut self.levels[depth];
                level.first[level.done.nodes] = below as u32;
                level.labels[level.done.nodes] = L::new(unit[depth - 1]);
                level.done.nodes += 1;
            }
            let level = &mut self.levels[unit.len()];
            level.titles[level.done.titles] = sorted.row(at);
            level.done.titles += 1;
        }
    }
}
