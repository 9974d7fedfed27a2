use super::*;
use ombre_policy::decisions::{MadeFor, ReleasedService, ServiceDecisions};
use ombre_policy::document::open;
use ombre_policy::problem::Problem;
use proptest::prelude::*;
use std::path::Path;

use crate::sample::{USERS, compiled, compiled_of, served};

fn start(dir: &Path) -> Publisher {
    let (dir, saved) = StateDir::open(dir).unwrap();
    Publisher::new(dir, saved, Arc::default())
}

fn revisions(publisher: &Publisher) -> (Revision, Revision) {
    let revision = |kind| {
        let document = publisher.documents().subscribe(kind).borrow().clone();
        let document = document.expect("a document");
        assert_eq!(open(&document.bytes).unwrap().revision, document.revision);
        document.revision
    };
    (revision(Kind::Policy), revision(Kind::Decisions))
}

fn weight(service: &str, weight: f64) -> Decisions {
    serde_json::from_value(serde_json::json!({ "services": { service: { "weight": weight } } }))
        .unwrap()
}

fn bytes(publisher: &Publisher, kind: Kind) -> axum::body::Bytes {
    let document = publisher.documents().subscribe(kind).borrow().clone();
    document.expect("a document").bytes
}

#[test]
fn each_change_has_a_larger_revision_and_decisions_follow_the_policy() {
    let dir = tempfile::tempdir().unwrap();
    let publisher = start(dir.path());
    let mut last = Revision::default();
    for cluster in ["a", "b", "c"] {
        let outcome = publisher.put_policy(compiled(cluster));
        let (policy, decisions) = revisions(&publisher);
        assert_eq!(outcome, Outcome::Published(policy));
        assert!(last < policy && policy < decisions);
        let sealed = bytes(&publisher, Kind::Decisions);
        assert_eq!(open(&sealed).unwrap().policy_revision, policy);
        last = decisions;
    }
}

#[test]
fn an_operators_weight_is_for_the_candidate_that_it_was_given_for() {
    let of = |default: &str, candidate: &str, weight: u8| {
        compiled_of(format!(
            "apiVersion: ombre/v1\nservices:\n  - name: shop\n    routes: [{{ name: shop, path: /shop }}]\n    \
             versions: [{{ name: v1, cluster: s1 }}, {{ name: v2, cluster: s2 }}, {{ name: v3, cluster: s3 }}]\n    \
             default: {default}\n    unit: [{{ header: x-user-id }}]\n    rollout: {{ candidate: {candidate}, weight: {weight} }}\n"
        ))
    };
    let dir = tempfile::tempdir().unwrap();
    let publisher = start(dir.path());
    publisher.put_policy(of("v1", "v2", 10));
    publisher.put_decisions(weight("shop", 100.0)).unwrap();
    assert_eq!(
        served(&publisher, "/shop"),
        [("s2".to_owned(), USERS)].into()
    );
    publisher.put_policy(of("v2", "v3", 0));
    assert_eq!(
        served(&publisher, "/shop"),
        [("s2".to_owned(), USERS)].into()
    );
    let without = publisher.view().in_force.unwrap().without_effect;
    assert!(
        without
            .iter()
            .any(|problem| problem.path == "services.shop.weight")
    );
    publisher.put_policy(of("v1", "v2", 10));
    assert_eq!(
        served(&publisher, "/shop"),
        [("s2".to_owned(), USERS)].into(),
        "meant again"
    );
}

/// Two controllers without each other's state would overtake each other for ever.
#[test]
fn whoever_is_overtaken_again_and_again_stops() {
    let dir = tempfile::tempdir().unwrap();
    let publisher = start(dir.path());
    publisher.put_policy(compiled("a"));
    let mut raised = 0;
    for _ in 0..100 {
        let ahead = Revision::new(revisions(&publisher).1.get() + 10);
        publisher.publish_above(Kind::Decisions, ahead);
        raised += u32::from(revisions(&publisher).1 > ahead);
    }
    assert_eq!(raised, MOST_RAISES);
    publisher.put_decisions(Decisions::default()).unwrap();
}

#[test]
fn an_unchanged_policy_keeps_its_revision_also_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let publisher = start(dir.path());
    publisher.put_policy(compiled("a"));
    let before = revisions(&publisher);
    let again = publisher.put_policy(compiled("a"));
    assert_eq!(again, Outcome::Unchanged(before.0));
    drop(publisher);

    let publisher = start(dir.path());
    let outcome = publisher.put_policy(compiled("a"));
    assert_eq!(outcome, Outcome::Resumed(before.0));
    assert_eq!(revisions(&publisher), before);
    drop(publisher);

    let publisher = start(dir.path());
    publisher.put_policy(compiled("b"));
    assert!(revisions(&publisher).0 > before.1);
}

