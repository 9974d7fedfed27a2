//! What is pushed while pushes are measured: the same resources but for one, which is another each time.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use ombre_policy::decisions::{DecisionTable, Decisions, ServiceDecisions};
use ombre_policy::document::{Kind, Revision, join, seal};
use ombre_policy::load::load_text;
use ombre_policy::plan::Plan;
use ombre_policy::policy::{Policy, SlotTables};
use ombre_tests::binaries;
use ombre_tests::envoy::{CANARY, STABLE};
use ombre_tests::feed;
use ombre_tests::poll::SOON;
use ombre_xds::node::Node;
use ombre_xds::resources::{self, Extension, NodeGroup};
use ombre_xds::server::Catalog;
use ombre_xds::snapshot::{Revisions, Snapshot};

use crate::changes::policy;

pub(super) const NODE: &str = "envoy-1";
const CLUSTER: &str = "edge";

/// What is pushed in turn: under each policy another default cluster, under each table another version.
pub(super) struct Versions {
    policies: [Policy; 2],
    plan: Plan,
    tables: [DecisionTable; 2],
    node: Node,
    wasm: String,
}

/// The same for every Envoy, of which there is one.
struct Fixed(Arc<Snapshot>);

impl Catalog for Fixed {
    fn snapshot(&self, _: &Node) -> Arc<Snapshot> {
        Arc::clone(&self.0)
    }
}

impl Versions {
    /// Under a policy with this many routes, these clusters and a listener for the traffic.
    pub(super) fn of(
        routes: usize,
        clusters: &[(&str, SocketAddr)],
        traffic: SocketAddr,
    ) -> Result<Self> {
        let read = |default: &str| {
            let text = policy(routes, 0)
                + &feed::clusters(clusters)
                + "listeners:\n"
                + &feed::listener("traffic", traffic, default, SOON);
            let loaded = load_text(&text);
            let loaded = loaded.map_err(|problems| anyhow!("{problems}"))?;
            Ok::<Policy, anyhow::Error>(loaded.policy)
        };
        let policies = [read(STABLE)?, read(CANARY)?];
        let [policy, _] = &policies;
        let table = |weight: f64| {
            let decided = ServiceDecisions {
                weight: Some(weight),
                ..ServiceDecisions::default()
            };
            let services = [("shop".to_owned(), decided)].into();
            let table = Decisions { services }.compile(policy);
            table.map_err(|problems| anyhow!("{problems}"))
        };
        Ok(Self {
            plan: Plan::compile(policy, &policy.slots(&SlotTables::default())),
            tables: [table(0.0)?, table(100.0)?],
            policies,
            node: Node::new(NODE, CLUSTER, [])?,
            wasm: binaries::wasm()?.display().to_string(),
        })
    }

    /// What Envoy gets under one of the policies and one of the tables.
    pub(super) fn fixed(&self, policy: usize, table: usize, decisions: u64) -> Arc<dyn Catalog> {
        let pick = |index: usize| index.is_multiple_of(2);
        let [first, second] = &self.policies;
        let policy = if pick(policy) { first } else { second };
        let [none, all] = &self.tables;
        let table = if pick(table) { none } else { all };
        let revisions = Revisions {
            policy: Revision::new(1),
            decisions: Revision::new(decisions),
        };
        let body = self.plan.encode(&DecisionTable::default());
        let sealed = seal(Kind::Policy, revisions.policy, revisions.policy, &body);
        let decided = seal(
            Kind::Decisions,
            revisions.decisions,
            revisions.policy,
            &table.encode(),
        );
        let extension = Extension {
            wasm: self.wasm.clone(),
            configuration: join(&sealed, &decided),
            revisions,
        };
        let group = NodeGroup::of(policy, &self.node);
        Arc::new(Fixed(Arc::new(resources::of(policy, &extension, &group))))
    }
}
