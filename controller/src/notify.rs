//! Tells webhooks what happens to releases: transitions, alerts, orders and breakers, each as one JSON
//! object, signed, and sent again until it is taken or given up. The history has what was given up.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Client, Url};
use sha2::Sha256;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::warn;

use crate::clients::Clients;
use crate::clients::address::origin;
use crate::clock::wall;
use crate::engine::News;
use crate::metrics::{Delivery, Metrics};

const TIME_LIMIT: Duration = Duration::from_secs(5);
const TRIES: u32 = 6;
/// Tests do not wait for a minute.
const FIRST_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 500 });
/// A shorter secret can be guessed.
const SHORTEST_SECRET: usize = 16;

/// The time of sending, Unix milliseconds: a receiver refuses what is old.
const TIMESTAMP: &str = "x-ombre-timestamp";
/// `sha256=` and the HMAC in hex over the timestamp, a full stop and the body.
const SIGNATURE: &str = "x-ombre-signature";

/// One webhook.
#[derive(Clone)]
pub struct Webhook {
    client: Client,
    url: Url,
    secret: Option<Arc<[u8]>>,
    metrics: Arc<Metrics>,
}

/// The webhooks at `urls`, which share the secret in the file.
///
/// # Errors
/// When an address is neither `http` nor `https`, the secret cannot be read or is too short, or the HTTP client cannot be built.
pub fn webhooks(
    clients: &Clients,
    urls: &[Url],
    secret: Option<&Path>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Vec<Webhook>> {
    for url in urls {
        ensure!(
            ["http", "https"].contains(&url.scheme()),
            "`{}` is not an `http://` or `https://` address",
            origin(url)
        );
    }
    let secret = secret.map(read_secret).transpose()?;
    let client = clients.builder().timeout(TIME_LIMIT).build()?;
    let webhook = |url: &Url| {
        metrics.webhook(&origin(url));
        Webhook {
            client: client.clone(),
            url: url.clone(),
            secret: secret.clone(),
            metrics: Arc::clone(metrics),
        }
    };
    Ok(urls.iter().map(webhook).collect())
}

fn read_secret(path: &Path) -> anyhow::Result<Arc<[u8]>> {
    let place = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("`{place}` cannot be read"))?;
    let secret = text.trim();
    let length = secret.len();
    ensure!(
        length >= SHORTEST_SECRET,
        "`{place}` has {length} bytes, a secret needs {SHORTEST_SECRET}"
    );
    Ok(secret.as_bytes().into())
}

impl Webhook {
    /// Tells what happens, one thing after the other, until told to stop.
    pub async fn run(self, mut news: Receiver<Arc<News>>, mut stop: watch::Receiver<bool>) {
        let work = async {
            loop {
                match news.recv().await {
                    Ok(news) => self.tell(&news.data.to_string()).await,
                    Err(RecvError::Lagged(missed)) => {
                        self.count(Delivery::Missed, missed);
                        warn!(
                            webhook = origin(&self.url),
                            missed, "webhook too slow, the history has what it missed"
                        );
                    }
                    Err(RecvError::Closed) => return,
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = async { let _ = stop.wait_for(|stop| *stop).await; } => {}
        }
    }

    async fn tell(&self, body: &str) {
        let mut pause = FIRST_PAUSE;
        for attempt in 1..=TRIES {
            let timestamp = wall().unix_millis().to_string();
            let mut request = self.client.post(self.url.clone());
            request = request
                .header("content-type", "application/json")
                .header(TIMESTAMP, &timestamp);
            if let Some(secret) = &self.secret {
                request = request.header(SIGNATURE, signature(secret, &timestamp, body));
            }
            let answer = request.body(body.to_owned()).send().await;
            match answer.and_then(reqwest::Response::error_for_status) {
                Ok(_) => return self.count(Delivery::Taken, 1),
                Err(error) => {
                    let error = error.without_url();
                    warn!(webhook = origin(&self.url), attempt, %error, "webhook not told");
                }
            }
            if attempt < TRIES {
                sleep(pause).await;
                pause *= 3;
            }
        }
        self.count(Delivery::GivenUp, 1);
    }

    fn count(&self, result: Delivery, news: u64) {
        self.metrics.delivered(&origin(&self.url), result, news);
    }
}

fn signature(secret: &[u8], timestamp: &str, body: &str) -> String {
    let mut signature = "sha256=".to_owned();
    // HMAC takes keys of any length.
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) {
        mac.update(timestamp.as_bytes());
        mac.update(b".");
        mac.update(body.as_bytes());
        for byte in mac.finalize().into_bytes() {
            signature.push_str(&format!("{byte:02x}"));
        }
    }
    signature
}

#[cfg(test)]
mod tests;
