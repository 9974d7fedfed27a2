use std::sync::Arc;

use ombre_policy::duration::{Millis, Moment};
use ombre_policy::release::machine::{
    Alert, Cause, Phase, PhaseName, Release, Transition, WriteOwner,
};
use ombre_policy::release::share::Percent;
use ombre_policy::release::triggers::Trigger;

use super::*;
use crate::engine::{ALERTS, Board, HOLDS, Measured, ServiceView};
use crate::evidence::SourceStatus;
use crate::nodes::{Behind, Census};

const AT: Moment = Moment::from_unix_millis(100_000);

fn release(service: &str, held_by: &[&'static str], measured: Measured) -> ServiceView {
    let state = Release::begin(Percent::new(10).unwrap(), Percent::FULL, AT);
    ServiceView {
        service: service.to_owned(),
        candidate: "v2".to_owned(),
        stable: "v1".to_owned(),
        phase: PhaseName::FailedBack,
        share: Percent::ZERO,
        writes: WriteOwner::Fallback,
        held_by: held_by.to_vec(),
        next: String::new(),
        unconfirmed: Vec::new(),
        judgement: None,
        state,
        measured,
    }
}

fn measured() -> Measured {
    let mut measured = Measured::since(AT.before(Millis::from_secs(99)));
    let phase = |cause| Phase::FailedBack {
        since: AT,
        until: AT,
        cause,
    };
    let transition = |from, to| Transition {
        at: AT.before(Millis::from_secs(2)),
        from,
        to,
        from_share: Percent::FULL,
        to_share: Percent::ZERO,
        turn: Default::default(),
    };
    let (ramping, back) = (PhaseName::Ramping, PhaseName::FailedBack);
    let outage = phase(Cause::Trigger(Trigger::Outage));
    measured.transition(&transition(ramping, back), &outage);
    measured.transition(&transition(ramping, back), &phase(Cause::Operator));
    // The end of a drain is of the trip that began with its freeze.
    measured.transition(&transition(PhaseName::Draining, back), &outage);
    measured.alert(Alert::SharedFault(Trigger::Score));
    measured.share = 0.005;
    measured
}

fn source(url: &str, answered: Option<Moment>, error: Option<&str>) -> SourceStatus {
    SourceStatus {
        url: url.to_owned(),
        proxies: 1,
        answered,
        error: error.map(str::to_owned),
    }
}

#[test]
fn everything_that_stands_somehow_is_told_with_all_of_its_labels() {
    let metrics = Metrics::default();
    metrics.webhook("https://hooks.example.com");
    metrics.delivered("https://hooks.example.com", Delivery::Missed, 7);
    metrics.order(
        ombre_policy::release::machine::Command::Pause,
        Ordered::Refused,
    );
    metrics.store_failed();
    let behind = Behind {
        nodes: 2,
        longest: Duration::from_millis(1500),
    };
    let board = Board {
        services: vec![
            release("shop", &["locked", "fallback's breaker"], measured()),
            release("cart", &[], Measured::since(AT)),
        ],
        clusters: Vec::new(),
        sources: vec![
            source("http://a/", Some(AT.before(Millis::new(500))), None),
            source("http://b/", None, Some("no answer")),
            source("http://c/", Some(AT), Some("some of it is missing")),
        ],
        store_error: Some("full".to_owned()),
    };
    let text = metrics.text(Now {
        at: AT,
        ready: true,
        refused: true,
        polls_waiting: 4,
        census: Census {
            live: 3,
            silent: 1,
            refusing: 1,
            policy: behind,
            decisions: Behind::default(),
        },
        board: Arc::new(board),
    });
    for line in [
        "ombre_ready 1",
        "ombre_policy_refused 1",
        "ombre_store_saved 0",
        "ombre_store_errors_total 1",
        "ombre_polls_waiting 4",
        "ombre_nodes 3",
        "ombre_nodes_silent 1",
        "ombre_nodes_refusing 1",
        r#"ombre_nodes_behind{kind="policy"} 2"#,
        r#"ombre_nodes_behind_seconds{kind="policy"} 1.5"#,
        r#"ombre_nodes_behind_seconds{kind="decisions"} 0.0"#,
        r#"ombre_evidence_up{source="http://a/"} 1"#,
        r#"ombre_evidence_up{source="http://b/"} 0"#,
        r#"ombre_evidence_up{source="http://c/"} 0"#,
        r#"ombre_evidence_age_seconds{source="http://a/"} 0.5"#,
        r#"ombre_release_state{service="shop",state="failed_back"} 1"#,
        r#"ombre_release_state{service="shop",state="stable"} 0"#,
        r#"ombre_release_held{service="shop",by="locked"} 1"#,
        r#"ombre_release_held{service="shop",by="fallback's breaker"} 1"#,
        r#"ombre_release_held{service="cart",by="locked"} 0"#,
        r#"ombre_release_share_ratio{service="shop",version="v2"} 0.005"#,
        r#"ombre_release_state_age_seconds{service="shop"} 2.0"#,
        r#"ombre_release_transitions_total{service="shop",to="failed_back"} 3"#,
        r#"ombre_release_transitions_total{service="cart",to="aborted"} 0"#,
        r#"ombre_release_trips_total{service="shop",trigger="outage"} 1"#,
        r#"ombre_release_trips_total{service="shop",trigger="score"} 0"#,
        r#"ombre_release_alerts_total{service="shop",alert="shared_fault"} 1"#,
        r#"ombre_orders_total{command="pause",result="refused"} 1"#,
        r#"ombre_orders_total{command="set_weight",result="followed"} 0"#,
        r#"ombre_webhook_deliveries_total{webhook="https://hooks.example.com",result="missed"} 7"#,
        r#"ombre_webhook_deliveries_total{webhook="https://hooks.example.com",result="given_up"} 0"#,
        r#"ombre_policy_loads_total{result="refused"} 0"#,
        r#"ombre_xds_messages_total{resource="cds",message="nack"} 0"#,
    ] {
        assert!(
            text.lines().any(|it| it == line),
            "{line} is not in\n{text}"
        );
    }
    assert!(text.ends_with("# EOF\n"));
    assert_eq!(text.matches("# EOF").count(), 1);
    assert!(!text.contains("ombre_evidence_age_seconds{source=\"http://b/\"}"));
    let count = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!(count("ombre_release_state{service=\"cart\""), 8);
    assert_eq!(count("ombre_release_held{service=\"cart\""), HOLDS.len());
    let alerts = count("ombre_release_alerts_total{service=\"cart\"");
    assert_eq!(alerts, ALERTS.len());
}
