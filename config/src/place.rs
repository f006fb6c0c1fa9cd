//! Where each key of the file stands: a second, untyped reading, flattened to (path, position).

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{Location, Spanned};

use crate::error::{Place, printable};

/// Longest part of a path shown, characters; paths of 20,000 nodes under a huge key stay small.
const KEY_MAX: usize = 48;

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A scalar, as text; empty for null.
    Leaf(String),
    /// A list.
    Seq,
    /// A map.
    Map,
}

/// One node of the file.
#[derive(Clone, Debug)]
pub(crate) struct Spot {
    /// `rooms[0].seats.max`
    pub(crate) path: String,
    /// The key in its map; `None` for items of lists and the root.
    pub(crate) key: Option<String>,
    /// Where the key stands.
    pub(crate) key_at: Option<Place>,
    /// Where the value begins.
    pub(crate) value_at: Place,
    /// What it is.
    pub(crate) kind: Kind,
    /// A scalar that is text: no plain number, boolean or null.
    pub(crate) is_text: bool,
}

impl Spot {
    /// What to point at: the scalar itself, else its key, else the first thing in it.
    pub(crate) fn place(&self) -> Place {
        match (&self.kind, self.key_at) {
            (Kind::Leaf(text), Some(key)) if text.is_empty() => key,
            (Kind::Leaf(_), _) | (_, None) => self.value_at,
            (_, Some(key)) => key,
        }
    }
}

/// All nodes, in the order of the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places(Vec<Spot>);

impl Places {
    /// Reads the file without types.
    pub(crate) fn read(text: &str, options: serde_saphyr::Options) -> Result<Self, serde_saphyr::Error> {
        let root: Spanned<Node> = serde_saphyr::from_str_with_options(text, options)?;
        let mut spots = Vec::new();
        flatten(root, String::new(), None, &mut spots);
        Ok(Places(spots))
    }

