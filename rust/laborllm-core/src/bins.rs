//! Which career goes into which bin: best fit decreasing over a whole table, first fit over a stream.

/// Careers by bin: those of bin b are `members[starts[b]..starts[b + 1]]`, ascending.
#[derive(Debug, Clone)]
pub(crate) struct Groups {
    starts: Vec<usize>,
    members: Vec<u32>,
}

impl Groups {
    /// Sort careers by their bin, O(careers + bins).
    pub fn new(bin_of: &[u32], bins: usize) -> Self {
        let starts = starts_of(bins, bin_of.iter().map(|&bin| bin as usize));
        let (mut next, mut members) = (starts.clone(), vec![0; bin_of.len()]);
        for (career, &bin) in bin_of.iter().enumerate() {
            let at = &mut next[bin as usize];
            members[*at] = career as u32;
            *at += 1;
        }
        Self { starts, members }
    }

    /// Number of bins.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// The careers of several bins, one after another.
    pub fn members(&self, bins: std::ops::Range<usize>) -> &[u32] {
        &self.members[self.starts[bins.start]..self.starts[bins.end]]
    }
}

/// First place of each key in a sorted order, then the number of keys.
fn starts_of(kinds: usize, keys: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut starts = vec![0; kinds + 1];
    for key in keys {
        starts[key + 1] += 1;
    }
    for kind in 0..kinds {
        starts[kind + 1] += starts[kind];
    }
    starts
}

/// Best fit decreasing: the bin of each career, and the number of bins, numbered as they are opened.
///
/// Careers come by falling length, equal ones by position; each goes into the bin with the least room that suffices,
/// among equals into the one that has had this room longest. Lengths are in 1..=capacity. O(careers + capacity).
pub(crate) fn best_fit(lengths: &[u32], capacity: u32) -> (Vec<u32>, usize) {
    let rank = |length: u32| (capacity - length) as usize;
    let mut next = starts_of(
        capacity as usize,
        lengths.iter().map(|&length| rank(length)),
    );
    let mut order = vec![0; lengths.len()];
    for (career, &length) in lengths.iter().enumerate() {
        order[next[rank(length)]] = career as u32;
        next[rank(length)] += 1;
    }
    let (mut rooms, mut bin_of) = (Rooms::new(capacity as usize), vec![0; lengths.len()]);
    for career in order {
        let length = lengths[career as usize];
        let (bin, room) = rooms.take(length).unwrap_or_else(|| rooms.open(capacity));
        bin_of[career as usize] = bin;
        rooms.put(bin, room - length);
    }
    (bin_of, rooms.behind.len())
}

const NONE: u32 = u32::MAX;

/// A queue of bins for every amount of room, and a bit set over the amounts whose queue is not empty.
///
/// Bit i of the first level is set where the queue of room i holds a bin; bit i of a further level, where word i of
/// the level before it is not zero. The next set bit is found in as many steps as there are levels.
struct Rooms {
    levels: Vec<Vec<u64>>,
    first: Vec<u32>,
    last: Vec<u32>,
    /// The bin behind each bin in its queue.
    behind: Vec<u32>,
}

impl Rooms {
    fn new(capacity: usize) -> Self {
        let mut levels = vec![vec![0; capacity / 64 + 1]];
        let mut words = capacity / 64 + 1;
        while words > 1 {
            words = words.div_ceil(64);
            levels.push(vec![0; words]);
        }
        let (first, last) = (vec![NONE; capacity + 1], vec![NONE; capacity + 1]);
        let behind = Vec::new();
        Self {
            levels,
            first,
            last,
            behind,
        }
    }

    fn open(&mut self, capacity: u32) -> (u32, u32) {
        self.behind.push(NONE);
        (self.behind.len() as u32 - 1, capacity)
    }

    /// The bin with the least room of at least `length`, and its room.
    fn take(&mut self, length: u32) -> Option<(u32, u32)> {
        let room = self.next(length as usize)?;
        let bin = self.first[room];
        self.first[room] = self.behind[bin as usize];
        if self.first[room] == NONE {
            let mut at = room;
            for level in &mut self.levels {
                level[at / 64] &= !(1 << (at % 64));
                if level[at / 64] != 0 {
                    break;
                }
                at /= 64;
            }
        }
        Some((bin, room as u32))
    }

