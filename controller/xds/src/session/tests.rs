//! The order of things under any interleaving, with a client that is as slow and as unwilling as it
//! likes; and the rules of the protocol, case by case.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::message::Asks;

/// A snapshot in which the route refers to all clusters, as ombre's plan does.
fn snapshot(clusters: &[(&str, u8)]) -> Arc<Snapshot> {
    let mut snapshot = Snapshot::default();
    for (name, version) in clusters {
        let body = format!("{name} {version}");
        snapshot.insert(
            Type::Cluster,
            Resource::new(*name, body.clone().into_bytes()),
        );
        snapshot.insert(Type::Endpoint, Resource::new(*name, body.into_bytes()));
    }
    let names: Vec<&str> = clusters.iter().map(|(name, _)| *name).collect();
    let route = names.join(",").into_bytes();
    snapshot.insert(Type::Extension, Resource::new("ombre", route.clone()));
    snapshot.insert(Type::Route, Resource::new("traffic", route));
    snapshot.insert(
        Type::Listener,
        Resource::new("traffic", b"listener".to_vec()),
    );
    Arc::new(snapshot)
}

/// An Envoy, as far as the order of things goes.
#[derive(Debug, Default)]
struct Client {
    flavor: Option<Flavor>,
    has: BTreeMap<Type, BTreeMap<String, Arc<Resource>>>,
    inbox: Vec<Response>,
    refused: Vec<(Type, String, Version)>,
}

impl Client {
    fn new(flavor: Flavor) -> Self {
        Self {
            flavor: Some(flavor),
            ..Self::default()
        }
    }

    fn names(&self, kind: Type) -> Vec<String> {
        match kind {
            Type::Cluster | Type::Listener => Vec::new(),
            Type::Endpoint => self.of(Type::Cluster).into_keys().collect(),
            Type::Extension => vec!["ombre".to_owned()],
            Type::Route => vec!["traffic".to_owned()],
        }
    }

    fn of(&self, kind: Type) -> BTreeMap<String, Arc<Resource>> {
        self.has.get(&kind).cloned().unwrap_or_default()
    }

    fn ask(&self, kind: Type, nonce: &str, error: Option<&str>) -> Request {
        let asks = match self.flavor {
            Some(Flavor::Delta) => Asks::Changes {
                subscribe: self.names(kind),
                unsubscribe: Vec::new(),
                known: Vec::new(),
            },
            _ => Asks::Names {
                names: self.names(kind),
                resumes: false,
            },
        };
        Request {
            kind,
            nonce: nonce.to_owned(),
            error: error.map(str::to_owned),
            asks,
        }
    }

    /// Takes what came, and returns what it answers.
    fn take(&mut self, response: &Response, refuse: bool) -> Vec<Request> {
        if refuse {
            for resource in &response.resources {
                let refused = (
                    response.kind,
                    resource.name().to_owned(),
                    resource.version(),
                );
                self.refused.push(refused);
            }
            return vec![self.refusal(response)];
        }
        let before = self.names(Type::Endpoint);
        let has = self.has.entry(response.kind).or_default();
        if self.flavor == Some(Flavor::Sotw) && response.kind.is_whole() {
            has.clear();
        }
        for resource in &response.resources {
            has.insert(resource.name().to_owned(), Arc::clone(resource));
        }
        for name in &response.removed {
            has.remove(name);
        }
        // Like Envoy, which asks for the endpoints of new clusters before it accepts those.
        let mut requests = Vec::new();
        if response.kind == Type::Cluster && before != self.names(Type::Endpoint) {
            requests.push(self.more_endpoints(&before));
        }
        requests.push(self.acceptance(response));
        requests
    }

    fn refusal(&self, response: &Response) -> Request {
        let mut request = self.acceptance(response);
        request.error = Some("no".to_owned());
        request
    }

    fn acceptance(&self, response: &Response) -> Request {
        let mut request = self.ask(response.kind, &response.nonce, None);
        if let Asks::Changes { subscribe, .. } = &mut request.asks {
            subscribe.clear();
        }
        request
    }

