//! What users see of a ramp, from policy files to decisions: who moves when weights change, when
//! the controller restarts, and that nothing that is bucketed depends on anything else.
#![cfg(not(target_arch = "wasm32"))]
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on must stop"
)]

use std::collections::BTreeMap;

use ombre_policy::decisions::{DecisionTable, Decisions};
use ombre_policy::document::Revision;
use ombre_policy::hash::{Purpose, SLOTS, Seed};
use ombre_policy::headers::HeaderMap;
use ombre_policy::in_force::InForce;
use ombre_policy::load::load_text;
use ombre_policy::plan::Plan;
use ombre_policy::policy::{Policy, SlotTables};
use ombre_policy::verdict::{Edit, Verdict};

/// Upper critical value of chi-square for p = 1e-7 with 81 and with 18 degrees of freedom.
const CHI2_81: f64 = 165.31;
const CHI2_18: f64 = 69.1;

/// Named weights in percent.
type Weights = &'static [(&'static str, u32)];

/// How many units are in a group of one experiment and in a group of another.
type Counts = BTreeMap<(String, String), f64>;

fn policy(rest: &str) -> Policy {
    let text = format!(
        "
apiVersion: ombre/v1
services:
  - name: shop
    routes: [{{ name: all, path: '/{{*rest}}' }}]
    versions: [{{ name: v1, cluster: v1 }}, {{ name: v2, cluster: v2 }}]
    default: v1
    unit: [{{ header: id }}]
{rest}"
    );
    match load_text(&text) {
        Ok(loaded) => loaded.policy,
        Err(problems) => panic!("{problems}"),
    }
}

fn experiment(weights: Weights) -> Policy {
    let groups = weights
        .iter()
        .map(|(name, weight)| format!("{{ name: {name}, weight: {weight} }}"));
    let groups = groups.collect::<Vec<_>>().join(", ");
    policy(&format!(
        "    experiment: {{ experiment: e, groups: [{groups}] }}\n"
    ))
}

fn rollout(weight: f64) -> Policy {
    policy(&format!(
        "    rollout: {{ candidate: v2, weight: {weight} }}\n"
    ))
}

/// One identifier for each slot, so that counts of units are counts of slots.
fn one_for_each_slot(purpose: Purpose, salt: &str) -> Vec<String> {
    let seed = Seed::new(purpose, salt);
    let mut ids = vec![String::new(); SLOTS as usize];
    let mut missing = ids.len();
    for number in 0_u64.. {
        let id = number.to_string();
        let place = &mut ids[seed.slot(id.as_bytes()).get() as usize];
        if place.is_empty() {
            *place = id;
            missing -= 1;
        }
        if missing == 0 {
            break;
        }
    }
    ids
}

/// The groups and the version of each unit.
fn decide(
    policy: &Policy,
    slots: &SlotTables,
    decisions: DecisionTable,
    ids: &[String],
) -> Vec<[String; 2]> {
    let mut worker = InForce::default();
    let plan = Plan::compile(policy, slots);
    let (plan, decisions) = Plan::decode(&plan.encode(&decisions)).expect("what was encoded");
    worker.put(plan, Revision::new(1), decisions);
    let decide = |id: &String| {
        let request = [(":method", "GET"), (":path", "/"), ("id", id)];
        let bytes = HeaderMap::encode(&request);
        let Verdict::Route(mut routed) = worker.decide(HeaderMap::new(&bytes), || [0; 16]) else {
            panic!("`{id}` is not routed");
        };
        let mut found = [String::new(), String::new()];
        routed.write(|edit| match edit {
            Edit::Set("x-ombre-group", value) => {
                found[0] = String::from_utf8_lossy(value).into_owned()
            }
            Edit::Set("x-ombre-cluster", value) => {
                found[1] = String::from_utf8_lossy(value).into_owned()
            }
            _ => {}
        });
        found
    };
    ids.iter().map(decide).collect()
}

fn groups(policy: &Policy, slots: &SlotTables, ids: &[String]) -> Vec<String> {
    let all = decide(policy, slots, DecisionTable::default(), ids);
    all.into_iter().map(|[group, _]| group).collect()
}

