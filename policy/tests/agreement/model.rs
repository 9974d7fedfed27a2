//! A policy, its decisions and a request as plain data, and how each is written down.
//! The interpreter reads the data, ombre reads the text: neither sees the other's reading.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use ombre_policy::decisions::{Decisions, Frozen, ServiceDecisions};

#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) services: Vec<Service>,
    pub(crate) switches: Switches,
}

/// The environment of the filter.
#[derive(Clone, Debug)]
pub(crate) struct Switches {
    pub(crate) route_version: Option<&'static str>,
    /// `None`: every one of them.
    pub(crate) features: Option<Vec<&'static str>>,
    /// One segment.
    pub(crate) disabled: Option<&'static str>,
}

#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) routes: Vec<Route>,
    pub(crate) versions: Vec<&'static str>,
    pub(crate) default: usize,
    pub(crate) detect: Option<Vec<&'static str>>,
    pub(crate) rejects_unknown: bool,
    pub(crate) colors: BTreeMap<&'static str, usize>,
    pub(crate) color_sources: Option<Vec<&'static str>>,
    pub(crate) unit: Vec<Unit>,
    /// Candidate, and its share in slots.
    pub(crate) rollout: Option<(usize, u32)>,
    pub(crate) experiments: Vec<Experiment>,
    pub(crate) verification: Verification,
    pub(crate) decision: Decision,
}

