//! A small policy that the tests vary, and what a filter makes of what is handed out.

use std::collections::BTreeMap;

use ombre_policy::document::Kind;
use ombre_policy::headers::HeaderMap;
use ombre_policy::in_force::InForce;
use ombre_policy::load::SourceFile;
use ombre_policy::policy::SlotTables;
use ombre_policy::verdict::{Edit, Verdict};

use crate::compiled::Compiled;
use crate::publish::Publisher;
use crate::source::Reader;

/// So many users ask for each path that [`served`] counts.
pub(crate) const USERS: usize = 500;

/// A service `shop` whose candidate `v2` is this cluster.
pub(crate) fn text(cluster: &str) -> String {
    format!(
        "apiVersion: ombre/v1
services:
  - name: shop
    routes: [{{ name: shop, path: /shop }}]
    versions:
      - {{ name: v1, cluster: stable }}
      - {{ name: v2, cluster: {cluster} }}
    default: v1
    unit: [{{ header: x-user-id }}]
    rollout: {{ candidate: v2, weight: 10 }}
"
    )
}

/// The same, compiled.
pub(crate) fn compiled(cluster: &str) -> Compiled {
    compiled_of(text(cluster))
}

/// Any policy, compiled.
pub(crate) fn compiled_of(text: String) -> Compiled {
    let source = SourceFile {
        name: "policy.yaml".to_owned(),
        text,
    };
    Compiled::new(vec![source], &Reader::default(), &SlotTables::default()).unwrap()
}

/// Where a filter that starts now sends the writes of [`USERS`] users: how many each cluster gets.
pub(crate) fn served(publisher: &Publisher, path: &str) -> BTreeMap<String, usize> {
    let mut filter = InForce::default();
    for kind in [Kind::Policy, Kind::Decisions] {
        let document = publisher.documents().subscribe(kind).borrow().clone();
        // Decisions that came with the policy are not taken twice.
        let _ = filter.take(&document.unwrap().bytes);
    }
    let mut served = BTreeMap::new();
    for user in 0..USERS {
        let user = format!("user-{user}");
        let headers = [(":method", "POST"), (":path", path), ("x-user-id", &user)];
        let headers = HeaderMap::encode(&headers);
        let mut cluster = "nobody".to_owned();
        if let Verdict::Route(mut routed) = filter.decide(HeaderMap::new(&headers), || [0; 16]) {
            routed.write(|edit| {
                if let Edit::Set("x-ombre-cluster", value) = edit {
                    cluster = String::from_utf8_lossy(value).into_owned();
                }
            });
        }
        *served.entry(cluster).or_default() += 1;
    }
    served
}
