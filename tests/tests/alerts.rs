//! What an on-call team has: metrics that exist and are explained, and alerts that fire.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ombre_tests::poll::eventually;
use ombre_tests::ports::Port;
use ombre_tests::prometheus::{ALERTS, Prometheus};
use ombre_tests::release::{LONG, hold, loaded, order, phase, text};
use ombre_tests::stack::Setup;
use ombre_tests::upstream::Faults;
use ombre_tests::{binaries, http};
use serde_json::{Value, json};

const POLICY: &str = r#"apiVersion: ombre/v1
services:
  - name: shop
    routes: [{ name: pages, path: "/shop/{*rest}" }]
    versions: [{ name: v1, cluster: demo_v1 }, { name: v2, cluster: demo_v2 }]
    default: v1
    unit: [{ header: x-user-id }]
    rollout: { candidate: v2, weight: 50, steps: [5, 25, 50, 100], hold: 1s }
    degrade:
      sustained: { for: 2s, latency: 200ms, slow: 0.05, errors: 0.01 }
      evidence: { interval: 250ms, judge: 500ms, short: 6s, window: 6s, longest: 12s, stale: 3s }
      guards: { cooldown: 1m, max_cooldown: 2m, trips_per_day: 9, ask_after: 5m }
"#;

/// What is named like a metric and is none: a cookie, clusters and crates.
const OTHERS: [&str; 4] = ["ombre_controller", "ombre_policy", "ombre_uid", "ombre_xds"];

/// Every `ombre_..` in a text.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = text.split(|letter| !is_part(letter));
    let names = words.filter(|word| word.starts_with("ombre_"));
    names.map(str::to_owned).collect()
}

/// Each `.md` and `.yaml` in the documentation, and the README.
fn documents() -> Result<BTreeMap<String, String>> {
    let root = binaries::workspace();
    let mut paths = vec![root.join("README.md")];
    for dir in ["docs", "docs/decisions", "docs/prometheus"] {
        for entry in fs::read_dir(root.join(dir))? {
            paths.push(entry?.path());
        }
    }
    let is_text = |path: &Path| {
        let kind = path.extension().and_then(|kind| kind.to_str());
        matches!(kind, Some("md" | "yaml"))
    };
    paths.retain(|path| is_text(path));
    let read = |path: std::path::PathBuf| {
        let text = fs::read_to_string(&path)?;
        Ok((path.display().to_string(), text))
    };
    paths.into_iter().map(read).collect()
}

/// A page of metrics.
#[derive(Default)]
struct Page {
    /// Each family with its help.
    help: BTreeMap<String, String>,
    /// What each family is called in a query.
    families: BTreeSet<String>,
    /// What has a value.
    samples: BTreeSet<String>,
}

fn page(text: &str) -> Page {
    let mut page = Page::default();
    for line in text.lines() {
        if let Some((name, text)) = line
            .strip_prefix("# HELP ")
            .and_then(|line| line.split_once(' '))
        {
            page.help.insert(name.to_owned(), text.to_owned());
        } else if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|line| line.split_once(' '))
        {
            // OpenMetrics names the family of a counter without the end that its samples have.
            let counted = kind == "counter" && !name.ends_with("_total");
            let end = if counted { "_total" } else { "" };
            page.families.insert(format!("{name}{end}"));
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next();
            page.samples.extend(name.map(str::to_owned));
        }
    }
    page
}

#[tokio::test]
async fn every_metric_is_explained_and_every_name_in_the_docs_exists() -> Result<()> {
    let setup = Setup::new(POLICY).arguments(&["--webhook", "http://127.0.0.1:1/hook"]);
    setup
        .run(async |stack| {
            hold(stack).await?;
            let text = eventually(LONG, "one Envoy runs what is newest", async || {
                let (_, text) = stack.controller.text("/metrics").await?;
                for line in [
                    "ombre_nodes 1",
                    "ombre_nodes_behind{kind=\"policy\"} 0",
                    "ombre_nodes_behind{kind=\"decisions\"} 0",
                ] {
                    ensure!(text.lines().any(|it| it == line), "no `{line}` in\n{text}");
                }
                Ok(text)
            })
            .await?;
            let controller = page(&text);
            let url = format!("http://{}/stats/prometheus", stack.envoy.admin());
            let filter = http::client()?.get(url).send().await?.text().await?;
            let filter = page(&filter);
            let documents = documents()?;
            for (place, document) in &documents {
                for name in names(document) {
                    let pages = [&controller, &filter];
                    let known = |page: &&Page| {
                        page.families.contains(&name) || page.samples.contains(&name)
                    };
                    ensure!(
                        pages.iter().any(known) || OTHERS.contains(&name.as_str()),
                        "{place}: `{name}` is no metric\n{text}"
                    );
                }
            }
            let documented: BTreeSet<String> =
                documents.values().flat_map(|it| names(it)).collect();
            ensure!(controller.help.len() > 30, "{text}");
            for (family, help) in &controller.help {
                let words = help.split_whitespace().count();
                ensure!(words > 2 && help.ends_with('.'), "`{family}`: {help}");
                let explained = [family.clone(), format!("{family}_total")];
                ensure!(
                    explained.iter().any(|name| documented.contains(name)),
                    "`{family}` is not in the docs"
                );
            }
            // Each is there with a sample, also what has not happened yet.
            for name in &controller.families {
                let count = format!("{name}_count");
                let samples = &controller.samples;
                let sampled = samples.contains(name) || samples.contains(&count);
                ensure!(sampled, "`{name}` has no sample\n{text}");
            }
            Ok(())
        })
        .await
}

