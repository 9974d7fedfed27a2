use std::path::{Path, PathBuf};
use std::time::Duration;

use ombre_policy::decisions::Decisions;
use ombre_policy::document::{Revision, split};
use ombre_policy::in_force::InForce;
use ombre_policy::load::SourceFile;
use ombre_policy::policy::SlotTables;
use ombre_xds::node::Node;
use ombre_xds::server::{Catalog, Observer};
use ombre_xds::snapshot::{Resource, Snapshot, Type};
use tokio::time::timeout;

use super::*;
use crate::compiled::Compiled;
use crate::source::Reader;
use crate::state::StateDir;

const CLUSTERS: &str = "
clusters:
  - { name: stable, endpoints: [127.0.0.1:9001] }
  - { name: canary, endpoints: [127.0.0.1:9002] }
listeners:
  - { name: traffic, address: 127.0.0.1:8080, default_cluster: stable }
  - { name: edge, address: 127.0.0.1:8081, default_cluster: stable, nodes: { cluster: edge } }
";

fn compiled(clusters: &str) -> Compiled {
    let source = SourceFile {
        name: "policy.yaml".to_owned(),
        text: crate::sample::text("canary") + clusters,
    };
    Compiled::new(vec![source], &Reader::default(), &SlotTables::default()).unwrap()
}

fn publisher(dir: &Path) -> Arc<Publisher> {
    let (dir, saved) = StateDir::open(dir).unwrap();
    Arc::new(Publisher::new(dir, saved, Arc::default()))
}

fn node(id: &str, cluster: &str) -> Node {
    Node::new(id, cluster, []).unwrap()
}

fn weight(weight: f64) -> Decisions {
    serde_json::from_value(serde_json::json!({ "services": { "shop": { "weight": weight } } }))
        .unwrap()
}

/// The documents in the filter's configuration, as they lie in the resource.
fn revisions_inside(snapshot: &Snapshot) -> (Revision, Revision) {
    let resource = snapshot.of(Type::Extension).get("ombre").unwrap();
    let body = resource.body();
    let at = body.windows(4).position(|four| four == b"OMB2").unwrap();
    let decoded = (at + 1..=body.len()).rev().find_map(|end| {
        let pair = split(&body[at..end]).ok()?;
        let mut filter = InForce::default();
        filter.take(pair.policy).unwrap();
        filter.take(pair.decisions).unwrap();
        Some((filter.policy_revision(), filter.decisions_revision()))
    });
    decoded.expect("documents that the filter takes")
}

struct Following {
    publisher: Arc<Publisher>,
    feed: watch::Receiver<Option<Arc<dyn Catalog>>>,
    _stop: watch::Sender<bool>,
    _dir: tempfile::TempDir,
}

impl Following {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let publisher = publisher(dir.path());
        let (offer, feed) = watch::channel(None);
        let (stop, stopped) = watch::channel(false);
        let wasm = "/ombre.wasm".to_owned();
        tokio::spawn(catalog::follow(publisher.clone(), wasm, offer, stopped));
        Self {
            publisher,
            feed,
            _stop: stop,
            _dir: dir,
        }
    }

    async fn next(&mut self) -> Arc<dyn Catalog> {
        let changed = timeout(Duration::from_secs(10), self.feed.changed()).await;
        changed.expect("an offer in time").unwrap();
        self.feed.borrow_and_update().clone().unwrap()
    }

    async fn is_silent(&mut self) {
        let silence = timeout(Duration::from_millis(100), self.feed.changed()).await;
        assert!(silence.is_err(), "there was nothing to offer");
    }
}

#[tokio::test]
async fn every_change_that_an_envoy_could_see_is_offered() {
    let mut following = Following::start();
    following.is_silent().await;
    following.publisher.put_policy(compiled(CLUSTERS));
    let first = following.next().await.snapshot(&node("e1", ""));
    let now = following.publisher.view().in_force.unwrap();
    let inside = revisions_inside(&first);
    assert_eq!(inside, (now.revision, now.decisions_revision));
    assert_eq!(
        (first.revisions().policy, first.revisions().decisions),
        inside
    );

    following.publisher.put_decisions(weight(50.0)).unwrap();
    let second = following.next().await.snapshot(&node("e1", ""));
    let inside = revisions_inside(&second);
    assert_eq!(inside.0, now.revision);
    assert!(inside.1 > now.decisions_revision);
    assert_eq!(second.of(Type::Cluster), first.of(Type::Cluster));

    // The filters cannot tell this policy from the one before, Envoy can.
    let moved = CLUSTERS.replace("9002", "9003");
    following.publisher.put_policy(compiled(&moved));
    let third = following.next().await.snapshot(&node("e1", ""));
    assert_eq!(revisions_inside(&third), inside);
    assert_eq!(third.of(Type::Extension), second.of(Type::Extension));
    assert_ne!(third.of(Type::Endpoint), second.of(Type::Endpoint));

    let problems = Compiled::from_files(&[PathBuf::from("none")], &SlotTables::default()).err();
    following.publisher.refuse(problems.unwrap());
    following.is_silent().await;
}