    fn more_endpoints(&self, before: &[String]) -> Request {
        let mut request = self.ask(Type::Endpoint, "", None);
        if let Asks::Changes {
            subscribe,
            unsubscribe,
            ..
        } = &mut request.asks
        {
            let now = subscribe.clone();
            subscribe.retain(|name| !before.contains(name));
            unsubscribe.extend(before.iter().filter(|name| !now.contains(name)).cloned());
        }
        request
    }

    /// Whether everything that requests may be sent to is there.
    fn is_whole(&self) -> bool {
        let clusters = self.of(Type::Cluster);
        let refers = [Type::Extension, Type::Route];
        let referred = refers.iter().flat_map(|kind| self.of(*kind).into_values());
        referred
            .flat_map(|route| {
                let names = String::from_utf8_lossy(route.body()).into_owned();
                names.split(',').map(str::to_owned).collect::<Vec<_>>()
            })
            .filter(|name| !name.is_empty())
            .all(|name| clusters.contains_key(&name))
    }

    fn has_exactly(&self, target: &Snapshot) -> bool {
        // State of the world does not say that endpoints are gone: Envoy drops them with the cluster.
        let kinds = [Type::Cluster, Type::Extension, Type::Listener, Type::Route];
        kinds.iter().all(|kind| self.of(*kind) == *target.of(*kind))
            && target
                .of(Type::Endpoint)
                .iter()
                .all(|(name, resource)| self.of(Type::Endpoint).get(name) == Some(resource))
    }
}

fn connect(flavor: Flavor, target: &Arc<Snapshot>) -> (Session, Client) {
    let mut session = Session::new(flavor, 100);
    session.aim(Arc::clone(target));
    let mut client = Client::new(flavor);
    for kind in Type::ALL {
        session.request(client.ask(kind, "", None)).unwrap();
    }
    client.inbox.extend(session.responses());
    (session, client)
}

/// The client takes the oldest response that it has. Returns what the server said to that.
fn take_one(session: &mut Session, client: &mut Client, refuse: bool) {
    if client.inbox.is_empty() {
        return;
    }
    let response = client.inbox.remove(0);
    for request in client.take(&response, refuse) {
        session.request(request).unwrap();
        let said = session.responses();
        client.inbox.extend(said);
    }
}

fn settle(session: &mut Session, client: &mut Client) {
    for _ in 0..1000 {
        take_one(session, client, false);
        assert!(client.is_whole(), "{client:?}");
    }
    assert!(client.inbox.is_empty(), "it goes on for ever: {client:?}");
}

const FLAVORS: [Flavor; 2] = [Flavor::Sotw, Flavor::Delta];

#[test]
fn a_swap_adds_then_switches_then_removes() {
    for flavor in FLAVORS {
        let (mut session, mut client) = connect(flavor, &snapshot(&[("v1", 1)]));
        settle(&mut session, &mut client);
        let target = snapshot(&[("v2", 1)]);
        session.aim(Arc::clone(&target));
        let mut order = Vec::new();
        client.inbox.extend(session.responses());
        while let Some(response) = client.inbox.first() {
            let names = response.resources.iter().map(|resource| resource.name());
            order.push(format!(
                "{} +{} -{}",
                response.kind.short(),
                names.collect::<Vec<_>>().join(","),
                response.removed.join(",")
            ));
            take_one(&mut session, &mut client, false);
        }
        let expected: &[&str] = match flavor {
            Flavor::Sotw => &[
                "cds +v1,v2 -",
                "eds +v2 -",
                "ecds +ombre -",
                "rds +traffic -",
                "cds +v2 -",
            ],
            Flavor::Delta => &[
                "cds +v2 -",
                "eds +v2 -",
                "ecds +ombre -",
                "rds +traffic -",
                "cds + -v1",
                "eds + -v1",
            ],
        };
        assert_eq!(order, expected, "{flavor:?}");
        assert_eq!(session.stage(), &Stage::Settled);
        assert_eq!(session.applied(), Some(&target));
    }
}

