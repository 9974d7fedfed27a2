//! What can go wrong over xDS, under load: a controller that is killed anywhere, resources that Envoy
//! refuses, certificates that do not fit. No request is lost, and what is wrong is said.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ombre_tests::authority::Authority;
use ombre_tests::binaries;
use ombre_tests::client::Ask;
use ombre_tests::envoy::Listeners;
use ombre_tests::feed::{self, Feed};
use ombre_tests::fleet::{InForce, join, node, of_stream, settles, takes, takes_other};
use ombre_tests::load::{Load, Shot};
use ombre_tests::poll::{SOON, eventually};
use ombre_tests::stack::{Setup, Stack};
use ombre_tests::upstream::Upstream;
use ombre_tests::with_every_xds;
use tokio::time::sleep;

const ENVOY: &str = "envoy-1";
const CONNECTIONS: usize = 4;
const PACE: Duration = Duration::from_millis(2);
const TIMEOUT: Duration = Duration::from_secs(15);

/// A service of these versions, each with a cluster of its own, and the first of them for everybody.
fn services(versions: &[&str]) -> String {
    let default = versions.first().copied().unwrap_or_default();
    let versions = versions
        .iter()
        .map(|version| format!("{{ name: {version}, cluster: demo_{version} }}"));
    let versions: Vec<String> = versions.collect();
    format!(
        "apiVersion: ombre/v1\nservices:\n  - name: shop\n    routes: [{{ name: pages, path: \"/shop/{{*rest}}\" }}]\n    \
         versions: [{}]\n    default: {default}\n",
        versions.join(", ")
    )
}

/// The policy of one version alone.
fn only(stack: &Stack, version: &str) -> String {
    let upstream = if version == "v1" {
        &stack.v1
    } else {
        &stack.v2
    };
    let cluster = format!("demo_{version}");
    let listener = feed::listener("traffic", stack.envoy.address(), &cluster, TIMEOUT);
    let clusters = feed::clusters(&[(&cluster, upstream.address())]);
    format!("{}{clusters}listeners:\n{listener}", services(&[version]))
}

fn load(stack: &Stack) -> Result<Load> {
    let shots = vec![
        Shot::new("decided", Ask::get("/shop/a"), None),
        Shot::new("default", Ask::get("/elsewhere"), None),
    ];
    Load::start(stack.envoy.address(), CONNECTIONS, PACE, shots)
}

/// How often the controller is killed; `OMBRE_ROUNDS` asks for more.
fn rounds() -> u64 {
    let asked = std::env::var("OMBRE_ROUNDS").ok();
    asked.and_then(|asked| asked.parse().ok()).unwrap_or(12)
}

/// At each moment of a swap, and in every other round with another swap that it finds when it is back.
async fn a_controller_killed_anywhere_in_a_swap_loses_nothing(feed: Feed) -> Result<()> {
    let policy = services(&["v1", "v2"]);
    Setup::new(&policy)
        .feed(feed)
        .run(async |stack| {
            settles(&stack.controller, ENVOY).await?;
            let load = load(stack)?;
            for (round, version) in (0..rounds()).zip(["v1", "v2"].into_iter().cycle()) {
                let other = if version == "v1" { "v2" } else { "v1" };
                stack.write_policy(only(stack, version).as_bytes())?;
                sleep(Duration::from_millis(round * 7 % 50)).await;
                stack.controller.kill()?;
                if round % 3 > 0 {
                    stack.write_policy(only(stack, other).as_bytes())?;
                }
                stack.controller.restart()?;
                stack.controller.healthy().await?;
                let settled = settles(&stack.controller, ENVOY).await;
                settled.with_context(|| format!("round {round}"))?;
            }
            let report = load.stop().await?;
            println!("{feed:?}: {} kills: {}", rounds(), report.line());
            report.check()?;
            ensure!(report.versions.len() == 2, "{}", report.line());
            Ok(())
        })
        .await
}