#[test]
fn the_alerts_pass_their_tests_and_each_has_one_and_stands_in_the_docs() -> Result<()> {
    let promtool = binaries::prometheus()?.with_file_name("promtool");
    let rules = binaries::workspace().join(ALERTS);
    let tests = rules.with_extension("test.yaml");
    let run = |arguments: [&str; 2], file: &Path| -> Result<()> {
        let ran = Command::new(&promtool).args(arguments).arg(file).output();
        let missing = || {
            format!(
                "`{}`, which comes with Prometheus, cannot be run",
                promtool.display()
            )
        };
        let ran = ran.with_context(missing)?;
        let said = [ran.stdout, ran.stderr].concat();
        ensure!(ran.status.success(), "{}", String::from_utf8_lossy(&said));
        Ok(())
    };
    run(["check", "rules"], &rules)?;
    run(["test", "rules"], &tests)?;
    let (rules, tests) = (fs::read_to_string(rules)?, fs::read_to_string(tests)?);
    let of = |text: &str, mark: &str| -> BTreeSet<String> {
        let lines = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix(mark));
        lines.map(str::to_owned).collect()
    };
    let alerts = of(&rules, "- alert: ");
    ensure!(alerts.len() > 10, "{alerts:?}");
    // Those that expect nothing are written in braces.
    let tested = of(&tests, "- alertname: ");
    ensure!(alerts == tested, "{alerts:?}\n{tested:?}");
    let docs = binaries::workspace().join("docs/operations.md");
    let docs = fs::read_to_string(docs)?;
    let words = docs.split(|letter: char| !letter.is_ascii_alphanumeric());
    let named = words.filter(|word| word.starts_with("Ombre"));
    let named: BTreeSet<String> = named.map(str::to_owned).collect();
    ensure!(alerts == named, "{alerts:?}\n{named:?}");
    Ok(())
}

/// The alerts of Prometheus, with their labels and their state.
async fn alerts(prometheus: &Prometheus) -> Result<Vec<Value>> {
    let mut answer = prometheus.json("/api/v1/alerts").await?;
    let alerts = answer.pointer_mut("/data/alerts").map(Value::take);
    serde_json::from_value(alerts.context("no alerts")?).context("no list of alerts")
}

#[tokio::test]
async fn a_candidate_with_five_percent_errors_raises_an_alert() -> Result<()> {
    let prometheus = async |stack: &mut ombre_tests::stack::Stack| {
        let port = Port::free()?;
        let controller = stack.controller.address();
        let envoys = [stack.envoy.admin()];
        let mut prometheus = Prometheus::with_alerts(port, &envoys, controller, stack.dir())?;
        prometheus.ready().await?;
        hold(stack).await?;
        let load = loaded(stack).await?;
        eventually(LONG, "both are scraped", async || {
            let targets = prometheus.json("/api/v1/targets?state=active").await?;
            let up = |at| text(&targets, &format!("/data/activeTargets/{at}/health")) == "up";
            ensure!(up(0) && up(1), "{targets:#}");
            Ok(())
        })
        .await?;
        eventually(LONG, "all is well", async || {
            let alerts = alerts(&prometheus).await?;
            ensure!(alerts.is_empty(), "{alerts:#?}");
            Ok(())
        })
        .await?;
        stack.v2.set_faults(Faults {
            fail: 0.05,
            ..Faults::default()
        });
        order(stack, json!("resume")).await?;
        phase(stack, "failed_back").await?;
        let tripped = Instant::now();
        let alert = eventually(LONG, "the alert fires", async || {
            let alerts = alerts(&prometheus).await?;
            let mut found = alerts.iter();
            let found = found.find(|it| text(it, "/labels/alertname") == "OmbreReleaseTripped");
            let found = found.with_context(|| format!("{alerts:#?}"))?;
            ensure!(text(found, "/state") == "firing", "{found:#}");
            Ok(found.clone())
        })
        .await?;
        println!("firing {:.1?} after the trip", tripped.elapsed());
        ensure!(text(&alert, "/labels/service") == "shop", "{alert:#}");
        ensure!(text(&alert, "/labels/trigger") == "sustained", "{alert:#}");
        load.stop().await?;
        Ok(())
    };
    Setup::new(POLICY).run(prometheus).await
}
