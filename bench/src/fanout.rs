//! How long a decision takes to reach many waiting filters, and what a waiting one costs the
//! controller: real connections, each with a long poll, against the built controller.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ombre_tests::poll::eventually;
use ombre_tests::ports::Port;
use ombre_tests::process::{Group, Process};
use ombre_tests::{binaries, http};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::{cpu, memory, report};

const CROWDS: [usize; 2] = [1_000, 10_000];
/// Until all have connected, and until the last has the news.
const LATE: Duration = Duration::from_secs(60);
/// So many connect at once: what the kernel's queue cannot hold is tried again after seconds.
const AT_ONCE: usize = 500;
const MAX_ANSWER: usize = 64 * 1024;
const POLICY: &str = "
apiVersion: ombre/v1
services:
  - name: shop
    routes: [{ name: all, path: '/{*rest}' }]
    versions: [{ name: v1, cluster: shop_v1 }, { name: v2, cluster: shop_v2 }]
    default: v1
    unit: [{ header: x-user-id }]
    rollout: { candidate: v2, weight: 1 }
";

/// What was measured of one crowd.
struct Measured {
    clients: usize,
    /// Per change: until the median and until the last client had it.
    medians: Vec<Duration>,
    lasts: Vec<Duration>,
    /// Of the controller, in bytes: when all wait for the first time, and after the changes.
    memory_per_client: [f64; 2],
    /// Of the controller for one client and change.
    cpu_per_client: Duration,
}

/// Who got which revision, and when.
type News = (usize, u64, Instant);

/// Measures every crowd; `changes` of each.
pub(crate) async fn measure(changes: usize) -> Result<()> {
    let mut all = Vec::new();
    for clients in CROWDS {
        all.push(crowd(clients, changes).await?);
    }
    let text = markdown(&all);
    print!("{text}");
    report::write("fanout", &text, &all.iter().map(Measured::json).collect())
}

async fn crowd(clients: usize, changes: usize) -> Result<Measured> {
    let dir = tempfile::Builder::new().prefix("ombre-bench-").tempdir()?;
    let policy = dir.path().join("policy.yaml");
    fs::write(&policy, POLICY)?;
    let port = Port::free()?;
    let address = port.address();
    let mut command = Command::new(binaries::ombre()?);
    command.arg("serve").arg("--policy").arg(&policy);
    command.args(["--listen", &address.to_string(), "--state-dir"]);
    command.arg(dir.path().join("state"));
    let log = dir.path().join("ombre.log");
    let mut process = Process::start("ombre", command, &log, Group::Shared)?;
    eventually(LATE, "the controller listens", async || {
        process.check()?;
        waiting(address).await.map(drop)
    })
    .await?;

    let before = memory::of(process.id())?;
    let (told, mut news) = unbounded_channel();
    let mut tasks = JoinSet::new();
    let entry = Arc::new(Semaphore::new(AT_ONCE));
    for number in 0..clients {
        let entry = Arc::clone(&entry);
        tasks.spawn(client(address, number, told.clone(), entry));
    }
    // The first answer to each is what is there already.
    arrivals(&mut news, &mut tasks, clients, 0).await?;
    all_wait(address, clients).await?;
    let each = || anyhow::Ok((memory::of(process.id())? - before) / clients as f64);
    let memory_at_first = each()?;
    let http = http::client()?;
    let (mut medians, mut lasts, mut used) = (Vec::new(), Vec::new(), Duration::ZERO);
    let mut newest = 0;
    for change in 0..=changes {
        let (cpu, start) = (cpu::of(process.id())?, Instant::now());
        let decisions = json!({ "services": { "shop": { "weight": 2 + change % 90 } } });
        let url = format!("http://{address}/v1/decisions");
        let sent = http.put(url).json(&decisions).send();
        sent.await?.error_for_status()?;
        let mut times = arrivals(&mut news, &mut tasks, clients, newest).await?;
        times.sort_unstable_by_key(|(at, _)| *at);
        newest = times
            .iter()
            .map(|(_, revision)| *revision)
            .max()
            .unwrap_or(newest);
        all_wait(address, clients).await?;
        // The first change finds everything cold and is not counted.
        if let (1.., Some((last, _)), Some((median, _))) =
            (change, times.last(), times.get(times.len() / 2))
        {
            medians.push(*median - start);
            lasts.push(*last - start);
            used += cpu::of(process.id())?.saturating_sub(cpu);
        }
    }
    medians.sort_unstable();
    lasts.sort_unstable();
    let count = u32::try_from(clients * changes)?;
    Ok(Measured {
        clients,
        medians,
        lasts,
        memory_per_client: [memory_at_first, each()?],
        cpu_per_client: used / count.max(1),
    })
}

