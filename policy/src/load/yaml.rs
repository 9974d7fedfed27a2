//! Text to raw types, with the place of every mistake: the path in the document by
//! serde_path_to_error, line and column by the YAML parser.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Budget, Options, Spanned};

use super::SourceFile;
use crate::problem::Problem;

/// More than 100,000 routes need; less than what would exhaust memory.
const MAX_EVENTS: usize = 8_000_000;

/// Reads a file of one YAML document.
pub(super) fn read<T: DeserializeOwned>(file: &SourceFile) -> Result<T, Problem> {
    let mut path = String::new();
    let read =
        serde_saphyr::with_deserializer_from_str_with_options(&file.text, options(), |yaml| {
            serde_path_to_error::deserialize(yaml).map_err(|error| {
                path = error.path().to_string();
                error.into_inner()
            })
        });
    read.map_err(|error| {
        let error = error.without_snippet();
        let location = error.location();
        Problem {
            file: file.name.clone(),
            line: location.map(|at| at.line()),
            column: location.map(|at| at.column()),
            // `.` is the whole document, and `?` something that has no name yet.
            path: path.trim_end_matches('?').trim_end_matches('.').to_owned(),
            message: message(&error.to_string()),
        }
    })
}

/// Finds places in a file.
pub(super) struct Locator(Spanned<Node>);

impl Locator {
    /// `None` when the file is not YAML.
    pub(super) fn new(file: &SourceFile) -> Option<Self> {
        serde_saphyr::from_str_with_options(&file.text, options())
            .ok()
            .map(Self)
    }

    /// Line and column of what stands at a path like `services[0].routes[1].path`, or of the
    /// nearest thing around it that exists.
    pub(super) fn locate(&self, path: &str) -> (u64, u64) {
        let mut at = &self.0;
        for step in steps(path) {
            let inner = match (&at.value, step) {
                (Node::Map(entries), Step::Key(key)) => entries.get(key),
                (Node::List(items), Step::Index(index)) => items.get(index),
                _ => None,
            };
            let Some(inner) = inner else { break };
            at = inner;
        }
        let location = at.referenced;
        (location.line(), location.column())
    }
}

fn options() -> Options {
    let mut budget = Budget::default();
    budget.max_events = MAX_EVENTS;
    budget.max_nodes = MAX_EVENTS;
    let mut options = Options::default();
    options.budget = Some(budget);
    options.with_snippet = false;
    options
}

/// The parser's message without its own rendering of the place, which the problem has already.
fn message(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let marks = [" at line ", " (line ", ", set DuplicateKeyPolicy"];
    let cut = marks.iter().filter_map(|mark| line.find(mark)).min();
    let kept = cut
        .and_then(|at| line.split_at_checked(at))
        .map_or(line, |(kept, _)| kept);
    match kept.trim_start_matches("error: ") {
        "expected sequence start" => "expected a list, like `[a, b]`".to_owned(),
        "expected mapping start" => "expected a map, like `{ key: value }`".to_owned(),
        "invalid u32" => "expected a whole number, not below 0".to_owned(),
        "unexpected end of input" => "the document ends too early, or is empty".to_owned(),
        "expected string scalar" => "expected a text".to_owned(),
        other => other.to_owned(),
    }
}

/// A document as far as finding places needs it.
enum Node {
    Map(BTreeMap<String, Spanned<Node>>),
    List(Vec<Spanned<Node>>),
    Leaf,
}

enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

fn steps(path: &str) -> impl Iterator<Item = Step<'_>> {
    path.split(['.', '['])
        .filter(|step| !step.is_empty())
        .map(|step| {
            step.strip_suffix(']')
                .and_then(|index| index.parse().ok())
                .map_or(Step::Key(step), Step::Index)
        })
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some((key, value)) = map.next_entry()? {
            entries.insert(key, value);
        }
        Ok(Node::Map(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_str<E>(self, _: &str) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
    }
}
