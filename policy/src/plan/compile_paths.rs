//! Builds the tree of `paths` from validated routes.

use std::collections::HashMap;

use super::paths::{End, Paths, PatternEdge};
use super::table::build::{TableBuilder, TextBuilder, count};
use crate::pattern::Pattern;
use crate::policy::{Host, Route};
use crate::template::Segment;
use crate::terms::Methods;

/// A tree under construction: nodes still own their lists.
#[derive(Default)]
pub(super) struct PathsBuilder {
    pub(super) text: TextBuilder,
    exact_hosts: TableBuilder,
    below_hosts: TableBuilder,
    any_host: u32,
    statics: TableBuilder,
    nodes: Vec<Growing>,
    /// Equal patterns are compiled, sent and held once.
    patterns: HashMap<String, u32>,
    compiled: Vec<Pattern>,
}

#[derive(Default)]
struct Growing {
    patterns: Vec<PatternEdge>,
    param: u32,
    ends: Vec<End>,
    rest: Vec<End>,
}

impl PathsBuilder {
    pub(super) fn new() -> Self {
        // Node 0 stands for "none".
        Self {
            nodes: vec![Growing::default()],
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, route: &Route, number: u32) {
        for host in &route.hosts {
            let root = self.root(host);
            self.add_below(root, route, number);
        }
    }

    pub(super) fn finish(self) -> Paths {
        let mut paths = Paths {
            exact_hosts: self.exact_hosts.finish(&self.text),
            below_hosts: self.below_hosts.finish(&self.text),
            any_host: self.any_host,
            statics: self.statics.finish(&self.text),
            patterns: self.compiled,
            text: self.text.finish(),
            ..Paths::default()
        };
        // Behind the last node stands where its lists end.
        for mut node in self.nodes.into_iter().chain([Growing::default()]) {
            // A route for named methods is more specific than one for all.
            node.ends.sort_by_key(|end| end.methods == Methods::ANY);
            node.rest.sort_by_key(|end| end.methods == Methods::ANY);
            let patterns = count(paths.pattern_edges.len());
            let ends = count(paths.ends.len());
            paths.pattern_edges.extend(node.patterns);
            paths.ends.extend(node.ends);
            let rest = count(paths.ends.len());
            paths.ends.extend(node.rest);
            paths.nodes.push([patterns, node.param, ends, rest]);
        }
        paths
    }

    fn root(&mut self, host: &Host) -> u32 {
        let nodes = &mut self.nodes;
        match host {
            Host::Exact(name) => self
                .exact_hosts
                .get_or_insert(&mut self.text, 0, name, || new_node(nodes)),
            Host::Below(name) => self
                .below_hosts
                .get_or_insert(&mut self.text, 0, name, || new_node(nodes)),
            Host::Any => {
                if self.any_host == 0 {
                    self.any_host = new_node(nodes);
                }
                self.any_host
            }
        }
    }

    fn add_below(&mut self, root: u32, route: &Route, number: u32) {
        let end = End {
            methods: route.methods,
            route: number,
        };
        let mut at = root;
        for segment in route.template.segments() {
            at = match segment {
                Segment::Static(label) => {
                    let nodes = &mut self.nodes;
                    self.statics
                        .get_or_insert(&mut self.text, at, label, || new_node(nodes))
                }
                Segment::Param { .. } => self.param_child(at),
                Segment::Pattern { regex, .. } => {
                    let Some(child) = self.pattern_child(at, regex) else {
                        return;
                    };
                    child
                }
                Segment::Rest { .. } => {
                    self.node(at).rest.push(end);
                    return;
                }
            };
        }
        self.node(at).ends.push(end);
    }

    fn param_child(&mut self, at: u32) -> u32 {
        if self.node(at).param == 0 {
            let child = new_node(&mut self.nodes);
            self.node(at).param = child;
        }
        self.node(at).param
    }

    /// `None` for a pattern that does not compile, which validation has refused.
    fn pattern_child(&mut self, at: u32, regex: &str) -> Option<u32> {
        let pattern = match self.patterns.get(regex) {
            Some(number) => *number,
            None => {
                let number = count(self.compiled.len());
                self.compiled.push(Pattern::compile(regex).ok()?);
                self.patterns.insert(regex.to_owned(), number);
                number
            }
        };
        let known = self
            .node(at)
            .patterns
            .iter()
            .find(|edge| edge.pattern == pattern);
        if let Some(edge) = known {
            return Some(edge.node);
        }
        let node = new_node(&mut self.nodes);
        self.node(at).patterns.push(PatternEdge { pattern, node });
        Some(node)
    }

    fn node(&mut self, number: u32) -> &mut Growing {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        let at = if at < self.nodes.len() { at } else { 0 };
        #[expect(
            clippy::indexing_slicing,
            reason = "node 0 always exists, and `at` is checked"
        )]
        &mut self.nodes[at]
    }
}

fn new_node(nodes: &mut Vec<Growing>) -> u32 {
    nodes.push(Growing::default());
    count(nodes.len().saturating_sub(1))
}
