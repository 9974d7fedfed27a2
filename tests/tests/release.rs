//! The release loop on a real Envoy: a bad candidate loses its traffic, one fault of both moves
//! nothing, missing evidence moves nothing, and a healed candidate comes back step by step. Windows
//! and thresholds are shortened by the policy alone.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ombre_tests::client::Ask;
use ombre_tests::feed::Feed;
use ombre_tests::load::{Load, Report};
use ombre_tests::poll::eventually;
use ombre_tests::release::{
    CONNECTIONS, LONG, PACE, held, hold, loaded, order, phase, release, text, transitions, users,
};
use ombre_tests::stack::{Setup, Stack};
use ombre_tests::upstream::Faults;
use ombre_tests::with_every_feed;
use serde_json::{Value, json};

fn policy(weight: u8, more: &str) -> String {
    format!(
        r#"apiVersion: ombre/v1
services:
  - name: shop
    routes: [{{ name: pages, path: "/shop/{{*rest}}" }}]
    versions: [{{ name: v1, cluster: demo_v1 }}, {{ name: v2, cluster: demo_v2 }}]
    default: v1
    unit: [{{ header: x-user-id }}]
    verification: open
    rollout: {{ candidate: v2, weight: {weight}, steps: [5, 25, 50, 100], hold: 1s }}
    degrade:
      fallback: v1
      outage: {{ requests: 10 }}
      sustained: {{ for: 2s, latency: 200ms, slow: 0.05, errors: 0.01 }}
      evidence: {{ interval: 250ms, judge: 500ms, short: 6s, window: 6s, longest: 12s, stale: 3s }}
      guards: {{ cooldown: 2s, max_cooldown: 4s, trips_per_day: 9, ask_after: 5m, {more} }}
      verify: {{ hold: 1s, requests: 5 }}
"#
    )
}

/// Breaks v2, waits for the fail-back, and returns what the clients saw and what it was caused by.
async fn degraded_by(feed: Feed, faults: Faults) -> Result<(Report, Value, Duration)> {
    let mut outcome = None;
    // Who waits longer than its clients hears of a timeout from nobody: here clients wait 10 s.
    let setup = Setup::new(&policy(50, ""))
        .feed(feed)
        .timeout(Duration::from_millis(500));
    let faulted = async |stack: &mut Stack| {
        hold(stack).await?;
        let load = loaded(stack).await?;
        stack.v2.set_faults(faults);
        let broken = Instant::now();
        order(stack, json!("resume")).await?;
        phase(stack, "failed_back").await?;
        let took = broken.elapsed();
        let last = transitions(stack).await?;
        let last = last
            .into_iter()
            .rfind(|entry| text(entry, "/detail/transition/to") == "failed_back")
            .context("no transition in the history")?;
        // From here on nobody reaches v2.
        eventually(LONG, "v2 gets no more requests", async || {
            stack.v2.reset_counts();
            let before = stack.v1.counts().total;
            eventually(LONG, "v1 serves", async || {
                ensure!(stack.v1.counts().total > before + 100, "not enough");
                Ok(())
            })
            .await?;
            let stray = stack.v2.counts().total;
            ensure!(stray == 0, "{stray} requests at v2");
            Ok(())
        })
        .await?;
        let report = load.stop().await?;
        println!("{took:.1?}: {}", report.line());
        outcome = Some((report, last, took));
        Ok(())
    };
    setup.run(faulted).await?;
    outcome.context("no outcome")
}

fn failed(report: &Report) -> u64 {
    let statuses = report.statuses.iter();
    let bad = statuses.filter(|(status, _)| **status >= 500);
    bad.map(|(_, count)| count).sum()
}

fn trigger(transition: &Value) -> &str {
    text(transition, "/detail/event/judged/verdict/fired")
}

