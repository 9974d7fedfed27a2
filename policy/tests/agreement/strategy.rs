//! Random policies that load, and random requests that hit them: both are drawn from few words.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::option::{of, weighted};
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

use crate::interpreter::same;
use crate::model::{
    Decision, Experiment, Group, Model, PATTERNS, Range, Request, Route, Segment, Service,
    Switches, TOKEN, Unit, Verification, Word,
};

const HOSTS: [&str; 5] = [
    "shop.example.com",
    "Api.Example.com",
    "*.example.com",
    "*.eu.example.com",
    "localhost",
];
const SENT_HOSTS: [&str; 8] = [
    "shop.example.com",
    "SHOP.example.com:8080",
    "api.example.com",
    "x.example.com",
    "x.eu.example.com",
    "eu.example.com:1",
    "example.com",
    "localhost",
];
const METHODS: [&str; 4] = ["GET", "POST", "HEAD", "DELETE"];
const LABELS: [&str; 4] = ["a", "b", "v2", "7"];
const WORDS: [Word; 14] = [
    Word {
        sent: "a",
        meant: "a",
    },
    Word {
        sent: "%61",
        meant: "a",
    },
    Word {
        sent: "ab",
        meant: "ab",
    },
    Word {
        sent: "b",
        meant: "b",
    },
    Word {
        sent: "%62c",
        meant: "bc",
    },
    Word {
        sent: "a%2Fb",
        meant: "a/b",
    },
    Word {
        sent: "7",
        meant: "7",
    },
    Word {
        sent: "777",
        meant: "777",
    },
    Word {
        sent: "v2",
        meant: "v2",
    },
    Word {
        sent: "v2.3",
        meant: "v2.3",
    },
    Word {
        sent: "v9",
        meant: "v9",
    },
    Word {
        sent: "",
        meant: "",
    },
    Word {
        sent: "%zz",
        meant: "%zz",
    },
    Word {
        sent: "%C3%A9",
        meant: "é",
    },
];
const VERSIONS: [&str; 5] = ["v1", "v2", "v2.3", "V2.10", "3.1"];
const WANTED: [&str; 10] = [
    "v1", "v2", "V2.3", "2.10", "v3", "3.1", "v9", "v2.9", "latest", "",
];
const COLORS: [&str; 3] = ["blue", "canary-v2", "green"];
const SENT_COLORS: [&str; 7] = [
    "blue",
    "canary-v2",
    "prod",
    "green",
    "Blue",
    "",
    "0123456789012345678901234567890123",
];
const WEIGHTS: [&[u32]; 6] = [
    &[100],
    &[60, 40],
    &[0, 100],
    &[33, 33, 34],
    &[1, 0, 99],
    &[10, 20, 30, 40],
];
const SHARES: [&[u32]; 5] = [
    &[100_000],
    &[40_000],
    &[50_000, 50_000],
    &[12_500, 0, 70_001],
    &[1, 99_999],
];
const ROLLOUTS: [u32; 6] = [0, 1, 10_000, 33_333, 50_000, 100_000];

pub(crate) fn model() -> impl Strategy<Value = Model> {
    (vec(service(), 1..4), switches()).prop_map(|(services, switches)| {
        let mut model = Model { services, switches };
        name(&mut model);
        without_collisions(&mut model);
        model
    })
}

