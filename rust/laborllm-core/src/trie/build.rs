//! Units to level order: sort them, see how much each shares with the one before it, and lay the rest out by depth.

use std::ops::Range;

use rayon::prelude::*;

use super::{Label, NOWHERE, TitleTrie, Units};
use crate::radix::{self, Layout};
use crate::{Error, Result};

/// Groups of units below this size are sorted by comparison.
const FEW: usize = 2_048;
/// Units of a part, at least.
const PART: usize = 1 << 12;
/// Tokens of a unit, at most: a title has dozens at worst, and sorting goes one level deeper every one or two tokens.
const LONGEST: usize = 512;

/// The trie over some units.
///
/// # Errors
/// Units that are empty, equal, or begin another, with all their rows; more tokens than 32 bits count.
pub(super) fn build(units: Units<'_>) -> Result<TitleTrie> {
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
    let order = sorted(units, greatest);
    let shared = shared(units, &order)?;
    Ok(if greatest > u32::from(u16::MAX) {
        laid_out::<u32>(units, &order, &shared)
    } else {
        laid_out::<u16>(units, &order, &shared)
    })
}

fn no_token(units: Units<'_>, greatest: u32) -> Error {
    let row = (0..units.len()).find(|&row| units.get(row).contains(&greatest));
    Error::TokenRange {
        row: row.unwrap_or_default(),
        token: greatest.to_string(),
    }
}

/// Rows of the units in lexicographic order, equal ones in any.
fn sorted(units: Units<'_>, greatest: u32) -> Vec<u32> {
    let mut order: Vec<u32> = (0..units.len() as u32).collect();
    let keys = Keys {
        units,
        bits: (u64::from(greatest) + 1).ilog2() + 1,
    };
    keys.sort(&mut order, 0);
    order
}

/// The next tokens of a unit as one number, each one more than it is, 0 where the unit has ended.
#[derive(Clone, Copy)]
struct Keys<'a> {
    units: Units<'a>,
    /// Bits of a token plus one.
    bits: u32,
}

impl Keys<'_> {
    fn packed(self, row: u32, depth: usize, tokens: u32) -> u64 {
        let unit = self.units.get(row as usize);
        let next = unit.get(depth..).unwrap_or_default();
        (0..tokens as usize).fold(0, |key, at| {
            let token = next.get(at).map_or(0, |&token| u64::from(token) + 1);
            key << self.bits | token
        })
    }

    /// Sort units that agree before `depth`.
    fn sort(self, rows: &mut [u32], depth: usize) {
        if rows.len() < FEW {
            return self.settle(rows, depth, &mut Vec::new());
        }
        let low = usize::BITS - rows.len().leading_zeros();
        let tokens = ((u64::BITS - low) / self.bits).max(1);
        let high = low + tokens * self.bits;
        let key = |at: usize| self.packed(rows[at], depth, tokens) << low | at as u64;
        let places: Vec<u32> = radix::sorted(rows.len(), key, Layout { low, high });
        let next: Vec<u32> = places.par_iter().map(|&at| rows[at as usize]).collect();
        rows.copy_from_slice(&next);
        drop((places, next));
        let keys: Vec<u64> = rows
            .par_iter()
            .map(|&row| self.packed(row, depth, tokens))
            .collect();
        let depth = depth + tokens as usize;
        let mut ties = ties(&keys, |&key| key);
        ties.retain(|tie| !self.ended(keys[tie.start]));
        split(rows, &ties)
            .into_par_iter()
            .for_each_init(Vec::new, |spare, group| {
                if group.len() < FEW {
                    self.settle(group, depth, spare);
                } else {
                    self.sort(group, depth);
                }
            });
    }

    fn settle(self, rows: &mut [u32], depth: usize, spare: &mut Vec<(u64, u32)>) {
        let tokens = u64::BITS / self.bits;
        spare.clear();
        spare.extend(
            rows.iter()
                .map(|&row| (self.packed(row, depth, tokens), row)),
        );
        spare.sort_unstable();
        for (row, &(_, settled)) in rows.iter_mut().zip(spare.iter()) {
            *row = settled;
        }
        let mut ties = ties(spare, |&(key, _)| key);
        ties.retain(|tie| !self.ended(spare[tie.start].0));
        for tie in ties {
            self.settle(&mut rows[tie], depth + tokens as usize, spare);
        }
    }

    /// Whether the units of a key have no further tokens.
    fn ended(self, key: u64) -> bool {
        key & ((1 << self.bits) - 1) == 0
    }
}

/// Ranges of two and more neighbours with one key.
fn ties<T>(sorted: &[T], key: impl Fn(&T) -> u64) -> Vec<Range<usize>> {
    let mut start = 0;
    sorted
        .chunk_by(|left, right| key(left) == key(right))
        .filter_map(|group| {
            let range = start..start + group.len();
            start = range.end;
            (group.len() > 1).then_some(range)
        })
        .collect()
}