#[test]
fn weights_move_exactly_the_units_they_must() {
    let ids = one_for_each_slot(Purpose::Arm, "shop/e");
    let steps: [Weights; 7] = [
        &[("a", 100)],
        &[("a", 99), ("b", 1)],
        &[("b", 40), ("a", 60)],
        &[("a", 33), ("b", 33), ("c", 34)],
        &[("c", 50), ("a", 20), ("b", 20), ("d", 10)],
        &[("a", 40), ("d", 60)],
        &[("new", 100)],
    ];
    let mut slots = SlotTables::default();
    let mut before: Option<(BTreeMap<String, u32>, Vec<String>)> = None;
    for weights in steps {
        let policy = experiment(weights);
        // As after a restart: the tables come back from the store.
        let stored = serde_json::to_string(&slots).expect("tables are data");
        slots = policy.slots(&serde_json::from_str(&stored).expect("what was stored"));
        let after = groups(&policy, &slots, &ids);
        let sizes: BTreeMap<String, u32> = weights
            .iter()
            .map(|(name, weight)| (format!("e={name}"), weight * 1000))
            .collect();
        for (group, size) in &sizes {
            let units = after.iter().filter(|known| *known == group).count();
            assert_eq!(units, *size as usize, "{group} at {weights:?}");
        }
        if let Some((old_sizes, old)) = before {
            let size = |sizes: &BTreeMap<String, u32>, group: &String| {
                sizes.get(group).copied().unwrap_or(0)
            };
            let lost: u32 = old_sizes
                .iter()
                .map(|(group, old)| old.saturating_sub(size(&sizes, group)))
                .sum();
            let moved = old.iter().zip(&after).filter(|(from, to)| from != to);
            let mut count = 0;
            for (from, to) in moved {
                count += 1;
                assert!(
                    size(&sizes, from) < size(&old_sizes, from),
                    "{from} lost a unit at {weights:?}"
                );
                assert!(
                    size(&sizes, to) > size(&old_sizes, to),
                    "{to} got a unit at {weights:?}"
                );
            }
            assert_eq!(count, lost, "at {weights:?}");
        }
        before = Some((sizes, after));
    }
}

#[test]
fn lowering_takes_back_the_last_added_first() {
    let ids = one_for_each_slot(Purpose::Arm, "shop/e");
    let up: [Weights; 3] = [
        &[("a", 80), ("b", 10), ("c", 10)],
        &[("a", 50), ("b", 35), ("c", 15)],
        &[("a", 10), ("b", 60), ("c", 30)],
    ];
    let mut slots = SlotTables::default();
    let mut seen = Vec::new();
    for weights in up {
        let policy = experiment(weights);
        slots = policy.slots(&slots);
        seen.push(groups(&policy, &slots, &ids));
    }
    let mut before = seen.last().cloned().expect("the top");
    for (weights, there) in up.iter().zip(&seen).rev().skip(1) {
        let policy = experiment(weights);
        slots = policy.slots(&slots);
        let back = groups(&policy, &slots, &ids);
        for group in ["e=b", "e=c"] {
            let members = |all: &[String]| -> Vec<usize> {
                (0..all.len()).filter(|at| all[*at] == group).collect()
            };
            assert_eq!(members(&back), members(there), "{group} at {weights:?}");
        }
        // Only `a` grows on the way down: a table planned anew would also move units to `b`.
        let mut moved = before.iter().zip(&back).filter(|(from, to)| from != to);
        assert!(moved.all(|(_, to)| to == "e=a"), "at {weights:?}");
        before = back;
    }
}

#[test]
fn a_restart_moves_nobody() {
    let policy = experiment(&[("a", 33), ("b", 33), ("c", 34)]);
    let slots = experiment(&[("b", 70), ("c", 30)]).slots(&SlotTables::default());
    let slots = policy.slots(&slots);
    let stored = serde_json::to_vec(&slots).expect("tables are data");
    let restored: SlotTables = serde_json::from_slice(&stored).expect("what was stored");
    assert_eq!(policy.slots(&restored), slots);
    assert_eq!(policy.slots(&slots), slots, "loading again");
    assert_ne!(
        policy.slots(&SlotTables::default()),
        slots,
        "or the state were of no use"
    );
}

