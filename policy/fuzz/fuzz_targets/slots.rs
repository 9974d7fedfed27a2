//! Sequences of plans with restarts between them: every step keeps what a slot table promises.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ombre_policy::hash::{SLOTS, Slot};
use ombre_policy::slots::{SlotTable, lookup};

/// Few names, so that arms stay, vanish and come back.
const NAMES: u8 = 8;
/// Owner of a slot that is free.
const FREE: u8 = NAMES;

/// A table and the names of its arms in order.
type Planned = (SlotTable, Vec<u8>);

fuzz_target!(|steps: Vec<Vec<(u8, u32)>>| {
    let mut before: Option<Planned> = None;
    for step in steps.iter().take(16) {
        let step: Vec<(u8, u32)> = step
            .iter()
            .take(9)
            .map(|(name, slots)| (name % NAMES, slots % (SLOTS + 2)))
            .collect();
        let wanted: Vec<(String, u32)> = step
            .iter()
            .map(|(name, slots)| (name.to_string(), *slots))
            .collect();
        let sum: u64 = step.iter().map(|(_, slots)| u64::from(*slots)).sum();
        let twice =
            (0..NAMES).any(|name| step.iter().filter(|(other, _)| *other == name).count() > 1);
        let planned = SlotTable::plan(before.as_ref().map(|(table, _)| table), &wanted);
        assert_eq!(planned.is_err(), twice || sum > u64::from(SLOTS));
        let Ok(planned) = planned else { continue };

        let mut behind = 0;
        for range in planned.ranges() {
            assert!(behind <= range.start && range.start < range.end && range.end <= SLOTS);
            behind = range.end;
        }
        let after = (planned, step.iter().map(|(name, _)| *name).collect());
        let moves = moves(before.as_ref(), &after);
        let sum = |chosen: &dyn Fn(u8, u8) -> bool| -> u32 {
            moves
                .iter()
                .filter(|(then, now, _)| chosen(*then, *now))
                .map(|(_, _, slots)| slots)
                .sum()
        };
        for (name, slots) in &step {
            assert_eq!(sum(&|_, now| now == *name), *slots);
        }
        let (mut lost, mut gained) = (0, 0);
        for name in 0..NAMES {
            let (then, now) = (sum(&|then, _| then == name), sum(&|_, now| now == name));
            lost += then.saturating_sub(now);
            gained += now.saturating_sub(then);
        }
        assert_eq!(sum(&|then, now| then != now), lost.max(gained));

        let stored = serde_json::to_vec(&after.0).expect("a table can be written");
        let read: SlotTable = serde_json::from_slice(&stored).expect("a table can be read back");
        assert_eq!(read, after.0);
        before = Some((read, after.1));
    }
});

/// Owner before, owner after and the number of slots, for each stretch of slots that neither table divides.
fn moves(before: Option<&Planned>, after: &Planned) -> Vec<(u8, u8, u32)> {
    let tables: Vec<_> = before
        .into_iter()
        .chain([after])
        .map(|(table, names)| (table.ranges(), names))
        .collect();
    let mut cuts: Vec<u32> = tables
        .iter()
        .flat_map(|(ranges, _)| ranges.iter().flat_map(|range| [range.start, range.end]))
        .collect();
    cuts.extend([0, SLOTS]);
    cuts.sort_unstable();
    cuts.dedup();
    let stretches = cuts.windows(2).map(|cut| {
        let slot = Slot::new(cut[0]).expect("it is below the last cut");
        let owner = |(ranges, names): &(Vec<_>, &Vec<u8>)| {
            lookup(ranges, slot).map_or(FREE, |arm| names[arm as usize])
        };
        let now = tables.last().map_or(FREE, owner);
        let then = if tables.len() == 2 {
            owner(&tables[0])
        } else {
            FREE
        };
        (then, now, cut[1] - cut[0])
    });
    stretches.collect()
}
