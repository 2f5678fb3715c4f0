//! The trie beside a plain one: sorted prefixes in a map.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Every prefix of some units, level by level, with the title that ends there.
struct Plain {
    nodes: Vec<(Vec<u32>, Option<u32>)>,
}

impl Plain {
    fn new(units: &[Vec<u32>]) -> Self {
        let mut titles: BTreeMap<(usize, &[u32]), Option<u32>> = BTreeMap::new();
        for (row, unit) in units.iter().enumerate() {
            for end in 0..=unit.len() {
                titles.entry((end, &unit[..end])).or_default();
            }
            titles.insert((unit.len(), unit), Some(row as u32));
        }
        let nodes = titles
            .into_iter()
            .map(|((_, prefix), title)| (prefix.to_vec(), title));
        Self {
            nodes: nodes.collect(),
        }
    }

    fn state(&self, prefix: &[u32]) -> Option<u32> {
        let node = self.nodes.iter().position(|(other, _)| other == prefix);
        node.map(|node| node as u32)
    }

    /// The nodes behind one, by token.
    fn behind(&self, node: usize) -> BTreeMap<u32, u32> {
        let (prefix, _) = &self.nodes[node];
        let child = |(_, (other, _)): &(usize, &(Vec<u32>, _))| {
            other.len() == prefix.len() + 1 && other.starts_with(prefix)
        };
        let children = self.nodes.iter().enumerate().filter(child);
        children
            .map(|(at, (other, _))| (other[prefix.len()], at as u32))
            .collect()
    }
}

fn built(units: &[Vec<u32>]) -> Result<TitleTrie> {
    let tokens = units.concat();
    let mut offsets = vec![0];
    offsets.extend(units.iter().scan(0, |end, unit| {
        *end += unit.len() as i64;
        Some(*end)
    }));
    TitleTrie::new(Units::new(&tokens, &offsets)?)
}

fn widened(trie: &TitleTrie) -> Vec<u32> {
    with_labels!(&trie.labels, labels => labels.iter().map(|label| label.token()).collect())
}

/// What may follow each of a batch of states.
#[derive(Debug, PartialEq)]
struct Allowed {
    indptr: Vec<i64>,
    tokens: Vec<u32>,
    edges: Vec<u32>,
}

fn allowed(trie: &TitleTrie, states: &[u32], subsets: Option<&Subsets<'_>>) -> Result<Allowed> {
    let labels = widened(trie);
    let (indptr, tokens) = trie.allowed(&labels, states, subsets)?;
    let edges = trie.edges(states, subsets)?;
    Ok(Allowed {
        indptr,
        tokens,
        edges,
    })
}

/// Different units of which none begins another, over few tokens or over many.
fn units(most: usize) -> impl Strategy<Value = Vec<Vec<u32>>> {
    let tokens = prop_oneof![
        Just(vec![0, 1, 2]),
        Just(vec![0, 7, 65_534, 65_535]),
        Just(vec![3, 65_536, 2_147_483_646])
    ];
    (tokens, any::<bool>()).prop_flat_map(move |(tokens, end)| {
        let end = if end { 5 } else { 70_000 };
        let body = prop::collection::vec(prop::sample::select(tokens), 0..7);
        let bodies = prop::collection::btree_set(body, 1..most);
        bodies
            .prop_map(move |bodies| {
                bodies
                    .into_iter()
                    .map(|body| [body, vec![end]].concat())
                    .collect::<Vec<_>>()
            })
            .prop_shuffle()
    })
}