#[test]
fn endpoints_follow_their_changed_cluster() {
    for flavor in FLAVORS {
        let (mut session, mut client) = connect(flavor, &snapshot(&[("v1", 1)]));
        settle(&mut session, &mut client);
        let mut target = Snapshot::default();
        for kind in Type::ALL {
            for (name, resource) in client.of(kind) {
                let body = match kind {
                    Type::Cluster => b"changed".to_vec(),
                    _ => resource.body().to_vec(),
                };
                target.insert(kind, Resource::new(name, body));
            }
        }
        session.aim(Arc::new(target));
        let said = session.responses();
        let kinds: Vec<Type> = said.iter().map(|response| response.kind).collect();
        assert_eq!(kinds, [Type::Cluster, Type::Endpoint], "{flavor:?}");
    }
}

#[test]
fn what_was_refused_is_not_sent_again_until_it_changes() {
    for flavor in FLAVORS {
        let (mut session, mut client) = connect(flavor, &snapshot(&[("v1", 1)]));
        settle(&mut session, &mut client);
        session.aim(snapshot(&[("v1", 1), ("v2", 1)]));
        client.inbox.extend(session.responses());
        take_one(&mut session, &mut client, true);
        let standing = session.standing(Type::Cluster);
        assert_eq!(
            standing.rejected.map(|(_, text)| text),
            Some("no".to_owned())
        );
        settle(&mut session, &mut client);
        assert!(
            matches!(session.stage(), Stage::Adding { .. }),
            "nothing follows a refusal"
        );
        // Another part of the target changes: still nothing of what was refused.
        session.aim(snapshot(&[("v1", 1), ("v2", 1)]));
        assert_eq!(session.responses(), [], "{flavor:?}");
        let mended = snapshot(&[("v1", 1), ("v2", 2)]);
        session.aim(Arc::clone(&mended));
        client.inbox.extend(session.responses());
        settle(&mut session, &mut client);
        assert!(client.has_exactly(&mended), "{flavor:?} {client:?}");
        assert_eq!(session.standing(Type::Cluster).rejected, None);
    }
}

#[test]
fn a_refused_change_of_a_cluster_does_not_hold_up_a_decision() {
    for flavor in FLAVORS {
        let (mut session, mut client) = connect(flavor, &snapshot(&[("v1", 1), ("v2", 1)]));
        settle(&mut session, &mut client);
        session.aim(snapshot(&[("v1", 1), ("v2", 2)]));
        client.inbox.extend(session.responses());
        take_one(&mut session, &mut client, true);
        settle(&mut session, &mut client);
        // Away from v2, which Envoy still has as it was.
        let target = snapshot(&[("v1", 1), ("v2", 2)]);
        let mut target = copy(&target);
        target.insert(Type::Extension, Resource::new("ombre", b"v1".to_vec()));
        session.aim(Arc::new(target));
        client.inbox.extend(session.responses());
        settle(&mut session, &mut client);
        let filter = client.of(Type::Extension);
        let body = filter.get("ombre").map(|resource| resource.body().to_vec());
        assert_eq!(body, Some(b"v1".to_vec()), "{flavor:?}");
        assert!(session.standing(Type::Cluster).rejected.is_some());
    }
}

/// The filter of a snapshot under newer decisions: it refers to the same clusters.
fn decided(snapshot: &Snapshot, decision: usize) -> Arc<Snapshot> {
    let mut decided = Snapshot::default();
    for (name, resource) in snapshot.of(Type::Extension) {
        let mut body = resource.body().to_vec();
        // No body that `renewed` makes: what was refused once is not sent again.
        body.extend(vec![b','; decision + 2]);
        decided.insert(Type::Extension, Resource::new(name, body));
    }
    Arc::new(decided)
}