/// A request, and the route that it aims at, if any.
pub(crate) fn request() -> impl Strategy<Value = (Request, Option<Index>)> {
    let place = (
        select(&["GET", "GET", "POST", "HEAD", "DELETE", "PURGE"][..]),
        select(&SENT_HOSTS[..]),
        vec(select(&WORDS[..]), 1..6),
        weighted(0.8, any::<Index>()),
    );
    let pair = |name: &'static str, values: &'static [&'static str]| {
        select(values).prop_map(move |value| (name, value))
    };
    let query = prop_oneof![
        pair("version", &WANTED),
        pair("color", &SENT_COLORS),
        pair("x", &["1"])
    ];
    let cookie = prop_oneof![
        2 => pair("traffic_color", &SENT_COLORS),
        2 => pair("uid", &["", "7", "8", "nine"]),
        1 => pair("ombre_uid", &["", "minted-before"]),
        1 => pair("other", &["1"]),
    ];
    let user = prop_oneof![
        "[0-9]{1,4}",
        "[a-z@.]{1,9}",
        Just(String::new()),
        "x{250,260}"
    ];
    let asked = (
        rare(vec(range(), 1..4)),
        rare(vec(select(&WANTED[..]), 1..3)),
        rare(vec(query, 1..4)),
    );
    let colored = (
        rare(vec(select(&SENT_COLORS[..]), 1..3)),
        rare(vec(select(&SENT_COLORS[..]), 1..3)),
    );
    let staged = (
        rare(vec(select(&WANTED[..]), 1..3)),
        rare(vec(select(&[TOKEN, TOKEN, "sesame-sesam", ""][..]), 1..3)),
    );
    let known = (
        rare(vec(cookie, 1..5)),
        weighted(
            0.7,
            prop_oneof![4 => vec(user.clone(), 1), 1 => vec(user, 2)],
        ),
    );
    (place, asked, colored, staged, known).prop_map(|(place, asked, colored, staged, known)| {
        let (method, host, path, aim) = place;
        let request = Request {
            method,
            host,
            path,
            accept: asked.0,
            api_version: asked.1,
            query: asked.2,
            color: colored.0,
            baggage: colored.1,
            stage: staged.0,
            token: staged.1,
            cookies: known.0,
            user: known.1.unwrap_or_default(),
        };
        (request, aim)
    })
}

impl Request {
    /// The same request on a path, host and method of a route, as far as its own words fit.
    pub(crate) fn aimed(mut self, model: &Model, aim: Option<Index>) -> Self {
        let routes: Vec<&Route> = model
            .services
            .iter()
            .flat_map(|service| &service.routes)
            .collect();
        let Some(route) = aim
            .filter(|_| !routes.is_empty())
            .map(|aim| *aim.get(&routes))
        else {
            return self;
        };
        let mut words = self.path.iter().copied().cycle();
        let mut path = Vec::new();
        for segment in &route.path {
            let word = words.next().expect("never empty");
            match segment {
                Segment::Static(label) => path.push(Word {
                    sent: label,
                    meant: label,
                }),
                Segment::Param(_) => path.push(word),
                // A word that fits if there is one, from a place that differs with the request.
                Segment::Pattern(_, pattern) => {
                    let fits = |word: &&Word| PATTERNS[*pattern].1(word.meant);
                    let start = self.path.len();
                    let mut all = WORDS.iter().cycle().skip(start).take(WORDS.len());
                    path.push(all.find(fits).copied().unwrap_or(word));
                }
                Segment::Rest => path.extend(self.path.iter().copied().skip(1)),
            }
        }
        if path.is_empty() {
            path.push(Word {
                sent: "",
                meant: "",
            });
        }
        self.path = path;
        if let Some(method) = route.methods.first().filter(|_| self.method == "GET") {
            self.method = method;
        }
        self
    }
}

/// Mostly nothing: a request says one or two things, not all of them.
fn rare<T: std::fmt::Debug + Clone + 'static>(
    all: impl Strategy<Value = Vec<T>>,
) -> impl Strategy<Value = Vec<T>> {
    weighted(0.2, all).prop_map(Option::unwrap_or_default)
}

fn range() -> impl Strategy<Value = Range> {
    let version = (select(&[1, 2, 3, 9][..]), of(select(&[0, 1, 3, 10][..])));
    let weight = of(select(&[0, 1, 300, 300, 999, 1000, 1001][..]));
    (weighted(0.8, version), any::<bool>(), weight).prop_map(|(version, is_suffix, weight)| Range {
        version,
        is_suffix,
        weight,
    })
}

fn switches() -> impl Strategy<Value = Switches> {
    let features = subsequence(
        vec![
            "experiments",
            "rollout",
            "metadata",
            "baggage",
            "verification",
        ],
        0..=5,
    );
    (
        weighted(0.1, select(&["v2", "v2.3", "v9"][..])),
        weighted(0.1, features),
        weighted(0.1, select(&LABELS[..])),
    )
        .prop_map(|(route_version, features, disabled)| Switches {
            route_version,
            features,
            disabled,
        })
}