#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) name: String,
    /// `*.` hosts as they are written.
    pub(crate) hosts: Vec<&'static str>,
    pub(crate) methods: Vec<&'static str>,
    pub(crate) path: Vec<Segment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    Static(&'static str),
    Param(&'static str),
    /// Name, and the number of a pattern in `PATTERNS`.
    Pattern(&'static str, usize),
    Rest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    User,
    Cookie(&'static str),
    Mint,
}

#[derive(Clone, Debug)]
pub(crate) struct Experiment {
    pub(crate) name: String,
    pub(crate) salt: Option<&'static str>,
    pub(crate) layer: Option<String>,
    /// In slots.
    pub(crate) share: u32,
    pub(crate) unit: Vec<Unit>,
    pub(crate) groups: Vec<Group>,
}

#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) name: String,
    /// Percent.
    pub(crate) weight: u32,
    pub(crate) version: Option<usize>,
    /// The value of the experiment's one feature, as JSON, which YAML is too.
    pub(crate) feature: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verification {
    Off,
    Open,
    Token,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Decision {
    /// In slots.
    pub(crate) weight: Option<u32>,
    pub(crate) degraded: BTreeMap<usize, usize>,
    pub(crate) frozen: BTreeSet<usize>,
    pub(crate) disabled: BTreeSet<usize>,
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) host: &'static str,
    pub(crate) path: Vec<Word>,
    pub(crate) query: Vec<(&'static str, &'static str)>,
    pub(crate) accept: Vec<Range>,
    pub(crate) api_version: Vec<&'static str>,
    pub(crate) stage: Vec<&'static str>,
    pub(crate) token: Vec<&'static str>,
    pub(crate) color: Vec<&'static str>,
    /// Values of the member `traffic-color`.
    pub(crate) baggage: Vec<&'static str>,
    pub(crate) cookies: Vec<(&'static str, &'static str)>,
    pub(crate) user: Vec<String>,
}

/// A segment as it is sent, and what it means.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Word {
    pub(crate) sent: &'static str,
    pub(crate) meant: &'static str,
}

/// A media range of `Accept`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    /// Major, and minor if there is one; `None` for a range without a version.
    pub(crate) version: Option<(u32, Option<u32>)>,
    /// `application/vnd.api+v2` instead of `application/vnd.shop.v2+json`.
    pub(crate) is_suffix: bool,
    /// In thousandths; above 1000 it is no weight.
    pub(crate) weight: Option<u32>,
}

/// A regex, and the same in Rust.
pub(crate) type Pattern = (&'static str, fn(&str) -> bool);

pub(crate) const PATTERNS: [Pattern; 5] = [
    ("[0-9]+", |text| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
    }),
    ("[0-9]{1,2}", |text| {
        (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    }),
    ("a|ab|", |text| matches!(text, "a" | "ab" | "")),
    ("[a-c]/?[a-c]*", |text| {
        let mut bytes = text.bytes();
        let first = bytes.next().is_some_and(|byte| matches!(byte, b'a'..=b'c'));
        let rest: Vec<u8> = bytes.collect();
        let rest = rest.strip_prefix(b"/").unwrap_or(&rest);
        first && rest.iter().all(|byte| matches!(byte, b'a'..=b'c'))
    }),
    ("v[0-9](?:\\.[0-9])?", |text| {
        let text = text.as_bytes();
        matches!(
            text,
            [b'v', b'0'..=b'9'] | [b'v', b'0'..=b'9', b'.', b'0'..=b'9']
        )
    }),
];

impl Model {
    /// The policy file.
    pub(crate) fn yaml(&self) -> String {
        let mut out = String::from("apiVersion: ombre/v1\nservices:\n");
        for service in &self.services {
            service.write(&mut out);
        }
        out
    }

    pub(crate) fn decisions(&self) -> Decisions {
        let services = self.services.iter().map(|service| {
            let name = |number: &usize| service.versions[*number].to_owned();
            let Decision {
                weight,
                degraded,
                frozen,
                disabled,
            } = &service.decision;
            let decisions = ServiceDecisions {
                candidate: None,
                weight: weight.map(percent),
                degraded: degraded
                    .iter()
                    .map(|(of, to)| (name(of), name(to)))
                    .collect(),
                frozen: frozen
                    .iter()
                    .map(|of| (name(of), Frozen { retry_after: 9 }))
                    .collect(),
                disabled_routes: disabled
                    .iter()
                    .map(|at| service.routes[*at].name.clone())
                    .collect(),
            };
            (service.name.clone(), decisions)
        });
        Decisions {
            services: services.collect(),
        }
    }
}

impl Service {
    fn write(&self, out: &mut String) {
        let name = |number: usize| self.versions[number];
        let mut line = |text: String| writeln!(out, "    {text}").expect("memory");
        line(format!("name: {}", self.name));
        line("routes:".to_owned());
        for route in &self.routes {
            let (name, path) = (&route.name, route.template());
            let (hosts, methods) = (list(&route.hosts), list(&route.methods));
            line(format!(
                "  - {{ name: {name}, path: '{path}', hosts: [{hosts}], methods: [{methods}] }}"
            ));
        }
        line("versions:".to_owned());
        for version in &self.versions {
            line(format!(
                "  - {{ name: '{version}', cluster: '{}:{version}' }}",
                self.name
            ));
        }
        line(format!("default: '{}'", name(self.default)));
        if let Some(detect) = &self.detect {
            line(format!("detect: [{}]", list(detect)));
        }
        if self.rejects_unknown {
            line("on_unknown: reject".to_owned());
        }
        let colors = self
            .colors
            .iter()
            .map(|(color, version)| format!("{color}: '{}'", name(*version)));
        line(format!(
            "colors: {{ {} }}",
            colors.collect::<Vec<_>>().join(", ")
        ));
        if let Some(sources) = &self.color_sources {
            line(format!("color_sources: [{}]", list(sources)));
        }
        line(format!("unit: [{}]", units(&self.unit)));
        if let Some((candidate, slots)) = self.rollout {
            line(format!(
                "rollout: {{ candidate: '{}', weight: {} }}",
                name(candidate),
                percent(slots)
            ));
        }
        line(match self.verification {
            Verification::Off => "verification: off".to_owned(),
            Verification::Open => "verification: open".to_owned(),
            Verification::Token => format!("verification: {{ token: {TOKEN} }}"),
        });
        line(
            if self.experiments.is_empty() {
                "experiments: []"
            } else {
                "experiments:"
            }
            .to_owned(),
        );
        for experiment in &self.experiments {
            line(format!("  - experiment: {}", experiment.name));
            line(format!("    share: {}", percent(experiment.share)));
            if let Some(salt) = experiment.salt {
                line(format!("    salt: {salt}"));
            }
            if let Some(layer) = &experiment.layer {
                line(format!("    layer: {layer}"));
            }
            if !experiment.unit.is_empty() {
                line(format!("    unit: [{}]", units(&experiment.unit)));
            }
            line("    groups:".to_owned());
            for group in &experiment.groups {
                let version = group
                    .version
                    .map(|version| format!(", version: '{}'", name(version)));
                let feature = group
                    .feature
                    .map(|value| format!(", features: {{ {}: {value} }}", experiment.feature()));
                let (version, feature) = (version.unwrap_or_default(), feature.unwrap_or_default());
                line(format!(
                    "      - {{ name: {}, weight: {}{version}{feature} }}",
                    group.name, group.weight
                ));
            }
        }
        // The first line of the service opens its list item.
        let at = out
            .rfind(&format!("    name: {}\n", self.name))
            .expect("written above");
        out.replace_range(at..at + 4, "  - ");
    }
}

impl Experiment {
    /// The name of its only feature.
    pub(crate) fn feature(&self) -> String {
        format!("f-{}", self.layer.as_ref().unwrap_or(&self.name))
    }
}

impl Route {
    pub(crate) fn template(&self) -> String {
        let segments = self.path.iter().map(|segment| match segment {
            Segment::Static(text) => format!("/{text}"),
            Segment::Param(name) => format!("/{{{name}}}"),
            Segment::Pattern(name, pattern) => format!("/{{{name}:{}}}", PATTERNS[*pattern].0),
            Segment::Rest => "/{*rest}".to_owned(),
        });
        segments.collect()
    }
}

impl Request {
    pub(crate) fn headers(&self) -> Vec<(&'static str, String)> {
        let path: String = self
            .path
            .iter()
            .map(|word| format!("/{}", word.sent))
            .collect();
        let query = self
            .query
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let query = query.collect::<Vec<_>>().join("&");
        let target = if query.is_empty() {
            path
        } else {
            format!("{path}?{query}")
        };
        let mut headers = vec![
            (":method", self.method.to_owned()),
            (":authority", self.host.to_owned()),
            (":path", target),
        ];
        for (position, range) in self.accept.iter().enumerate() {
            // Some in a header of their own, some in one list.
            match headers.last_mut() {
                Some(("accept", list)) if position % 2 == 1 => {
                    write!(list, ", {range}").expect("memory")
                }
                _ => headers.push(("accept", range.to_string())),
            }
        }
        let mut all = |name, values: &[&'static str]| {
            headers.extend(values.iter().map(|value| (name, (*value).to_owned())));
        };
        all("x-api-version", &self.api_version);
        all("x-stage", &self.stage);
        all("x-stage-token", &self.token);
        all("x-envoy-traffic-color", &self.color);
        for value in &self.baggage {
            headers.push(("baggage", format!("a=b;c, traffic-color={value};p=1")));
        }
        headers.extend(self.user.iter().map(|value| ("x-user-id", value.clone())));
        for pair in self.cookies.chunks(2) {
            let pair = pair.iter().map(|(name, value)| format!("{name}={value}"));
            headers.push(("cookie", pair.collect::<Vec<_>>().join("; ")));
        }
        headers
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = self.version.map(|(major, minor)| match minor {
            None => format!("v{major}"),
            Some(minor) => format!("v{major}.{minor}"),
        });
        match (number, self.is_suffix) {
            (None, false) => f.write_str("*/*")?,
            (None, true) => f.write_str("application/vnd.shop+json")?,
            (Some(number), false) => write!(f, "application/vnd.shop.{number}+json")?,
            (Some(number), true) => write!(f, "application/vnd.api+{number}")?,
        }
        match self.weight {
            None => Ok(()),
            Some(weight) => write!(f, ";q={}.{:03}", weight / 1000, weight % 1000),
        }
    }
}

pub(crate) const TOKEN: &str = "sesame-sesame";

fn percent(slots: u32) -> f64 {
    f64::from(slots) / 1000.0
}

fn list(items: &[&str]) -> String {
    let items = items.iter().map(|item| format!("'{item}'"));
    items.collect::<Vec<_>>().join(", ")
}

fn units(units: &[Unit]) -> String {
    let units = units.iter().map(|unit| match unit {
        Unit::User => "{ header: X-User-Id }".to_owned(),
        Unit::Cookie(name) => format!("{{ cookie: {name} }}"),
        Unit::Mint => "mint".to_owned(),
    });
    units.collect::<Vec<_>>().join(", ")
}