    /// The scalars that are text.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&Spot, &str)> {
        self.0.iter().filter(|s| s.is_text).filter_map(|s| match &s.kind {
            Kind::Leaf(text) => Some((s, text.as_str())),
            _ => None,
        })
    }

    /// The node at a path.
    pub(crate) fn get(&self, path: &str) -> Option<&Spot> {
        self.0.iter().find(|s| s.path == path)
    }

    /// The place of a path, or of the nearest thing above it that is in the file.
    pub(crate) fn place(&self, path: &str) -> Option<Place> {
        let mut path = path;
        loop {
            if let Some(spot) = self.get(path) {
                return Some(spot.place());
            }
            path = parent(path)?;
        }
    }

    /// The scalar at a place, or the last one before it.
    pub(crate) fn leaf_before(&self, at: Place) -> Option<&Spot> {
        self.0.iter().rfind(|s| s.value_at < at && matches!(s.kind, Kind::Leaf(_)))
    }

    /// The last thing that begins at or before a place.
    pub(crate) fn last_until(&self, at: Place) -> Option<&Spot> {
        self.0.iter().rfind(|s| s.value_at <= at)
    }

    /// Where the first thing behind a node and all that is in it begins; `None` at the end of the file.
    pub(crate) fn behind(&self, spot: &Spot) -> Option<Place> {
        let within = |s: &&Spot| {
            s.path.strip_prefix(spot.path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let at = self.0.iter().position(|s| s.key_at == spot.key_at && s.path == spot.path)?;
        self.0[at..].iter().find(|s| !within(s)).map(|s| s.key_at.unwrap_or(s.value_at))
    }

    /// The key at a place.
    pub(crate) fn key_at(&self, at: Place) -> Option<&Spot> {
        self.0.iter().find(|s| s.key_at == Some(at))
    }

    /// The value that begins at a place; the outermost one when several do.
    pub(crate) fn value_at(&self, at: Place) -> Option<&Spot> {
        self.0.iter().find(|s| s.value_at == at)
    }

    /// The innermost map that begins at or before a place: what a missing key is missing from.
    pub(crate) fn map_at(&self, at: Place) -> Option<&Spot> {
        self.0.iter().rfind(|s| s.value_at == at && s.kind == Kind::Map)
    }
}

/// The path one level up; `None` above the root.
pub(crate) fn parent(path: &str) -> Option<&str> {
    match path {
        "" => None,
        p => Some(&p[..p.rfind(['.', '[']).unwrap_or(0)]),
    }
}

/// A path with a key below it.
pub(crate) fn join(path: &str, key: &str) -> String {
    let key: String = printable(key).chars().take(KEY_MAX).collect();
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

fn at(location: Location) -> Place {
    let n = |v: u64| usize::try_from(v).unwrap_or(usize::MAX).max(1);
    Place { line: n(location.line()), column: n(location.column()) }
}

/// A position of the YAML reader as ours; `None` when it has none.
pub(crate) fn place_of(error: &serde_saphyr::Error) -> Option<Place> {
    error.location().filter(|l| *l != Location::UNKNOWN).map(at)
}

fn flatten(node: Spanned<Node>, path: String, key: Option<Spanned<String>>, into: &mut Vec<Spot>) {
    let is_text = matches!(node.value, Node::Text(_));
    let kind = match &node.value {
        Node::Leaf(text) | Node::Text(text) => Kind::Leaf(text.clone()),
        Node::Seq(_) => Kind::Seq,
        Node::Map(_) => Kind::Map,
    };
    let key_at = key.as_ref().map(|k| at(k.referenced));
    let key = key.map(|k| k.value);
    into.push(Spot { path: path.clone(), key, key_at, value_at: at(node.referenced), kind, is_text });
    match node.value {
        Node::Leaf(_) | Node::Text(_) => {}
        Node::Seq(items) => {
            for (i, item) in items.into_iter().enumerate() {
                flatten(item, format!("{path}[{i}]"), None, into);
            }
        }
        Node::Map(pairs) => {
            for (key, value) in pairs {
                flatten(value, join(&path, &key.value), Some(key), into);
            }
        }
    }
}

enum Node {
    Leaf(String),
    Text(String),
    Seq(Vec<Spanned<Node>>),
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }
    fn visit_bool<E>(self, v: bool) -> Result<Node, E> {
        Ok(Node::Leaf(v.to_string()))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Node, E> {
        Ok(Node::Leaf(v.to_string()))
    }
    fn visit_u64<E>(self, v: u64) -> Result<Node, E> {
        Ok(Node::Leaf(v.to_string()))
    }
    fn visit_i128<E>(self, v: i128) -> Result<Node, E> {
        Ok(Node::Leaf(v.to_string()))
    }
    fn visit_u128<E>(self, v: u128) -> Result<Node, E> {
        Ok(Node::Leaf(v.to_string()))
    }
    fn visit_f64<E>(self, v: f64) -> Result<Node, E> {
        // `1.0` stays `1.0`: it is no whole number.
        Ok(Node::Leaf(format!("{v:?}")))
    }
    fn visit_str<E>(self, v: &str) -> Result<Node, E> {
        Ok(Node::Text(v.to_owned()))
    }
    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf(String::new()))
    }
    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf(String::new()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut a: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = a.next_element()? {
            items.push(item);
        }
        Ok(Node::Seq(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut a: A) -> Result<Node, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = a.next_entry()? {
            pairs.push(pair);
        }
        Ok(Node::Map(pairs))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths_have_places() {
        let text = "a: 1\nb:\n  - c: x\n    d: [5, 6]\n";
        let p = Places::read(text, crate::parse::options()).unwrap();
        let place = |path: &str| p.place(path).map(|p| (p.line, p.column));
        assert_eq!(place("a"), Some((1, 4)));
        assert_eq!(place("b[0].d[1]"), Some((4, 12)));
        assert_eq!(place("b[0].missing.deeper"), Some((3, 5)), "the nearest thing above");
        assert_eq!(place("b"), Some((2, 1)), "a list is its key");
        assert_eq!(p.map_at(Place { line: 3, column: 5 }).unwrap().path, "b[0]");
    }

    #[test]
    fn parents() {
        assert_eq!(parent("a.b[0].c"), Some("a.b[0]"));
        assert_eq!(parent("a.b[0]"), Some("a.b"));
        assert_eq!(parent("a"), Some(""));
        assert_eq!(parent(""), None);
    }
}
