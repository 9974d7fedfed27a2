//! Takes up what was kept, and begins the loop. What hinders that for a time, such as a full disk, is
//! waited for and the loop begins late; what needs a person is only told of.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::Client;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info};

use super::board::Board;
use super::breakers::Breakers;
use super::news::Wire;
use super::{Engine, Handle, Message, OrderError, Parts, drain, told};
use crate::store::{Record, Store, StoreError};

/// Messages that wait for the loop.
const INBOX: usize = 256;
/// So long after a failure it is tried again.
const PAUSE: Duration = Duration::from_secs(2);

/// A loop that is yet to begin.
pub struct Start {
    dir: PathBuf,
    parts: Parts,
    client: Client,
    kept: Result<Kept, StoreError>,
    inbox: mpsc::Receiver<Message>,
    outbox: mpsc::Sender<Message>,
    board: watch::Sender<Arc<Board>>,
    news: Wire,
    store: Arc<OnceLock<Arc<Store>>>,
}

struct Kept {
    store: Store,
    releases: Vec<Record>,
}

impl Start {
    /// The loop whose state is kept in this directory, and its handle, which turns every order away
    /// until the loop runs. Blocks while it looks there.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new(dir: &Path, parts: Parts) -> reqwest::Result<(Self, Handle)> {
        let (outbox, inbox) = mpsc::channel(INBOX);
        let (board, watched) = watch::channel(Arc::default());
        let (news, store) = (Wire::default(), Arc::default());
        let handle = Handle {
            orders: outbox.clone(),
            board: watched,
            news: news.clone(),
            store: Arc::clone(&store),
            clock: parts.clock.clone(),
        };
        let start = Self {
            dir: dir.to_owned(),
            client: drain::client(&parts.clients)?,
            parts,
            kept: Kept::read(dir),
            inbox,
            outbox,
            board,
            news,
            store,
        };
        start.show();
        Ok((start, handle))
    }

    /// Begins, and runs until told to stop, as soon as what was kept can be taken up. When that needs a
    /// person first, everything else runs on, and what was decided last stays in force.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut before = None;
        while let Err(error) = &self.kept {
            self.parts.metrics.store_failed();
            if !error.may_pass() {
                error!(%error, "the release loop does not run: nothing moves until this is repaired, and ombre started again");
                return;
            }
            let text = error.to_string();
            if before.as_ref() != Some(&text) {
                error!(
                    error = text,
                    "the release loop does not run yet: it is tried again"
                );
                before = Some(text);
            }
            tokio::select! {
                () = told(&mut stop) => return,
                () = self.turn_away() => {}
            }
            let dir = self.dir.clone();
            match spawn_blocking(move || Kept::read(&dir)).await {
                Ok(kept) => self.kept = kept,
                Err(error) => error!(%error, "taking up releases failed unexpectedly"),
            }
            self.show();
        }
        if before.is_some() {
            info!("what was kept can be taken up now");
        }
        if let Ok(engine) = self.engine() {
            engine.run(stop).await;
        }
    }

    /// The loop, if what was kept could be read.
    pub(crate) fn engine(self) -> Result<Engine, StoreError> {
        let Kept { store, releases } = self.kept?;
        let store = Arc::new(store);
        let store = Arc::clone(self.store.get_or_init(|| store));
        let releases = releases.into_iter();
        Ok(Engine {
            publisher: self.parts.publisher,
            nodes: self.parts.nodes,
            store,
            collector: self.parts.collector,
            clock: self.parts.clock,
            client: self.client,
            services: BTreeMap::new(),
            dormant: releases
                .map(|record| (record.service.clone(), record))
                .collect(),
            followed: None,
            clusters: Arc::default(),
            breakers: Breakers::new(Arc::clone(&self.parts.metrics)),
            metrics: self.parts.metrics,
            inbox: self.inbox,
            outbox: self.outbox,
            board: self.board,
            news: self.news,
            store_error: None,
            next_probe: Instant::now(),
        })
    }

    /// Turns orders away until it is time to try again.
    async fn turn_away(&mut self) {
        let until = Instant::now() + PAUSE;
        loop {
            let message = tokio::select! {
                () = sleep_until(until) => return,
                message = self.inbox.recv() => message,
            };
            if let Some(Message::Order { reply, .. }) = message {
                // Whoever asked may have gone away.
                let _ = reply.send(Err(OrderError::Stopped));
            }
        }
    }

    fn show(&self) {
        let store_error = self.kept.as_ref().err().map(ToString::to_string);
        let board = Board {
            store_error,
            ..Board::default()
        };
        self.board.send_replace(Arc::new(board));
    }
}

