//! The Merkle tree of RFC 6962 over the leaves, and the paths that prove one leaf is in it.
//!
//! Pairing neighbours level by level and promoting an odd last node gives the same tree as the RFC's split at the largest
//! power of two below n.

use super::digest::{Hash, hash};

/// Levels below this one are not kept but computed again from 16 leaves: a million entries need 4 MiB of tree, not 64.
const KEPT_FROM: usize = 4;
const CHUNK: usize = 1 << KEPT_FROM;

/// The root of no entries: `H("")`.
pub fn empty_root() -> Hash {
    hash([])
}

/// `H(0x01 ‖ left ‖ right)`
pub fn node(left: &Hash, right: &Hash) -> Hash {
    hash([[1].as_slice(), left, right])
}

/// The tree, without its lowest levels.
#[derive(Clone, Debug)]
pub struct Tree {
    leaves: usize,
    /// Level [`KEPT_FROM`] and up; the last one is the root.
    kept: Vec<Vec<Hash>>,
}

impl Tree {
    /// Over leaves in index order.
    pub fn new(leaves: impl Iterator<Item = Hash>) -> Self {
        let (mut count, mut lowest) = (0, Vec::new());
        let mut chunk = Vec::with_capacity(CHUNK);
        for leaf in leaves {
            chunk.push(leaf);
            count += 1;
            if chunk.len() == CHUNK {
                lowest.push(top(std::mem::take(&mut chunk)));
                chunk.reserve(CHUNK);
            }
        }
        if !chunk.is_empty() {
            lowest.push(top(chunk));
        }
        let mut kept = vec![lowest];
        while let Some(level) = kept.last().filter(|l| l.len() > 1) {
            let next = above(level);
            kept.push(next);
        }
        Tree { leaves: count, kept }
    }

    /// The root.
    pub fn root(&self) -> Hash {
        self.kept.last().and_then(|l| l.first()).copied().unwrap_or_else(empty_root)
    }

    /// The siblings from a leaf up to the root; `leaf` gives leaves again. `None` when there is no such leaf.
    pub fn path(&self, index: usize, leaf: impl Fn(usize) -> Hash) -> Option<Vec<Hash>> {
        if index >= self.leaves {
            return None;
        }
        let start = index / CHUNK * CHUNK;
        let mut level: Vec<Hash> = (start..self.leaves.min(start + CHUNK)).map(leaf).collect();
        let mut path = Vec::new();
        let mut at = index - start;
        for _ in 0..KEPT_FROM {
            path.extend(level.get(at ^ 1));
            level = above(&level);
            at /= 2;
        }
        let mut at = index / CHUNK;
        for level in &self.kept {
            path.extend(level.get(at ^ 1));
            at /= 2;
        }
        Some(path)
    }
}

/// The root that a leaf and its path lead to; `None` when the path has the wrong length for this index.
pub fn root_of_path(index: u64, leaves: u64, leaf: Hash, path: &[Hash]) -> Option<Hash> {
    if index >= leaves {
        return None;
    }
    let (mut at, mut last, mut value) = (index, leaves - 1, leaf);
    let mut path = path.iter();
    while last > 0 {
        // A last node without sibling is promoted as it is.
        if at % 2 == 1 {
            value = node(path.next()?, &value);
        } else if at < last {
            value = node(&value, path.next()?);
        }
        (at, last) = (at / 2, last / 2);
    }
    path.next().is_none().then_some(value)
}

fn above(level: &[Hash]) -> Vec<Hash> {
    let pair = |p: &[Hash]| match p {
        [left, right] => node(left, right),
        _ => p[0],
    };
    level.chunks(2).map(pair).collect()
}

fn top(mut level: Vec<Hash>) -> Hash {
    while level.len() > 1 {
        level = above(&level);
    }
    level[0]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// The RFC's own words.
    fn by_the_book(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [one] => *one,
            more => {
                let half = more.len().next_power_of_two() / 2;
                node(&by_the_book(&more[..half]), &by_the_book(&more[half..]))
            }
        }
    }

    fn leaves(n: usize) -> Vec<Hash> {
        (0..n).map(|i| hash([i.to_be_bytes().as_slice()])).collect()
    }

    #[test]
    fn small_trees_are_the_books_and_every_path_leads_to_the_root() {
        for n in 0..150 {
            let leaves = leaves(n);
            let tree = Tree::new(leaves.iter().copied());
            assert_eq!(tree.root(), by_the_book(&leaves), "{n}");
            for i in 0..n {
                let path = tree.path(i, |i| leaves[i]).unwrap();
                assert_eq!(root_of_path(i as u64, n as u64, leaves[i], &path), Some(tree.root()), "{i} of {n}");
            }
            assert_eq!(tree.path(n, |i| leaves[i]), None);
        }
    }

    proptest! {
        #[test]
        fn a_path_proves_its_own_leaf_and_place_only(n in 2usize..3_000, at: prop::sample::Index, other: prop::sample::Index, bit in 0usize..256) {
            let leaves = leaves(n);
            let tree = Tree::new(leaves.iter().copied());
            let (i, j) = (at.index(n), other.index(n));
            let path = tree.path(i, |i| leaves[i]).unwrap();
            let proves = |index: usize, leaf: Hash, path: &[Hash]| {
                root_of_path(index as u64, n as u64, leaf, path) == Some(tree.root())
            };
            prop_assert!(proves(i, leaves[i], &path));
            prop_assert_eq!(proves(j, leaves[i], &path), i == j);
            prop_assert_eq!(proves(i, leaves[j], &path), i == j);
            let mut bent = path.clone();
            bent[bit % path.len()][bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!proves(i, leaves[i], &bent));
            prop_assert!(!proves(i, leaves[i], &path[1..]));
            bent = path.clone();
            bent.push(leaves[j]);
            prop_assert!(!proves(i, leaves[i], &bent));
        }
    }
}
