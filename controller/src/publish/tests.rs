use super::*;
use ombre_policy::document::open;
use ombre_policy::problem::Problem;
use std::path::Path;

use crate::sample::compiled;

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
