//! Envoys on other machines, which fetch policy and decisions over mutual TLS from an address of their own.
//! The stack's own Envoy goes on asking the controller's API beside it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ombre_tests::authority::{Authority, HOST};
use ombre_tests::binaries;
use ombre_tests::client::{Ask, ask};
use ombre_tests::envoy::{Config, Envoy, Example, Launcher, Listeners, Settings};
use ombre_tests::fleet::node;
use ombre_tests::poll::{SOON, eventually};
use ombre_tests::ports::Port;
use ombre_tests::stack::{PROBE, Setup, Stack};
use serde_json::{Value, json};

const POLICY: &str = r#"apiVersion: ombre/v1
services:
  - name: shop
    routes: [{ name: pages, path: "/shop/{*rest}" }]
    versions: [{ name: v1, cluster: demo_v1 }, { name: v2, cluster: demo_v2 }]
    default: v1
    unit: [mint]
    rollout: { candidate: v2, weight: 0 }
"#;

/// How an Envoy comes to the controller.
enum Socket<'a> {
    Plain,
    /// With this certificate, if it has one.
    Tls(Option<&'a str>),
}

/// The configuration that users copy, with the cluster that they copy into it.
fn template(name: &str, certificates: &Path, socket: &Socket) -> Result<String> {
    let text = Example::Full.template()?;
    let path = binaries::workspace().join("envoy/controller-over-tls.yaml");
    let (_, cluster) = text
        .split_once("    - name: ombre_controller")
        .context("no cluster")?;
    let (cluster, _) = cluster.split_once("\n\n").context("no end of it")?;
    let other = match socket {
        Socket::Plain => cluster.to_owned(),
        Socket::Tls(certificate) => {
            let file = fs::read_to_string(path)?;
            let (_, other) = file
                .split_once("    - name: ombre_controller")
                .context("no cluster")?;
            let own = certificates.join(certificate.unwrap_or("none"));
            let replaced = [
                (
                    "address: ombre.internal, port_value: 8601",
                    "address: 127.0.0.1, port_value: 8600".to_owned(),
                ),
                (
                    "/etc/ombre/ca.pem",
                    certificates.join("ca.pem").display().to_string(),
                ),
                ("/etc/ombre/envoy", own.display().to_string()),
            ];
            let mut other = other.trim_end().to_owned();
            for (piece, with) in replaced {
                ensure!(other.contains(piece), "no `{piece}` in the file");
                other = other.replace(piece, &with);
            }
            if certificate.is_none() {
                let (before, after) = other
                    .split_once("            # This Envoy's own")
                    .context("no own")?;
                let (_, after) = after
                    .split_once("            # Without")
                    .context("no other")?;
                other = format!("{before}            # Without{after}");
            }
            other
        }
    };
    ensure!(text.contains("  id: envoy-1\n"), "no name to replace");
    let text = text.replace("  id: envoy-1\n", &format!("  id: {name}\n"));
    Ok(text.replacen(cluster, &other, 1))
}

/// One Envoy more, which asks the address for others.
async fn join(
    stack: &Stack,
    delivery: SocketAddr,
    certificates: &Path,
    name: &str,
    socket: Socket<'_>,
) -> Result<Envoy> {
    let dir = stack.dir().join(name);
    fs::create_dir_all(&dir)?;
    let settings = Settings {
        config: Config::Example {
            template: template(name, certificates, &socket)?,
            controller: delivery,
            stable: stack.v1.address(),
            canary: stack.v2.address(),
        },
        concurrency: 1,
        launcher: Launcher::Program(binaries::envoy()?),
        environment: Vec::new(),
    };
    let mut envoy = Envoy::start(settings, Listeners::free()?, &dir)?;
    envoy.ready().await?;
    Ok(envoy)
}

/// Which policy of the harness decides there; none while none does.
async fn route(envoy: &Envoy) -> Result<Option<String>> {
    let answer = ask(envoy.address(), &Ask::get(PROBE)).await?;
    ensure!(answer.status > 0, "{}", answer.seen());
    Ok(answer.decision("route").map(str::to_owned))
}

