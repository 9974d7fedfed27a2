//! A controller that is killed at any write to its store, before or after it reached the disk, or
//! while the stable version applies a change. Everything is real but Envoy, in whose place two
//! workers of the filter poll the API and route writes. What they route is held against the rules: never
//! do both versions own writes, and no change is lost or applied out of order. A write that a worker
//! forwarded takes its time, also over the freeze and the controller's death, and comes to the log at its
//! end, again and again until it is taken. One that takes longer than `drain.settle` is not covered here.

use std::collections::BTreeMap;
use std::sync::Mutex as Shared;
use std::time::{Duration, SystemTime};

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use ombre_policy::headers::HeaderMap as Headers;
use ombre_policy::in_force::InForce;
use ombre_policy::verdict::{Edit, Verdict};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower::ServiceExt;

use super::*;
use crate::app::{App, router};
use crate::store::fault::Side;

const LONG: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(2);
const LATE: Duration = Duration::from_millis(25);
/// From a worker's forwarding of a write to its entry in the log.
const UNDER_WAY: Duration = Duration::from_millis(20);
const SETTLE: &str = "150ms";
const LANES: usize = 4;
/// Changes that wait in the log before the fail-back, besides those of the workers.
const LOADED: u64 = 40;

const EVIDENCE: &str = "evidence: { interval: 10ms, judge: 50ms, short: 1s }";
/// Comes before `shop` wherever services are taken in order.
const OTHER: &str = "  - name: cart
    routes: [{ name: cart, path: /cart }]
    versions:
      - { name: v1, cluster: stable }
      - { name: v2, cluster: canary }
    default: v1
    unit: [{ header: x-user-id }]
    rollout: { candidate: v2, weight: 100 }
    degrade: { evidence: { interval: 10ms, judge: 50ms, short: 1s } }
";

/// Where a life of the controller ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kill {
    Write(usize, Side),
    Apply(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Owner {
    Unknown,
    Candidate,
    Nobody,
    Stable,
}

/// What the person at the controller does next. It outlives the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Step {
    /// Another service fails back, which no life of the controller may undo.
    Other,
    Load,
    FailBack,
    Arrive,
    Return,
    Done,
}

/// What both versions know, and whatever was against the rules.
struct World {
    step: Step,
    clock: u64,
    acknowledged: BTreeMap<String, u64>,
    /// What each worker forwarded to the candidate, until it is acknowledged.
    under_way: [Option<(String, u64)>; 2],
    stable: BTreeMap<String, u64>,
    owners: [Owner; 2],
    owners_of_other: [Owner; 2],
    written_by_stable: u64,
    applied: u64,
    kill_at_apply: Option<(u64, UnboundedSender<()>)>,
    wrong: Vec<String>,
}

struct Proxy {
    number: usize,
    in_force: InForce,
}

/// Where rounds take place one after the other: the versions, of which the stable one listens.
struct Ground {
    world: Arc<Shared<World>>,
    applier: std::net::SocketAddr,
    _outside: Runtime,
}

struct Stage {
    dir: tempfile::TempDir,
    world: Arc<Shared<World>>,
    proxies: [Arc<Mutex<Proxy>>; 2],
    policy: String,
}

