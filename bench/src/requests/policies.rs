//! The policies: the demo's as it is, and a large one around it.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use ombre_tests::binaries;

const ROUTES: usize = 10_000;
const EXPERIMENTS: usize = 20;

/// `envoy/demo-policy.yaml`.
pub(crate) fn demo() -> Result<String> {
    let path = binaries::workspace().join("envoy/demo-policy.yaml");
    std::fs::read_to_string(&path).with_context(|| format!("`{}` cannot be read", path.display()))
}

/// The demo's service with an experiment, among 10,000 routes: some of its own, the others of 19
/// more services with an experiment each. The demo's requests are decided as under the demo policy,
/// and their users are in the experiment too.
pub(crate) fn large() -> Result<String> {
    let mut text = demo()?;
    text.push_str(&experiment(0));
    let each = ROUTES / EXPERIMENTS;
    let mut routes = String::new();
    for number in 2..each {
        writeln!(
            routes,
            "      - {{ name: shop-{number}, path: \"/shop/p{number}/{{id}}\" }}"
        )?;
    }
    text = text.replacen("    routes:\n", &format!("    routes:\n{routes}"), 1);
    for service in 1..EXPERIMENTS {
        write!(text, "  - name: s{service}\n    routes:\n")?;
        for number in 0..each {
            writeln!(
                text,
                "      - {{ name: s{service}-{number}, path: \"/s{service}/{{version}}/p{number}/{{id:[0-9]+}}/{{*rest}}\" }}"
            )?;
        }
        text.push_str(
            "    versions: [{ name: v1, cluster: demo_v1 }, { name: v2, cluster: demo_v2 }]\n    default: v1\n    \
             unit: [{ header: x-user-id }]\n",
        );
        text.push_str(&experiment(service));
    }
    Ok(text)
}

fn experiment(number: usize) -> String {
    format!(
        "    experiment: {{ experiment: e{number}, groups: [{{ name: control, weight: 50 }}, \
         {{ name: variant, weight: 50, features: {{ look: new }} }}] }}\n"
    )
}