proptest! {
    #[test]
    fn the_arrays_are_those_of_a_plain_trie(units in units(60)) {
        let (trie, plain) = (built(&units)?, Plain::new(&units));
        prop_assert_eq!(trie.num_nodes(), plain.nodes.len());
        let labels = widened(&trie);
        for (node, (_, title)) in plain.nodes.iter().enumerate() {
            let edges = trie.edges_of(node as u32);
            let found: BTreeMap<u32, u32> = edges.clone().map(|edge| (labels[edge], edge as u32 + 1)).collect();
            prop_assert!(labels[edges].is_sorted());
            prop_assert_eq!(found, plain.behind(node));
            prop_assert_eq!(trie.title(node as u32), *title);
        }
        let ends = plain.nodes.iter().enumerate().filter_map(|(node, (_, title))| title.map(|_| node as u32));
        prop_assert_eq!(trie.leaves(), ends.collect::<Vec<_>>());
        prop_assert_eq!(trie.vocabulary(), labels.iter().max().map_or(0, |token| token + 1));
        let again = TitleTrie::from_arrays(trie.first.clone(), trie.labels.clone(), trie.titles.clone())?;
        prop_assert_eq!(again.checksum(), trie.checksum());
        prop_assert_eq!((again.leaves, again.ranks), (trie.leaves, trie.ranks));
    }

    #[test]
    fn every_step_is_that_of_a_plain_trie(units in units(30), tokens in prop::collection::vec(prop::collection::vec(0usize..40, 0..8), 1..20)) {
        let (trie, plain) = (built(&units)?, Plain::new(&units));
        let known = widened(&trie);
        // of a label, of no label, of an id that no 32 bits hold
        let token = |at: &usize| known.get(*at).map_or(*at as i64 - 30, |&token| i64::from(token));
        let rows: Vec<Vec<i64>> = tokens.iter().map(|row| row.iter().map(token).collect()).collect();
        let walked = trie.walk(rows.iter().map(Vec::as_slice));
        for (row, &walked) in rows.iter().zip(&walked) {
            let (mut state, mut prefix) = (0, Vec::new());
            for &token in row {
                let next = trie.step(&[state], &[token])?;
                if trie.title(state).is_none() && state != NOWHERE {
                    prefix.extend(u32::try_from(token));
                    let kept = plain.state(&prefix).filter(|_| token >= 0);
                    prop_assert_eq!(next[0], kept.unwrap_or(NOWHERE));
                    prop_assert_eq!(trie.rollback(&next, 1)?[0], if kept.is_some() { state } else { NOWHERE });
                } else {
                    prop_assert_eq!(next[0], state);
                }
                state = next[0];
            }
            prop_assert_eq!(walked, state);
        }
        let states: Vec<u32> = (0..trie.num_nodes() as u32).chain([NOWHERE]).collect();
        let allowed = allowed(&trie, &states, None)?;
        let forced = trie.forced(&states)?;
        for (row, &state) in states.iter().enumerate() {
            let behind = if state == NOWHERE { BTreeMap::new() } else { plain.behind(row) };
            let range = allowed.indptr[row] as usize..allowed.indptr[row + 1] as usize;
            prop_assert_eq!(&allowed.tokens[range.clone()], behind.keys().copied().collect::<Vec<_>>());
            prop_assert_eq!(trie.advance(&allowed.edges[range])?, behind.values().copied().collect::<Vec<_>>());
            let (mut end, mut chain) = (state, Vec::new());
            while end != NOWHERE && plain.behind(end as usize).len() == 1 {
                let (token, next) = plain.behind(end as usize).pop_first().unwrap_or_default();
                chain.push(token);
                end = next;
            }
            prop_assert_eq!(&forced.tokens[forced.indptr[row] as usize..forced.indptr[row + 1] as usize], chain);
            prop_assert_eq!(forced.states[row], end);
        }
        let titles = trie.title_of(&states)?;
        prop_assert_eq!(titles.iter().filter(|&&title| title >= 0).count(), units.len());
    }

    #[test]
    fn subsets_leave_what_a_trie_of_their_titles_allows(
        units in units(30), sets in prop::collection::vec(any::<u64>(), 1..4), which in prop::collection::vec(0usize..4, 40),
    ) {
        let trie = built(&units)?;
        let sets: Vec<Vec<bool>> = sets.iter().map(|bits| (0..units.len()).map(|title| bits >> (title % 64) & 1 == 1).collect()).collect();
        let bitmaps = sets.iter().map(|set| trie.restrict(set)).collect::<Result<Vec<_>>>()?.concat();
        let words = bitmaps.len() / sets.len();
        let states: Vec<u32> = (0..trie.num_nodes() as u32).collect();
        let which: Vec<i64> = states.iter().map(|&state| (which[state as usize % 40] % sets.len()) as i64).collect();
        let subsets = Subsets::new(&trie, &bitmaps, words, Some(&which))?;
        let (all, left) = (allowed(&trie, &states, None)?, allowed(&trie, &states, Some(&subsets))?);
        let plain = Plain::new(&units);
        let width = trie.vocabulary().min(70_001).div_ceil(32) as usize;
        let fits = (trie.vocabulary() as usize).div_ceil(32) == width;
        let mut bitmask = vec![-1; if fits { states.len() * width } else { 0 }];
        if fits {
            trie.fill_bitmask(&states, &mut bitmask, width, None, Some(&subsets))?;
        }
        for &state in &states {
            let row = state as usize;
            let range = all.indptr[row] as usize..all.indptr[row + 1] as usize;
            let leads = |edge: &u32| {
                let (prefix, _) = &plain.nodes[*edge as usize + 1];
                let mut titles = units.iter().zip(&sets[which[row] as usize]);
                titles.any(|(unit, &kept)| kept && unit.starts_with(prefix))
            };
            let expected: Vec<u32> = all.edges[range].iter().copied().filter(leads).collect();
            let range = left.indptr[row] as usize..left.indptr[row + 1] as usize;
            prop_assert_eq!(&left.edges[range.clone()], expected);
            if fits {
                prop_assert_eq!(bits(&bitmask[row * width..][..width]), &left.tokens[range]);
            }
        }
    }

    #[test]
    fn a_bitmask_holds_what_may_follow_whatever_stood_in_it(units in units(30), picks in prop::collection::vec((0usize..1000, 0usize..1000), 1..9), spare in 0usize..3) {
        let trie = built(&units)?;
        prop_assume!(trie.vocabulary() <= 70_001);
        let width = (trie.vocabulary() as usize).div_ceil(32) + spare;
        let nodes = trie.num_nodes();
        let states = |pick: &dyn Fn(&(usize, usize)) -> usize| -> Vec<u32> { picks.iter().map(|both| (pick(both) % nodes) as u32).collect() };
        let (old, new) = (states(&|both| both.0), states(&|both| both.1));
        let mut bitmask = vec![-1; picks.len() * width];
        trie.fill_bitmask(&old, &mut bitmask, width, None, None)?;
        trie.fill_bitmask(&new, &mut bitmask, width, Some(&old), None)?;
        let expected = allowed(&trie, &new, None)?;
        for row in 0..picks.len() {
            let range = expected.indptr[row] as usize..expected.indptr[row + 1] as usize;
            prop_assert_eq!(bits(&bitmask[row * width..][..width]), &expected.tokens[range]);
        }
    }
}