/// These ranges, which ascend, as slices.
fn split<'a>(mut rest: &'a mut [u32], ranges: &[Range<usize>]) -> Vec<&'a mut [u32]> {
    let mut begun = 0;
    let mut parts = Vec::with_capacity(ranges.len());
    for range in ranges {
        let (_, from) = rest.split_at_mut(range.start - begun);
        let (part, behind) = from.split_at_mut(range.len());
        parts.push(part);
        rest = behind;
        begun = range.end;
    }
    parts
}

/// How many tokens each unit shares with the one before it in order.
fn shared(units: Units<'_>, order: &[u32]) -> Result<Vec<u16>> {
    let mut shared = vec![0; order.len()];
    let unit = |at: usize| units.get(order[at] as usize);
    shared
        .par_iter_mut()
        .enumerate()
        .skip(1)
        .for_each(|(at, shared)| {
            let pairs = unit(at - 1).iter().zip(unit(at));
            *shared = pairs.take_while(|(left, right)| left == right).count() as u16;
        });
    let begins = |at: &usize| usize::from(shared[*at]) == unit(at - 1).len();
    if (1..order.len()).into_par_iter().any(|at| begins(&at)) {
        return Err(indistinct(units, order, (1..order.len()).filter(begins)));
    }
    Ok(shared)
}

/// The error of units that equal, or begin, the one behind them in order.
fn indistinct(units: Units<'_>, order: &[u32], places: impl Iterator<Item = usize>) -> Error {
    let rows = |at: usize| [order[at - 1] as usize, order[at] as usize];
    let (mut equal, mut begun): (Vec<[usize; 2]>, Vec<[usize; 2]>) = places
        .map(rows)
        .partition(|&[left, right]| units.get(left) == units.get(right));
    equal.iter_mut().for_each(|rows| rows.sort_unstable());
    equal.sort_unstable();
    begun.sort_unstable();
    if equal.is_empty() {
        Error::PrefixUnits { rows: begun }
    } else {
        Error::RepeatedUnits { rows: equal }
    }
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
fn laid_out<L: Label>(units: Units<'_>, order: &[u32], shared: &[u16]) -> TitleTrie {
    let size = order.len().div_ceil(rayon::current_num_threads()).max(PART);
    let depths = 1 + order
        .iter()
        .map(|&row| units.get(row as usize).len())
        .max()
        .unwrap_or(0);
    let ranges = (0..order.len())
        .step_by(size)
        .map(|start| start..order.len().min(start + size));
    let ranges: Vec<Range<usize>> = ranges.collect();
    let counts: Vec<Vec<Count>> = ranges
        .par_iter()
        .map(|range| counted(units, &order[range.clone()], &shared[range.clone()], depths))
        .collect();
    let edges: usize = counts.iter().flatten().map(|count| count.nodes).sum();
    let mut first = vec![0; edges + 2];
    let mut labels = vec![L::default(); edges];
    let mut titles = vec![0; order.len()];
    let parts = parts(
        &ranges,
        &counts,
        (&mut first[1..=edges], &mut labels, &mut titles),
    );
    parts
        .into_par_iter()
        .for_each(|part| part.fill(units, order, shared, edges));
    first[edges + 1] = edges as u32;
    TitleTrie::known(first.into(), L::wrap(labels.into()), titles.into())
}

fn counted(units: Units<'_>, order: &[u32], shared: &[u16], depths: usize) -> Vec<Count> {
    let mut counts = vec![Count::default(); depths];
    for (&row, &shared) in order.iter().zip(shared) {
        let length = units.get(row as usize).len();
        counts[usize::from(shared) + 1..=length]
            .iter_mut()
            .for_each(|count| count.nodes += 1);
        counts[length].titles += 1;
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

/// Take so many elements off the front.
fn cut<'a, T>(rest: &mut &'a mut [T], many: usize) -> &'a mut [T] {
    let (front, behind) = std::mem::take(rest).split_at_mut(many);
    *rest = behind;
    front
}

impl<L: Label> Part<'_, L> {
    fn fill(mut self, units: Units<'_>, order: &[u32], shared: &[u16], edges: usize) {
        for at in self.units {
            let unit = units.get(order[at] as usize);
            for depth in usize::from(shared[at]) + 1..=unit.len() {
                let below = self.levels.get(depth + 1);
                let below = below.map_or(edges, |level| level.nodes + level.done.nodes);
                let level = &mut self.levels[depth];
                level.first[level.done.nodes] = below as u32;
                level.labels[level.done.nodes] = L::new(unit[depth - 1]);
                level.done.nodes += 1;
            }
            let level = &mut self.levels[unit.len()];
            level.titles[level.done.titles] = order[at];
            level.done.titles += 1;
        }
    }
}
