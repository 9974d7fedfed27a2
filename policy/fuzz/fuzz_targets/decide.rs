//! Any headers against a policy that uses everything: as the host's raw buffer, and line by line.
//! Whatever a client sends, what goes on is one of the policy's own clusters, versions and groups.
#![no_main]

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use ombre_policy::decisions::Decisions;
use ombre_policy::document::Revision;
use ombre_policy::headers::HeaderMap;
use ombre_policy::in_force::InForce;
use ombre_policy::load::{Files, SourceFile, load};
use ombre_policy::plan::Plan;
use ombre_policy::policy::SlotTables;
use ombre_policy::switches::{Compiled, Features, Switches};
use ombre_policy::verdict::{Edit, Verdict};

const CLUSTERS: [&str; 6] = [
    "shop_v1",
    "shop_v2",
    "shop_v23",
    "strict_v1",
    "strict_v2",
    "single_v1",
];
const GROUPS: [&str; 7] = [
    "checkout-flow-v2=control",
    "checkout-flow-v2=treatment",
    "look=plain",
    "look=dark",
    "look=off",
    "size=big",
    "only=one",
];

thread_local! {
    /// Without and with decisions.
    static WORKERS: RefCell<[InForce; 2]> = RefCell::new([worker("{}"), worker(include_str!("everything.json"))]);
}

struct Beside;

impl Files for Beside {
    fn read(&self, _: &str, path: &str) -> Result<SourceFile, String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/good");
        let text = fs::read_to_string(folder.join(path)).map_err(|error| error.to_string())?;
        let name = path.to_owned();
        Ok(SourceFile { name, text })
    }
}

fn worker(decisions: &str) -> InForce {
    let text = include_str!("../../tests/good/everything.yaml").to_owned();
    let name = "everything.yaml".to_owned();
    let loaded = load(&[SourceFile { name, text }], &Beside).expect("a good policy");
    let plan = Plan::compile(&loaded.policy, &loaded.policy.slots(&SlotTables::default()));
    let decisions: Decisions = serde_json::from_str(decisions).expect("decisions");
    let decisions = decisions
        .compile(&loaded.policy)
        .expect("decisions of this policy");
    let built = Compiled {
        route_version: None,
        features: Features::ALL,
    };
    let env = |key: &str| (key == "DISABLE_ROUTES").then(|| "/admin,/debug/x".to_owned());
    let mut in_force = InForce::new(Switches::resolve(built, env).0);
    in_force.put(plan, Revision::new(1), decisions);
    in_force
}

fuzz_target!(|data: &[u8]| {
    let Some((mode, data)) = data.split_first() else {
        return;
    };
    let buffer = if mode & 1 == 0 {
        data.to_vec()
    } else {
        let lines = data.split(|byte| *byte == b'\n');
        let headers = lines.filter_map(|line| {
            // The colon of a pseudo header belongs to its name.
            let at = line
                .iter()
                .skip(1)
                .position(|byte| *byte == b':')?
                .saturating_add(1);
            let (name, value) = line.split_at_checked(at)?;
            Some((name, value.get(1..)?.trim_ascii()))
        });
        HeaderMap::encode(&headers.collect::<Vec<_>>())
    };
    WORKERS.with_borrow_mut(|workers| {
        for in_force in workers {
            check(in_force.decide(HeaderMap::new(&buffer), || [7; 16]));
        }
    });
});

fn check(verdict: Verdict<'_>) {
    let mut routed = match verdict {
        Verdict::Pass => return,
        Verdict::Refuse(refusal) => {
            assert!(matches!(refusal.status(), 400 | 404 | 406 | 503));
            let body = refusal.body();
            assert!(
                serde_json::from_str::<serde_json::Value>(&body).is_ok(),
                "{body}"
            );
            return;
        }
        Verdict::Route(routed) => routed,
    };
    let mut has_cluster = false;
    routed.write(|edit| {
        let (name, value) = match edit {
            Edit::Set(name, value) => (name, value),
            Edit::Remove(name) => (name, &b""[..]),
        };
        if name.starts_with("x-ombre-") {
            assert!(
                value.iter().all(|byte| matches!(byte, b' '..=b'~')),
                "{name}: {value:?}"
            );
        }
        let text = String::from_utf8_lossy(value);
        match name {
            "x-ombre-cluster" => {
                has_cluster = true;
                assert!(CLUSTERS.contains(&&*text), "{text}");
            }
            "x-ombre-group" => assert!(
                text.split(',').all(|group| GROUPS.contains(&group)),
                "{text}"
            ),
            "x-ombre-features" => {
                let read: Result<serde_json::Map<String, serde_json::Value>, _> =
                    serde_json::from_str(&text);
                assert!(read.is_ok(), "{text}");
            }
            "x-envoy-traffic-color" | "x-traffic-tag" => {
                assert!((1..=32).contains(&value.len()), "{text}")
            }
            "baggage" => assert!(value.starts_with(b"traffic-color="), "{text}"),
            ":path" => assert!(value.starts_with(b"/"), "{text}"),
            _ => {}
        }
    });
    assert!(has_cluster);
}
