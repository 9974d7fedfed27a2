//! `rewrite:` on a route or a version: what the upstream gets instead of the request's path.

use crate::load::report::{Place, Report};

/// A rewritten path in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rewrite(pub(crate) Vec<Part>);

/// A part of a rewritten path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Text as it stands.
    Literal(String),
    /// What a parameter of the route's template matched.
    Param(String),
    /// `{path}`: the whole path as the client sent it.
    Path,
}

impl Rewrite {
    /// Parses `/v2{path}` or `/orders/{id}`.
    pub(crate) fn parse(report: &mut Report, place: &Place, text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once('{') {
            let Some((name, tail)) = after.split_once('}') else {
                report.error(place, format!("`{text}` has a `{{` without its `}}`"));
                return None;
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            parts.push(match name {
                "path" => Part::Path,
                name => Part::Param(name.to_owned()),
            });
            rest = tail;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        let rooted = match parts.first() {
            Some(Part::Path) => true,
            Some(Part::Literal(literal)) => literal.starts_with('/'),
            Some(Part::Param(_)) | None => false,
        };
        if !rooted {
            report.error(place, format!("`{text}` must start with `/` or `{{path}}`"));
        }
        if text
            .bytes()
            .any(|b| !b.is_ascii_graphic() || matches!(b, b'?' | b'#'))
        {
            report.error(
                place,
                format!("`{text}` must be a path of visible ASCII, without `?` or `#`: the query is kept"),
            );
        }
        Some(Self(parts))
    }

    /// The parameters it needs.
    pub(crate) fn params(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Param(name) => Some(name.as_str()),
            Part::Literal(_) | Part::Path => None,
        })
    }
}
