//! Logs of one release after the other, and what is left of them.

use super::*;

const DAY: u64 = 86_400_000;

fn change(pk: &str, ts: u64, payload: Value) -> Change {
    Change {
        src_ver: "v2".to_owned(),
        dst_ver: "v1".to_owned(),
        pk: pk.to_owned(),
        payload,
        ts,
    }
}

/// Releases of two services.
fn released(dir: &Path) -> Store {
    let store = Store::open(dir).unwrap();
    for service in ["shop", "other"] {
        let record = Record {
            service: service.to_owned(),
            ..record(1.0)
        };
        store.save(&record, &[entry(Kind::Begun)]).unwrap();
    }
    store
}

fn waiting(store: &Store, service: &str) -> Vec<Value> {
    let Backlog { top, applied, .. } = store.backlog(service).unwrap();
    let pending = store.pending(service, applied, top, 99).unwrap();
    pending.into_iter().map(|p| p.change.payload).collect()
}

fn rows(store: &Store) -> i64 {
    let sql = "SELECT COUNT(*) FROM sync_log";
    store.db().query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn the_newest_change_of_a_key_wins_in_whatever_order_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let store = released(dir.path());
    let batch = [
        change("a", 2, json!("a2")),
        change("b", 1, json!("b1")),
        change("a", 1, json!("a1")),
        change("a", 2, json!("a2")),
    ];
    assert_eq!(store.log("shop", &batch, NOW).unwrap(), Some(2));
    assert_eq!(store.log("shop", &batch, NOW).unwrap(), Some(0), "again");
    store.applied("shop", 1).unwrap();
    assert_eq!(
        store.log("shop", &batch, NOW).unwrap(),
        Some(0),
        "and again"
    );
    let newer = [change("a", 3, json!("a3"))];
    assert_eq!(store.log("shop", &newer, NOW).unwrap(), Some(1));
    let others = [change("a", 9, json!(0))];
    assert_eq!(store.log("other", &others, NOW).unwrap(), Some(1));
    assert_eq!(waiting(&store, "shop"), [json!("b1"), json!("a3")]);
    let backlog = store.backlog("shop").unwrap();
    assert_eq!((backlog.top, backlog.applied, backlog.waiting), (3, 1, 2));
    assert_eq!(store.log_top("shop").unwrap(), 3);
    store.applied("shop", 3).unwrap();
    store.applied("shop", 2).unwrap();
    assert_eq!(store.backlog("shop").unwrap().waiting, 0, "never back");
    assert_eq!(store.backlog("nobody").unwrap(), Backlog::default());
}

#[test]
fn what_is_not_between_the_versions_of_the_release_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let store = released(dir.path());
    let good = change("a", 1, json!(1));
    let mut backwards = good.clone();
    backwards.src_ver = "v1".to_owned();
    let batch = [good.clone(), backwards];
    assert_eq!(store.log("shop", &batch, NOW).unwrap(), None);
    assert_eq!(store.log("nobody", &[good], NOW).unwrap(), None);
    assert_eq!(rows(&store), 0);
}

#[test]
fn each_release_has_a_log_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let store = released(dir.path());
    let old = [change("a", 900, json!("old")), change("b", 901, json!(0))];
    for service in ["shop", "other"] {
        assert_eq!(store.log(service, &old, NOW).unwrap(), Some(2));
    }
    // An order or a transition of the same release leaves its log alone.
    store
        .save(&record(2.0), &[entry(Kind::Transition)])
        .unwrap();
    assert_eq!(store.backlog("shop").unwrap().waiting, 2);
    store.save(&record(3.0), &[entry(Kind::Begun)]).unwrap();
    assert_eq!(store.backlog("shop").unwrap().waiting, 0);
    let new = [change("a", 1, json!("new"))];
    assert_eq!(store.log("shop", &new, NOW).unwrap(), Some(1), "anew");
    assert_eq!(store.log("shop", &new, NOW).unwrap(), Some(0));
    assert_eq!(waiting(&store, "shop"), [json!("new")]);
    assert_eq!(store.log_top("shop").unwrap(), 3, "no number twice");
    assert_eq!(waiting(&store, "other"), [json!("old"), json!(0)]);
}

#[test]
fn ended_logs_are_cleared_away_at_once_and_applied_rows_after_a_day() {
    let dir = tempfile::tempdir().unwrap();
    let store = released(dir.path());
    let at = |millis| Moment::from_unix_millis(millis);
    let keys = ["a", "b", "c", "d", "e"];
    let batch = keys.map(|key| change(key, 1, json!(key)));
    store.log("shop", &batch, at(1)).unwrap();
    assert_eq!(store.forget_applied(at(9 * DAY), 99).unwrap(), 0, "needed");
    store.save(&record(1.0), &[entry(Kind::Begun)]).unwrap();
    let batch = ["c", "x", "y", "z"].map(|key| change(key, 1, json!(key)));
    store.log("shop", &batch, at(2)).unwrap();
    assert_eq!(store.forget_applied(at(3), 3).unwrap(), 3, "a batch");
    assert_eq!(store.forget_applied(at(3), 3).unwrap(), 1, "c is new");
    store
        .applied("shop", store.log_top("shop").unwrap() - 1)
        .unwrap();
    for _ in 0..2 {
        assert_eq!(store.forget_applied(at(DAY), 99).unwrap(), 0, "fresh");
        assert_eq!(store.log("shop", &batch, at(DAY)).unwrap(), Some(0));
    }
    assert_eq!(store.forget_applied(at(DAY + 3), 99).unwrap(), 3);
    assert_eq!(waiting(&store, "shop"), [json!("z")]);
    assert_eq!(rows(&store), 1);
}

#[test]
fn an_older_file_keeps_the_log_of_its_release_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let db = schema::of_version(&dir.path().join(FILE), 1);
    let release = Release::begin(Percent::FULL, Percent::FULL, NOW);
    let release = serde_json::to_string(&release).unwrap();
    db.execute(
        "INSERT INTO releases VALUES ('shop', 'v3', 'v2', 10, '[]', ?1)",
        [release],
    )
    .unwrap();
    db.execute_batch(
        "INSERT INTO sync_log VALUES
            ('shop', 'a', 1, 900, 'v2', 'v1', '\"old\"', 1),
            ('shop', 'b', 2, 1, 'v3', 'v2', '\"applied\"', 1),
            ('shop', 'c', 3, 2, 'v3', 'v2', '\"waits\"', 1),
            ('gone', 'a', 1, 1, 'v2', 'v1', '\"gone\"', 1);
         INSERT INTO sync_state VALUES ('shop', 3, 2), ('gone', 1, 0);",
    )
    .unwrap();
    drop(db);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.releases().unwrap().len(), 1);
    assert_eq!(waiting(&store, "shop"), [json!("waits")]);
    assert_eq!(rows(&store), 2);
    let change = |pk: &str, ts| Change {
        src_ver: "v3".to_owned(),
        dst_ver: "v2".to_owned(),
        ..change(pk, ts, json!("new"))
    };
    let batch = [change("a", 1), change("c", 2), change("d", 3)];
    assert_eq!(store.log("shop", &batch, NOW).unwrap(), Some(2));
    assert_eq!(store.log_top("shop").unwrap(), 5);
    drop(store);
    assert!(Store::open(dir.path()).is_ok(), "and once more");
}
