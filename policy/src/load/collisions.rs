//! Two routes that would answer the same request: which one wins would be an accident.

use std::collections::HashMap;

use super::report::Report;
use crate::policy::{Host, Route, Service};
use crate::template::Segment;
use crate::terms::Methods;

/// Most different patterns at one place of a path: they are tried one after the other.
const MAX_PATTERNS: usize = 16;

pub(super) fn check(report: &mut Report, services: &[Service]) {
    let mut seen: HashMap<Position<'_>, Vec<(Methods, &Route)>> = HashMap::new();
    let mut patterns: HashMap<Position<'_>, Vec<&str>> = HashMap::new();
    for route in services.iter().flat_map(|service| &service.routes) {
        for host in &route.hosts {
            let shape = shape(&route.template);
            count_patterns(report, &mut patterns, host, &shape, route);
            let same = seen.entry((host, shape)).or_default();
            let clash = same
                .iter()
                .find(|(methods, _)| collide(*methods, route.methods));
            if let Some((_, other)) = clash {
                let (name, file, path) = (&other.name, other.place.file(), other.place.path());
                report.error(
                    &route.place.key("path"),
                    format!("collides with route `{name}` ({path} in {file}): same host, methods and path shape"),
                );
            }
            same.push((route.methods, route));
        }
    }
}

/// A host and the shape of a path, or of its beginning.
type Position<'a> = (&'a Host, Vec<Shape<'a>>);

/// A segment without the name of its parameter, which does not matter for what it matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Shape<'a> {
    Static(&'a str),
    Pattern(&'a str),
    Param,
    Rest,
}

fn shape(template: &crate::template::Template) -> Vec<Shape<'_>> {
    let shapes = template.segments().iter().map(|segment| match segment {
        Segment::Static(text) => Shape::Static(text),
        Segment::Pattern { regex, .. } => Shape::Pattern(regex),
        Segment::Param { .. } => Shape::Param,
        Segment::Rest { .. } => Shape::Rest,
    });
    shapes.collect()
}

/// A route for some methods beside one for any is meant: the former is more specific.
fn collide(one: Methods, other: Methods) -> bool {
    (one == Methods::ANY) == (other == Methods::ANY) && one.overlaps(other)
}

fn count_patterns<'a>(
    report: &mut Report,
    patterns: &mut HashMap<Position<'a>, Vec<&'a str>>,
    host: &'a Host,
    shape: &[Shape<'a>],
    route: &Route,
) {
    for (index, segment) in shape.iter().enumerate() {
        let Shape::Pattern(regex) = segment else {
            continue;
        };
        let before = shape.get(..index).unwrap_or_default().to_vec();
        let siblings = patterns.entry((host, before)).or_default();
        if siblings.contains(regex) {
            continue;
        }
        siblings.push(regex);
        if siblings.len() == MAX_PATTERNS + 1 {
            report.error(
                &route.place.key("path"),
                format!("`{regex}` is one pattern too many here: at most {MAX_PATTERNS} different ones may stand at one place of a path"),
            );
        }
    }
}
