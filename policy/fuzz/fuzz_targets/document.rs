//! Any bytes as documents: as they are, in a sound envelope, as damage to a good plan in a sound
//! envelope, and as two documents in one piece. Whatever is taken, requests are decided without a panic afterwards.
#![no_main]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use ombre_policy::decisions::Decisions;
use ombre_policy::document::{Kind, Revision, join, seal, split};
use ombre_policy::headers::HeaderMap;
use ombre_policy::in_force::InForce;
use ombre_policy::load::{Files, SourceFile, load};
use ombre_policy::plan::Plan;
use ombre_policy::policy::SlotTables;
use ombre_policy::verdict::Verdict;

/// The bodies of a good policy document and of good decisions for it.
static GOOD: LazyLock<(Vec<u8>, Vec<u8>)> = LazyLock::new(|| {
    let text = include_str!("../../tests/good/everything.yaml").to_owned();
    let name = "everything.yaml".to_owned();
    let loaded = load(&[SourceFile { name, text }], &Beside).expect("a good policy");
    let plan = Plan::compile(&loaded.policy, &loaded.policy.slots(&SlotTables::default()));
    let decisions: Decisions =
        serde_json::from_str(include_str!("everything.json")).expect("decisions");
    let decisions = decisions
        .compile(&loaded.policy)
        .expect("decisions of this policy");
    (plan.encode(&decisions), decisions.encode())
});

/// The same, sealed and in one piece.
static PAIR: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let (policy, decisions) = &*GOOD;
    join(
        &seal(Kind::Policy, ONE, ONE, policy),
        &seal(Kind::Decisions, TWO, ONE, decisions),
    )
});

struct Beside;

impl Files for Beside {
    fn read(&self, _: &str, path: &str) -> Result<SourceFile, String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/good");
        let text = fs::read_to_string(folder.join(path)).map_err(|error| error.to_string())?;
        let name = path.to_owned();
        Ok(SourceFile { name, text })
    }
}

const ONE: Revision = Revision::new(1);
const TWO: Revision = Revision::new(2);

fuzz_target!(|data: &[u8]| {
    let Some((mode, data)) = data.split_first() else {
        return;
    };
    let mut in_force = InForce::default();
    match mode % 8 {
        0 => drop(in_force.take(data)),
        1 => drop(in_force.take(&seal(Kind::Policy, ONE, ONE, data))),
        2 => drop(in_force.take(&seal(Kind::Policy, ONE, ONE, &damaged(&GOOD.0, data)))),
        6 => taken_together(&mut in_force, data),
        7 => taken_together(&mut in_force, &damaged(&PAIR, data)),
        mode => {
            in_force
                .take(&seal(Kind::Policy, ONE, ONE, &GOOD.0))
                .expect("a good policy");
            let before = in_force.decisions_revision();
            let taken = match mode {
                3 => in_force.take(&seal(Kind::Decisions, TWO, ONE, data)),
                4 => in_force.take(&seal(Kind::Decisions, TWO, ONE, &damaged(&GOOD.1, data))),
                _ => in_force.take(data),
            };
            assert!(
                taken.is_ok() || in_force.decisions_revision() == before,
                "all or nothing"
            );
        }
    }
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/api/v2/users/7?color=blue"),
        ("POST", "/old/7/a/b%2F"),
        ("PUT", "/strict/v9"),
        ("PATCH", "/single"),
        (
            "GET",
            "/static/app.js/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r/s/t/u/v/w/x/y/z/0/1/2/3/4/5",
        ),
    ] {
        let headers = HeaderMap::encode(&[
            (":method", method),
            (":authority", "a.gold.example.com:80"),
            (":path", path),
            ("x-user-id", "7"),
            ("x-stage", "v2"),
            ("x-stage-token", "sesame-sesame"),
            ("cookie", "traffic_color=canary-v2; sid=1"),
        ]);
        match in_force.decide(HeaderMap::new(&headers), || [7; 16]) {
            Verdict::Pass => {}
            Verdict::Refuse(refusal) => assert!(!refusal.body().is_empty()),
            Verdict::Route(mut routed) => routed.write(|_| {}),
        }
    }
});

fn taken_together(in_force: &mut InForce, bytes: &[u8]) {
    let Ok(pair) = split(bytes) else {
        return;
    };
    assert_eq!(
        join(pair.policy, pair.decisions),
        bytes,
        "nothing is left over"
    );
    if in_force.take(pair.policy).is_ok() {
        let _ = in_force.take(pair.decisions);
    }
}

/// The body with bytes replaced: each three bytes of noise say where, and by what.
fn damaged(body: &[u8], noise: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    for damage in noise.chunks_exact(3) {
        let at = usize::from(damage[0]) << 8 | usize::from(damage[1]);
        let length = body.len();
        body[at % length] = damage[2];
    }
    body
}
