//! What the metrics are told of releases.

use super::*;

impl Fixture {
    /// As at `/metrics`.
    fn metrics(&self) -> String {
        self.engine.show();
        self.engine.metrics.text(crate::metrics::Now {
            at: self.engine.now(),
            board: self.handle.board(),
            ..crate::metrics::Now::nothing()
        })
    }

    fn says(&self, lines: &[&str]) {
        let text = self.metrics();
        for line in lines {
            assert!(
                text.lines().any(|it| it == *line),
                "{line} is not in\n{text}"
            );
        }
    }
}

#[tokio::test]
async fn moves_are_counted_and_timed_and_end_with_the_release() {
    let mut fixture = Fixture::new().await;
    fixture.pass(Millis::from_secs(3));
    fixture.says(&[
        r#"ombre_release_state{service="shop",state="ramping"} 1"#,
        r#"ombre_release_share_ratio{service="shop",version="v2"} 0.1"#,
        r#"ombre_release_state_age_seconds{service="shop"} 3.0"#,
        r#"ombre_release_transitions_total{service="shop",to="failed_back"} 0"#,
    ]);
    fixture.order(ROLLBACK).await.unwrap();
    fixture.order(Command::Pause).await.unwrap();
    fixture.pass(Millis::from_secs(2));
    let moved = [
        r#"ombre_release_state{service="shop",state="failed_back"} 1"#,
        r#"ombre_release_share_ratio{service="shop",version="v2"} 0.0"#,
        r#"ombre_release_state_age_seconds{service="shop"} 2.0"#,
        r#"ombre_release_held{service="shop",by="paused"} 1"#,
    ];
    fixture.says(&moved);
    fixture.says(&[
        r#"ombre_release_transitions_total{service="shop",to="failed_back"} 1"#,
        // It was a person, and no trigger.
        r#"ombre_release_trips_total{service="shop",trigger="outage"} 0"#,
    ]);
    // An order alone is no move, and a restart is none either.
    let mut fixture = fixture.restart(10).await;
    fixture.says(&moved);
    let publisher = Arc::clone(&fixture.engine.publisher);
    publisher.put_policy(crate::sample::compiled("canary"));
    fixture.engine.tick().await;
    assert!(!fixture.metrics().contains(r#"service="shop""#), "gone");
}

#[tokio::test]
async fn an_alert_and_what_cannot_be_kept_are_counted() {
    let mut fixture = Fixture::new().await;
    // Nobody answers for a minute.
    for _ in 0..62 {
        fixture.pass(Millis::from_secs(1));
        fixture.engine.tick().await;
    }
    fixture.says(&[
        r#"ombre_release_alerts_total{service="shop",alert="evidence_unknown"} 1"#,
        r#"ombre_release_held{service="shop",by="unknown evidence"} 1"#,
        "ombre_store_saved 1",
        "ombre_store_errors_total 0",
    ]);
    let db = Connection::open(fixture.dir.path().join("ombre.db")).unwrap();
    db.execute_batch("ALTER TABLE releases RENAME TO away")
        .unwrap();
    fixture.order(ROLLBACK).await.unwrap_err();
    fixture.says(&["ombre_store_saved 0", "ombre_store_errors_total 1"]);
}