/// One filter: asks, tells when something came, and asks for what is newer.
async fn client(
    address: SocketAddr,
    number: usize,
    told: UnboundedSender<News>,
    entry: Arc<Semaphore>,
) -> Result<()> {
    let mut entering = Some(entry.acquire_owned().await?);
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut after = 0;
    loop {
        let request = format!(
            "GET /v1/delivery/decisions?after={after} HTTP/1.1\r\nhost: controller\r\n\
             x-ombre-node: node-{number}\r\nx-ombre-workers: 2\r\nx-ombre-applied: {after}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let (status, revision) = answer(&mut stream).await?;
        match (status, revision) {
            (200, Some(revision)) => {
                after = revision;
                drop(entering.take());
                told.send((number, revision, Instant::now())).ok();
            }
            (304, _) => {}
            _ => bail!("a poll was answered with {status}"),
        }
    }
}

/// Reads one answer: its status and `x-ombre-revision`.
async fn answer(stream: &mut TcpStream) -> Result<(u16, Option<u64>)> {
    let mut buffer = Vec::new();
    loop {
        ensure!(
            stream.read_buf(&mut buffer).await? > 0,
            "the connection was closed"
        );
        ensure!(buffer.len() < MAX_ANSWER, "an endless answer");
        let Some(head) = buffer.windows(4).position(|end| end == b"\r\n\r\n") else {
            continue;
        };
        let text = String::from_utf8_lossy(buffer.get(..head).unwrap_or_default());
        let header = |name: &str| {
            let lines = text.split("\r\n").filter_map(|line| line.split_once(": "));
            let mut found = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
            found.next()?.1.parse::<u64>().ok()
        };
        let length = usize::try_from(header("content-length").unwrap_or(0))?;
        if buffer.len() >= head + 4 + length {
            let status = text.split(' ').nth(1).context("no status")?.parse()?;
            return Ok((status, header("x-ombre-revision")));
        }
    }
}

/// Waits until every client has something newer than a revision.
async fn arrivals(
    news: &mut UnboundedReceiver<News>,
    tasks: &mut JoinSet<Result<()>>,
    clients: usize,
    newer_than: u64,
) -> Result<Vec<(Instant, u64)>> {
    let mut arrived: Vec<Option<(Instant, u64)>> = vec![None; clients];
    let mut missing = clients;
    let all = async {
        while missing > 0 {
            tokio::select! {
                Some((number, revision, at)) = news.recv() => {
                    let place = arrived.get_mut(number).context("a client without a number")?;
                    if place.is_none() && revision > newer_than {
                        *place = Some((at, revision));
                        missing -= 1;
                    }
                }
                Some(ended) = tasks.join_next() => ended?.context("a client ended")?,
            }
        }
        anyhow::Ok(())
    };
    timeout(LATE, all)
        .await
        .context("some clients never got the news")??;
    Ok(arrived.into_iter().flatten().collect())
}

async fn all_wait(address: SocketAddr, clients: usize) -> Result<()> {
    eventually(LATE, "every client waits", async || {
        let waiting = waiting(address).await?;
        ensure!(waiting == clients, "{waiting} of {clients}");
        Ok(())
    })
    .await
}

/// How many polls wait, as the controller counts them.
async fn waiting(address: SocketAddr) -> Result<usize> {
    let asked = http::client()?.get(format!("http://{address}/metrics"));
    let answer = asked.send().await?;
    let text = answer.error_for_status()?.text().await?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("ombre_polls_waiting "));
    Ok(line.context("no `ombre_polls_waiting`")?.parse()?)
}

fn markdown(all: &[Measured]) -> String {
    let mut text =
        "| clients | changes | half of them have it, ms | the last has it, ms: median / longest | \
                    controller's CPU per client, µs | memory per waiting client, KB: at first / after the changes |\n\
                    | --- | --- | --- | --- | --- | --- |\n"
            .to_owned();
    for row in all {
        let [half, median, longest] = row.milliseconds();
        let [at_first, after] = row.memory_per_client.map(|bytes| bytes / 1024.0);
        text.push_str(&format!(
            "| {} | {} | {half:.0} | {median:.0} / {longest:.0} | {:.0} | {at_first:.1} / {after:.1} |\n",
            row.clients,
            row.lasts.len(),
            row.cpu_per_client.as_secs_f64() * 1e6,
        ));
    }
    text
}

impl Measured {
    /// Half of the clients in the median change, the last one in the median change, and in the slowest.
    fn milliseconds(&self) -> [f64; 3] {
        let middle =
            |sorted: &[Duration]| sorted.get(sorted.len() / 2).copied().unwrap_or_default();
        let longest = self.lasts.last().copied().unwrap_or_default();
        [middle(&self.medians), middle(&self.lasts), longest].map(|time| time.as_secs_f64() * 1e3)
    }

    fn json(&self) -> Value {
        let [half, median, longest] = self.milliseconds();
        let [at_first, after] = self.memory_per_client;
        json!({
            "clients": self.clients,
            "changes": self.lasts.len(),
            "half_ms": half,
            "last_median_ms": median,
            "last_longest_ms": longest,
            "cpu_per_client_us": self.cpu_per_client.as_secs_f64() * 1e6,
            "memory_per_client_bytes": at_first,
            "memory_per_client_after_changes_bytes": after,
        })
    }
}
