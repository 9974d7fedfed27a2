//! Cases and properties of slot tables.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

fn plan(previous: Option<&SlotTable>, wanted: &[(&str, u32)]) -> SlotTable {
    let wanted: Vec<_> = wanted
        .iter()
        .map(|(name, slots)| ((*name).to_owned(), *slots))
        .collect();
    SlotTable::plan(previous, &wanted).unwrap()
}

/// The ranges as `(start, end, arm)`.
fn ranges(table: &SlotTable) -> Vec<(u32, u32, u32)> {
    table
        .ranges()
        .iter()
        .map(|range| (range.start, range.end, range.arm))
        .collect()
}

#[test]
fn a_first_table_is_filled_in_order() {
    let table = plan(
        None,
        &[("control", 60_000), ("off", 0), ("treatment", 40_000)],
    );
    assert_eq!(ranges(&table), [(0, 60_000, 0), (60_000, 100_000, 2)]);
}

#[test]
fn the_last_added_slots_go_first() {
    let full = plan(None, &[("a", 60_000), ("b", 40_000)]);
    let less = plan(Some(&full), &[("a", 70_000), ("b", 30_000)]);
    assert_eq!(
        ranges(&less),
        [(0, 60_000, 0), (60_000, 90_000, 1), (90_000, 100_000, 0)]
    );
    // What `a` got last it gives back first, so both are where they were.
    assert_eq!(plan(Some(&less), &[("a", 60_000), ("b", 40_000)]), full);
}

#[test]
fn a_vanished_arm_makes_room_for_a_new_one() {
    let before = plan(None, &[("a", 50_000), ("b", 20_000), ("c", 30_000)]);
    let after = plan(
        Some(&before),
        &[("c", 30_000), ("d", 20_000), ("a", 50_000)],
    );
    assert_eq!(
        ranges(&after),
        [(0, 50_000, 2), (50_000, 70_000, 1), (70_000, 100_000, 0)]
    );
}

#[test]
fn freed_slots_are_given_away_before_free_ones() {
    let before = plan(None, &[("a", 10), ("b", 10)]);
    let after = plan(Some(&before), &[("b", 10), ("c", 15)]);
    assert_eq!(ranges(&after), [(0, 10, 1), (10, 20, 0), (20, 25, 1)]);
}

#[test]
fn a_slot_is_looked_up_in_its_range() {
    let ranges = plan(None, &[("a", 10), ("b", 20)]).ranges();
    let cases = [
        (0, Some(0)),
        (9, Some(0)),
        (10, Some(1)),
        (29, Some(1)),
        (30, None),
        (99_999, None),
    ];
    for (slot, expected) in cases {
        assert_eq!(
            lookup(&ranges, Slot::new(slot).unwrap()),
            expected,
            "{slot}"
        );
    }
    assert_eq!(lookup(&[], Slot::new(0).unwrap()), None);
    assert_eq!(
        lookup(
            &[SlotRange {
                start: 5,
                end: 6,
                arm: 0
            }],
            Slot::new(4).unwrap()
        ),
        None
    );
}

#[test]
fn impossible_plans_are_refused() {
    let wanted = |arms: &[(&str, u32)]| {
        let arms: Vec<_> = arms
            .iter()
            .map(|(name, slots)| ((*name).to_owned(), *slots))
            .collect();
        SlotTable::plan(None, &arms).map_err(|error| error.to_string())
    };
    assert_eq!(
        wanted(&[("a", u32::MAX), ("b", 1)]),
        Err(
            "the arms want 4294967296 slots together, there are 100000: lower some of them"
                .to_owned()
        )
    );
    assert_eq!(
        wanted(&[("a", 1), ("a", 2)]),
        Err("the arm `a` is named twice, give each its own name".to_owned())
    );
}

