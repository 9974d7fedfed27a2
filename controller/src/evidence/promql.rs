//! Reads the counters of many Envoys from a store that scrapes them: Prometheus, or whatever answers
//! its query API. Asked for are the raw samples of the last seconds and not a rate: each Envoy's own
//! cumulative counters, with the times at which they were scraped, so that a restart of one is seen
//! as such, a stale sample has its age, and histograms of several are added bin by bin.

mod answer;

use std::time::Duration;

use ombre_policy::duration::{Millis, Moment};
use reqwest::{Client, Url};

use super::envoy::stat_name;
use super::{Answer, Wanted};
use crate::clients::Clients;
use crate::clients::body::{BodyError, body};
pub use answer::AnswerError;

/// The store has this long to answer.
const TIME_LIMIT: Duration = Duration::from_secs(5);
/// About 1,000 Envoys with two clusters, and 3 samples of each series.
const SIZE_LIMIT: usize = 32 << 20;

/// A store.
#[derive(Debug)]
pub struct Store {
    client: Client,
    url: Url,
    selector: String,
}

/// Why there is no evidence.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// No answer, or none of a sensible size.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// An answer that is none.
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

/// The client for a store.
///
/// # Errors
/// When it cannot be built.
pub fn client(clients: &Clients) -> Result<Client, reqwest::Error> {
    clients.builder().timeout(TIME_LIMIT).no_proxy().build()
}

impl Store {
    /// The store whose API is below this address; of the Envoys that `selector` leaves.
    pub fn new(client: Client, mut url: Url, selector: &str) -> Self {
        let path = format!("{}/api/v1/query", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Self {
            client,
            url,
            selector: selector.to_owned(),
        }
    }

    /// Asks for the counters of the wanted clusters.
    ///
    /// # Errors
    /// When the answer is late, too large, an error, incomplete, or not that of a store.
    pub async fn read(&self, wanted: &Wanted, now: Moment) -> Result<Answer, QueryError> {
        let query = query(&wanted.clusters, &self.selector, wanted.stale);
        let mut form = self.url.clone();
        form.query_pairs_mut().clear().append_pair("query", &query);
        let request = self
            .client
            .post(self.url.clone())
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.query().unwrap_or_default().to_owned());
        let response = request.send().await.map_err(BodyError::from)?;
        let status = response.status();
        let body = body(response, SIZE_LIMIT).await?;
        let mut answer = answer::parse(&body, status, now)?;
        if answer.complaint.is_none() {
            answer.complaint = too_seldom(&answer, wanted.interval);
        }
        Ok(answer.into())
    }
}

/// The samples of the last `stale`, of every counter that is needed. One query for all of them: they
/// are of the same scrapes then.
fn query(clusters: &[String], selector: &str, stale: Millis) -> String {
    // The empty name is that of the uptime, which belongs to no cluster.
    let mut names = String::new();
    for cluster in clusters {
        names.push('|');
        for sign in stat_name(cluster).chars() {
            match sign {
                // Escaped once for the pattern, and once more for the text that it is in.
                '"' => names.push_str(r#"\""#),
                '\\' => names.push_str(r"\\\\"),
                '_' => names.push('_'),
                sign if sign.is_ascii_punctuation() => {
                    names.push_str(r"\\");
                    names.push(sign);
                }
                sign => names.push(sign),
            }
        }
    }
    let (requests, classes, buckets) = (answer::REQUESTS, answer::CLASSES, answer::BUCKETS);
    let uptime = answer::UPTIME;
    let comma = if selector.is_empty() { "" } else { "," };
    let millis = stale.get();
    format!(
        r#"{{__name__=~"{requests}|{classes}|{buckets}|{uptime}",envoy_cluster_name=~"{names}"{comma}{selector}}}[{millis}ms]"#
    )
}

/// Whether most ticks would find no new sample. One sample in a tick is too little already, since
/// scrapes and ticks are not in step; a fifth is for their jitter.
fn too_seldom(answer: &answer::Samples, interval: Millis) -> Option<String> {
    let apart = answer.apart?;
    (apart.get() * 5 > interval.get() * 6).then(|| {
        let enough = apart.saturating_mul(2);
        format!(
            "Envoys are scraped every {apart} and `evidence.interval` is {interval}: scrape more often, or set it to {enough}"
        )
    })
}

#[cfg(test)]
mod tests;