fn bits(words: &[i32]) -> Vec<u32> {
    let words = words.iter().enumerate();
    words
        .flat_map(|(word, &bits)| ones(bits as u32 as u64).map(move |bit| word as u32 * 32 + bit))
        .collect()
}

/// Enough units for the parallel sort, most of them alike for many tokens.
#[test]
fn many_units_with_long_common_beginnings_are_laid_out_as_few_are() -> Result<()> {
    let mut seed = 1_u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % below
    };
    let mut units: Vec<Vec<u32>> = (0..30_000)
        .map(|_| {
            let common = [0, 3, 9, 40][random(4) as usize];
            let body = (0..1 + random(6)).map(|_| 10 + (random(9) * random(9) * 900) as u32);
            std::iter::repeat_n(7, common)
                .chain(body)
                .chain([1])
                .collect()
        })
        .collect();
    units.sort_unstable();
    units.dedup();
    let mut order: Vec<usize> = (0..units.len()).collect();
    order.sort_by_cached_key(|_| random(1 << 30));
    let shuffled: Vec<Vec<u32>> = order.iter().map(|&row| units[row].clone()).collect();
    let trie = built(&shuffled)?;
    let walked = shuffled.iter().map(|unit| {
        unit.iter()
            .map(|&token| i64::from(token))
            .collect::<Vec<_>>()
    });
    let rows: Vec<Vec<i64>> = walked.collect();
    let titles = trie.title_of(&trie.walk(rows.iter().map(Vec::as_slice)))?;
    assert!(
        titles
            .iter()
            .enumerate()
            .all(|(row, &title)| title == row as i64)
    );
    let opened = |pair: &[Vec<u32>]| {
        pair[1].len()
            - pair[0]
                .iter()
                .zip(&pair[1])
                .take_while(|(left, right)| left == right)
                .count()
    };
    let nodes: usize = units.windows(2).map(opened).sum();
    assert_eq!(trie.num_nodes(), 1 + units[0].len() + nodes);
    check::check(&trie.first, &trie.labels, &trie.titles)
}

#[test]
fn units_that_cannot_be_told_apart_are_refused_with_all_their_rows() {
    let refused =
        |units: &[&[u32]]| built(&units.iter().map(|unit| unit.to_vec()).collect::<Vec<_>>()).err();
    assert_eq!(refused(&[]), Some(Error::NoUnits));
    assert_eq!(
        refused(&[&[1], &[], &[2], &[]]),
        Some(Error::EmptyUnits { rows: vec![1, 3] })
    );
    assert_eq!(
        refused(&[&[5, 6], &[1], &[5, 6], &[1]]),
        Some(Error::RepeatedUnits {
            rows: vec![[0, 2], [1, 3]]
        })
    );
    assert_eq!(
        refused(&[&[5, 6, 7], &[1], &[5, 6], &[1, 1]]),
        Some(Error::PrefixUnits {
            rows: vec![[1, 3], [2, 0]]
        })
    );
    assert_eq!(refused(&[&[3; 512]]), None);
    assert_eq!(
        refused(&[&[1], &[3; 513]]),
        Some(Error::LongUnits {
            rows: vec![1],
            longest: 512
        })
    );
    assert_eq!(
        refused(&[&[1], &[i32::MAX as u32]]),
        Some(Error::TokenRange {
            row: 1,
            token: i32::MAX.to_string()
        })
    );
    let alike = vec![vec![4; 9]; 5_000];
    assert!(
        matches!(built(&alike).err(), Some(Error::RepeatedUnits { rows }) if rows.len() == 4_999)
    );
}

