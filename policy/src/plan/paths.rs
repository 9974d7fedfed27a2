//! From host, path and method to a route. A tree of path segments per host, held in flat tables;
//! a lookup costs a few hashes for each segment, however many routes there are.

use arrayvec::ArrayVec;
use serde::{Deserialize, Serialize};

use super::records::Records;
use super::table::Table;
use crate::pattern::Pattern;
use crate::terms::Methods;

/// One more than a template may have: longer paths need only be seen to be longer.
pub(crate) const MAX_SEGMENTS: usize = 33;
const MAX_HOST: usize = 253;

/// A request's path in segments, percent-decoded.
pub(crate) type Segments<'a> = ArrayVec<&'a [u8], MAX_SEGMENTS>;

/// The tree. Node 0 does not exist, so that 0 can stand for "none".
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Paths {
    pub(super) text: String,
    /// Host names in lower case to root nodes, all in scope 0.
    pub(super) exact_hosts: Table,
    /// The same for `*.` hosts, without the `*.`.
    pub(super) below_hosts: Table,
    pub(super) any_host: u32,
    /// Static segments to child nodes; the scope is the parent node.
    pub(super) statics: Table,
    /// What [`Node`] says, each up to where the next begins, and one more to end the last.
    pub(super) nodes: Records<4>,
    pub(super) pattern_edges: Vec<PatternEdge>,
    pub(super) patterns: Vec<Pattern>,
    pub(super) ends: Vec<End>,
}

/// A place between two segments.
struct Node<'p> {
    patterns: &'p [PatternEdge],
    /// The child behind `{param}`.
    param: u32,
    /// The routes that end here.
    ends: &'p [End],
    /// The routes that go on with `{*rest}`.
    rest: &'p [End],
}

/// A child behind `{param:regex}`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PatternEdge {
    pub(super) pattern: u32,
    pub(super) node: u32,
}

/// A route for some methods. In a run those for all methods come last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) methods: Methods,
    pub(super) route: u32,
}

impl Paths {
    /// The most specific route: exact hosts before `*.` hosts before any, then segment by segment
    /// static text before patterns before parameters before rests, then named methods before any.
    pub(super) fn find(&self, host: &[u8], path: &[&[u8]], method: &[u8]) -> Option<u32> {
        self.in_named_host(host, path, method)
            .or_else(|| self.walk(self.any_host, path, method))
    }

    fn in_named_host(&self, authority: &[u8], path: &[&[u8]], method: &[u8]) -> Option<u32> {
        if self.exact_hosts.is_empty() && self.below_hosts.is_empty() {
            return None;
        }
        let mut lower = ArrayVec::<u8, MAX_HOST>::new();
        let host = without_port(authority);
        // A name that ends with a dot is the same name, written out.
        let host = host.strip_suffix(b".").unwrap_or(host);
        lower.try_extend_from_slice(host).ok()?;
        lower.make_ascii_lowercase();
        let exact = self.exact_hosts.find(&self.text, 0, &lower);
        if let Some(route) = exact.and_then(|root| self.walk(root, path, method)) {
            return Some(route);
        }
        let mut name = lower.as_slice();
        while let Some(dot) = name.iter().position(|byte| *byte == b'.') {
            name = name.get(dot.saturating_add(1)..).unwrap_or_default();
            let root = self.below_hosts.find(&self.text, 0, name);
            if let Some(route) = root.and_then(|root| self.walk(root, path, method)) {
                return Some(route);
            }
        }
        None
    }

    /// Every node is visited at most once, since each has one parent, and the depth is bounded by
    /// the longest template.
    fn walk(&self, node: u32, path: &[&[u8]], method: &[u8]) -> Option<u32> {
        let number = node;
        let node = self.node(node)?;
        let Some((segment, after)) = path.split_first() else {
            return end(node.ends, method).or_else(|| end(node.rest, method));
        };
        self.statics
            .find(&self.text, number, segment)
            .and_then(|child| self.walk(child, after, method))
            .or_else(|| self.walk_patterns(node.patterns, segment, after, method))
            .or_else(|| {
                let is_param = node.param != 0 && !segment.is_empty();
                is_param
                    .then(|| self.walk(node.param, after, method))
                    .flatten()
            })
            .or_else(|| end(node.rest, method))
    }

    fn walk_patterns(
        &self,
        edges: &[PatternEdge],
        segment: &[u8],
        after: &[&[u8]],
        method: &[u8],
    ) -> Option<u32> {
        edges.iter().find_map(|edge| {
            let pattern = self.patterns.get(usize::try_from(edge.pattern).ok()?)?;
            pattern
                .matches(segment)
                .then(|| self.walk(edge.node, after, method))
                .flatten()
        })
    }

    fn node(&self, number: u32) -> Option<Node<'_>> {
        let at = usize::try_from(number).ok()?;
        let [patterns, param, ends, rest] = *self.nodes.get(at)?;
        let [patterns_end, _, rest_end, _] = *self.nodes.get(at.checked_add(1)?)?;
        Some(Node {
            patterns: run(&self.pattern_edges, patterns, patterns_end),
            param,
            ends: run(&self.ends, ends, rest),
            rest: run(&self.ends, rest, rest_end),
        })
    }
}

fn end(ends: &[End], method: &[u8]) -> Option<u32> {
    ends.iter()
        .find(|end| end.methods.contain(method))
        .map(|end| end.route)
}

fn run<T>(list: &[T], start: u32, end: u32) -> &[T] {
    let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
    range
        .and_then(|(start, end)| list.get(start..end))
        .unwrap_or_default()
}

/// `shop.example.com:8080` without its port. An IPv6 literal ends with `]` and keeps its colons.
fn without_port(authority: &[u8]) -> &[u8] {
    let colon = authority.iter().rposition(|byte| *byte == b':');
    let split = colon.and_then(|colon| authority.split_at_checked(colon));
    match split {
        Some((host, port)) if port.iter().skip(1).all(u8::is_ascii_digit) => host,
        _ => authority,
    }
}