/// Waits until it decides by the policy that the harness has written last.
async fn decides(stack: &Stack, envoy: &Envoy) -> Result<()> {
    let due = Some(stack.probe_route());
    eventually(SOON, "the Envoy decides by the policy", async || {
        let route = route(envoy).await?;
        ensure!(route == due, "it decides by {route:?}, not {due:?}");
        Ok(())
    })
    .await
}

/// Waits until requests there go to this version.
async fn serves(envoy: &Envoy, version: &str) -> Result<()> {
    eventually(SOON, "the version serves", async || {
        let answer = ask(envoy.address(), &Ask::get("/shop/a")).await?;
        ensure!(answer.echo()?.version == version, "{}", answer.seen());
        ensure!(
            answer.decision("version") == Some(version),
            "{}",
            answer.seen()
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_envoy_afar_is_served_by_its_certificate_and_a_stranger_gets_nothing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (own, foreign) = (Authority::new()?, Authority::new()?);
    fs::write(path("ca.pem"), own.pem())?;
    fs::write(path("clients.pem"), own.pem())?;
    own.issue(dir.path(), "server", "ombre")?;
    own.issue(dir.path(), "good", "afar")?;
    own.issue(dir.path(), "wrong", "somebody-else")?;
    foreign.issue(dir.path(), "foreign", "foreign")?;
    let port = Port::free()?;
    let address = port.address();
    let serving = [
        ["--delivery-listen", &address.to_string()],
        ["--delivery-tls-cert", &path("server.pem")],
        ["--delivery-tls-key", &path("server.key")],
        ["--delivery-tls-client-ca", &path("clients.pem")],
    ];
    let setup = Setup::new(POLICY).arguments(serving.as_flattened());
    setup
        .run(async |stack| {
            let afar = Socket::Tls(Some("good"));
            let afar = join(stack, address, dir.path(), "afar", afar).await?;
            decides(stack, &afar).await?;
            serves(&afar, "v1").await?;
            eventually(SOON, "it is on the list", async || {
                let listed = node(&stack.controller, "afar").await?;
                ensure!(listed.get("workers") == Some(&Value::from(1)), "{listed:#}");
                Ok(())
            })
            .await?;
            let weight = json!({ "services": { "shop": { "weight": 100 } } });
            stack.decide(&weight).await?;
            serves(&afar, "v2").await?;

            let mut strangers = Vec::new();
            for (name, socket, said) in [
                (
                    "wrong",
                    Socket::Tls(Some("wrong")),
                    "the certificate is not this node's",
                ),
                (
                    "foreign",
                    Socket::Tls(Some("foreign")),
                    "error=invalid peer certificate",
                ),
                (
                    "absent",
                    Socket::Tls(None),
                    "error=peer sent no certificates",
                ),
                ("plain", Socket::Plain, "error=received corrupt message"),
            ] {
                let seen = stack.controller.process().log().matches(said).count();
                let envoy = join(stack, address, dir.path(), name, socket).await?;
                let process = stack.controller.process();
                let refused = eventually(SOON, "it is refused, and both say so", async || {
                    let now = process.log().matches(said).count();
                    ensure!(now > seen, "the controller does not say `{said}`");
                    let failed = envoy.sum(r"ombre_polls_failed_total$").await?;
                    ensure!(failed > 0, "its Envoy counts no failed poll");
                    let by_name = envoy
                        .sum(r"^cluster\.ombre_controller\.upstream_rq_403$")
                        .await?;
                    ensure!(
                        (by_name > 0) == (name == "wrong"),
                        "{by_name} answers with 403"
                    );
                    Ok(())
                });
                refused.await.context(name)?;
                strangers.push((name, envoy));
            }
            stack.change_policy(POLICY).await?;
            decides(stack, &afar).await?;
            for (name, envoy) in &strangers {
                ensure!(route(envoy).await?.is_none(), "{name} has a policy");
                ensure!(
                    node(&stack.controller, name).await.is_err(),
                    "{name} is on the list"
                );
            }

            // What is on the disk counts while everything runs on: the other authority is let in too.
            fs::write(path("clients.pem"), own.pem() + &foreign.pem())?;
            for (name, envoy) in &strangers {
                if *name == "foreign" {
                    decides(stack, envoy).await?;
                    serves(envoy, "v2").await?;
                }
            }
            decides(stack, &afar).await
        })
        .await
        .with_context(|| format!("{HOST} at {address}"))
}