impl World {
    fn new() -> Self {
        Self {
            step: Step::Other,
            clock: 0,
            acknowledged: BTreeMap::new(),
            under_way: [const { None }; 2],
            stable: BTreeMap::new(),
            owners: [Owner::Unknown; 2],
            owners_of_other: [Owner::Unknown; 2],
            written_by_stable: 0,
            applied: 0,
            kill_at_apply: None,
            wrong: Vec::new(),
        }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// The stable version takes a change, from a client or from the log.
    fn take(&mut self, key: &str, ts: u64) {
        let before = self.stable.insert(key.to_owned(), ts);
        if before.is_some_and(|before| before > ts) {
            let told = format!("{key}: {ts} applied after {before:?}");
            self.wrong.push(told);
        }
    }

    /// A worker follows a decision about the other service.
    fn owned_of_other(&mut self, proxy: usize, owner: Owner) {
        let before = std::mem::replace(&mut self.owners_of_other[proxy], owner);
        if self.step > Step::Other && owner != Owner::Stable {
            let told = format!("worker {proxy}, other service: {before:?}, now {owner:?}");
            self.wrong.push(told);
        }
    }

    /// A worker follows a decision. On the way back ownership only ever goes on.
    fn owned(&mut self, proxy: usize, owner: Owner) {
        let before = std::mem::replace(&mut self.owners[proxy], owner);
        let both = [Owner::Candidate, Owner::Stable].map(|owner| self.owners.contains(&owner));
        if self.step < Step::Return && (both == [true, true] || owner < before) {
            let told = format!("worker {proxy}: {before:?}, now {:?}", self.owners);
            self.wrong.push(told);
        }
    }

    fn write_to_stable(&mut self, key: &str) {
        for (key, ts) in &self.acknowledged {
            if self.stable.get(key) < Some(ts) {
                let told = format!("{key}: {ts} is not with the stable version that owns writes");
                self.wrong.push(told);
            }
        }
        let ts = self.tick();
        self.take(key, ts);
        self.written_by_stable += 1;
    }
}

impl Proxy {
    fn owner(&mut self, path: &str) -> Owner {
        let headers = [(":method", "POST"), (":path", path), ("x-user-id", "ann")];
        let headers = Headers::encode(&headers);
        match self.in_force.decide(Headers::new(&headers), || [0; 16]) {
            Verdict::Pass => Owner::Unknown,
            Verdict::Refuse(_) => Owner::Nobody,
            Verdict::Route(mut routed) => {
                let mut cluster = Vec::new();
                routed.write(|edit| {
                    if let Edit::Set("x-ombre-cluster", value) = edit {
                        cluster = value.to_vec();
                    }
                });
                match cluster.as_slice() {
                    b"canary" => Owner::Candidate,
                    _ => Owner::Stable,
                }
            }
        }
    }
}

/// Asks the API in this process.
async fn ask(app: &Router, request: Request<Body>) -> (StatusCode, Vec<u8>) {
    let answer = app.clone().oneshot(request).await.unwrap();
    let status = answer.status();
    let body = to_bytes(answer.into_body(), usize::MAX).await;
    (status, body.unwrap().to_vec())
}

fn posted(path: &str, body: &Value) -> Request<Body> {
    let request = Request::post(path).header("content-type", "application/json");
    request.body(Body::from(body.to_string())).unwrap()
}

/// One document's long poll of one worker, as the filter does it.
async fn poll(app: Router, proxy: Arc<Mutex<Proxy>>, world: Arc<Shared<World>>, kind: Kind) {
    loop {
        let request = {
            let proxy = proxy.lock().await;
            let policy = proxy.in_force.policy_revision();
            let decisions = proxy.in_force.decisions_revision();
            let after = match kind {
                Kind::Policy => policy,
                Kind::Decisions => decisions,
            };
            let path = format!("/v1/delivery/{}?after={after}", kind.name());
            Request::get(path)
                .header("x-ombre-node", format!("envoy-{}", proxy.number))
                .header("x-ombre-applied", format!("{policy}/{decisions}"))
                .body(Body::empty())
                .unwrap()
        };
        let (status, body) = ask(&app, request).await;
        if status == StatusCode::OK {
            // One worker hears of everything late, so that a freeze is not everywhere at once.
            let late = proxy.lock().await.number as u32;
            sleep(LATE * late).await;
            let mut proxy = proxy.lock().await;
            // Decisions for a policy that has yet to come are taken with it.
            let _ = proxy.in_force.take(&body);
            let owners = (proxy.owner("/shop"), proxy.owner("/cart"));
            let mut world = world.lock().unwrap();
            world.owned(proxy.number, owners.0);
            world.owned_of_other(proxy.number, owners.1);
        }
        sleep(PAUSE).await;
    }
}

/// A client that writes through one worker.
async fn write(app: Router, proxy: Arc<Mutex<Proxy>>, world: Arc<Shared<World>>) {
    let number = proxy.lock().await.number;
    loop {
        let forwarded = world.lock().unwrap().under_way[number].clone();
        if let Some(change) = forwarded {
            // The worker hears of decisions meanwhile.
            sleep(UNDER_WAY).await;
            if log(&app, &world, &[change]).await {
                world.lock().unwrap().under_way[number] = None;
            }
        } else {
            let mut proxy = proxy.lock().await;
            let owner = proxy.owner("/shop");
            let mut world = world.lock().unwrap();
            let key = format!("key-{}", world.clock % 7);
            match owner {
                Owner::Candidate if world.step < Step::Return => {
                    let ts = world.tick();
                    world.under_way[number] = Some((key, ts));
                }
                Owner::Stable if world.step < Step::Return => world.write_to_stable(&key),
                _ => {}
            }
        }
        sleep(PAUSE).await;
    }
}

/// Whether it was acknowledged.
async fn log(app: &Router, world: &Shared<World>, changes: &[(String, u64)]) -> bool {
    let changes = changes.iter();
    let batch: Vec<Value> = changes
        .clone()
        .map(|(pk, ts)| json!({ "src_ver": "v2", "dst_ver": "v1", "pk": pk, "payload": ts, "ts": ts }))
        .collect();
    let request = posted("/v1/services/shop/sync-log", &json!(batch));
    let taken = ask(app, request).await.0 == StatusCode::OK;
    if taken {
        let known = &mut world.lock().unwrap().acknowledged;
        for (pk, ts) in changes {
            let newest = known.entry(pk.clone()).or_default();
            *newest = (*newest).max(*ts);
        }
    }
    taken
}

async fn order(app: &Router, service: &str, command: Value) {
    let body = json!({ "command": command, "actor": "ann", "reason": "because" });
    // An order that was not answered is given again if the phase still asks for it.
    let path = format!("/v1/services/{service}/orders");
    ask(app, posted(&path, &body)).await;
}

/// Does what is next until all is done.
async fn operate(app: Router, world: Arc<Shared<World>>, board: watch::Receiver<Arc<Board>>) {
    loop {
        let phase_of = |service: &str| {
            let board = board.borrow();
            let mut services = board.services.iter();
            let view = services.find(|view| view.service == service);
            view.map(|view| view.phase)
        };
        let phase = phase_of("shop");
        let others = world.lock().unwrap().owners_of_other;
        let (step, owners, acknowledged, written) = {
            let world = world.lock().unwrap();
            let sizes = (world.acknowledged.len(), world.written_by_stable);
            (world.step, world.owners, sizes.0, sizes.1)
        };
        let next = match (step, phase) {
            (Step::Other, _) if phase_of("cart") == Some(PhaseName::FailedBack) => {
                (others == [Owner::Stable; 2]).then_some(Step::Load)
            }
            (Step::Other, Some(_)) => {
                order(&app, "cart", json!({ "rollback": { "force": false } })).await;
                None
            }
            (Step::Load, Some(_)) if owners == [Owner::Candidate; 2] => {
                let load: Vec<_> = (0..LOADED)
                    .map(|number| (format!("loaded-{number}"), world.lock().unwrap().tick()))
                    .collect();
                log(&app, &world, &load).await;
                log(&app, &world, &load).await;
                (acknowledged > 45).then_some(Step::FailBack)
            }
            (Step::FailBack, Some(PhaseName::FailedBack)) => Some(Step::Arrive),
            (Step::FailBack, Some(PhaseName::Stable)) => {
                order(&app, "shop", json!({ "rollback": { "force": false } })).await;
                None
            }
            (Step::Arrive, _) if owners == [Owner::Stable; 2] && written > 4 => Some(Step::Return),
            (Step::Return, Some(PhaseName::Stable)) => Some(Step::Done),
            (Step::Return, Some(_)) => {
                order(&app, "shop", json!("promote")).await;
                None
            }
            _ => None,
        };
        if let Some(next) = next {
            world.lock().unwrap().step = next;
        }
        if next == Some(Step::Done) {
            return;
        }
        sleep(PAUSE).await;
    }
}

impl Ground {
    fn new() -> Self {
        let outside = Runtime::new().unwrap();
        let world = Arc::new(Shared::new(World::new()));
        let app = applier(Arc::clone(&world));
        let applier = outside.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(async move { axum::serve(listener, app).await });
            address
        });
        Self {
            world,
            applier,
            _outside: outside,
        }
    }

    fn stage(&self) -> Stage {
        *self.world.lock().unwrap() = World::new();
        Stage::new(self.applier, &self.world)
    }

    fn kill(&self, round: usize, kill: Kill) {
        let stage = self.stage();
        let done = || self.world.lock().unwrap().step == Step::Done;
        stage.live(Some(kill));
        // Every third is killed again soon after its restart.
        let again = round
            .is_multiple_of(3)
            .then_some(Kill::Write(round / 3 % 4, Side::After));
        if let Some(again) = again.filter(|_| !done()) {
            stage.live(Some(again));
        }
        if !done() {
            stage.live(None);
        }
        stage.check(&format!("round {round}, {kill:?}, {again:?}"));
    }
}

