//! Routes: which hosts, methods and paths belong to a service.

use super::names::{Known, check_name};
use super::rewrite::Rewrite;
use crate::load::report::{Place, Report};
use crate::pattern::Pattern;
use crate::raw::RawRoute;
use crate::template::{Segment, Template};
use crate::terms::Methods;

const MAX_HOST: usize = 253;

/// A validated route.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) name: String,
    pub(crate) place: Place,
    /// Never empty.
    pub(crate) hosts: Vec<Host>,
    pub(crate) methods: Methods,
    pub(crate) template: Template,
    pub(crate) rewrite: Option<Rewrite>,
}

/// Which hosts a route is for; names in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Host {
    Any,
    /// `*.example.com` is kept as `example.com`.
    Below(String),
    Exact(String),
}

impl Route {
    pub(crate) fn validate(
        report: &mut Report,
        place: &Place,
        raw: &RawRoute,
        known: &mut Known,
    ) -> Option<Self> {
        let name_place = place.key("name");
        check_name(report, &name_place, &raw.name);
        known.routes.check(report, &name_place, &raw.name);
        let hosts = hosts(report, &place.key("hosts"), &raw.hosts);
        let methods = methods(report, &place.key("methods"), &raw.methods);
        let path_place = place.key("path");
        let template = report.take(&path_place, Template::parse(&raw.path))?;
        warn_of_foreign_signs(report, &path_place, &raw.path);
        for segment in template.segments() {
            if let Segment::Pattern { regex, .. } = segment
                && !known.patterns.contains(regex)
                && report.take(&path_place, Pattern::compile(regex)).is_some()
            {
                known.patterns.insert(regex.clone());
            }
        }
        let rewrite_place = place.key("rewrite");
        let rewrite = raw.rewrite.as_deref();
        let rewrite = rewrite.and_then(|text| Rewrite::parse(report, &rewrite_place, text));
        if let Some(rewrite) = &rewrite {
            check_params(report, &rewrite_place, rewrite, &template, &raw.path);
        }
        Some(Self {
            name: raw.name.clone(),
            place: place.clone(),
            hosts,
            methods,
            template,
            rewrite,
        })
    }
}

/// What other routers write for a parameter is plain text here, and such a route would match nothing.
fn warn_of_foreign_signs(report: &mut Report, place: &Place, path: &str) {
    for segment in path.split('/') {
        let meant = match segment.strip_prefix(':') {
            Some(name) if !name.is_empty() => format!("`{{{name}}}` for any segment, `%3A{name}`"),
            None if matches!(segment, "*" | "**") => {
                "`{*rest}` for all that follows, `{name}` for one segment, `%2A`".to_owned()
            }
            _ => continue,
        };
        report.warning(
            place,
            format!("`{segment}` matches only itself: write {meant} if that is meant"),
        );
    }
}

/// A rewrite may use what the route's template captures, and nothing else.
pub(crate) fn check_params(
    report: &mut Report,
    place: &Place,
    rewrite: &Rewrite,
    template: &Template,
    path: &str,
) {
    for param in rewrite.params() {
        if !template
            .segments()
            .iter()
            .any(|segment| segment.name() == Some(param))
        {
            report.error(
                place,
                format!("`{{{param}}}` is neither `{{path}}` nor a parameter of `{path}`"),
            );
        }
    }
}

fn hosts(report: &mut Report, place: &Place, raw: &[String]) -> Vec<Host> {
    let mut hosts: Vec<Host> = Vec::new();
    for (index, written) in raw.iter().enumerate() {
        let item = place.item(index);
        let lower = written.to_ascii_lowercase();
        let lower = lower.strip_suffix('.').unwrap_or(&lower);
        let (host, name) = match lower.strip_prefix("*.") {
            Some(below) => (Host::Below(below.to_owned()), below),
            None => (Host::Exact(lower.to_owned()), lower),
        };
        let sound = (1..=MAX_HOST).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if !sound {
            report.error(
                &item,
                format!("`{written}` is not a host: write `shop.example.com` or `*.example.com`, without a port"),
            );
        } else if hosts.contains(&host) {
            report.error(&item, format!("`{written}` is listed twice"));
        } else {
            hosts.push(host);
        }
    }
    if hosts.is_empty() {
        hosts.push(Host::Any);
    }
    hosts
}

fn methods(report: &mut Report, place: &Place, raw: &[String]) -> Methods {
    if raw.is_empty() {
        return Methods::ANY;
    }
    let mut methods = Methods::NONE;
    for (index, name) in raw.iter().enumerate() {
        match Methods::named(name) {
            Some(method) => methods = methods.union(method),
            None => {
                let known = Methods::names().collect::<Vec<_>>().join(", ");
                report.error(
                    &place.item(index),
                    format!("`{name}` is not one of {known}"),
                );
            }
        }
    }
    methods
}
