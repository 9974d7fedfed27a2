//! A cluster that Envoy cannot get ready: its name server takes questions and answers none. Decisions go
//! on meanwhile, and the cluster holds its policy up for seconds.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ombre_tests::binaries;
use ombre_tests::client::{Ask, ask};
use ombre_tests::envoy::{self, Config, Envoy, Launcher, Listeners};
use ombre_tests::feed::{self, Feed};
use ombre_tests::fleet::{InForce, node, of_stream, settles, takes};
use ombre_tests::poll::eventually;
use ombre_tests::stack::{Setup, Stack};
use ombre_tests::with_every_xds;
use serde_json::json;
use tokio::time::timeout;

const ENVOY: &str = "envoy-2";
const CLUSTER: &str = "unanswered";
/// How long a decision may take while the cluster is awaited.
const AT_ONCE: Duration = Duration::from_secs(2);
/// Two questions of 1 s and 2 s for each kind of address, and Envoy's own time.
const AT_MOST: Duration = Duration::from_secs(12);

/// A service whose new version has the cluster, and the cluster.
fn policy(stack: &Stack, listeners: &Listeners, slow: bool) -> String {
    let (version, cluster) = match slow {
        true => (
            ", { name: v3, cluster: slow }",
            "  - { name: slow, dns: \"slow.example:80\" }\n",
        ),
        false => ("", ""),
    };
    // Not for the Envoy of the stack, which is on the same machine and has its name server.
    let listener = format!(
        "  - {{ name: traffic, address: \"{}\", default_cluster: demo_v1, nodes: {{ cluster: {CLUSTER} }} }}\n",
        listeners.traffic.address()
    );
    let clusters = feed::clusters(&[
        ("demo_v1", stack.v1.address()),
        ("demo_v2", stack.v2.address()),
    ]);
    format!(
        "apiVersion: ombre/v1\nservices:\n  - name: shop\n    routes: [{{ name: pages, path: \"/shop/{{*rest}}\" }}]\n    \
         versions: [{{ name: v1, cluster: demo_v1 }}, {{ name: v2, cluster: demo_v2 }}{version}]\n    default: v1\n    \
         unit: [{{ header: x-user-id }}]\n    rollout: {{ candidate: v2, weight: 0 }}\n{clusters}{cluster}listeners:\n{listener}"
    )
}

/// One whose name server is this socket, which nobody reads.
fn envoy(stack: &Stack, feed: Feed, listeners: Listeners, names: &UdpSocket) -> Result<Envoy> {
    let dir = stack.dir().join(ENVOY);
    std::fs::create_dir_all(&dir)?;
    let (controller, admin) = (stack.xds()?, listeners.admin.address());
    let text = feed::bootstrap(feed, ENVOY, controller, admin, &["--cluster", CLUSTER])?;
    let tries = "    query_tries: 2\n";
    ensure!(text.contains(tries), "no name server can be set");
    let server = names.local_addr()?;
    let address = format!("address: {}, port_value: {}", server.ip(), server.port());
    let resolvers = format!("    resolvers: [{{ socket_address: {{ {address} }} }}]\n");
    let settings = envoy::Settings {
        config: Config::Bootstrap(text.replacen(tries, &(tries.to_owned() + &resolvers), 1)),
        concurrency: 1,
        launcher: Launcher::Program(binaries::envoy()?),
        environment: Vec::new(),
    };
    Envoy::start(settings, listeners, &dir)
}

async fn decisions_go_on_while_a_cluster_is_awaited(feed: Feed) -> Result<()> {
    Setup::new("apiVersion: ombre/v1\nservices:\n")
        .feed(feed)
        .run(async |stack| {
            let names = UdpSocket::bind("127.0.0.1:0")?;
            let listeners = Listeners::free()?;
            let (with, without) = (
                policy(stack, &listeners, true),
                policy(stack, &listeners, false),
            );
            let before = InForce::now(&stack.controller).await?;
            stack.write_policy(without.as_bytes())?;
            let mut envoy = envoy(stack, feed, listeners, &names)?;
            takes(&stack.controller, ENVOY, before).await?;
            envoy.ready().await?;
            let address = envoy.address();
            let serves = async |version: &str| {
                let user = Ask::get("/shop/a").header("x-user-id", "1");
                eventually(AT_ONCE, "the decision is in force", async || {
                    let served = ask(address, &user).await?.echo()?.version;
                    ensure!(served == version, "{served} serves");
                    Ok(())
                })
                .await
            };
            serves("v1").await?;

            let before = InForce::now(&stack.controller).await?;
            stack.write_policy(with.as_bytes())?;
            let begun = Instant::now();
            eventually(AT_MOST, "the cluster is awaited", async || {
                let now = InForce::now(&stack.controller).await?;
                let node = node(&stack.controller, ENVOY).await?;
                ensure!(
                    now != before && of_stream(&node, "stage") == "adding",
                    "{node:#}"
                );
                Ok(())
            })
            .await?;
            for (weight, version) in [(100, "v2"), (0, "v1"), (100, "v2")] {
                let decisions = json!({ "services": { "shop": { "weight": weight } } });
                stack.decide(&decisions).await?;
                serves(version).await?;
                let decided = InForce::now(&stack.controller).await?;
                eventually(AT_ONCE, "the controller knows", async || {
                    let node = node(&stack.controller, ENVOY).await?;
                    let applied = node.pointer("/applied/decisions");
                    ensure!(applied == Some(&json!(decided.decisions)), "{node:#}");
                    ensure!(of_stream(&node, "stage") == "adding", "{node:#}");
                    Ok(())
                })
                .await?;
            }
            settles(&stack.controller, ENVOY).await?;
            let took = begun.elapsed();
            println!("{feed:?}: the name server held the policy up for {took:.1?}");
            ensure!(took < AT_MOST, "{took:?}");
            serves("v2").await?;
            // Out again: nothing holds that up.
            let before = InForce::now(&stack.controller).await?;
            stack.write_policy(without.as_bytes())?;
            timeout(AT_ONCE, takes(&stack.controller, ENVOY, before))
                .await
                .context("too late")??;
            Ok(())
        })
        .await
}

with_every_xds!(decisions_go_on_while_a_cluster_is_awaited);