#[test]
fn arrays_that_are_no_trie_are_refused() {
    let trie = |first: &[u32], labels: &[u16], titles: &[u32]| {
        TitleTrie::from_arrays(
            first.to_vec().into(),
            Labels::Narrow(labels.to_vec().into()),
            titles.to_vec().into(),
        )
    };
    assert!(trie(&[0, 2, 2, 2], &[3, 4], &[1, 0]).is_ok());
    for (first, labels, titles) in [
        (&[][..], &[][..], &[][..]),
        (&[0, 0], &[], &[0]),
        (&[0, 2, 2], &[3, 4], &[1, 0]),
        (&[1, 2, 2, 2], &[3, 4], &[1, 0]),
        (&[0, 3, 2, 2], &[3, 4], &[1, 0]),
        (&[0, 0, 2, 2], &[3, 4], &[1, 0]),
        (&[0, 2, 2, 1], &[3, 4], &[1, 0]),
        (&[0, 2, 2, 2], &[4, 4], &[1, 0]),
        (&[0, 2, 2, 2], &[3, 4], &[1]),
        (&[0, 2, 2, 2], &[3, 4], &[1, 1]),
        (&[0, 2, 2, 2], &[3, 4], &[1, 2]),
    ] {
        let refused = trie(first, labels, titles);
        assert!(
            matches!(refused, Err(Error::BrokenTrie { .. })),
            "{first:?} {labels:?} {titles:?}"
        );
    }
}

#[test]
fn states_edges_and_masks_that_no_trie_gave_are_refused() -> Result<()> {
    let trie = built(&[vec![1, 2], vec![40]])?;
    let nodes = trie.num_nodes();
    let unknown = Error::UnknownNode {
        state: 4,
        row: 1,
        nodes,
    };
    assert_eq!(allowed(&trie, &[0, 4], None), Err(unknown.clone()));
    assert_eq!(trie.step(&[0, 4], &[1, 1]), Err(unknown.clone()));
    assert_eq!(trie.rollback(&[0, 4], 1), Err(unknown.clone()));
    assert_eq!(trie.title_of(&[0, 4]), Err(unknown.clone()));
    assert_eq!(trie.forced(&[0, 4]).err(), Some(unknown.clone()));
    assert_eq!(
        trie.fill_bitmask(&[0, 4], &mut [0; 4], 2, None, None),
        Err(unknown.clone())
    );
    assert_eq!(
        trie.fill_bitmask(&[0, 0], &mut [0; 4], 2, Some(&[0, 4]), None),
        Err(unknown)
    );
    assert_eq!(
        trie.advance(&[0, 3]),
        Err(Error::UnknownEdge {
            edge: 3,
            row: 1,
            edges: 3
        })
    );
    assert_eq!(
        trie.fill_bitmask(&[0], &mut [0], 1, None, None),
        Err(Error::NarrowBitmask {
            width: 1,
            needed: 2
        })
    );
    let rows = |what, other| {
        Err(Error::BatchRows {
            states: 1,
            what,
            other,
        })
    };
    assert_eq!(
        trie.fill_bitmask(&[0], &mut [0; 4], 2, None, None),
        rows("rows of the bitmask", 2)
    );
    assert_eq!(
        trie.fill_bitmask(&[0], &mut [0; 2], 2, Some(&[]), None),
        rows("previous states", 0)
    );
    assert_eq!(trie.step(&[0], &[]).err(), rows("tokens", 0).err());
    let subsets = Subsets::new(&trie, &[3], 1, Some(&[1]))?;
    assert_eq!(
        allowed(&trie, &[0], Some(&subsets)),
        Err(Error::UnknownSubset {
            row: 0,
            subset: 1,
            subsets: 1
        })
    );
    assert_eq!(
        trie.restrict(&[true]),
        Err(Error::SubsetTitles {
            titles: 1,
            expected: 2
        })
    );
    Ok(())
}
