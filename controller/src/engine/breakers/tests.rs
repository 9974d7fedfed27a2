use super::*;

use crate::engine;
use crate::evidence::{ClusterTotals, ProxyId, Reading};
use crate::metrics::Now;

struct Scene {
    breakers: Breakers,
    second: u64,
    totals: BTreeMap<String, ClusterTotals>,
}

type Purposes = BTreeMap<String, u8>;

fn purposes(clusters: &[(&str, u8)]) -> Purposes {
    let clusters = clusters.iter();
    clusters
        .map(|(name, purpose)| ((*name).to_owned(), *purpose))
        .collect()
}

impl Scene {
    fn new(clusters: &[(&str, u8)]) -> Self {
        let mut breakers = Breakers::new(Arc::default());
        breakers.follow(&Purposes::new(), &purposes(clusters), Revision::new(1));
        let totals = clusters
            .iter()
            .map(|(name, _)| ((*name).to_owned(), ClusterTotals::default()));
        let totals = totals.collect();
        let mut scene = Self {
            breakers,
            second: 0,
            totals,
        };
        scene.tick("", (0, 0));
        scene
    }

    /// A second in which `cluster` answered so many requests and so many of them badly.
    fn tick(&mut self, cluster: &str, (requests, errors): (u64, u64)) -> Vec<(String, Circuit)> {
        if let Some(totals) = self.totals.get_mut(cluster) {
            totals.requests += requests;
            totals.errors += errors;
        }
        self.second += 1;
        let at = Moment::from_unix_millis(self.second * 1000);
        let clusters = self.totals.clone();
        let age = Millis::ZERO;
        let changed = self.take(
            Some(Reading {
                at,
                age,
                uptime: None,
                clusters,
            }),
            at,
        );
        let state = |view: ClusterView| (view.breaker.cluster_name, view.state);
        changed.into_iter().map(state).collect()
    }

    fn take(&mut self, reading: Option<Reading>, at: Moment) -> Vec<ClusterView> {
        let readings = Readings::from([(ProxyId::new(1), reading)]);
        let wanted = Wanted {
            clusters: Arc::default(),
            interval: Millis::from_secs(1),
            stale: Millis::from_secs(15),
        };
        self.breakers.tick(&readings, &wanted, at, Jitter::new(0.0))
    }

    fn states(&self) -> Vec<(String, Circuit, u64)> {
        let views = self.breakers.views().into_iter();
        views
            .map(|view| (view.breaker.cluster_name, view.state, view.revision.get()))
            .collect()
    }

    fn now(&self, cluster: &str) -> Circuit {
        self.breakers.board.circuit(cluster)
    }
}

fn told(cluster: &str, circuit: Circuit) -> Vec<(String, Circuit)> {
    vec![(cluster.to_owned(), circuit)]
}

#[test]
fn a_cluster_that_fails_opens_its_own_breaker_and_closes_it_by_requests_that_go_well() {
    let mut scene = Scene::new(&[("a", 1), ("b", 1)]);
    assert_eq!(scene.tick("a", (100, 1)), []);
    assert_eq!(scene.tick("a", (19, 19)), [], "a fifth of ten seconds");
    assert_eq!(scene.tick("a", (100, 100)), told("a", Circuit::Open));
    assert_eq!(scene.now("b"), Circuit::Closed);
    for _ in 0..4 {
        assert_eq!(scene.tick("a", (10, 10)), [], "it is open already");
    }
    assert_eq!(scene.tick("a", (0, 0)), []);
    assert_eq!(scene.now("a"), Circuit::HalfOpen);
    assert_eq!(scene.tick("a", (4, 1)), [], "four of ten probes");
    assert_eq!(scene.tick("a", (50, 1)), told("a", Circuit::Closed));
    assert_eq!(scene.tick("a", (50, 1)), [], "what opened it is forgotten");
}

#[test]
fn a_probe_that_fails_opens_it_for_longer() {
    let mut scene = Scene::new(&[("a", 1)]);
    scene.tick("a", (100, 100));
    let opened = scene.second;
    while scene.now("a") == Circuit::Open {
        scene.tick("a", (0, 0));
    }
    assert_eq!(scene.second - opened, 5);
    assert_eq!(scene.tick("a", (1, 1)), []);
    let opened = scene.second;
    while scene.now("a") == Circuit::Open {
        scene.tick("a", (0, 0));
    }
    assert_eq!(scene.second - opened, 10);
}

#[test]
fn a_policy_refreshes_what_it_changes_and_nothing_else() {
    let before = [("a", 1), ("b", 1), ("c", 1)];
    let mut scene = Scene::new(&before);
    for cluster in ["a", "b", "c"] {
        scene.tick(cluster, (100, 100));
        assert_eq!(scene.now(cluster), Circuit::Open);
    }
    let after = purposes(&[("a", 1), ("b", 2), ("d", 1)]);
    scene
        .breakers
        .follow(&purposes(&before), &after, Revision::new(7));
    let state = |name: &str, circuit, revision| (name.to_owned(), circuit, revision);
    assert_eq!(
        scene.states(),
        [
            state("a", Circuit::Open, 1),
            state("b", Circuit::Closed, 7),
            state("d", Circuit::Closed, 7),
        ]
    );
    let late = ConfigUpdate {
        cluster_name: "c".to_owned(),
        revision: Revision::new(6),
        change: Change::Set(BreakerTerms::default()),
    };
    assert_eq!(scene.breakers.config_update(&late), Refreshed::Dropped);
    let clusters = scene.breakers.views();
    let text = scene.breakers.metrics.text(Now {
        board: Arc::new(engine::Board {
            clusters,
            ..engine::Board::default()
        }),
        ..Now::nothing()
    });
    for line in [
        r#"ombre_breaker_updates_total{result="begun"} 5"#,
        r#"ombre_breaker_updates_total{result="removed"} 1"#,
        r#"ombre_breaker_updates_total{result="dropped"} 1"#,
        r#"ombre_breaker_open{cluster="a"} 1"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains(r#"cluster="c""#), "gone");
}

#[test]
fn evidence_that_is_missing_opens_and_closes_nothing() {
    let mut scene = Scene::new(&[("a", 1)]);
    scene.tick("a", (100, 100));
    for circuit in [Circuit::Open, Circuit::HalfOpen] {
        assert_eq!(scene.now("a"), circuit);
        for _ in 0..5 {
            scene.second += 1;
            let at = Moment::from_unix_millis(scene.second * 1000);
            scene.take(None, at);
        }
    }
    assert_eq!(scene.now("a"), Circuit::HalfOpen);
}

#[test]
fn an_accepted_configuration_refreshes_its_own_breaker_and_makes_none() {
    let mut scene = Scene::new(&[("a", 1), ("b", 1)]);
    for cluster in ["a", "b"] {
        scene.tick(cluster, (100, 100));
        assert_eq!(scene.now(cluster), Circuit::Open);
    }
    for (cluster, revision) in [("a", 9), ("unused", 9), ("b", 0)] {
        let revision = Revision::new(revision);
        scene.breakers.accepted(cluster.to_owned(), revision);
    }
    let state = |name: &str, circuit, revision| (name.to_owned(), circuit, revision);
    assert_eq!(
        scene.states(),
        [state("a", Circuit::Closed, 9), state("b", Circuit::Open, 1),]
    );
}
