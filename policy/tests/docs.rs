//! Every example in `docs/policy.md` loads, and every field that can be written is in one of them.
#![cfg(not(target_arch = "wasm32"))]
#![expect(clippy::panic, reason = "a test that cannot go on must stop")]

use ombre_policy::decisions::Decisions;
use ombre_policy::load::{Files, SourceFile, load};
use ombre_policy::policy::{Cluster, Policy};
use ombre_policy::problem::Problems;
use ombre_policy::release::settings::Settings;

const PAGE: &str = include_str!("../../docs/policy.md");
const RAW: &str = include_str!("../src/raw.rs");
const RAW_CLUSTER: &str = include_str!("../src/raw/cluster.rs");
const RAW_LISTENER: &str = include_str!("../src/raw/listener.rs");
const RAW_DEGRADE: &str = include_str!("../src/release/settings/raw.rs");
const NAMED_DECISIONS: &str = include_str!("../src/decisions/named.rs");

/// A fenced block: what stands behind the fence, and its text.
type Block<'p> = (&'p str, String);

/// The files that the examples name: the page's own experiment, and a secret.
struct Beside;

impl Files for Beside {
    fn read(&self, _: &str, path: &str) -> Result<SourceFile, String> {
        let text = match path {
            "ab-strategy.yaml" => one(&blocks("yaml experiment")).to_owned(),
            "token.txt" => "sesame-sesame\n".to_owned(),
            _ => return Err(format!("`{path}` is not there")),
        };
        Ok(SourceFile {
            name: path.to_owned(),
            text,
        })
    }
}

#[test]
fn every_policy_loads() {
    let whole = blocks("yaml");
    let fragments = blocks("yaml service");
    assert!(whole.len() == 1 && fragments.len() >= 10);
    for text in &whole {
        loaded(text);
    }
    for fragment in &fragments {
        loaded(&service(fragment));
    }
}

#[test]
fn the_experiment_is_the_article_s() {
    let article = include_str!("good/ab-strategy.yaml");
    let meant = |text: &str| -> serde_json::Value { serde_saphyr::from_str(text).expect("YAML") };
    assert_eq!(meant(one(&blocks("yaml experiment"))), meant(article));
}

#[test]
fn the_decisions_are_for_the_first_policy() {
    let with_rollout = one(&blocks("yaml")).to_owned()
        + "    unit: [{ header: x-user-id }]\n    rollout: { candidate: v2, weight: 10 }\n";
    let decisions: Decisions = serde_json::from_str(one(&blocks("json decisions"))).expect("JSON");
    if let Err(problems) = decisions.compile(&loaded(&with_rollout)) {
        panic!("{problems}");
    }
}

#[test]
fn the_degrade_example_shows_the_defaults() {
    let fragments = blocks("yaml service");
    let example = fragments.iter().find(|text| text.contains("\ndegrade:"));
    let policy = loaded(&service(example.expect("an example")));
    let release = policy.releases().next().expect("a release");
    let expected = Settings {
        fallback: release.settings.fallback.clone(),
        sync_log: release.settings.sync_log.clone(),
        ..Settings::article()
    };
    assert_eq!(*release.settings, expected);
}

#[test]
fn the_cluster_example_shows_the_defaults() {
    let example = with_clusters(one(&blocks("yaml xds")));
    let bare = with_clusters(
        "clusters:\n  - { name: checkout_v1, endpoints: ['10.0.0.1:8080'] }\n  - { name: checkout_v2, dns: 'checkout-v2.internal:8443', tls: { ca: ca.pem } }\nlisteners: [{ name: traffic, address: '0.0.0.0:8443', default_cluster: checkout_v1 }]\n",
    );
    let ([shown, shown_tls], [default, default_tls]) = (example.clusters(), bare.clusters()) else {
        panic!("not two clusters each");
    };
    assert_eq!(shown.connect_timeout, default.connect_timeout);
    assert_eq!(shown.http2, default.http2);
    assert_eq!(shown.circuit_breakers, default.circuit_breakers);
    assert_eq!(shown.outlier_detection, default.outlier_detection);
    let names = |cluster: &Cluster| cluster.tls.clone().map(|tls| (tls.sni, tls.san));
    assert_eq!(names(shown_tls), names(default_tls));
    let timeouts = [&example, &bare].map(|policy| policy.listeners().first().map(|l| l.timeout));
    assert_eq!(timeouts[0], timeouts[1]);
}

