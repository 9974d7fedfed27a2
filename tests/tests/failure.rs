//! The data plane outlives the control plane, and an Envoy that starts never answers with an
//! error of its own: it has the policy, or sends everything to the stable default until then.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use ombre_tests::client::{Ask, Connection, ask};
use ombre_tests::load::{Load, Shot};
use ombre_tests::poll::{SOON, eventually};
use ombre_tests::stack::{Setup, Stack};
use ombre_tests::upstream::Faults;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

/// The default is v2, which nobody reaches without a policy in force.
fn policy(default: &str) -> String {
    format!(
        r#"apiVersion: ombre/v1
services:
  - name: shop
    routes: [{{ name: pages, path: "/shop/{{*rest}}" }}]
    versions: [{{ name: v1, cluster: demo_v1 }}, {{ name: v2, cluster: demo_v2 }}]
    default: {default}
"#
    )
}

fn page() -> Ask {
    Ask::get("/shop/a")
}

fn shots() -> Vec<Shot> {
    let asks = |version: &str| page().header("x-api-version", version);
    vec![
        Shot::new("v1", asks("1"), Some("v1")),
        Shot::new("v2", asks("2"), Some("v2")),
    ]
}

/// Waits until the load has sent this many requests more.
async fn more_load(stack: &Stack, count: u64) -> Result<()> {
    let total = || stack.v1.counts().total + stack.v2.counts().total;
    let due = total() + count;
    eventually(SOON, "the load goes on", async || {
        ensure!(total() >= due, "{} of {due}", total());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_killed_controller_is_not_missed_and_a_new_one_is_found() -> Result<()> {
    Stack::with(&policy("v2"), async |stack| {
        let load = Load::start(stack.envoy.address(), 4, Duration::from_millis(5), shots())?;
        more_load(stack, 100).await?;
        stack.controller.kill()?;
        more_load(stack, 1000).await?;
        stack.controller.restart()?;
        stack.controller.healthy().await?;
        stack.change_policy(&policy("v1")).await?;
        ensure!(stack.ask(&page()).await?.echo()?.version == "v1");

        // Changed while nobody watches: the next controller sees it when it starts.
        stack.controller.kill()?;
        stack.save_policy(&policy("v2"))?;
        more_load(stack, 100).await?;
        ensure!(stack.ask(&page()).await?.echo()?.version == "v1");
        stack.controller.restart()?;
        stack.in_force().await?;
        ensure!(stack.ask(&page()).await?.echo()?.version == "v2");

        let report = load.stop().await?;
        println!("{}", report.line());
        report.check()
    })
    .await
}

/// Stands in for the controller: every answer breaks off in its body, as many as `count` tells.
async fn break_off(listener: TcpListener, count: &AtomicUsize) -> Result<()> {
    loop {
        let (mut client, _) = listener.accept().await?;
        let mut request = [0; 4096];
        // A client that goes away before it asks is none of this one's business.
        if client.read(&mut request).await.unwrap_or_default() == 0 {
            continue;
        }
        client
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\nOMBR")
            .await?;
        // Envoy has the head before the end comes.
        sleep(Duration::from_millis(20)).await;
        client.set_zero_linger()?;
        count.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_asked_for_again() -> Result<()> {
    Stack::with(&policy("v2"), async |stack| {
        stack.controller.kill()?;
        let listener = TcpListener::bind(stack.controller.address()).await?;
        let count = AtomicUsize::new(0);
        let enough = eventually(SOON, "polls are answered in part", async || {
            let count = count.load(Ordering::Relaxed);
            ensure!(count >= 6, "{count} of 6");
            Ok(())
        });
        tokio::select! {
            broken = break_off(listener, &count) => broken?,
            enough = enough => enough?,
        }
        ensure!(stack.ask(&page()).await?.echo()?.version == "v2");
        stack.controller.restart()?;
        stack.controller.healthy().await?;
        stack.change_policy(&policy("v1")).await?;
        ensure!(stack.ask(&page()).await?.echo()?.version == "v1");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_envoy_that_starts_never_answers_with_an_error() -> Result<()> {
    Stack::with(&policy("v2"), async |stack| {
        for round in 0..3 {
            stack.envoy.kill()?;
            stack.envoy.restart()?;
            let defaults = until_v2(stack, Envoys::MayStart).await?;
            println!("round {round}: {defaults} requests went to the stable default first");
            stack.in_force().await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_envoy_without_a_controller_sends_everything_to_the_stable_default() -> Result<()> {
    let closed = Setup::new(&policy("v2")).environment("DISABLE_ROUTES", "/admin");
    closed
        .run(async |stack| {
            stack.controller.kill()?;
            stack.envoy.kill()?;
            stack.envoy.restart()?;
            stack.envoy.ready().await?;
            let admin = stack.ask(&Ask::get("/admin/users")).await?;
            ensure!(
                admin.status == 404,
                "what is switched off is open: {}",
                admin.seen()
            );
            let load = Load::start(
                stack.envoy.address(),
                4,
                Duration::from_millis(5),
                vec![Shot::new("default", page(), Some("v1"))],
            )?;
            more_load(stack, 500).await?;
            let report = load.stop().await?;
            report.check()?;
            stack.controller.restart()?;
            until_v2(stack, Envoys::Runs).await?;
            stack.in_force().await
        })
        .await
}

#[tokio::test]
async fn a_failing_version_is_seen_by_its_clients_only() -> Result<()> {
    Stack::with(&policy("v1"), async |stack| {
        stack.v2.set_faults(Faults {
            fail: 1.0,
            ..Faults::default()
        });
        let wants_v2 = page().header("x-api-version", "2");
        let answer = stack.ask(&wants_v2).await?;
        ensure!(answer.status == 500, "{}", answer.status);
        ensure!(
            answer.decision("version") == Some("v2"),
            "{:?}",
            answer.headers
        );
        ensure!(stack.ask(&page()).await?.status == 200);
        Ok(())
    })
    .await
}

/// Whether connections may be refused since Envoy is starting.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Envoys {
    MayStart,
    Runs,
}

/// Asks over new connections until v2 answers, as the policy has it, and returns how often v1 did
/// before. Whoever is let in is answered, and with 200.
async fn until_v2(stack: &Stack, envoy: Envoys) -> Result<u64> {
    let start = Instant::now();
    let mut defaults = 0;
    while start.elapsed() < SOON {
        let opened = Connection::open(stack.envoy.address()).await;
        let mut connection = match opened {
            Ok(connection) => connection,
            Err(error) if envoy == Envoys::Runs => return Err(error),
            Err(_) => {
                // Nothing listens yet: leave the processor to Envoy.
                sleep(Duration::from_millis(1)).await;
                continue;
            }
        };
        let answer = connection.ask(&page()).await?;
        ensure!(
            answer.status == 200,
            "{} {:?}",
            answer.status,
            answer.headers
        );
        match answer.echo()?.version.as_str() {
            "v2" => return Ok(defaults),
            _ => defaults += 1,
        }
    }
    // Shows what is asked last in the error.
    let answer = ask(stack.envoy.address(), &page()).await?;
    anyhow::bail!("v2 never answered: {:?}", answer.headers)
}
