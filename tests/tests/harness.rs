//! The harness itself, on a plain Envoy without ombre: what the other tests rely on must be able
//! to fail.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use ombre_tests::binaries;
use ombre_tests::client::{Ask, ask};
use ombre_tests::envoy::{Config, Envoy, Launcher, Listeners, Settings};
use ombre_tests::load::{Load, Report, Shot};
use ombre_tests::poll::{SOON, eventually};
use ombre_tests::upstream::{Faults, Upstream};

/// Routes by path, with every example value that the harness replaces.
const PLAIN: &str = r#"
# port_value: 8600, target/ombre.wasm
admin: { address: { socket_address: { address: 127.0.0.1, port_value: 9901 } } }
static_resources:
  listeners:
  - name: traffic
    address: { socket_address: { address: 127.0.0.1, port_value: 8080 } }
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: traffic
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - { match: { prefix: "/v2" }, route: { cluster: demo_v2 } }
              - { match: { prefix: "/" }, route: { cluster: demo_v1 } }
          http_filters:
          - name: envoy.filters.http.router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
  clusters:
  - name: demo_v1
    load_assignment: { cluster_name: demo_v1, endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: 9001 } } } }] }] }
  - name: demo_v2
    load_assignment: { cluster_name: demo_v2, endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: 9002 } } } }] }] }
"#;

struct Plain {
    envoy: Envoy,
    v1: Upstream,
    v2: Upstream,
    _dir: tempfile::TempDir,
}

impl Plain {
    async fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let v1 = Upstream::start("v1", any).await?;
        let v2 = Upstream::start("v2", any).await?;
        let settings = Settings {
            config: Config::Example {
                template: PLAIN.to_owned(),
                controller: any,
                stable: v1.address(),
                canary: v2.address(),
            },
            concurrency: 2,
            launcher: Launcher::Program(binaries::envoy()?),
            environment: Vec::new(),
        };
        let mut envoy = Envoy::start(settings, Listeners::free()?, dir.path())?;
        envoy.ready().await?;
        Ok(Self {
            envoy,
            v1,
            v2,
            _dir: dir,
        })
    }

    async fn load(&self, label: &str, shot: Ask, version: &str) -> Result<Report> {
        let shots = vec![Shot::new(label, shot, Some(version))];
        let load = Load::start(self.envoy.address(), 4, Duration::from_millis(1), shots)?;
        eventually(SOON, "the load reached an upstream", async || {
            let counted = |upstream: &Upstream| upstream.counts().headers.get(label).copied();
            let count = counted(&self.v1).max(counted(&self.v2)).unwrap_or(0);
            ensure!(count >= 40, "{count} requests so far");
            Ok(())
        })
        .await?;
        load.stop().await
    }
}

#[tokio::test]
async fn load_tells_good_failed_and_misrouted_apart() -> Result<()> {
    let plain = Plain::start().await?;
    let good = plain.load("good", Ask::get("/v2/x"), "v2").await?;
    good.check()?;
    assert_eq!(
        plain.v2.counts().headers.get("good"),
        good.labels.get("good")
    );
    assert_eq!(plain.v1.counts().total, 0);

    let astray = plain.load("astray", Ask::get("/x"), "v2").await?;
    assert!(astray.check().is_err());
    assert_eq!(astray.misrouted, astray.sent);

    plain.v2.set_faults(Faults {
        fail: 0.25,
        ..Faults::default()
    });
    let failing = plain.load("failing", Ask::get("/v2/x"), "v2").await?;
    assert!(failing.check().is_err());
    let failed = failing.statuses.get(&500).copied().unwrap_or(0);
    assert_eq!(failed, failing.sent / 4, "{}", failing.line());
    Ok(())
}

#[tokio::test]
async fn envoy_is_killed_and_restarted_on_its_ports() -> Result<()> {
    let mut plain = Plain::start().await?;
    let workers = plain.envoy.worker_connections().await?;
    assert_eq!(workers.len(), 2);
    let address = plain.envoy.address();
    plain.envoy.kill()?;
    assert!(ask(address, &Ask::get("/")).await.is_err());
    plain.envoy.restart()?;
    plain.envoy.ready().await?;
    let answer = ask(address, &Ask::get("/v2?a=b").header("x-a", "1")).await?;
    let echo = answer.echo()?;
    assert_eq!(
        (echo.version.as_str(), echo.path.as_str()),
        ("v2", "/v2?a=b")
    );
    assert_eq!(echo.headers.get("x-a").map(String::as_str), Some("1"));
    Ok(())
}

#[tokio::test]
async fn an_envoy_that_refuses_its_configuration_is_reported_with_its_log() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let settings = Settings {
        config: Config::Example {
            template: PLAIN.replace("stat_prefix", "stat_prefixes"),
            controller: any,
            stable: any,
            canary: any,
        },
        concurrency: 1,
        launcher: Launcher::Program(binaries::envoy()?),
        environment: Vec::new(),
    };
    let mut envoy = Envoy::start(settings, Listeners::free()?, dir.path())?;
    let error = format!("{:#}", envoy.ready().await.unwrap_err());
    assert!(error.contains("ended by itself"), "{error}");
    assert!(error.contains("stat_prefixes"), "{error}");
    Ok(())
}

#[tokio::test]
async fn an_upstream_does_what_it_is_told_over_http() -> Result<()> {
    let upstream = Upstream::start("v9", SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let url = |path: &str| format!("http://{}{path}", upstream.address());
    let http = ombre_tests::http::client()?;
    let told = http
        .post(url("/control"))
        .json(&serde_json::json!({ "fail": 0.5, "delay_ms": 1, "hang": 0.0 }))
        .send()
        .await?;
    assert_eq!(told.status(), 200);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(http.get(url("/a?b=c")).send().await?.status().as_u16());
    }
    assert_eq!(statuses, [200, 500, 200, 500]);
    let counts: serde_json::Value = http.get(url("/counts")).send().await?.json().await?;
    assert_eq!(counts["paths"]["/a"], 4);
    assert_eq!(counts["failed"], 2);

    let refused = http
        .post(url("/control"))
        .json(&serde_json::json!({ "fail": 5 }))
        .send()
        .await?;
    assert_eq!(refused.status(), 400);

    upstream.set_faults(Faults {
        hang: 1.0,
        ..Faults::default()
    });
    let hanging = http.get(url("/a")).timeout(Duration::from_millis(200));
    assert!(hanging.send().await.unwrap_err().is_timeout());
    upstream.stop().await;
    Ok(())
}