#[tokio::test]
async fn envoys_that_are_to_have_the_same_share_it() {
    let mut following = Following::start();
    following.publisher.put_policy(compiled(CLUSTERS));
    let catalog = following.next().await;
    let [one, two, edge] = [("e1", "core"), ("e2", ""), ("e3", "edge")]
        .map(|(id, cluster)| catalog.snapshot(&node(id, cluster)));
    assert!(Arc::ptr_eq(&one, &two));
    assert_eq!(one.of(Type::Listener).len(), 1);
    assert_eq!(edge.of(Type::Listener).len(), 2);
}

#[tokio::test]
async fn an_envoy_that_waits_with_an_older_policy_gets_newer_decisions() {
    let mut following = Following::start();
    let in_force = |following: &Following| {
        let now = following.publisher.view().in_force.unwrap();
        (now.revision, now.decisions_revision)
    };
    following.publisher.put_policy(compiled(CLUSTERS));
    let first = following.next().await.snapshot(&node("e1", ""));
    let (old, _) = in_force(&following);

    // Another timeout: Envoy sees it, the filters do not.
    let slow = CLUSTERS.replace(
        "cluster: stable }\n  - { name: edge",
        "cluster: stable, timeout: 3s }\n  - { name: edge",
    );
    following.publisher.put_policy(compiled(&slow));
    let same = following.next().await.meanwhile(old).unwrap();
    assert_eq!(same.of(Type::Extension), first.of(Type::Extension));

    let other = |number: u32| {
        let name = format!("path: \"/other-{number}/{{*rest}}\"");
        let service = format!(
            "  - name: other\n    routes: [{{ name: other, {name} }}]\n    versions: [{{ name: v1, cluster: stable }}]\n    default: v1\n"
        );
        compiled(&(service + CLUSTERS))
    };
    following.publisher.put_policy(other(0));
    let catalog = following.next().await;
    let (new, _) = in_force(&following);
    assert!(new > old);
    assert!(
        catalog.meanwhile(old).is_none(),
        "nothing was decided since"
    );

    following.publisher.put_decisions(weight(50.0)).unwrap();
    let catalog = following.next().await;
    let (_, decided) = in_force(&following);
    let meanwhile = catalog.meanwhile(old).unwrap();
    assert_eq!(revisions_inside(&meanwhile), (old, decided));
    assert!(meanwhile.of(Type::Cluster).is_empty());
    assert!(Arc::ptr_eq(&meanwhile, &catalog.meanwhile(old).unwrap()));
    assert!(catalog.meanwhile(Revision::new(1)).is_none());

    // A newer policy says no more about the old one.
    following.publisher.put_policy(other(1));
    let catalog = following.next().await;
    let again = catalog.meanwhile(old).unwrap();
    assert_eq!(again.of(Type::Extension), meanwhile.of(Type::Extension));
    assert!(catalog.meanwhile(new).is_none());
    for number in 2..9 {
        following.publisher.put_policy(other(number));
        following.next().await;
    }
    following.publisher.put_policy(other(9));
    let catalog = following.next().await;
    assert!(catalog.meanwhile(old).is_none(), "it is forgotten");
}

#[test]
fn a_cluster_is_told_of_once_for_each_configuration() {
    let (clusters, mut news) = broadcast::channel(8);
    let registry = Arc::new(Registry::new(1, 1));
    let account = Account::new(Arc::default(), registry, clusters);
    let resource = |body: &[u8]| [Arc::new(Resource::new("canary", body.to_vec()))];
    let mut told = |envoy: &str, kind, body: &[u8]| {
        account.accepted(&node(envoy, ""), kind, &resource(body));
        news.try_recv().is_ok()
    };
    assert!(told("e1", Type::Cluster, b"one"));
    assert!(!told("e2", Type::Cluster, b"one"), "the same again");
    assert!(told("e1", Type::Cluster, b"two"));
    assert!(!told("e1", Type::Endpoint, b"three"), "no cluster");
}
