//! The built program `ombre`, as an operator runs it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "what fails here fails a test"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);

const POLICY: &str = "apiVersion: ombre/v1
services:
  - name: shop
    routes:
      - { name: shop, path: /shop }
      - { name: cart, path: /cart }
    versions:
      - { name: v1, cluster: shop_v1 }
      - { name: v2, cluster: shop_v2 }
    default: v1
";

fn ombre(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ombre"));
    command.current_dir(dir).env_clear();
    command
}

fn run(dir: &Path, args: &[&str]) -> Output {
    ombre(dir).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn dir_with(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

/// A running controller. Ended by its own id when the test ends.
struct Serving {
    child: Child,
    log: BufReader<ChildStderr>,
    address: String,
}

impl Serving {
    fn start(dir: &Path) -> Self {
        Self::run(&mut ombre(dir))
    }

    /// With at most so many open files.
    fn with_files(dir: &Path, files: usize) -> Self {
        let mut limited = Command::new("/bin/sh");
        limited.current_dir(dir).env_clear();
        let script = format!("ulimit -n {files} && exec \"$0\" \"$@\"");
        Self::run(limited.args(["-c", &script, env!("CARGO_BIN_EXE_ombre")]))
    }

    fn run(command: &mut Command) -> Self {
        let mut child = command
            .args(["serve", "--policy", "policy.yaml", "--state-dir", "state"])
            .args(["--listen", "127.0.0.1:0", "--log-format", "json"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut serving = Self {
            child,
            log,
            address: String::new(),
        };
        let line = serving.until("listening");
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        serving.address = line["address"].as_str().unwrap().to_owned();
        serving
    }

    /// Reads the log up to a line with this in it; ends with the log when there is none.
    fn until(&mut self, expected: &str) -> String {
        let mut seen = String::new();
        loop {
            let start = seen.len();
            let read = self.log.read_line(&mut seen).unwrap();
            assert!(read > 0, "no `{expected}` in:\n{seen}");
            if seen[start..].contains(expected) {
                return seen[start..].to_owned();
            }
        }
    }

    fn terminate(&mut self) -> std::process::ExitStatus {
        let pid = self.child.id().to_string();
        Command::new("kill").arg(&pid).status().unwrap();
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < SOON, "it does not end");
            std::thread::yield_now();
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn validate_says_what_is_in_a_good_policy() {
    let dir = dir_with(&[("policy.yaml", POLICY)]);
    let output = run(dir.path(), &["validate", "policy.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(
        text(&output.stdout),
        "fine: 1 service, 2 routes, 2 versions\n"
    );
}

/// They load, since each could be meant.
#[test]
fn validate_warns_of_the_wildcards_of_other_routers() {
    let meant = POLICY.replace("/cart", "\"/%2A/%3Aid/a:b/{*rest}\"");
    let foreign = POLICY.replace("path: /shop", "path: /shop/:id/*");
    let dir = dir_with(&[("meant.yaml", &meant), ("foreign.yaml", &foreign)]);
    let output = run(dir.path(), &["validate", "meant.yaml"]);
    assert!(output.status.success());
    assert_eq!(text(&output.stderr), "");
    let output = run(dir.path(), &["validate", "foreign.yaml"]);
    assert!(output.status.success());
    let shown = text(&output.stderr);
    let lines: Vec<&str> = shown.lines().collect();
    let place = "warning: foreign.yaml:5:29: services[0].routes[0].path: ";
    assert_eq!(
        lines,
        [
            format!(
                "{place}`:id` matches only itself: write `{{id}}` for any segment, `%3Aid` if that is meant"
            ),
            format!(
                "{place}`*` matches only itself: write `{{*rest}}` for all that follows, `{{name}}` for one segment, `%2A` if that is meant"
            ),
        ]
    );
}

#[test]
fn validate_names_file_place_and_fix_one_line_each() {
    let bad = POLICY.replace("default: v1", "default: v7");
    let dir = dir_with(&[("bad.yaml", &bad)]);
    fs::create_dir(dir.path().join("directory")).unwrap();
    for (file, expected) in [
        ("bad.yaml", "bad.yaml:10:14: services[0].default: "),
        ("none.yaml", "none.yaml: no such file; check the path"),
        (
            "directory",
            "directory: is a directory; name the file in it",
        ),
    ] {
        let output = run(dir.path(), &["validate", file]);
        assert_eq!(output.status.code(), Some(1), "{file}");
        let errors = text(&output.stderr);
        assert!(errors.starts_with(expected), "{file}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{file}: {errors}");
    }
}

#[test]
fn explain_says_the_decision_and_why() {
    let dir = dir_with(&[("policy.yaml", POLICY)]);
    let ask = |more: &[&str]| {
        let args = [&["explain", "--policy", "policy.yaml"], more].concat();
        let output = run(dir.path(), &args);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let answer = ask(&["-H", "X-API-Version: 2", "http://shop.example/shop"]);
    assert!(answer.contains("goes to v2 (cluster shop_v2)"), "{answer}");
    // The variable is for the commands that ask a controller: no reason to refuse a file.
    let output = ombre(dir.path())
        .env("OMBRE_CONTROLLER", "http://127.0.0.1:1")
        .args(["explain", "--policy", "policy.yaml", "/shop"])
        .output()
        .unwrap();
    let shown = text(&output.stdout) + &text(&output.stderr);
    assert!(shown.contains("goes to v1 (cluster shop_v1)"), "{shown}");
    let answer = ask(&["-X", "POST", "--output", "json", "/cart"]);
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["cluster"], "shop_v1");
    assert_eq!(answer["route"], "cart");
}

#[test]
fn a_failed_command_tells_its_user_why_in_one_line() {
    let dir = dir_with(&[]);
    let output = ombre(dir.path())
        .env("RUST_BACKTRACE", "1")
        .args(["status", "--controller", "http://127.0.0.1:1"])
        .output()
        .unwrap();
    let shown = text(&output.stderr);
    assert!(!output.status.success(), "{shown}");
    assert_eq!(shown.lines().count(), 1, "{shown}");
    assert!(
        shown.starts_with("error: no answer from http://127.0.0.1:1/: "),
        "{shown}"
    );
}

#[test]
fn status_says_why_a_policy_is_refused() {
    let dir = dir_with(&[("policy.yaml", POLICY)]);
    let mut serving = Serving::start(dir.path());
    serving.until("policy published");
    let controller = format!("http://{}", serving.address);
    let status = || text(&run(dir.path(), &["status", "--controller", &controller]).stdout);
    let shown = status();
    assert!(!shown.contains("refused"), "{shown}");
    let broken = POLICY.replace("default: v1", "default: v7");
    fs::write(dir.path().join("policy.yaml"), broken).unwrap();
    serving.until("policy refused");
    let shown = status();
    assert!(
        shown.contains("policy.yaml:10:14: services[0].default: `v7`"),
        "{shown}"
    );
}

/// Weights that changed leave units where they were; only the state knows where that is.
#[test]
fn explain_finds_the_groups_of_a_state_directory() {
    let experiment = |control: u32| {
        let treatment = 100 - control;
        format!(
            "{POLICY}    unit: [{{ header: x-user-id }}]\n    experiment: {{ experiment: look, groups: [{{ name: control, weight: {control} }}, {{ name: treatment, weight: {treatment} }}] }}\n"
        )
    };
    let dir = dir_with(&[("policy.yaml", &experiment(50))]);
    let mut serving = Serving::start(dir.path());
    serving.until("policy published");
    fs::write(dir.path().join("policy.yaml"), experiment(60)).unwrap();
    serving.until("policy published");
    let controller = format!("http://{}", serving.address);
    let group = |about: &[&str], user: u32| {
        let user = format!("x-user-id: u{user}");
        let output = run(
            dir.path(),
            &[&["explain", "-H", &user, "/shop"], about].concat(),
        );
        let answer = text(&output.stdout);
        let line = answer.lines().find(|line| line.contains("look="));
        line.unwrap_or_else(|| panic!("{answer}{}", text(&output.stderr)))
            .to_owned()
    };
    let file = ["--policy", "policy.yaml"];
    let with_state = [&file[..], &["--state-dir", "state"]].concat();
    let mut moved = 0;
    for user in 0..30 {
        let now = group(&["--controller", &controller], user);
        assert_eq!(group(&with_state, user), now, "u{user}");
        moved += u32::from(group(&file, user) != now);
    }
    assert!(moved > 0, "a first load plans other groups");
    let output = run(
        dir.path(),
        &[&["explain", "/shop"], &file[..], &["--state-dir", "none"]].concat(),
    );
    assert!(text(&output.stderr).contains("`none/state.json` cannot be read"));
}

#[test]
fn serve_answers_until_it_is_told_to_end_and_then_ends_well() {
    let dir = dir_with(&[("policy.yaml", POLICY)]);
    let mut serving = Serving::start(dir.path());
    serving.until("policy published");
    let controller = format!("http://{}", serving.address);
    let args = [
        "explain",
        "--controller",
        &controller,
        "-H",
        "x-api-version: v2",
        "/shop",
    ];
    let output = run(dir.path(), &args);
    let (answer, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(answer.contains("goes to v2 (cluster shop_v2)"), "{errors}");
    fs::write(dir.path().join("policy.yaml"), "services: [").unwrap();
    let line = serving.until("policy refused");
    assert!(line.contains("policy.yaml:1:"), "{line}");
    let status = serving.terminate();
    assert_eq!(status.code(), Some(0));
    drop(serving);

    fs::write(dir.path().join("policy.yaml"), POLICY).unwrap();
    let mut serving = Serving::start(dir.path());
    serving.until("policy resumed");
    let args = ["serve", "--policy", "policy.yaml", "--state-dir", "state"];
    let output = run(
        dir.path(),
        &[&args[..], &["--listen", "127.0.0.1:0"]].concat(),
    );
    assert!(text(&output.stderr).contains("is in use by another ombre"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn connections_wait_while_no_file_is_left_and_are_taken_when_there_is_one() {
    let dir = dir_with(&[("policy.yaml", POLICY)]);
    let mut serving = Serving::with_files(dir.path(), 64);
    serving.until("policy published");
    let connect = || TcpStream::connect(&serving.address).unwrap();
    let crowd: Vec<_> = (0..64).map(|_| connect()).collect();
    let mut waiting = connect();
    let request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    waiting.write_all(request).unwrap();
    serving.until("connections cannot be accepted");
    drop(crowd);
    let mut answer = String::new();
    waiting.set_read_timeout(Some(SOON)).unwrap();
    waiting.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(serving.terminate().code(), Some(0));
}

const RELEASED: &str = "    unit: [{ header: x-user-id }]
    rollout: { candidate: v2, weight: 10 }
    degrade: {}
";

#[test]
fn releases_are_shown_and_ordered_from_the_command_line() {
    let policy = format!("{POLICY}{RELEASED}");
    let dir = dir_with(&[("policy.yaml", &policy)]);
    let mut serving = Serving::start(dir.path());
    serving.until("release begins");
    let controller = format!("http://{}", serving.address);
    let ombre = |args: &[&str]| {
        let output = run(dir.path(), &[args, &["--controller", &controller]].concat());
        (
            output.status.success(),
            text(&output.stdout) + &text(&output.stderr),
        )
    };
    let start = Instant::now();
    while !ombre(&["status"]).1.contains("ramping") {
        assert!(start.elapsed() < SOON, "{}", ombre(&["status"]).1);
    }
    let order = ["--actor", "ann", "--reason", "looks bad"];
    let (done, shown) = ombre(&[&["rollback", "shop"], &order[..]].concat());
    assert!(done && shown.contains("failed_back"), "{shown}");
    let (done, shown) = ombre(&[&["rollback", "shop", "--force"], &order[..]].concat());
    assert!(!done && shown.contains("failed back already"), "{shown}");
    assert!(shown.contains("given up: 0 changes"), "{shown}");
    let (done, shown) = ombre(&[&["set-weight", "shop", "40"], &order[..]].concat());
    assert!(done && shown.contains("stable, 40%"), "{shown}");
    let (_, shown) = ombre(&["history", "shop"]);
    assert!(shown.contains("ramping 10% -> failed_back 0%"), "{shown}");
    assert!(shown.contains("ann: looks bad"), "{shown}");
    let (done, shown) = ombre(&[&["promote", "other"], &order[..]].concat());
    assert!(
        !done && shown.contains("`other` is not a service"),
        "{shown}"
    );
}

#[test]
fn a_damaged_store_stops_the_loop_and_nothing_else() {
    let policy = format!("{POLICY}{RELEASED}");
    let damaged = "this is no database".repeat(99);
    let dir = dir_with(&[("policy.yaml", &policy)]);
    fs::create_dir(dir.path().join("state")).unwrap();
    let db = dir.path().join("state/ombre.db");
    fs::write(&db, &damaged).unwrap();
    let mut serving = Serving::start(dir.path());
    serving.until("policy published");
    let controller = format!("http://{}", serving.address);
    let output = run(dir.path(), &["status", "--controller", &controller]);
    let shown = text(&output.stdout);
    assert!(
        shown.contains("nothing moves") && shown.contains("is damaged"),
        "{shown}"
    );
    let output = run(
        dir.path(),
        &["explain", "--controller", &controller, "/shop"],
    );
    assert!(
        text(&output.stdout).contains("cluster shop_v1"),
        "policies are served"
    );
    let order = ["promote", "shop", "--actor", "ann", "--reason", "why not"];
    let output = run(
        dir.path(),
        &[&order[..], &["--controller", &controller]].concat(),
    );
    assert!(
        text(&output.stderr).contains("not running"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(serving.terminate().code(), Some(0));
    assert_eq!(
        fs::read_to_string(&db).unwrap(),
        damaged,
        "left as it was found"
    );
}
