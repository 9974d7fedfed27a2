//! Asks Envoy's admin address which clusters it has, so that a policy that names another one is
//! refused here and not answered with 503 there.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use ombre_policy::policy::Policy;
use ombre_policy::problem::{Problem, Problems};
use reqwest::{Client, Response, Url};
use serde::Deserialize;
use tracing::warn;

use crate::clients::Clients;
use crate::clients::address::shown;
use crate::clients::body::{BodyError, body};

/// Each Envoy has this long to answer.
const TIME_LIMIT: Duration = Duration::from_secs(1);
/// So many are asked at once, so that those that do not answer hold a policy up by a second, not each by one.
const AT_ONCE: usize = 16;
/// A thousand clusters with a dozen endpoints each take about 10 MiB.
const SIZE_LIMIT: usize = 64 << 20;

/// The Envoys to ask.
pub struct Clusters {
    client: Client,
    admins: Vec<Url>,
}

/// Why an Envoy did not say which clusters it has.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No answer, or none of a sensible size.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// Another answer than Envoy's.
    #[error("the answer is not Envoy's list of clusters: {0}")]
    Answer(#[from] serde_json::Error),
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    cluster_statuses: Vec<Status>,
}

#[derive(Deserialize)]
struct Status {
    name: String,
}

impl Clusters {
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new(clients: &Clients, admins: Vec<Url>) -> Result<Self, reqwest::Error> {
        let client = clients.builder().timeout(TIME_LIMIT).no_proxy().build()?;
        Ok(Self { client, admins })
    }

    /// Checks a policy's clusters against every Envoy that answers. One that does not answer may
    /// be starting; that is logged and no reason to refuse. Clusters that the policy itself
    /// delivers are not asked for: Envoy gets them after the policy is taken.
    ///
    /// # Errors
    /// One problem for each cluster that some Envoy does not have.
    pub async fn check(&self, policy: &Policy) -> Result<(), Problems> {
        if !policy.clusters().is_empty() {
            return Ok(());
        }
        let asked: Vec<_> = self.admins.iter().map(|admin| self.known(admin)).collect();
        let answers: Vec<_> = stream::iter(asked).buffered(AT_ONCE).collect().await;
        let mut problems = Vec::new();
        for (admin, answer) in self.admins.iter().zip(answers) {
            match answer {
                Ok(known) => problems.extend(missing(policy, &known, admin)),
                Err(error) => {
                    let admin = shown(admin);
                    warn!(
                        admin,
                        error = &error as &dyn std::error::Error,
                        "clusters not checked: Envoy gave no list"
                    );
                }
            }
        }
        Problems::none_of(problems)
    }

    async fn known(&self, admin: &Url) -> Result<BTreeSet<String>, AdminError> {
        let mut url = admin.clone();
        url.set_path("/clusters");
        url.set_query(Some("format=json"));
        let response = self.client.get(url).send().await;
        let response = response.and_then(Response::error_for_status);
        let body = body(response.map_err(BodyError::from)?, SIZE_LIMIT).await?;
        let answer: Answer = serde_json::from_slice(&body)?;
        let names = answer.cluster_statuses.into_iter();
        Ok(names.map(|status| status.name).collect())
    }
}

fn missing(policy: &Policy, known: &BTreeSet<String>, admin: &Url) -> Vec<Problem> {
    let admin = shown(admin);
    policy
        .named_clusters()
        .filter(|(_, _, cluster)| !known.contains(*cluster))
        .map(|(file, path, cluster)| Problem {
            file: file.to_owned(),
            line: None,
            column: None,
            path: path.to_owned(),
            message: format!("the Envoy at {admin} has no cluster `{cluster}`; add it there first, or correct the name"),
        })
        .collect()
}