impl Kept {
    fn read(dir: &Path) -> Result<Self, StoreError> {
        let store = Store::open(dir)?;
        let releases = store.releases()?;
        Ok(Self { store, releases })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use ombre_policy::release::machine::{Command, Order, PhaseName};
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::clock::Clock;
    use crate::engine::tests::parts;

    const SOON: Duration = Duration::from_secs(20);

    /// A loop that runs on what lies in the directory.
    fn start(dir: &Path) -> (Handle, watch::Sender<bool>, tokio::task::JoinHandle<()>) {
        let policy = crate::sample::text("canary") + "    degrade: {}\n";
        let parts = parts(dir, crate::sample::compiled_of(policy), Clock::start());
        let (start, handle) = Start::new(dir, parts).unwrap();
        let (stop, stopped) = watch::channel(false);
        (handle, stop, tokio::spawn(start.run(stopped)))
    }

    async fn rollback(handle: &Handle) -> Result<(), OrderError> {
        let order = Order {
            command: Command::Rollback { force: false },
            actor: "ann".to_owned(),
            reason: "because".to_owned(),
        };
        let ordered = handle.order("shop".to_owned(), order);
        timeout(SOON, ordered).await.expect("an answer")
    }

    #[tokio::test]
    async fn what_cannot_be_opened_for_a_time_is_taken_up_later() {
        let dir = tempfile::tempdir().unwrap();
        // Nothing can be opened as a file where a directory is.
        let place = dir.path().join("ombre.db");
        fs::create_dir(&place).unwrap();
        let (handle, stop, running) = start(dir.path());
        let mut news = handle.news();
        let error = handle.board().store_error.clone().unwrap();
        assert!(error.contains("ombre.db"), "{error}");
        assert!(handle.store().is_none());
        assert!(matches!(rollback(&handle).await, Err(OrderError::Stopped)));

        fs::remove_dir(&place).unwrap();
        let begun = timeout(SOON, news.recv()).await.expect("it begins");
        assert_eq!(begun.unwrap().kind, "begun");
        rollback(&handle).await.unwrap();
        while handle.board().services.is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(handle.board().services[0].phase, PhaseName::FailedBack);
        assert!(handle.board().store_error.is_none());
        assert!(handle.store().is_some());
        stop.send_replace(true);
        timeout(SOON, running).await.expect("ends").unwrap();
    }

    #[tokio::test]
    async fn it_ends_when_told_to_also_before_it_began() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("ombre.db")).unwrap();
        let (_, stop, running) = start(dir.path());
        stop.send_replace(true);
        timeout(SOON, running).await.expect("ends").unwrap();
    }

    #[tokio::test]
    async fn what_needs_a_person_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("ombre.db");
        let text = "this is no database".repeat(99);
        fs::write(&place, &text).unwrap();
        let (handle, _stop, running) = start(dir.path());
        timeout(SOON, running).await.expect("gives up").unwrap();
        let error = handle.board().store_error.clone().unwrap();
        assert!(error.contains("is damaged"), "{error}");
        assert!(matches!(rollback(&handle).await, Err(OrderError::Stopped)));
        assert_eq!(fs::read_to_string(&place).unwrap(), text);
    }
}