async fn a_candidate_that_fails_at_once_is_taken_out_by_outage(feed: Feed) -> Result<()> {
    let faults = Faults {
        fail: 1.0,
        ..Faults::default()
    };
    let (report, transition, took) = degraded_by(feed, faults).await?;
    ensure!(trigger(&transition) == "outage", "{transition:#}");
    // Two ticks of 250 ms, and what collecting, pushing and a busy machine add.
    ensure!(took < Duration::from_secs(4), "took {took:?}");
    ensure!(
        failed(&report) > 0 && failed(&report) * 3 < report.sent,
        "{}",
        report.line()
    );
    Ok(())
}

async fn a_candidate_with_five_percent_errors_is_taken_out(feed: Feed) -> Result<()> {
    let faults = Faults {
        fail: 0.05,
        ..Faults::default()
    };
    let (report, transition, _) = degraded_by(feed, faults).await?;
    ensure!(trigger(&transition) == "sustained", "{transition:#}");
    ensure!(
        failed(&report) > 0 && failed(&report) * 20 < report.sent,
        "{}",
        report.line()
    );
    Ok(())
}

async fn a_slow_candidate_is_taken_out(feed: Feed) -> Result<()> {
    let faults = Faults {
        delay_ms: 400,
        ..Faults::default()
    };
    let (report, transition, _) = degraded_by(feed, faults).await?;
    ensure!(trigger(&transition) == "sustained", "{transition:#}");
    ensure!(
        failed(&report) == 0 && report.lost == 0,
        "{}",
        report.line()
    );
    Ok(())
}

async fn a_hanging_candidate_is_taken_out(feed: Feed) -> Result<()> {
    let faults = Faults {
        hang: 1.0,
        ..Faults::default()
    };
    let (report, transition, _) = degraded_by(feed, faults).await?;
    // How its timeouts fall on the ticks decides which of the two is first.
    let by = trigger(&transition);
    ensure!(["outage", "sustained"].contains(&by), "{transition:#}");
    let timeouts = report.statuses.get(&504).copied().unwrap_or(0);
    ensure!(
        timeouts > 0 && timeouts == failed(&report),
        "{}",
        report.line()
    );
    Ok(())
}

async fn a_fault_of_both_versions_moves_nothing(feed: Feed) -> Result<()> {
    Stack::fed(feed, &policy(50, ""), async |stack| {
        hold(stack).await?;
        let load = loaded(stack).await?;
        for upstream in [&stack.v1, &stack.v2] {
            upstream.set_faults(Faults {
                fail: 1.0,
                ..Faults::default()
            });
        }
        eventually(LONG, "the stable version is seen failing", async || {
            let now = release(stack).await?;
            let errors = now
                .pointer("/judgement/stable/errors")
                .and_then(Value::as_u64);
            ensure!(errors > Some(200), "{now:#}");
            Ok(())
        })
        .await?;
        order(stack, json!("resume")).await?;
        let now = eventually(LONG, "a shared fault is told", async || {
            let now = release(stack).await?;
            ensure!(held(&now, "shared fault"), "{now:#}");
            Ok(now)
        })
        .await?;
        ensure!(text(&now, "/phase") == "suspect", "{now:#}");
        ensure!(now.pointer("/share") == Some(&json!(50)), "{now:#}");
        eventually(LONG, "both breakers are open", async || {
            let now = stack.controller.json("/v1/clusters").await?;
            let of =
                |at: usize, field: &str| now.pointer(&format!("/clusters/{at}/{field}")).cloned();
            let names = [of(0, "cluster_name"), of(1, "cluster_name")];
            ensure!(
                names == [Some(json!("demo_v1")), Some(json!("demo_v2"))],
                "{now:#}"
            );
            let closed = Some(json!("closed"));
            ensure!(
                of(0, "state") != closed && of(1, "state") != closed,
                "{now:#}"
            );
            ensure!(
                of(0, "failure_rate").and_then(|rate| rate.as_u64()) > Some(900_000),
                "{now:#}"
            );
            Ok(())
        })
        .await?;
        let report = load.stop().await?;
        ensure!(report.versions.contains_key("v1"), "{}", report.line());
        let moved = transitions(stack).await?;
        let back = moved
            .iter()
            .any(|entry| text(entry, "/detail/transition/to") == "failed_back");
        ensure!(!back, "{moved:#?}");
        Ok(())
    })
    .await
}