    /// Queue a bin by its room; a full one is needed no more.
    fn put(&mut self, bin: u32, room: u32) {
        let room = room as usize;
        if room == 0 {
            return;
        }
        self.behind[bin as usize] = NONE;
        if self.first[room] == NONE {
            self.first[room] = bin;
            let mut at = room;
            for level in &mut self.levels {
                level[at / 64] |= 1 << (at % 64);
                at /= 64;
            }
        } else {
            self.behind[self.last[room] as usize] = bin;
        }
        self.last[room] = bin;
    }

    /// The least room of at least `room` that some bin has.
    fn next(&self, room: usize) -> Option<usize> {
        let mut at = room;
        for (height, level) in self.levels.iter().enumerate() {
            let word = level.get(at / 64)? >> (at % 64);
            if word != 0 {
                at += word.trailing_zeros() as usize;
                let below = self.levels[..height].iter().rev();
                return Some(below.fold(at, |at, level| {
                    at * 64 + level[at].trailing_zeros() as usize
                }));
            }
            at = at / 64 + 1;
        }
        None
    }
}

/// First fit with a bounded number of open bins.
///
/// A career goes into the bin that was opened first among those with room; where none has, a new bin is opened, and
/// the one opened first is closed if there are too many. O(log bins) a career.
#[derive(Debug)]
pub(crate) struct FirstFit {
    capacity: u32,
    slots: usize,
    opened: usize,
    /// Twice as many as leaves, a power of two: the room of slot s is at leaf s, a parent holds the most of its two
    /// children. Bin b lies in slot b % slots; unused slots have no room.
    most: Vec<u32>,
}

impl FirstFit {
    pub fn new(capacity: u32, slots: usize) -> Self {
        Self {
            capacity,
            slots,
            opened: 0,
            most: vec![0; 2 * slots.next_power_of_two()],
        }
    }

    /// Bins opened so far.
    pub fn opened(&self) -> usize {
        self.opened
    }

    /// Bins closed so far: the bins before this number.
    pub fn closed(&self) -> usize {
        self.opened.saturating_sub(self.slots)
    }

    /// The bin of the next career.
    pub fn place(&mut self, length: u32) -> usize {
        let oldest = self.closed() % self.slots;
        let found = self.first(oldest, length).or_else(|| self.first(0, length));
        let slot = found.unwrap_or_else(|| {
            self.opened += 1;
            let slot = (self.opened - 1) % self.slots;
            self.set(slot, self.capacity);
            slot
        });
        self.set(slot, self.room(slot) - length);
        let youngest = self.opened - 1;
        youngest - (youngest % self.slots + self.slots - slot) % self.slots
    }

    fn room(&self, slot: usize) -> u32 {
        self.most[self.most.len() / 2 + slot]
    }

    fn set(&mut self, slot: usize, room: u32) {
        let mut node = self.most.len() / 2 + slot;
        self.most[node] = room;
        while node > 1 {
            node /= 2;
            self.most[node] = self.most[2 * node].max(self.most[2 * node + 1]);
        }
    }

    /// The first slot at or after `from` with room for `length`.
    fn first(&self, from: usize, length: u32) -> Option<usize> {
        let leaves = self.most.len() / 2;
        let mut node = leaves + from;
        while self.most[node] < length {
            node += 1;
            node >>= node.trailing_zeros();
            if node == 1 {
                return None;
            }
        }
        while node < leaves {
            node = 2 * node + usize::from(self.most[2 * node] < length);
        }
        Some(node - leaves)
    }
}