#[test]
fn decisions_are_in_both_documents_and_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let publisher = start(dir.path());
    assert!(matches!(
        publisher.put_decisions(Decisions::default()),
        Err(DecisionsError::NoPolicy)
    ));
    publisher.put_policy(compiled("a"));
    let empty = (
        bytes(&publisher, Kind::Policy),
        bytes(&publisher, Kind::Decisions),
    );
    let (before, _) = revisions(&publisher);
    let revision = publisher.put_decisions(weight("shop", 25.0)).unwrap();
    assert_eq!(revisions(&publisher), (before, revision));
    assert_ne!(
        bytes(&publisher, Kind::Policy),
        empty.0,
        "for whoever starts now"
    );
    assert_ne!(bytes(&publisher, Kind::Decisions), empty.1);
    let decided = bytes(&publisher, Kind::Decisions);
    drop(publisher);

    let publisher = start(dir.path());
    publisher.put_policy(compiled("a"));
    assert_eq!(bytes(&publisher, Kind::Decisions), decided);
}

#[test]
fn decisions_that_do_not_fit_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let publisher = start(dir.path());
    publisher.put_policy(compiled("a"));
    let before = revisions(&publisher);
    let error = publisher.put_decisions(weight("nobody", 1.0)).unwrap_err();
    assert!(matches!(error, DecisionsError::Invalid(_)), "{error}");
    assert_eq!(revisions(&publisher), before);
}

#[test]
fn a_filter_that_is_ahead_is_overtaken() {
    let dir = tempfile::tempdir().unwrap();
    let publisher = start(dir.path());
    let far = Revision::new(1 << 50);
    publisher.publish_above(Kind::Policy, far);
    publisher.put_policy(compiled("a"));
    let (policy, decisions) = revisions(&publisher);
    publisher.publish_above(Kind::Decisions, far);
    let overtaken = revisions(&publisher);
    assert_eq!(overtaken.0, policy);
    assert!(overtaken.1 > far && overtaken.1 > decisions);
    publisher.publish_above(Kind::Policy, far);
    let overtaken = revisions(&publisher);
    assert!(overtaken.0 > far && overtaken.1 > overtaken.0);
    publisher.publish_above(Kind::Policy, far);
    assert_eq!(revisions(&publisher), overtaken, "once is enough");
    drop(publisher);

    let publisher = start(dir.path());
    publisher.put_policy(compiled("a"));
    assert_eq!(revisions(&publisher), overtaken, "also after a restart");
}

#[test]
fn a_state_that_cannot_be_saved_is_told_and_saved_later() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let publisher = start(&path);
    publisher.put_policy(compiled("a"));
    // A directory in the place of the next file stops root as well.
    let block = path.join("state.json.next");
    std::fs::create_dir(&block).unwrap();
    let outcome = publisher.put_policy(compiled("b"));
    assert!(
        matches!(outcome, Outcome::Published(_)),
        "filters are served"
    );
    assert!(!publisher.view().is_ready());
    let before = revisions(&publisher);
    let error = publisher.put_decisions(weight("shop", 5.0)).unwrap_err();
    assert!(matches!(error, DecisionsError::State(_)), "{error}");
    assert_eq!(revisions(&publisher), before);
    std::fs::remove_dir(&block).unwrap();
    publisher.save_what_is_unsaved();
    assert!(publisher.view().is_ready());
    drop(publisher);

    let publisher = start(&path);
    publisher.put_policy(compiled("b"));
    assert_eq!(revisions(&publisher), before);
}

#[test]
fn a_refusal_stays_until_a_policy_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let publisher = start(dir.path());
    publisher.put_policy(compiled("a"));
    let problem = Problem::of_file("policy.yaml", "is no policy");
    publisher.refuse(Problems::none_of(vec![problem]).unwrap_err());
    publisher.publish_above(Kind::Policy, Revision::new(1 << 50));
    assert!(publisher.view().refusal.is_some(), "the file is as it was");
    publisher.put_policy(compiled("a"));
    assert!(publisher.view().refusal.is_none());
    publisher.refuse(Problems::none_of(vec![Problem::of_file("policy.yaml", "")]).unwrap_err());
    publisher.put_policy(compiled("b"));
    assert!(publisher.view().refusal.is_none());
}

/// What happens to the publisher, from the files and from the release loop.
#[derive(Clone, Debug)]
enum Happens {
    Edited(Written),
    Decided(Written, u8, bool),
    Restarted,
}