#[test]
fn a_cluster_that_is_slow_or_refused_does_not_hold_up_a_decision() {
    let cases = FLAVORS.map(|flavor| [(flavor, false), (flavor, true)]);
    for (flavor, refused) in cases.into_iter().flatten() {
        let old = snapshot(&[("v1", 1)]);
        let (mut session, mut client) = connect(flavor, &old);
        settle(&mut session, &mut client);
        let target = snapshot(&[("v1", 1), ("v2", 1)]);
        session.aim(Arc::clone(&target));
        let mut clusters = session.responses();
        assert_eq!(clusters.len(), 1, "{flavor:?} {clusters:?}");
        if refused {
            client.inbox.append(&mut clusters);
            take_one(&mut session, &mut client, true);
            assert!(session.standing(Type::Cluster).rejected.is_some());
        }
        // The clusters are not there, and still: each decision is heard of, also after a newer target.
        let last = snapshot(&[("v3", 1)]);
        let targets = [&target, &target, &last].into_iter().enumerate();
        for (number, target) in targets.take(if refused { 2 } else { 3 }) {
            session.aim(Arc::clone(target));
            assert_eq!(session.responses(), [], "{flavor:?}: the decision before");
            assert_eq!(session.waits_with(), Some(old.revisions().policy));
            let filter = decided(&old, number);
            session.meanwhile(Arc::clone(&filter));
            client.inbox.extend(session.responses());
            take_one(&mut session, &mut client, false);
            let has = client.of(Type::Extension);
            assert_eq!(has, *filter.of(Type::Extension), "{flavor:?}");
            assert_eq!(client.of(Type::Route), *old.of(Type::Route), "{flavor:?}");
        }
        session.aim(Arc::clone(&last));
        client.inbox.extend(clusters);
        client.inbox.extend(session.responses());
        settle(&mut session, &mut client);
        assert!(client.has_exactly(&last), "{flavor:?}");
        assert_eq!(session.waits_with(), None);
    }
}

#[test]
fn a_client_that_need_not_wait_is_switched_once() {
    for flavor in FLAVORS {
        let old = snapshot(&[("v1", 1)]);
        let (mut session, mut client) = connect(flavor, &old);
        settle(&mut session, &mut client);
        let mut target = copy(&old);
        target.insert(Type::Extension, Resource::new("ombre", b"v1,".to_vec()));
        session.aim(Arc::new(target));
        session.meanwhile(decided(&old, 5));
        let said = session.responses();
        let bodies: Vec<_> = said.iter().flat_map(|one| &one.resources).collect();
        assert_eq!(bodies.len(), 1, "{flavor:?} {said:?}");
        assert_eq!(bodies[0].body(), b"v1,", "{flavor:?}");
    }
}

#[test]
fn a_client_that_resumes_keeps_what_its_routes_refer_to() {
    for flavor in FLAVORS {
        let old = snapshot(&[("v1", 1)]);
        let (mut session, mut client) = connect(flavor, &old);
        settle(&mut session, &mut client);
        // Another controller, which was told what was in force before.
        let target = snapshot(&[("v2", 1)]);
        let mut session = Session::new(flavor, 100);
        session.remember(old.of(Type::Cluster).clone());
        session.aim(Arc::clone(&target));
        for kind in Type::ALL {
            let mut request = client.ask(kind, "", None);
            match &mut request.asks {
                Asks::Names { resumes, .. } => *resumes = true,
                Asks::Changes { known, .. } => {
                    let has = client.of(kind);
                    let has = has.iter();
                    known.extend(
                        has.map(|(name, resource)| (name.clone(), resource.version().to_string())),
                    );
                }
            }
            session.request(request).unwrap();
            client.inbox.extend(session.responses());
        }
        settle(&mut session, &mut client);
        assert!(client.has_exactly(&target), "{flavor:?} {client:?}");
    }
}