#[test]
fn an_unsound_table_is_not_read() {
    let cases = [
        (
            "reversed",
            r#"[{"name":"a","stack":[{"start":5,"end":5}]}]"#,
            "the arm `a` holds the slots 5..5, which is no range within 0..100000",
        ),
        (
            "behind_the_end",
            r#"[{"name":"a","stack":[{"start":5,"end":100001}]}]"#,
            "the arm `a` holds the slots 5..100001, which is no range within 0..100000",
        ),
        (
            "overlap",
            r#"[{"name":"a","stack":[{"start":0,"end":9}]},{"name":"b","stack":[{"start":8,"end":9}]}]"#,
            "the slot 8 belongs to two ranges, the last of them of the arm `b`",
        ),
        (
            "twice",
            r#"[{"name":"a","stack":[]},{"name":"a","stack":[]}]"#,
            "the arm `a` is named twice, give each its own name",
        ),
    ];
    for (name, json, expected) in cases {
        let error = serde_json::from_str::<SlotTable>(json)
            .unwrap_err()
            .to_string();
        assert_eq!(error, expected, "{name}");
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod properties {
    use proptest::prelude::*;

    use super::*;

    /// Some of six arms in any order, with slots that fit.
    fn arms() -> impl Strategy<Value = Vec<(String, u32)>> {
        let names = Just(vec!["a", "b", "c", "d", "e", "f"]).prop_shuffle();
        (
            names,
            proptest::collection::vec(0..=SLOTS, 0..=6),
            any::<bool>(),
        )
            .prop_map(|(names, cuts, full)| {
                // Differences of sorted cuts are shares that sum to at most all slots.
                let mut cuts = cuts;
                cuts.sort_unstable();
                if full && let Some(last) = cuts.last_mut() {
                    *last = SLOTS;
                }
                let lower = [0].into_iter().chain(cuts.clone());
                let slots = cuts.iter().zip(lower).map(|(upper, lower)| upper - lower);
                names.into_iter().map(str::to_owned).zip(slots).collect()
            })
    }

    /// The name of the owner of every slot.
    fn owners<'a>(table: &SlotTable, wanted: &'a [(String, u32)]) -> Vec<Option<&'a str>> {
        let ranges = table.ranges();
        (0..SLOTS)
            .map(|slot| {
                lookup(&ranges, Slot::new(slot).unwrap()).map(|arm| wanted[arm as usize].0.as_str())
            })
            .collect()
    }

    fn slots_of(wanted: &[(String, u32)], name: &str) -> u32 {
        wanted
            .iter()
            .find(|(other, _)| other == name)
            .map_or(0, |(_, slots)| *slots)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn every_step_moves_the_lower_bound(steps in proptest::collection::vec(arms(), 1..6)) {
            let mut before: Option<(SlotTable, Vec<(String, u32)>)> = None;
            for wanted in steps {
                let table = SlotTable::plan(before.as_ref().map(|(table, _)| table), &wanted).unwrap();
                let ranges = table.ranges();
                prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start
                    || (pair[0].end == pair[1].start && pair[0].arm != pair[1].arm)));
                let now = owners(&table, &wanted);
                for (name, slots) in &wanted {
                    prop_assert_eq!(now.iter().filter(|owner| **owner == Some(name)).count(), *slots as usize);
                }
                if let Some((table, old)) = &before {
                    let then = owners(table, old);
                    let moved = then.iter().zip(&now).filter(|(then, now)| then != now).count();
                    let change = |from: &[(String, u32)], to: &[(String, u32)]| -> u32 {
                        from.iter().map(|(name, slots)| slots.saturating_sub(slots_of(to, name))).sum()
                    };
                    let bound = change(old, &wanted).max(change(&wanted, old));
                    prop_assert_eq!(moved, bound as usize);
                }
                // A restart between any two steps changes nothing.
                let stored = serde_json::to_string(&table).unwrap();
                let table: SlotTable = serde_json::from_str(&stored).unwrap();
                before = Some((table, wanted));
            }
        }

        #[test]
        fn an_arm_that_grows_and_shrinks_has_what_it_had(
            start in arms(), grown in 0..=SLOTS, steps in proptest::collection::vec(0..=SLOTS, 0..4),
        ) {
            let Some((name, first)) = start.first().cloned() else { return Ok(()) };
            let others: u32 = start.iter().skip(1).map(|(_, slots)| slots).sum();
            let grown = first.max(grown.min(SLOTS - others));
            let mut wanted = start.clone();
            let original = SlotTable::plan(None, &start).unwrap();
            let mut table = original.clone();
            // Up and down at or above where it began, then back to where it began.
            for step in [grown].into_iter().chain(steps).chain([first]) {
                wanted[0].1 = step.clamp(first, grown);
                table = SlotTable::plan(Some(&table), &wanted).unwrap();
            }
            let had: Vec<_> = owners(&original, &start);
            let has: Vec<_> = owners(&table, &wanted);
            prop_assert!(had.iter().zip(&has).all(|(had, has)| (*had == Some(&name)) == (*has == Some(&name))));
        }
    }
}