/// What a policy says of the one service.
#[derive(Clone, Debug)]
struct Written {
    default: usize,
    candidate: usize,
    weight: u8,
    /// Without a `degrade` block nobody takes over.
    stable: Option<usize>,
}

const VERSIONS: [&str; 3] = ["v1", "v2", "v3"];
/// Far enough apart to be told by what the users get.
const WEIGHTS: [u8; 4] = [0, 10, 50, 100];

impl Written {
    fn compiled(&self) -> Compiled {
        let version = |at: usize| VERSIONS[at];
        let degrade = self.stable.map_or_else(String::new, |stable| {
            format!("degrade: {{ fallback: {} }}", version(stable))
        });
        compiled_of(format!(
            "apiVersion: ombre/v1
services:
  - name: shop
    routes: [{{ name: shop, path: /shop }}]
    versions: [{{ name: v1, cluster: v1 }}, {{ name: v2, cluster: v2 }}, {{ name: v3, cluster: v3 }}]
    unit: [{{ header: x-user-id }}]
    default: {}
    rollout: {{ candidate: {}, weight: {} }}
    {degrade}
",
            version(self.default),
            version(self.candidate),
            self.weight,
        ))
    }

    /// What a release of this policy decides.
    fn decided(&self, share: u8, degraded: bool) -> Released {
        let candidate = VERSIONS[self.candidate].to_owned();
        let stable = VERSIONS[self.stable.unwrap_or(self.default)].to_owned();
        let mut decided = ServiceDecisions {
            weight: Some(share.into()),
            ..ServiceDecisions::default()
        };
        if degraded {
            decided.degraded.insert(candidate.clone(), stable.clone());
        }
        let made_for = MadeFor {
            candidate,
            stable,
            default: VERSIONS[self.default].to_owned(),
            weight: self.weight.into(),
        };
        let shop = ReleasedService { made_for, decided };
        Released {
            services: [("shop".to_owned(), shop)].into(),
        }
    }
}

prop_compose! {
    fn written()(
        default in 0..3_usize, other in 1..3_usize, weight in prop::sample::select(&WEIGHTS[..]),
        degrade in any::<bool>(), third in any::<bool>(),
    ) -> Written {
        let candidate = (default + other) % 3;
        let stable = if third { 3 - default - candidate } else { default };
        Written { default, candidate, weight, stable: degrade.then_some(stable) }
    }
}

fn happens() -> impl Strategy<Value = Happens> {
    let share = prop::sample::select(&WEIGHTS[..]);
    prop_oneof![
        4 => written().prop_map(Happens::Edited),
        4 => (written(), share, any::<bool>()).prop_map(|(w, s, d)| Happens::Decided(w, s, d)),
        1 => Just(Happens::Restarted),
    ]
}

/// The candidate's share of what the users get, as the next of the weights there are.
fn share(publisher: &Publisher, version: &str) -> u8 {
    let served = served(publisher, "/shop");
    let percent = 100 * served.get(version).copied().unwrap_or_default() / USERS;
    let near = |weight: &u8| percent.abs_diff(usize::from(*weight));
    WEIGHTS.into_iter().min_by_key(near).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_version_gets_what_was_decided_for_another(
        first in written(), steps in prop::collection::vec(happens(), 1..8)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut publisher = start(dir.path());
        let mut policy = first;
        publisher.put_policy(policy.compiled());
        let mut last: Option<(Written, u8)> = None;
        for step in steps {
            match step {
                Happens::Edited(written) => {
                    policy = written;
                    publisher.put_policy(policy.compiled());
                }
                Happens::Decided(written, share, degraded) => {
                    publisher.put_released(written.decided(share, degraded));
                    last = Some((written, if degraded { 0 } else { share }));
                }
                Happens::Restarted => {
                    drop(publisher);
                    publisher = start(dir.path());
                    publisher.put_policy(policy.compiled());
                }
            }
            // Where no release runs, whoever edits the rollout decides, once and for all.
            last.take_if(|(made_for, _)| {
                let rollout = |it: &Written| (it.default, it.candidate, it.weight);
                policy.stable.is_none() && rollout(made_for) != rollout(&policy)
            });
            let share = share(&publisher, VERSIONS[policy.candidate]);
            let mine = last.as_ref().filter(|(made_for, _)| {
                let stable = made_for.stable.unwrap_or(made_for.default);
                made_for.candidate == policy.candidate
                    && policy.stable.is_none_or(|mine| mine == stable)
            });
            match mine {
                Some((_, decided)) => prop_assert_eq!(share, *decided),
                None => prop_assert_eq!(share, policy.weight),
            }
        }
    }
}