fn service() -> impl Strategy<Value = Service> {
    let versions = subsequence(VERSIONS.to_vec(), 1..=VERSIONS.len()).prop_shuffle();
    let detect = of(subsequence(vec!["accept", "path", "header", "query"], 0..=4).prop_shuffle());
    let sources =
        of(subsequence(vec!["header", "baggage", "cookie", "query"], 0..=4).prop_shuffle());
    let read = (
        detect,
        any::<bool>(),
        sources,
        vec((select(&COLORS[..]), any::<Index>()), 0..3),
    );
    let rollout = of((any::<Index>(), select(&ROLLOUTS[..])));
    let spread = (units(1), rollout, vec(layer(), 0..3), any::<bool>());
    let verification = select(&[Verification::Off, Verification::Open, Verification::Token][..]);
    let rest = (verification, decided());
    (
        vec(route(), 1..7),
        versions,
        any::<Index>(),
        read,
        spread,
        rest,
    )
        .prop_map(
            |(routes, versions, default, read, spread, (verification, decided))| {
                let at = |index: Index| index.index(versions.len());
                let default = at(default);
                let (unit, rollout, layers, interleave) = spread;
                // The default is no candidate.
                let rollout = rollout.filter(|_| versions.len() > 1);
                let rollout = rollout.map(|(index, slots)| {
                    (
                        (default + 1 + index.index(versions.len() - 1)) % versions.len(),
                        slots,
                    )
                });
                let colors: BTreeMap<_, _> = read
                    .3
                    .into_iter()
                    .map(|(color, index)| (color, at(index)))
                    .collect();
                let experiments = experiments(layers, versions.len(), interleave);
                let decision = decision(decided, versions.len(), rollout.is_some());
                Service {
                    name: String::new(),
                    routes,
                    default,
                    detect: read.0,
                    rejects_unknown: read.1,
                    colors,
                    color_sources: read.2,
                    unit,
                    rollout,
                    experiments,
                    verification,
                    decision,
                    versions,
                }
            },
        )
}

fn route() -> impl Strategy<Value = Route> {
    let segment = prop_oneof![
        4 => select(&LABELS[..]).prop_map(Segment::Static),
        3 => Just(Segment::Param("")),
        3 => (0..PATTERNS.len()).prop_map(|pattern| Segment::Pattern("", pattern)),
    ];
    let end = prop_oneof![
        6 => Just(None),
        3 => Just(Some(Segment::Rest)),
        1 => Just(Some(Segment::Static(""))),
    ];
    let hosts = weighted(0.4, subsequence(HOSTS.to_vec(), 1..3));
    let methods = weighted(0.4, subsequence(METHODS.to_vec(), 1..3));
    let version_at = weighted(0.5, 0..3_usize);
    (hosts, methods, vec(segment, 0..4), end, version_at).prop_map(
        |(hosts, methods, segments, end, version_at)| {
            let names = ["p0", "p1", "p2", "p3"];
            let mut path: Vec<Segment> = segments
                .into_iter()
                .enumerate()
                .map(|(at, segment)| {
                    let name = if version_at == Some(at) {
                        "version"
                    } else {
                        names[at]
                    };
                    match segment {
                        Segment::Param(_) => Segment::Param(name),
                        Segment::Pattern(_, pattern) => Segment::Pattern(name, pattern),
                        other => other,
                    }
                })
                .collect();
            path.extend(end);
            if path.is_empty() {
                path.push(Segment::Static(""));
            }
            Route {
                name: String::new(),
                hosts: hosts.unwrap_or_default(),
                methods: methods.unwrap_or_default(),
                path,
            }
        },
    )
}

fn units(least: usize) -> impl Strategy<Value = Vec<Unit>> {
    subsequence(
        vec![
            Unit::User,
            Unit::Cookie("uid"),
            Unit::Cookie("sid"),
            Unit::Mint,
        ],
        least..=3,
    )
    .prop_shuffle()
}