impl Stage {
    fn new(applier: std::net::SocketAddr, world: &Arc<Shared<World>>) -> Self {
        let proxy = |number| {
            Arc::new(Mutex::new(Proxy {
                number,
                in_force: InForce::default(),
            }))
        };
        Self {
            dir: tempfile::tempdir().unwrap(),
            world: Arc::clone(world),
            proxies: [proxy(0), proxy(1)],
            policy: format!(
                "{}    degrade: {{ sync_log: {{ apply_url: \"http://{applier}/apply\" }}, drain: {{ settle: {SETTLE} }}, {EVIDENCE} }}\n{OTHER}",
                crate::sample::text("canary").replace("weight: 10", "weight: 100"),
            ),
        }
    }

    /// One life of the controller: to the end of the script, or to its own. How often it wrote.
    fn live(&self, kill: Option<Kill>) -> usize {
        let runtime = Runtime::new().unwrap();
        let (killed, mut kills) = unbounded_channel();
        let (release, store) = runtime.block_on(async {
            let (state, saved) = StateDir::open(self.dir.path()).unwrap();
            let publisher = Arc::new(Publisher::new(state, saved, Arc::default()));
            publisher.put_policy(crate::sample::compiled_of(self.policy.clone()));
            let nodes = Arc::<Nodes>::default();
            let clients = Clients::new(None).unwrap();
            let parts = Parts {
                publisher: Arc::clone(&publisher),
                nodes: Arc::clone(&nodes),
                collector: Collector::of_envoys(&clients, Vec::new()).unwrap(),
                clients,
                clock: Clock::start(),
                metrics: Arc::default(),
            };
            let (start, handle) = Start::new(self.dir.path(), parts).unwrap();
            let engine = start.engine().unwrap();
            let store = handle.store().unwrap();
            let release = match kill {
                Some(Kill::Write(at, side)) => Some(store.faults.plan(at, side, killed.clone())),
                Some(Kill::Apply(at)) => {
                    self.world.lock().unwrap().kill_at_apply = Some((at, killed.clone()));
                    None
                }
                None => None,
            };
            let (stop, stopped) = watch::channel(false);
            let board = handle.board.clone();
            let app = router(App {
                publisher,
                nodes,
                engine: handle,
                metrics: Arc::default(),
                patience: LONG,
                loopback: true,
                started: SystemTime::now(),
                stop: stopped.clone(),
            });
            let mut tasks = JoinSet::new();
            for proxy in &self.proxies {
                for kind in [Kind::Policy, Kind::Decisions] {
                    let (proxy, world) = (Arc::clone(proxy), Arc::clone(&self.world));
                    tasks.spawn(poll(app.clone(), proxy, world, kind));
                }
                let (proxy, world) = (Arc::clone(proxy), Arc::clone(&self.world));
                tasks.spawn(write(app.clone(), proxy, world));
            }
            let script = operate(app, Arc::clone(&self.world), board);
            tokio::select! {
                () = engine.run(stopped) => panic!("the loop ended by itself"),
                _ = kills.recv() => {}
                ended = timeout(LONG, script) => {
                    let step = self.world.lock().unwrap().step;
                    ended.unwrap_or_else(|_| panic!("{kill:?}: stuck at {step:?}"));
                }
            }
            drop(stop);
            (release, store)
        });
        // Nothing that listens to the store is left: now its thread may learn that it is dead.
        drop(release);
        runtime.shutdown_timeout(LONG);
        self.world.lock().unwrap().kill_at_apply = None;
        store.faults.written()
    }

