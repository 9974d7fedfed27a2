//! A small policy that the tests vary.

use ombre_policy::load::SourceFile;
use ombre_policy::policy::SlotTables;

use crate::compiled::Compiled;
use crate::source::Reader;

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
