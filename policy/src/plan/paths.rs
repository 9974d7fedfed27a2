//! From host, path and method to a route. A tree of path segments per host, held in flat tables;
//! a lookup costs a few hashes for each segment, however many routes there are.

use arrayvec::ArrayVec;
use serde::{Deserialize, Serialize};

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
    pub(super) nodes: Vec<Node>,
    pub(super) pattern_edges: Vec<PatternEdge>,
    pub(super) patterns: Vec<Pattern>,
    pub(super) ends: Vec<End>,
}

/// A place between two segments.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Node {
    /// Into `pattern_edges`.
    pub(super) patterns: Run,
    /// The child behind `{param}`.
    pub(super) param: u32,
    /// Into `ends`: the routes that end here.
    pub(super) ends: Run,
    /// Into `ends`: the routes that go on with `{*rest}`.
    pub(super) rest: Run,
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

/// Consecutive items of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) start: u32,
    pub(super) length: u32,
}

impl Paths {
    /// The most specific route: exact hosts before `*.` hosts before any, then segment by segment
    /// static text before patterns before parameters before rests, then named methods before any.
    pub(super) fn find(&self, host: &[u8], path: &[&[u8]], method: &[u8]) -> Option<u32> {
        self.in_named_host(host, path, method)
            .or_else(|| self.walk(self.any_host, path, method))
    }

    fn in_named_host(&self, authority: &[u8], path: &[&[u8]], method: &[u8]) -> Option<u32> {
        if self.exact_hosts == Table::default() && self.below_hosts == Table::default() {
            return None;
        }
        let mut lower = ArrayVec::<u8, MAX_HOST>::new();
        lower.try_extend_from_slice(without_port(authority)).ok()?;
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
        let node = self.nodes.get(usize::try_from(node).ok()?)?;
        let Some((segment, after)) = path.split_first() else {
            return self
                .end(node.ends, method)
                .or_else(|| self.end(node.rest, method));
        };
        self.statics
            .find(&self.text, number, segment)
            .and_then(|child| self.walk(child, after, method))
            .or_else(|| self.walk_patterns(node, segment, after, method))
            .or_else(|| {
                let is_param = node.param != 0 && !segment.is_empty();
                is_param
                    .then(|| self.walk(node.param, after, method))
                    .flatten()
            })
            .or_else(|| self.end(node.rest, method))
    }

    fn walk_patterns(
        &self,
        node: &Node,
        segment: &[u8],
        after: &[&[u8]],
        method: &[u8],
    ) -> Option<u32> {
        node.patterns
            .of(&self.pattern_edges)
            .iter()
            .find_map(|edge| {
                let pattern = self.patterns.get(usize::try_from(edge.pattern).ok()?)?;
                pattern
                    .matches(segment)
                    .then(|| self.walk(edge.node, after, method))
                    .flatten()
            })
    }

    fn end(&self, run: Run, method: &[u8]) -> Option<u32> {
        let ends = run.of(&self.ends);
        ends.iter()
            .find(|end| end.methods.contain(method))
            .map(|end| end.route)
    }
}

impl Run {
    pub(super) fn of<T>(self, list: &[T]) -> &[T] {
        let range = || {
            let start = usize::try_from(self.start).ok()?;
            let end = start.checked_add(usize::try_from(self.length).ok()?)?;
            list.get(start..end)
        };
        range().unwrap_or_default()
    }
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