/// What Envoy refuses, and a piece of what it says to it.
fn unfit(stack: &Stack) -> [(&'static str, &'static str, String); 3] {
    let good = only(stack, "v1");
    let listener = |address: &str, tls: &str| {
        format!(
            "{good}  - {{ name: unfit, address: \"{address}\", default_cluster: demo_v1{tls} }}\n"
        )
    };
    let tls = ", tls: { ca: /nowhere.pem, sni: a.b } }\nlisteners:";
    [
        ("lds", "192.0.2.1", listener("192.0.2.1:1", "")),
        (
            "lds",
            "/nowhere.pem",
            listener(
                &stack.controller.address().to_string(),
                ", tls: { cert: /nowhere.pem, key: /nowhere.pem }",
            ),
        ),
        (
            "cds",
            "/nowhere.pem",
            good.replacen(" }\nlisteners:", tls, 1),
        ),
    ]
}

async fn what_envoy_refuses_is_said_and_touches_no_traffic(feed: Feed) -> Result<()> {
    let policy = services(&["v1", "v2"]);
    Setup::new(&policy)
        .feed(feed)
        .run(async |stack| {
            settles(&stack.controller, ENVOY).await?;
            let load = load(stack)?;
            for (number, (kind, piece, text)) in unfit(stack).into_iter().enumerate() {
                stack.write_policy(text.as_bytes())?;
                let path = format!("types/{kind}/refused/text");
                eventually(SOON, "the refusal is known", async || {
                    let node = node(&stack.controller, ENVOY).await?;
                    let said = of_stream(&node, &path);
                    let stage = of_stream(&node, "stage");
                    ensure!(said.contains(piece) && stage == "held", "{node:#}");
                    Ok(())
                })
                .await
                .with_context(|| format!("case {number}: {text}"))?;
                let said = Command::new(binaries::ombre()?)
                    .args(["status", "--controller"])
                    .arg(format!("http://{}", stack.controller.address()))
                    .output()?;
                let said = String::from_utf8_lossy(&said.stdout);
                let line = format!("{ENVOY} refuses {kind}");
                ensure!(said.contains(&line) && said.contains(piece), "{said}");
                let log = stack.controller.process().log();
                ensure!(log.contains("xds push refused by envoy"), "not in the log");
                let (_, metrics) = stack.controller.text("/metrics").await?;
                let label = format!("resource=\"{kind}\"");
                let counted = metrics.lines().any(|line| {
                    let nack = line.contains(&label) && line.contains("nack");
                    line.contains("xds_messages") && nack && !line.ends_with(" 0")
                });
                ensure!(counted, "{metrics}");
                let before = InForce::now(&stack.controller).await?;
                stack.write_policy(only(stack, "v2").as_bytes())?;
                takes(&stack.controller, ENVOY, before).await?;
                let before = InForce::now(&stack.controller).await?;
                stack.write_policy(only(stack, "v1").as_bytes())?;
                takes(&stack.controller, ENVOY, before).await?;
            }
            let report = load.stop().await?;
            println!("{feed:?}: {}", report.line());
            report.check()
        })
        .await
}

/// The filter's code is not where the controller says: the filter before goes on.
async fn code_that_is_not_there_leaves_the_filter_before_in_place(feed: Feed) -> Result<()> {
    let policy = services(&["v1", "v2"]);
    Setup::new(&policy)
        .feed(feed)
        .run(async |stack| {
            settles(&stack.controller, ENVOY).await?;
            let load = load(stack)?;
            stack.controller.kill()?;
            stack
                .controller
                .change_argument("--xds-wasm", "/nowhere.wasm")?;
            stack.controller.restart()?;
            stack.controller.healthy().await?;
            eventually(SOON, "the refusal is known", async || {
                let node = node(&stack.controller, ENVOY).await?;
                let said = of_stream(&node, "types/ecds/refused/text");
                ensure!(said.contains("/nowhere.wasm"), "{node:#}");
                Ok(())
            })
            .await?;
            let asked = Ask::get("/shop/a").header("x-api-version", "2");
            stack
                .on_every_worker(&asked, |answer| {
                    ensure!(answer.echo()?.version == "v2", "v1 serves");
                    Ok(())
                })
                .await?;
            stack.controller.kill()?;
            let wasm = binaries::wasm()?.display().to_string();
            stack.controller.change_argument("--xds-wasm", &wasm)?;
            stack.controller.restart()?;
            stack.controller.healthy().await?;
            settles(&stack.controller, ENVOY).await?;
            load.stop().await?.check()
        })
        .await
}