#[test]
fn too_many_names_end_the_stream() {
    let mut session = Session::new(Flavor::Delta, 2);
    let names = |from: u8| (from..from + 2).map(|number| number.to_string()).collect();
    let request = |subscribe| Request {
        kind: Type::Endpoint,
        nonce: String::new(),
        error: None,
        asks: Asks::Changes {
            subscribe,
            unsubscribe: Vec::new(),
            known: Vec::new(),
        },
    };
    assert_eq!(session.request(request(names(0))), Ok(Event::Asked));
    let refused = session.request(request(names(2))).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "more than 2 names of eds in one stream"
    );
}

#[derive(Clone, Debug)]
enum Step {
    Aim(Vec<(usize, u8)>),
    Decide(usize),
    Take,
    Refuse,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let clusters = proptest::collection::btree_map(0..4usize, 0..3u8, 1..4)
        .prop_map(|clusters| clusters.into_iter().collect());
    let step = prop_oneof![
        2 => clusters.prop_map(Step::Aim),
        1 => (0..3usize).prop_map(Step::Decide),
        6 => Just(Step::Take),
        1 => Just(Step::Refuse),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #[test]
    fn no_route_is_ever_without_its_clusters(steps in steps(), delta in any::<bool>(), refusing in any::<bool>()) {
        let flavor = if delta { Flavor::Delta } else { Flavor::Sotw };
        let names = ["a", "b", "c", "d"];
        let (mut session, mut client) = connect(flavor, &snapshot(&[("a", 0)]));
        let mut counter = 0;
        for step in steps {
            match step {
                Step::Aim(clusters) => {
                    let clusters: Vec<(&str, u8)> = clusters.iter().map(|(name, version)| (names[*name], *version)).collect();
                    session.aim(snapshot(&clusters));
                    client.inbox.extend(session.responses());
                }
                Step::Decide(decision) => {
                    let filter = match session.stage() {
                        Stage::Adding { serving: Some(serving), .. } => Some(decided(serving, decision)),
                        _ => None,
                    };
                    if let Some(filter) = filter {
                        session.meanwhile(filter);
                        client.inbox.extend(session.responses());
                    }
                }
                Step::Take => take_one(&mut session, &mut client, false),
                Step::Refuse => take_one(&mut session, &mut client, refusing),
            }
            prop_assert!(client.is_whole(), "{client:?}");
            prop_assert!(client.inbox.len() <= Type::ALL.len(), "a queue of states: {client:?}");
            for response in &client.inbox {
                let mut seen: Vec<&str> = response.resources.iter().map(|resource| resource.name()).collect();
                let count = seen.len();
                seen.dedup();
                prop_assert_eq!(seen.len(), count, "a name twice in one response");
            }
            counter += 1;
        }
        prop_assert!(counter > 0);
        // Whatever was refused before: everything is new now, and a willing client gets all of it.
        let last = snapshot(&[("a", 7), ("d", 8)]);
        let last = Arc::new(renewed(&last));
        session.aim(Arc::clone(&last));
        client.inbox.extend(session.responses());
        for _ in 0..200 {
            take_one(&mut session, &mut client, false);
            prop_assert!(client.is_whole(), "{client:?}");
        }
        prop_assert!(client.has_exactly(&last), "{client:?} {session:?}");
        prop_assert_eq!(session.stage(), &Stage::Settled);
        prop_assert_eq!(session.applied(), Some(&last));
    }
}

fn copy(snapshot: &Snapshot) -> Snapshot {
    let mut copy = Snapshot::default();
    for kind in Type::ALL {
        for (name, resource) in snapshot.of(kind) {
            copy.insert(kind, Resource::new(name.clone(), resource.body().to_vec()));
        }
    }
    copy
}

/// The same in versions that no other snapshot has, referring to the same clusters.
fn renewed(snapshot: &Snapshot) -> Snapshot {
    let mut renewed = Snapshot::default();
    for kind in Type::ALL {
        for (name, resource) in snapshot.of(kind) {
            let mut body = resource.body().to_vec();
            body.push(b',');
            renewed.insert(kind, Resource::new(name.clone(), body));
        }
    }
    renewed
}