    /// What must be true when the script is done.
    fn check(&self, round: &str) {
        let world = self.world.lock().unwrap();
        assert!(world.wrong.is_empty(), "{round}: {:?}", world.wrong);
        for (key, ts) in &world.acknowledged {
            assert!(world.stable.get(key) >= Some(ts), "{round}: {key} is lost");
        }
        let store = Store::open(self.dir.path()).unwrap();
        assert_eq!(store.backlog("shop").unwrap().waiting, 0, "{round}");
        let query = Query {
            service: Some("shop".to_owned()),
            before: None,
            limit: 99,
        };
        let history = store.history(&query).unwrap();
        let moves: Vec<String> = history
            .iter()
            .rev()
            .filter(|entry| entry.kind == "transition")
            .map(|entry| {
                let of = |field: &str| entry.detail["transition"][field].to_string();
                format!(
                    "{} {} -> {} {}",
                    of("from"),
                    of("from_share"),
                    of("to"),
                    of("to_share")
                )
            })
            .collect();
        let expected = [
            r#""stable" 100 -> "freezing" 100"#,
            r#""freezing" 100 -> "draining" 100"#,
            r#""draining" 100 -> "failed_back" 0"#,
            r#""failed_back" 0 -> "verifying" 0"#,
            r#""verifying" 0 -> "ramping" 1"#,
        ];
        assert_eq!(moves.get(..5).unwrap(), expected, "{round}");
        assert_eq!(moves.len(), 11, "{round}: every transition once: {moves:?}");
    }
}