/// Add v3, move v2's host, remove v1.
async fn versions_come_move_and_go(feed: Feed) -> Result<()> {
    let policy = services(&["v1", "v2"]);
    let any = "127.0.0.1:0".parse()?;
    let (v3, moved) = (
        Upstream::start("v3", any).await?,
        Upstream::start("v2", any).await?,
    );
    Setup::new(&policy)
        .feed(feed)
        .run(async |stack| {
            settles(&stack.controller, ENVOY).await?;
            let load = load(stack)?;
            let address = stack.envoy.address();
            let asks = |version: &str| Ask::get("/shop/a").header("x-api-version", version);
            let all = ["v1", "v2", "v3"].as_slice();
            let (a1, a2, a3) = (stack.v1.address(), stack.v2.address(), v3.address());
            let new = moved.address();
            for (what, versions, hosts) in [
                (
                    "v3 comes",
                    all,
                    vec![("demo_v1", a1), ("demo_v2", a2), ("demo_v3", a3)],
                ),
                (
                    "v2 moves",
                    all,
                    vec![("demo_v1", a1), ("demo_v2", new), ("demo_v3", a3)],
                ),
                (
                    "v1 goes",
                    &["v2", "v3"],
                    vec![("demo_v2", new), ("demo_v3", a3)],
                ),
            ] {
                let default = hosts.first().map_or("", |(name, _)| *name);
                let listener = feed::listener("traffic", address, default, TIMEOUT);
                let clusters = feed::clusters(&hosts);
                let text = format!("{}{clusters}listeners:\n{listener}", services(versions));
                let (before, envoy) = (
                    InForce::now(&stack.controller).await?,
                    node(&stack.controller, ENVOY).await?,
                );
                stack.write_policy(text.as_bytes())?;
                // Hosts alone are no new policy.
                let taken = match what {
                    "v2 moves" => takes_other(&stack.controller, ENVOY, "eds", &envoy)
                        .await
                        .map(drop),
                    _ => takes(&stack.controller, ENVOY, before).await.map(drop),
                };
                taken.context(what)?;
                let served = stack.ask(&asks("3")).await?.echo()?.version;
                ensure!(served == "v3", "{what}: {served} serves");
            }
            stack.ask(&asks("2")).await?;
            ensure!(moved.counts().total > 0, "the moved host got nothing");
            let report = load.stop().await?;
            println!("{feed:?}: {}", report.line());
            report.check()
        })
        .await
}

/// `nodes:` of a listener says who gets it.
async fn envoys_of_two_clusters_get_different_listeners(feed: Feed) -> Result<()> {
    Stack::fed(feed, &services(&["v1", "v2"]), async |stack| {
        settles(&stack.controller, ENVOY).await?;
        let inner = Listeners::free()?;
        let (edge, address) = (stack.envoy.address(), inner.traffic.address());
        let hosts = [("demo_v1", stack.v1.address()), ("demo_v2", stack.v2.address())];
        let text = format!(
            "{}{}listeners:\n  - {{ name: traffic, address: \"{edge}\", default_cluster: demo_v1, nodes: {{ cluster: edge }} }}\n  \
             - {{ name: inside, address: \"{address}\", default_cluster: demo_v2, nodes: {{ cluster: inner }} }}\n",
            services(&["v1", "v2"]),
            feed::clusters(&hosts)
        );
        let load = load(stack)?;
        let before = InForce::now(&stack.controller).await?;
        stack.write_policy(text.as_bytes())?;
        takes(&stack.controller, ENVOY, before).await?;
        let mut other = join(stack, feed, "envoy-2", inner, &["--cluster", "inner"])?;
        other.ready().await?;
        settles(&stack.controller, "envoy-2").await?;
        let answer = ombre_tests::client::ask(address, &Ask::get("/elsewhere")).await?;
        ensure!(answer.echo()?.version == "v2", "not the inner listener");
        for (envoy, due) in [(&stack.envoy, "traffic"), (&other, "inside")] {
            let other = if due == "traffic" { "inside" } else { "traffic" };
            let served = envoy.stats(&format!(r"^http\.({due}|{other})\.downstream_rq_total$")).await?;
            ensure!(served.len() == 1 && served.keys().all(|name| name.contains(due)), "{served:?}");
        }
        load.stop().await?.check()
    })
    .await
}