async fn without_traffic_or_evidence_nothing_moves(feed: Feed) -> Result<()> {
    Stack::fed(feed, &policy(50, ""), async |stack| {
        let idle = eventually(LONG, "the release is seen idle", async || {
            let now = release(stack).await?;
            ensure!(text(&now, "/judgement/verdict") == "idle", "{now:#}");
            Ok(now)
        })
        .await?;
        ensure!(text(&idle, "/phase") == "ramping", "{idle:#}");
        stack.envoy.kill()?;
        let blind = eventually(LONG, "the evidence is unknown", async || {
            let now = release(stack).await?;
            ensure!(held(&now, "unknown evidence"), "{now:#}");
            Ok(now)
        })
        .await?;
        ensure!(
            blind.pointer("/share") == idle.pointer("/share"),
            "{blind:#}"
        );
        stack.envoy.restart()?;
        stack.envoy.ready().await?;
        eventually(LONG, "the evidence is back", async || {
            let now = release(stack).await?;
            ensure!(!held(&now, "unknown evidence"), "{now:#}");
            Ok(())
        })
        .await?;
        let moved = transitions(stack).await?;
        ensure!(moved.is_empty(), "{moved:#?}");
        // With it the loop goes on by itself.
        let load = Load::start(stack.envoy.address(), CONNECTIONS, PACE, users())?;
        let done = phase(stack, "stable").await?;
        ensure!(done.pointer("/share") == Some(&json!(100)), "{done:#}");
        load.stop().await?.check()
    })
    .await
}

async fn a_healed_candidate_is_verified_and_ramps_back_to_all(feed: Feed) -> Result<()> {
    Stack::fed(feed, &policy(50, ""), async |stack| {
        hold(stack).await?;
        let load = loaded(stack).await?;
        stack.v2.set_faults(Faults {
            fail: 1.0,
            ..Faults::default()
        });
        order(stack, json!("resume")).await?;
        phase(stack, "failed_back").await?;
        stack.v2.set_faults(Faults::default());
        phase(stack, "verifying").await?;
        let before = stack.v2.counts().headers.get("user").copied();
        let verify = Ask::get("/shop/a").header("x-stage", "v2");
        let done = eventually(LONG, "the candidate has everything again", async || {
            let answer = stack.ask(&verify).await?;
            ensure!(
                answer.echo()?.version == "v2",
                "verification does not reach v2"
            );
            let now = release(stack).await?;
            if text(&now, "/phase") == "verifying" {
                let users = stack.v2.counts().headers.get("user").copied();
                ensure!(users == before, "users reach v2 while it is verified");
            }
            ensure!(text(&now, "/phase") == "stable", "{now:#}");
            Ok(now)
        })
        .await?;
        ensure!(done.pointer("/share") == Some(&json!(100)), "{done:#}");
        load.stop().await?;
        let moved = transitions(stack).await?;
        let steps = moved.iter().map(|entry| {
            let to = text(entry, "/detail/transition/to").to_owned();
            let share = entry.pointer("/detail/transition/to_share");
            (to, share.and_then(Value::as_u64).unwrap_or(999))
        });
        let steps: Vec<(String, u64)> = steps.skip_while(|(to, _)| to != "failed_back").collect();
        let wanted = [
            ("failed_back", 0),
            ("verifying", 0),
            ("ramping", 5),
            ("ramping", 25),
            ("ramping", 50),
            ("ramping", 100),
            ("stable", 100),
        ];
        ensure!(
            steps == wanted.map(|(to, share)| (to.to_owned(), share)),
            "{steps:?}"
        );
        Ok(())
    })
    .await
}

with_every_feed!(
    a_candidate_that_fails_at_once_is_taken_out_by_outage,
    a_candidate_with_five_percent_errors_is_taken_out,
    a_slow_candidate_is_taken_out,
    a_hanging_candidate_is_taken_out,
    a_fault_of_both_versions_moves_nothing,
    without_traffic_or_evidence_nothing_moves,
    a_healed_candidate_is_verified_and_ramps_back_to_all,
);
