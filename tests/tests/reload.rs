//! A saved policy is in force at once, however it is saved, and no request is lost or misrouted
//! while it changes.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use anyhow::{Result, ensure};
use ombre_tests::client::Ask;
use ombre_tests::load::{Load, Shot};
use ombre_tests::poll::{SOON, eventually};
use ombre_tests::stack::{Stack, marked};
use tokio::time::{Instant, sleep_until};

const CHANGES: u32 = 300;
const LASTING: Duration = Duration::from_secs(30);
const CONNECTIONS: usize = 16;

/// A policy whose default, colors and number of routes differ from edit to edit, while what v1
/// and v2 are asked for by name stays.
fn policy(edit: u32) -> String {
    let default = if edit.is_multiple_of(2) { "v1" } else { "v2" };
    let routes: String = (0..edit % 7)
        .map(|number| format!("      - {{ name: more-{number}, path: /more/{number} }}\n"))
        .collect();
    format!(
        r#"apiVersion: ombre/v1
services:
  - name: shop
    routes:
      - {{ name: api, path: "/api/{{version}}/{{*rest}}" }}
      - {{ name: pages, path: "/shop/{{*rest}}" }}
{routes}    versions:
      - {{ name: v1, cluster: demo_v1, build_id: b{edit} }}
      - {{ name: v2, cluster: demo_v2, build_id: b{edit} }}
    default: {default}
    colors: {{ moving: {default}, canary-v2: v2 }}
"#
    )
}

#[tokio::test]
async fn three_hundred_changes_under_load_lose_and_misroute_nothing() -> Result<()> {
    Stack::with(&policy(0), async |stack| {
        let shots = vec![
            Shot::new(
                "accept-v1",
                Ask::get("/shop/a").header("accept", "application/vnd.api+v1"),
                Some("v1"),
            ),
            Shot::new(
                "accept-v2",
                Ask::get("/shop/a").header("accept", "application/vnd.api+v2"),
                Some("v2"),
            ),
            Shot::new("path-v1", Ask::get("/api/v1/a"), Some("v1")),
            Shot::new("path-v2", Ask::get("/api/v2/a"), Some("v2")),
            Shot::new(
                "color-v2",
                Ask::get("/shop/a").header("x-envoy-traffic-color", "canary-v2"),
                Some("v2"),
            ),
            Shot::new("no-route", Ask::get("/elsewhere"), Some("v1")),
            Shot::new("default", Ask::get("/shop/a"), None),
            Shot::new(
                "moving",
                Ask::get("/shop/a").header("x-envoy-traffic-color", "moving"),
                None,
            ),
        ];
        let mut workers = stack.envoy.worker_connections().await?;
        let load = Load::start(
            stack.envoy.address(),
            CONNECTIONS,
            Duration::from_millis(10),
            shots,
        )?;
        let start = Instant::now();
        for edit in 1..=CHANGES {
            // Every change is in force on every worker before the next one is saved.
            stack.change_policy_on(&policy(edit), &mut workers).await?;
            sleep_until(start + LASTING * edit / CHANGES).await;
        }
        let took = start.elapsed();
        let report = load.stop().await?;
        println!("{CHANGES} changes in {took:.1?}: {}", report.line());
        report.check()?;
        ensure!(took >= LASTING, "the load lasted {took:?} only");
        ensure!(report.sent > 5000, "too little load: {}", report.line());

        // The upstreams' own counts say the same.
        let counted = [&stack.v1, &stack.v2].map(|upstream| upstream.counts().headers);
        for (label, sent) in &report.labels {
            let [v1, v2] = counted
                .each_ref()
                .map(|counts| counts.get(label).copied().unwrap_or(0));
            ensure!(
                v1 + v2 == *sent,
                "{label}: {sent} sent, {v1} and {v2} arrived"
            );
            match label.rsplit_once('-').map(|(_, version)| version) {
                Some("v1" | "route") => ensure!(v2 == 0, "{label}: {v2} arrived at v2"),
                Some("v2") => ensure!(v1 == 0, "{label}: {v1} arrived at v1"),
                _ => ensure!(
                    v1 > 0 && v2 > 0,
                    "{label}: the changes changed nothing: {v1}, {v2}"
                ),
            }
        }
        let failed = stack
            .envoy
            .sum(r"^cluster\.demo_v[12]\.upstream_(rq_5xx|cx_connect_fail|rq_timeout)$")
            .await?;
        ensure!(failed == 0, "Envoy counts {failed} failures");
        Ok(())
    })
    .await
}

/// Waits until the default, which `policy` moves with every edit, serves.
async fn serves(stack: &Stack, version: &str) -> Result<()> {
    eventually(SOON, "the saved policy decides", async || {
        let echo = stack.ask(&Ask::get("/shop/a")).await?.echo()?;
        ensure!(
            echo.version == version,
            "{} serves, not {version}",
            echo.version
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_policy_is_in_force_however_it_is_saved() -> Result<()> {
    Stack::with(&policy(0), async |stack| {
        serves(stack, "v1").await?;
        let path = stack.policy_path().to_path_buf();
        let text = |edit| marked(&policy(edit), 0);

        fs::write(&path, text(1))?;
        serves(stack, "v2").await?;

        // Half of it is written, and the other half later: the half is never in force.
        let whole = text(2);
        let (first, _) = whole.split_at(whole.len() / 2);
        fs::write(&path, first)?;
        eventually(SOON, "the half policy is reported", async || {
            ensure!(stack.controller.last_error().await?.is_some(), "it is not");
            Ok(())
        })
        .await?;
        serves(stack, "v2").await?;
        fs::write(&path, &whole)?;
        serves(stack, "v1").await?;

        // By rename, as editors do, with the old file kept beside.
        fs::rename(&path, path.with_extension("yaml~"))?;
        fs::write(&path, text(3))?;
        serves(stack, "v2").await?;

        // As Kubernetes does: the file is a link through `..data`, which is swapped.
        let dir = path.parent().unwrap_or(&path).to_path_buf();
        for (number, edit, version) in [(1, 4, "v1"), (2, 5, "v2"), (3, 6, "v1")] {
            let real = dir.join(format!("..{number}"));
            fs::create_dir(&real)?;
            fs::write(real.join("policy.yaml"), text(edit))?;
            symlink(&real, dir.join("..tmp"))?;
            fs::rename(dir.join("..tmp"), dir.join("..data"))?;
            if number == 1 {
                fs::remove_file(&path)?;
                symlink("..data/policy.yaml", &path)?;
            } else {
                fs::remove_dir_all(dir.join(format!("..{}", number - 1)))?;
            }
            serves(stack, version).await?;
        }
        Ok(())
    })
    .await
}