#[test]
fn a_rollout_only_adds_and_takes_back_the_same() {
    let ids = one_for_each_slot(Purpose::Rollout, "shop");
    let none = SlotTables::default();
    let in_v2 = |policy: &Policy, decisions: &str| -> Vec<bool> {
        let decisions: Decisions = serde_json::from_str(decisions).expect("decisions");
        let table = decisions.compile(policy).expect("decisions of this policy");
        let all = decide(policy, &none, table, &ids);
        all.into_iter()
            .map(|[_, cluster]| cluster == "v2")
            .collect()
    };
    let mut before = vec![false; ids.len()];
    let mut seen = Vec::new();
    for weight in [0.001, 12.345, 50.0] {
        let after = in_v2(&rollout(weight), "{}");
        let members = after.iter().filter(|is_member| **is_member).count();
        assert_eq!(members, (weight * 1000.0) as usize, "at {weight}");
        assert!(
            before
                .iter()
                .zip(&after)
                .all(|(before, after)| *after || !*before),
            "at {weight}"
        );
        before.clone_from(&after);
        seen.push((weight, after));
    }
    for (weight, members) in seen.into_iter().rev().skip(1) {
        let decided = format!(r#"{{"services":{{"shop":{{"weight":{weight}}}}}}}"#);
        assert_eq!(
            in_v2(&rollout(100.0), &decided),
            members,
            "decided {weight}"
        );
    }
}

#[test]
fn nothing_that_is_bucketed_depends_on_anything_else() {
    let tenths = |name: &str| {
        let groups = (0..10).map(|n| format!("{{ name: g{n}, weight: 10 }}"));
        let groups = groups.collect::<Vec<_>>().join(", ");
        format!("experiment: {name}, groups: [{groups}]")
    };
    let (one, two) = (tenths("one"), tenths("two"));
    let (left, right) = (tenths("left"), tenths("right"));
    let policy = policy(&format!(
        "    rollout: {{ candidate: v2, weight: 50 }}
    experiments:
      - {{ {one} }}
      - {{ {two} }}
      - {{ layer: page, share: 50, {left} }}
      - {{ layer: page, share: 30, {right} }}
"
    ));
    let slots = policy.slots(&SlotTables::default());
    let ids: Vec<String> = (0..100_000).map(|n| format!("user-{n:010}")).collect();
    let mut tables: BTreeMap<(&str, &str), Counts> = BTreeMap::new();
    let mut in_layer: BTreeMap<&str, f64> = BTreeMap::new();
    for [groups, version] in decide(&policy, &slots, DecisionTable::default(), &ids) {
        let mut cohorts: BTreeMap<&str, &str> = groups
            .split(',')
            .filter_map(|pair| pair.split_once('='))
            .collect();
        cohorts.insert("rollout", &version);
        assert!(
            !(cohorts.contains_key("left") && cohorts.contains_key("right")),
            "{groups}"
        );
        let place = ["left", "right"]
            .into_iter()
            .find(|name| cohorts.contains_key(name));
        *in_layer.entry(place.unwrap_or("none")).or_insert(0.0) += 1.0;
        cohorts.insert("place", place.unwrap_or("none"));
        let pairs = [
            ("one", "two"),
            ("one", "rollout"),
            ("two", "rollout"),
            ("one", "left"),
            ("two", "right"),
            ("one", "place"),
            ("rollout", "left"),
            ("rollout", "place"),
        ];
        for (first, second) in pairs {
            if let (Some(x), Some(y)) = (cohorts.get(first), cohorts.get(second)) {
                let table = tables.entry((first, second)).or_default();
                *table
                    .entry(((*x).to_owned(), (*y).to_owned()))
                    .or_insert(0.0) += 1.0;
            }
        }
    }
    for (place, share) in [("left", 0.5), ("right", 0.3), ("none", 0.2)] {
        // Five standard deviations of 100,000 draws are below 0.8 percent.
        assert!(
            (in_layer[place] / 100_000.0 - share).abs() < 0.008,
            "{in_layer:?}"
        );
    }
    assert_eq!(tables.len(), 8);
    for (pair, table) in tables {
        let (chi2, freedom) = chi_square(&table);
        let limit = if freedom > 20 { CHI2_81 } else { CHI2_18 };
        assert!(
            chi2 < limit,
            "{pair:?}: chi-square {chi2} with {freedom} degrees of freedom"
        );
    }
}

/// Pearson's statistic of a table of counts, and its degrees of freedom.
fn chi_square(table: &Counts) -> (f64, usize) {
    let (mut rows, mut columns) = (BTreeMap::new(), BTreeMap::new());
    for ((row, column), count) in table {
        *rows.entry(row).or_insert(0.0) += count;
        *columns.entry(column).or_insert(0.0) += count;
    }
    let all: f64 = rows.values().sum();
    let cells = rows
        .iter()
        .flat_map(|row| columns.iter().map(move |column| (row, column)));
    let chi2 = cells.map(|((row, in_row), (column, in_column))| {
        let expected = in_row * in_column / all;
        let key = ((*row).clone(), (*column).clone());
        (table.get(&key).copied().unwrap_or(0.0) - expected).powi(2) / expected
    });
    (chi2.sum(), (rows.len() - 1) * (columns.len() - 1))
}