/// Nobody gets in who does not show a fitting certificate, and nobody who is in notices.
async fn certificates_let_in_whom_they_name(feed: Feed) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (own, foreign) = (Authority::new()?, Authority::new()?);
    fs::write(path("ca.pem"), own.pem())?;
    own.issue(dir.path(), "server", "ombre")?;
    own.issue(dir.path(), "good", ENVOY)?;
    own.issue_expired(dir.path(), "expired", "expired")?;
    own.issue(dir.path(), "wrong", "somebody-else")?;
    foreign.issue(dir.path(), "foreign", "foreign")?;
    let (ca, cert, key) = (path("ca.pem"), path("server.pem"), path("server.key"));
    let serving = [
        "--xds-tls-cert",
        &cert,
        "--xds-tls-key",
        &key,
        "--xds-tls-client-ca",
        &ca,
    ];
    let (good, good_key) = (path("good.pem"), path("good.key"));
    let setup = Setup::new(&services(&["v1", "v2"]))
        .feed(feed)
        .arguments(&serving)
        .bootstrap(&["--ca", &ca, "--cert", &good, "--key", &good_key]);
    setup
        .run(async |stack| {
            settles(&stack.controller, ENVOY).await?;
            let load = load(stack)?;
            let mut refused = Vec::new();
            for (name, said) in [
                ("expired", "xds connection refused"),
                ("foreign", "xds connection refused"),
                ("absent", "xds connection refused"),
                ("wrong", "certificate is not this node's"),
            ] {
                let seen = stack.controller.process().log().matches(said).count();
                let (cert, key) = (path(&format!("{name}.pem")), path(&format!("{name}.key")));
                let mut more = vec!["--ca", ca.as_str()];
                if name != "absent" {
                    more.extend(["--cert", &cert, "--key", &key]);
                }
                let mut envoy = join(stack, feed, name, Listeners::free()?, &more)?;
                let process = stack.controller.process();
                eventually(SOON, "the controller refuses it", async || {
                    let now = process.log().matches(said).count();
                    ensure!(now > seen, "{name} is not refused");
                    Ok(())
                })
                .await
                .inspect_err(|_| eprintln!("{}", envoy.process().log_tail()))?;
                ensure!(
                    node(&stack.controller, name).await.is_err(),
                    "{name} is let in"
                );
                if name == "foreign" {
                    refused.push(envoy);
                }
            }
            // What is on the disk counts while everything runs on: the other authority is let in too.
            let both = own.pem() + &foreign.pem();
            own.issue(dir.path(), "server", "ombre")?;
            fs::write(&ca, both)?;
            eventually(
                SOON,
                "the Envoy of the other authority is let in",
                async || node(&stack.controller, "foreign").await.map(drop),
            )
            .await?;
            let before = InForce::now(&stack.controller).await?;
            stack.write_policy(only(stack, "v2").as_bytes())?;
            takes(&stack.controller, ENVOY, before).await?;
            let report = load.stop().await?;
            println!("{feed:?}: {}", report.line());
            report.check()
        })
        .await
}

with_every_xds!(
    a_controller_killed_anywhere_in_a_swap_loses_nothing,
    what_envoy_refuses_is_said_and_touches_no_traffic,
    code_that_is_not_there_leaves_the_filter_before_in_place,
    versions_come_move_and_go,
    envoys_of_two_clusters_get_different_listeners,
    certificates_let_in_whom_they_name,
);