/// What takes the log's changes for the stable version.
fn applier(world: Arc<Shared<World>>) -> Router {
    let apply = async move |Json(change): Json<Value>| {
        let mut world = world.lock().unwrap();
        world.applied += 1;
        let due = world.kill_at_apply.take_if(|(at, _)| *at == 0);
        if let Some((_, killed)) = due {
            let _ = killed.send(());
        }
        if let Some((at, _)) = &mut world.kill_at_apply {
            *at -= 1;
        }
        world.take(
            change["pk"].as_str().unwrap(),
            change["ts"].as_u64().unwrap(),
        );
        StatusCode::OK
    };
    Router::new().route("/apply", post(apply))
}

/// How often the controller is killed at least; `OMBRE_ROUNDS` asks for another number.
fn rounds() -> usize {
    let asked = std::env::var("OMBRE_ROUNDS").ok();
    asked.and_then(|asked| asked.parse().ok()).unwrap_or(100)
}

#[test]
fn killed_at_every_write_it_goes_on_without_loss() {
    let ground = Ground::new();
    let stage = ground.stage();
    let writes = stage.live(None);
    stage.check("undisturbed");
    let of_write =
        (0..writes).flat_map(|at| [Side::Before, Side::After].map(|s| Kill::Write(at, s)));
    let of_apply = (0..LOADED).step_by(5).map(Kill::Apply);
    let points: Vec<Kill> = of_write.chain(of_apply).collect();
    let planned = rounds().max(points.len());
    let rounds = points.iter().copied().cycle().enumerate().take(planned);
    // Most of a round is waiting.
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            let rounds = rounds.clone().skip(lane).step_by(LANES);
            scope.spawn(move || {
                let ground = Ground::new();
                for (round, kill) in rounds {
                    ground.kill(round, kill);
                }
            });
        }
    });
    println!("{planned} rounds over {} points", points.len());
}
