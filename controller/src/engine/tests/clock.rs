//! A machine whose clock is set while the controller runs, or while it does not.

use ombre_policy::release::machine::{Phase, WriteOwner};

use super::*;

const HOUR: Millis = Millis::from_secs(3600);
const SECOND: Millis = Millis::from_secs(1);

impl Fixture {
    fn phase(&self) -> Phase {
        self.engine.services["shop"].record.release.phase.clone()
    }

    async fn seconds(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.pass(SECOND);
            self.engine.tick().await;
        }
    }
}

#[tokio::test]
async fn a_clock_set_back_does_not_stop_the_loop() {
    let mut fixture = Fixture::new().await;
    fixture.seconds(3).await;
    let shown = fixture.engine.clock.wall();
    fixture.engine.clock.set(shown.before(HOUR));
    fixture.seconds(61).await;
    // Nobody answers for a minute, and it is noticed: each tick was judged.
    let alerts = fixture.history().into_iter();
    assert_eq!(alerts.filter(|(kind, _)| kind == "alert").count(), 1);
}

#[tokio::test]
async fn a_clock_that_is_set_moves_no_deadline() {
    let log = "{ sync_log: { apply_url: \"http://127.0.0.1:9/apply\" } }";
    for forth in [false, true] {
        let mut fixture = Fixture::with(log).await;
        fixture.order(ROLLBACK).await.unwrap();
        let shown = fixture.engine.clock.wall();
        let set = if forth {
            shown.after(HOUR)
        } else {
            shown.before(HOUR)
        };
        fixture.engine.clock.set(set);
        fixture.seconds(29).await;
        assert_eq!(fixture.shown().0, PhaseName::Freezing, "{forth}");
        fixture.seconds(1).await;
        assert_eq!(fixture.shown().0, PhaseName::Aborted, "{forth}");
    }
}

#[tokio::test]
async fn a_clock_set_back_between_two_runs_ends_a_freeze_and_a_cool_down_in_time() {
    let log = "{ sync_log: { apply_url: \"http://127.0.0.1:9/apply\" } }";
    let mut fixture = Fixture::with(log).await;
    fixture.order(ROLLBACK).await.unwrap();
    let shown = fixture.engine.clock.wall();
    fixture.engine.clock.set(shown.before(HOUR));
    let mut fixture = fixture.restart_with(10, log).await;
    assert_eq!(fixture.phase().owner(), WriteOwner::Nobody);
    fixture.seconds(30).await;
    assert_eq!(fixture.shown().0, PhaseName::Aborted);

    let mut fixture = Fixture::new().await;
    fixture.order(ROLLBACK).await.unwrap();
    fixture.seconds(1).await;
    let Phase::FailedBack { since, until, .. } = fixture.phase() else {
        panic!("not failed back");
    };
    let shown = fixture.engine.clock.wall();
    fixture.engine.clock.set(shown.before(HOUR));
    let fixture = fixture.restart(10).await;
    let Phase::FailedBack { until: after, .. } = fixture.phase() else {
        panic!("not failed back any more");
    };
    let left = after.since(fixture.engine.now());
    assert_eq!(left, until.since(since), "all of it again, and no hour");
}