#[test]
fn every_field_has_an_example() {
    let all: Vec<Block<'_>> = all_blocks();
    let examples: String = all
        .iter()
        .filter(|(kind, _)| kind.starts_with("yaml") || *kind == "json decisions")
        .map(|(_, text)| text.as_str())
        .collect();
    let fields = fields(RAW)
        .chain(fields(RAW_CLUSTER))
        .chain(fields(RAW_LISTENER))
        .chain(fields(RAW_DEGRADE))
        .chain(fields(NAMED_DECISIONS));
    let mut count = 0;
    for field in fields {
        count += 1;
        let is_key = |(at, _): (usize, &str)| {
            let before = examples.get(..at).and_then(|text| text.chars().next_back());
            let after = examples.get(at + field.len()..).unwrap_or_default();
            let is_start = before.is_none_or(|c| !c.is_alphanumeric() && c != '_');
            is_start && (after.starts_with(':') || after.starts_with("\":"))
        };
        assert!(
            examples.match_indices(field.as_str()).any(is_key),
            "`{field}` has no example"
        );
    }
    assert!(count > 110, "only {count} fields were found in the sources");
}

fn loaded(text: &str) -> Policy {
    let name = "policy.yaml".to_owned();
    let file = SourceFile {
        name,
        text: text.to_owned(),
    };
    match load(&[file], &Beside).map_err(|problems: Problems| problems.to_string()) {
        Ok(loaded) => {
            assert_eq!(loaded.warnings, [], "{text}");
            loaded.policy
        }
        Err(problems) => panic!("{problems}\n{text}"),
    }
}

/// The page's policy with its clusters and listeners.
fn with_clusters(blocks: &str) -> Policy {
    loaded(&(one(&self::blocks("yaml")).to_owned() + blocks))
}

/// A policy with this fragment of its service, and what it leaves out.
fn service(fragment: &str) -> String {
    let mut text = String::from("apiVersion: ombre/v1\nservices:\n  - name: checkout\n");
    for line in fragment.lines() {
        text.push_str(&format!("    {line}\n"));
    }
    let rest = [
        ("routes", "[{ name: checkout, path: '/checkout/{*rest}' }]"),
        (
            "versions",
            "[{ name: v1, cluster: checkout_v1 }, { name: v2, cluster: checkout_v2 }]",
        ),
        ("default", "v1"),
    ];
    for (key, value) in rest {
        if !fragment
            .lines()
            .any(|line| line.starts_with(&format!("{key}:")))
        {
            text.push_str(&format!("    {key}: {value}\n"));
        }
    }
    text
}

/// The names of the fields in a source file, as they are written in YAML or JSON.
fn fields(source: &str) -> impl Iterator<Item = String> {
    let mut renamed = None;
    source.lines().filter_map(move |line| {
        let line = line.trim();
        if let Some((_, name)) = line.split_once("rename = \"") {
            renamed = name.split('"').next().map(str::to_owned);
            return None;
        }
        // In `block!` a new name stands before the field, and fields are not marked `pub`.
        let (marked, line) = match line.strip_prefix('@') {
            Some(rest) => (
                rest.split('"').nth(1),
                rest.split_once(' ').map_or("", |(_, field)| field),
            ),
            None => (None, line),
        };
        let is_public = line.starts_with("pub ");
        let (name, kind) = line.trim_start_matches("pub ").split_once(": ")?;
        let is_name = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        let in_block =
            source.contains("macro_rules! block") && kind.ends_with(',') && !kind.contains('$');
        if !is_name || !(is_public || in_block) {
            return None;
        }
        Some(
            renamed
                .take()
                .or(marked.map(str::to_owned))
                .unwrap_or_else(|| name.to_owned()),
        )
    })
}

fn blocks(kind: &str) -> Vec<String> {
    let found = all_blocks().into_iter().filter(|(known, _)| *known == kind);
    found.map(|(_, text)| text).collect()
}

fn one(blocks: &[String]) -> &str {
    match blocks {
        [one] => one,
        _ => panic!("{} blocks, not one", blocks.len()),
    }
}

fn all_blocks() -> Vec<Block<'static>> {
    let mut blocks = Vec::new();
    let mut open: Option<Block<'static>> = None;
    for line in PAGE.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(kind), None) => open = Some((kind, String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, text))) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fence is not closed");
    blocks
}