/// A permutation of 0..count: Fisher–Yates over SplitMix64 (Steele, Lea and Flood, 2014, doi 10.1145/2660193.2660195).
pub(crate) fn shuffled(count: usize, seed: u64) -> Vec<u32> {
    let mut state = seed;
    let mut below = |bound: usize| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        ((u128::from(bits) * bound as u128) >> 64) as usize
    };
    let mut order: Vec<u32> = (0..count as u32).collect();
    for at in (1..count).rev() {
        order.swap(at, below(at + 1));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The rule as it is said, in quadratic time: of the bins with the least sufficient room, the one whose last
    /// career came first.
    fn best_fit_plainly(lengths: &[u32], capacity: u32) -> (Vec<u32>, usize) {
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_by_key(|&career| std::cmp::Reverse(lengths[career]));
        let mut bins: Vec<(u32, usize)> = Vec::new();
        let mut bin_of = vec![0; lengths.len()];
        for (step, career) in order.into_iter().enumerate() {
            let fits = |&bin: &usize| bins[bin].0 >= lengths[career];
            let found = (0..bins.len()).filter(fits).min_by_key(|&bin| bins[bin]);
            let bin = found.unwrap_or_else(|| {
                bins.push((capacity, 0));
                bins.len() - 1
            });
            bins[bin] = (bins[bin].0 - lengths[career], step);
            bin_of[career] = bin as u32;
        }
        (bin_of, bins.len())
    }

    fn first_fit_plainly(lengths: &[u32], capacity: u32, slots: usize) -> Vec<usize> {
        let mut rooms: Vec<u32> = Vec::new();
        let place = |&length: &u32| {
            let open = rooms.len().saturating_sub(slots)..rooms.len();
            let found = open.clone().find(|&bin| rooms[bin] >= length);
            let bin = found.unwrap_or_else(|| {
                rooms.push(capacity);
                rooms.len() - 1
            });
            rooms[bin] -= length;
            bin
        };
        lengths.iter().map(place).collect()
    }

    fn careers(most: usize) -> impl Strategy<Value = (u32, Vec<u32>)> {
        let capacity = prop_oneof![1..20_u32, 60..70_u32, 4_090..4_100_u32, 1..300_000_u32];
        capacity.prop_flat_map(move |capacity| {
            let short = 1..=capacity.div_ceil(4);
            let length = prop_oneof![short, 1..=capacity];
            (Just(capacity), prop::collection::vec(length, 0..most))
        })
    }

    proptest! {
        #[test]
        fn best_fit_is_the_quadratic_one((capacity, lengths) in careers(200)) {
            prop_assert_eq!(best_fit(&lengths, capacity), best_fit_plainly(&lengths, capacity));
        }

        #[test]
        fn first_fit_is_the_quadratic_one((capacity, lengths) in careers(200), slots in 1..12_usize) {
            let mut rule = FirstFit::new(capacity, slots);
            let found: Vec<usize> = lengths.iter().map(|&length| rule.place(length)).collect();
            prop_assert_eq!(&found, &first_fit_plainly(&lengths, capacity, slots));
            prop_assert_eq!(rule.opened(), found.iter().max().map_or(0, |last| last + 1));
            prop_assert_eq!(rule.closed(), rule.opened().saturating_sub(slots));
        }

        #[test]
        fn groups_hold_every_career_once_in_order(bin_of in prop::collection::vec(0..7_u32, 0..50)) {
            let groups = Groups::new(&bin_of, 7);
            prop_assert_eq!(groups.members(0..7).len(), bin_of.len());
            for bin in 0..groups.len() {
                let members = groups.members(bin..bin + 1);
                prop_assert!(members.is_sorted_by(|a, b| a < b));
                prop_assert!(members.iter().all(|&career| bin_of[career as usize] as usize == bin));
            }
        }

        #[test]
        fn a_shuffle_keeps_every_bin(count in 0..300_usize, seed: u64) {
            let mut order = shuffled(count, seed);
            prop_assert_eq!(&order, &shuffled(count, seed));
            order.sort_unstable();
            prop_assert_eq!(order, (0..count as u32).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_seed_gives_the_same_order_in_every_version() {
        assert_eq!(shuffled(8, 0), [1, 2, 6, 5, 4, 0, 3, 7]);
    }
}
