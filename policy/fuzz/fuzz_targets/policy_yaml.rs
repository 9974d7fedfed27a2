//! Any text as a policy file. What loads is compiled, sent, read back and asked.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ombre_policy::decisions::DecisionTable;
use ombre_policy::document::Revision;
use ombre_policy::headers::HeaderMap;
use ombre_policy::in_force::InForce;
use ombre_policy::load::{Files, SourceFile, load};
use ombre_policy::plan::Plan;
use ombre_policy::policy::SlotTables;
use ombre_policy::verdict::Verdict;

/// Whatever path is written, the same experiment is there.
struct OneFile;

impl Files for OneFile {
    fn read(&self, _: &str, path: &str) -> Result<SourceFile, String> {
        Ok(SourceFile {
            name: path.to_owned(),
            text: include_str!("../../tests/good/ab-strategy.yaml").to_owned(),
        })
    }
}

fuzz_target!(|text: &str| {
    let file = SourceFile {
        name: "policy.yaml".to_owned(),
        text: text.to_owned(),
    };
    let policy = match load(&[file], &OneFile) {
        Ok(loaded) => loaded.policy,
        Err(problems) => {
            assert!(problems.iter().all(|problem| !problem.message.is_empty()));
            return;
        }
    };
    let slots = policy.slots(&SlotTables::default());
    assert_eq!(policy.slots(&slots), slots, "planning again moves nobody");
    let plan = Plan::compile(&policy, &slots);
    let body = plan.encode(&DecisionTable::default());
    let (read, decisions) = Plan::decode(&body).expect("what was encoded is decoded");
    assert_eq!(read, plan);

    let mut in_force = InForce::default();
    in_force.put(read, Revision::new(1), decisions);
    // The text's own words that look like paths reach its routes more often than any fixed ones.
    let own = text.split([' ', '\n', '\'', '"', ',', '[', ']']);
    let own = own.filter(|word| word.starts_with('/')).take(8);
    for path in own.chain(["/", "/api/v2/users/7?version=v1", "/%61/b/"]) {
        let headers = HeaderMap::encode(&[
            (":method", "POST"),
            (":authority", "shop.example.com:8080"),
            (":path", path),
            ("accept", "application/vnd.shop.v2+json"),
            ("x-user-id", "7"),
            ("cookie", "traffic_color=blue; sid=1"),
        ]);
        if let Verdict::Route(mut routed) = in_force.decide(HeaderMap::new(&headers), || [7; 16]) {
            routed.write(|_| {});
        }
    }
});
