use super::*;
use crate::clients::Clients;
use crate::metrics::Now;
use crate::publish::View;
use crate::sample::text;
use crate::source::LARGEST_FILE;
use crate::state::StateDir;
use axum::http::StatusCode;
use axum::{Router, routing::get};
use ombre_policy::document::{Kind, Revision};
use reqwest::Url;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);

struct Running {
    dir: tempfile::TempDir,
    publisher: Arc<Publisher>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    fn new(first: Option<&str>, admins: Vec<Url>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.yaml");
        if let Some(first) = first {
            fs::write(&path, first).unwrap();
        }
        let (state, saved) = StateDir::open(&dir.path().join("state")).unwrap();
        let metrics = Arc::new(Metrics::default());
        let publisher = Arc::new(Publisher::new(state, saved, Arc::clone(&metrics)));
        let clusters = Clusters::new(&Clients::new(None).unwrap(), admins).unwrap();
        let loader = Loader::new(vec![path], Arc::clone(&publisher), metrics, clusters);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(loader.run(stopped));
        Self {
            dir,
            publisher,
            stop,
            task,
        }
    }

    fn policy(&self) -> std::path::PathBuf {
        self.dir.path().join("policy.yaml")
    }

    /// Waits for this to be so; polls, because a refusal is told to nobody.
    async fn until(&self, what: &str, so: impl Fn(&View) -> bool) -> View {
        let wait = async {
            loop {
                let view = self.publisher.view();
                if so(&view) {
                    return view;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(SOON, wait)
            .await
            .unwrap_or_else(|_| panic!("never: {what}"))
    }

    async fn until_refused(&self, expected: &str) {
        self.until(expected, |view| {
            let refusal = view.refusal.as_ref();
            refusal.is_some_and(|refusal| refusal.problems.to_string().contains(expected))
        })
        .await;
    }

    /// Waits for a second policy: from the first on its file is watched.
    async fn watched(&self, text: &str) -> Option<Revision> {
        let first = self.until("published", good_view).await;
        replace(&self.policy(), text.as_bytes());
        let second = |view: &View| revision(view) > revision(&first);
        revision(&self.until("published again", second).await)
    }

    async fn end(self) {
        self.stop.send_replace(true);
        timeout(SOON, self.task).await.expect("ends").unwrap();
    }
}

fn replace(path: &Path, text: &[u8]) {
    let next = path.with_extension("next");
    fs::write(&next, text).unwrap();
    fs::rename(&next, path).unwrap();
}

fn good_view(view: &View) -> bool {
    view.in_force.is_some() && view.refusal.is_none()
}

fn revision(view: &View) -> Option<Revision> {
    view.in_force.as_ref().map(|now| now.revision)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_becomes_of_the_file_the_last_good_policy_stays() {
    let running = Running::new(Some(&text("a")), Vec::new());
    let path = running.policy();
    let first = running.until("published", good_view).await;
    let first = first.in_force.unwrap().revision;
    let noise: Vec<u8> = (0..10 << 20)
        .map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let bad: [(&[u8], &str); 5] = [
        (b"services: [", "policy.yaml:"),
        (b"apiVersion: ombre/v1\nservices: []\nextra: 1\n", "extra"),
        (&noise, "not UTF-8 text"),
        (&vec![b'x'; 10 << 20], "policy.yaml:"),
        (
            &vec![b'x'; LARGEST_FILE as usize + 1],
            "split it into several",
        ),
    ];
    for (text, expected) in bad {
        replace(&path, text);
        running.until_refused(expected).await;
        let now = running.publisher.view().in_force.unwrap().revision;
        assert_eq!(now, first, "{expected}");
    }
    fs::remove_file(&path).unwrap();
    running.until_refused("no such file").await;
    fs::create_dir(&path).unwrap();
    running.until_refused("is a directory").await;
    fs::remove_dir(&path).unwrap();
    fs::write(&path, text("b")).unwrap();
    let view = running.until("good again", good_view).await;
    assert!(view.in_force.unwrap().revision > first);
    running.end().await;
}

/// A policy that is cut off between two services is a good one.
#[tokio::test(flavor = "multi_thread")]
async fn half_of_a_policy_is_never_in_force_while_it_is_being_written() {
    let cart = text("cart_v2").replace("shop", "cart");
    let (_, cart) = cart.split_once("services:\n").unwrap();
    let (half, whole) = (text("b"), text("b") + cart);
    let running = Running::new(Some(&text("a")), Vec::new());
    let first = running.watched(&whole.replace(": b", ": c")).await;
    let mut file = fs::File::create(running.policy()).unwrap();
    file.write_all(half.as_bytes()).unwrap();
    let changed = running.until("never", |view| revision(view) != first);
    let early = timeout(Duration::from_millis(300), changed).await;
    assert!(early.is_err(), "half of it is in force");
    file.write_all(cart.as_bytes()).unwrap();
    drop(file);
    let changed = running.until("whole", |view| revision(view) != first).await;
    let now = changed.in_force.unwrap();
    assert_eq!(now.compiled.policy.services().count(), 2);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_that_stays_open_is_told_of() {
    let running = Running::new(Some(&text("a")), Vec::new());
    running.watched(&text("b")).await;
    let mut file = fs::File::create(running.policy()).unwrap();
    file.write_all(b"services: [").unwrap();
    running.until_refused("policy.yaml:").await;
    file.write_all(b"]").unwrap();
    running.until_refused("services").await;
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_comes_late_is_published() {
    let running = Running::new(None, Vec::new());
    running.until_refused("no such file").await;
    fs::write(running.policy(), text("a")).unwrap();
    running.until("published", good_view).await;
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_broken_content_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy.yaml");
    let (state, saved) = StateDir::open(&dir.path().join("state")).unwrap();
    let metrics = Arc::new(Metrics::default());
    let publisher = Arc::new(Publisher::new(state, saved, Arc::clone(&metrics)));
    let clusters = Clusters::new(&Clients::new(None).unwrap(), Vec::new()).unwrap();
    let paths = vec![path.clone()];
    let mut loader = Loader::new(paths, publisher, Arc::clone(&metrics), clusters);
    for (text, refusals) in [("services: [", 1), ("services: [", 1), ("services: [ ", 2)] {
        replace(&path, text.as_bytes());
        loader.look(Hint::Written).await.unwrap();
        let line = format!("ombre_policy_loads_total{{result=\"refused\"}} {refusals}\n");
        let found = metrics.text(Now::nothing());
        assert!(found.contains(&line), "{line} in\n{found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_the_policy_refers_to_is_watched_as_well() {
    let good = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy/tests/good");
    let policy = fs::read_to_string(good.join("design.yaml")).unwrap();
    let experiment = fs::read_to_string(good.join("ab-strategy.yaml")).unwrap();
    let running = Running::new(Some(&policy), Vec::new());
    running
        .until_refused("ab-strategy.yaml`: no such file")
        .await;
    let beside = running.dir.path().join("ab-strategy.yaml");
    fs::write(&beside, &experiment).unwrap();
    let first = running.until("published", good_view).await;
    replace(&beside, b"groups: [");
    running.until_refused("ab-strategy.yaml:").await;
    replace(&beside, experiment.as_bytes());
    let view = running.until("good again", good_view).await;
    let revision = |view: View| view.in_force.unwrap().revision;
    assert_eq!(
        revision(view),
        revision(first),
        "nothing changed in the end"
    );
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_file_is_published_within_moments() {
    let running = Running::new(Some(&text("a")), Vec::new());
    running.until("published", good_view).await;
    let mut news = running.publisher.documents().subscribe(Kind::Policy);
    let mut times = Vec::new();
    for number in 0..30 {
        news.borrow_and_update();
        let saved = Instant::now();
        fs::write(running.policy(), text(&format!("c{number}"))).unwrap();
        timeout(SOON, news.changed())
            .await
            .expect("published")
            .unwrap();
        times.push(saved.elapsed());
    }
    times.sort();
    let (median, longest) = (times.get(15).unwrap(), times.last().unwrap());
    println!("save to publication: median {median:?}, longest {longest:?}");
    assert!(*median < Duration::from_millis(100), "{times:?}");
    running.end().await;
}

/// An Envoy's admin address that has these clusters.
async fn admin(clusters: Arc<Mutex<Vec<&'static str>>>) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = move || async move {
        let clusters = clusters.lock().unwrap().clone();
        let statuses: Vec<_> = clusters
            .iter()
            .map(|name| serde_json::json!({ "name": name, "added_via_api": false }))
            .collect();
        let body = serde_json::json!({ "cluster_statuses": statuses });
        (StatusCode::OK, body.to_string())
    };
    let router = Router::new().route("/clusters", get(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_an_envoy_lacks_is_refused_until_it_has_it() {
    let clusters = Arc::new(Mutex::new(vec!["stable"]));
    let mut url = admin(Arc::clone(&clusters)).await;
    url.set_username("ann").unwrap();
    url.set_password(Some("secret")).unwrap();
    let running = Running::new(Some(&text("a")), vec![url]);
    running.until_refused("has no cluster `a`").await;
    let view = running.publisher.view();
    let told = view.refusal.unwrap().problems.to_string();
    assert!(!told.contains("secret"), "{told}");
    assert!(view.in_force.is_none());
    clusters.lock().unwrap().push("a");
    running.until("published", good_view).await;
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn envoys_that_do_not_answer_refuse_nothing_and_keep_nobody_waiting() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}", listener.local_addr().unwrap());
    let silent: Url = silent.parse().unwrap();
    // Each has a second: one after the other would take longer than it is waited for.
    let running = Running::new(Some(&text("a")), vec![silent.clone(); 20]);
    running.until("published", good_view).await;
    running.end().await;
    let running = Running::new(Some(&text("a")), vec![silent; 500]);
    listener.accept().await.unwrap();
    running.end().await;
}