/// Groups: weights, and for each of them a version and a feature.
type Groups = (
    &'static [u32],
    Vec<Option<Index>>,
    Vec<Option<&'static str>>,
);
/// A layer: shares, its units, and the experiments' groups and salts.
type Layer = (
    &'static [u32],
    Vec<Unit>,
    Vec<(Groups, Option<&'static str>)>,
);

fn layer() -> impl Strategy<Value = Layer> {
    let value = select(&["\"on\"", "\"a,b: \\\"c\\\"\"", "null"][..]);
    let groups = (
        select(&WEIGHTS[..]),
        vec(weighted(0.3, any::<Index>()), 4),
        vec(of(value), 4),
    );
    // Services may share a salt; experiments of one service may not.
    let salt = weighted(0.3, select(&["salt", "s0/e0", "other"][..]));
    (
        select(&SHARES[..]),
        prop_oneof![Just(Vec::new()), units(1)],
        vec((groups, salt), 3),
    )
}

fn experiments(layers: Vec<Layer>, versions: usize, interleave: bool) -> Vec<Experiment> {
    let mut salts = BTreeSet::new();
    let mut all = Vec::new();
    for (layer, (shares, unit, experiments)) in layers.into_iter().enumerate() {
        for (at, (share, (groups, salt))) in shares.iter().zip(experiments).enumerate() {
            let (weights, group_versions, features) = groups;
            let groups = weights
                .iter()
                .zip(group_versions.into_iter().zip(features))
                .enumerate();
            let groups = groups.map(|(at, (weight, (version, feature)))| Group {
                name: format!("g{at}"),
                weight: *weight,
                version: version.map(|index| index.index(versions)),
                feature,
            });
            let experiment = Experiment {
                name: format!("e{layer}{at}"),
                salt: salt.filter(|salt| salts.insert(*salt)),
                layer: (shares.len() > 1).then(|| format!("l{layer}")),
                share: *share,
                unit: unit.clone(),
                groups: groups.collect(),
            };
            all.push((if interleave { at } else { layer }, experiment));
        }
    }
    all.sort_by_key(|(order, _)| *order);
    all.into_iter().map(|(_, experiment)| experiment).collect()
}

/// Weight, degraded pairs, frozen versions, disabled routes.
type Decided = (Option<u32>, Vec<(Index, Index)>, Vec<Index>, Vec<usize>);

fn decided() -> impl Strategy<Value = Decided> {
    (
        of(select(&ROLLOUTS[..])),
        vec((any::<Index>(), any::<Index>()), 0..2),
        prop_oneof![3 => Just(Vec::new()), 1 => vec(any::<Index>(), 1..3)],
        prop_oneof![3 => Just(Vec::new()), 1 => vec(0..6_usize, 1..2)],
    )
}

fn decision(
    (weight, degraded, frozen, disabled): Decided,
    versions: usize,
    has_rollout: bool,
) -> Decision {
    let mut pairs = BTreeMap::new();
    for (of, to) in degraded {
        let (of, to) = (of.index(versions), to.index(versions));
        if of != to && !pairs.contains_key(&to) && !pairs.values().any(|known| *known == of) {
            pairs.insert(of, to);
        }
    }
    Decision {
        weight: weight.filter(|_| has_rollout),
        degraded: pairs,
        frozen: frozen
            .into_iter()
            .map(|index| index.index(versions))
            .collect(),
        disabled: disabled.into_iter().collect(),
    }
}

fn name(model: &mut Model) {
    for (number, service) in model.services.iter_mut().enumerate() {
        service.name = format!("s{number}");
        for (at, route) in service.routes.iter_mut().enumerate() {
            route.name = format!("s{number}-r{at}");
        }
    }
}

/// Which of two routes of the same shape wins would be an accident; such policies do not load.
fn without_collisions(model: &mut Model) {
    let mut known: Vec<Route> = Vec::new();
    for service in &mut model.services {
        service.routes.retain(|route| {
            let is_new = !known.iter().any(|other| collide(route, other));
            if is_new {
                known.push(route.clone());
            }
            is_new
        });
        let routes = service.routes.len();
        service.decision.disabled.retain(|at| *at < routes);
    }
    model.services.retain(|service| !service.routes.is_empty());
}

fn collide(one: &Route, other: &Route) -> bool {
    let hosts = match (one.hosts.is_empty(), other.hosts.is_empty()) {
        (true, true) => true,
        (false, false) => one.hosts.iter().any(|host| other.hosts.contains(host)),
        _ => false,
    };
    let methods = match (one.methods.is_empty(), other.methods.is_empty()) {
        (true, true) => true,
        (false, false) => one
            .methods
            .iter()
            .any(|method| other.methods.contains(method)),
        _ => false,
    };
    let paths = one.path.len() == other.path.len()
        && one
            .path
            .iter()
            .zip(&other.path)
            .all(|(one, other)| same(*one, *other));
    hosts && methods && paths
}
