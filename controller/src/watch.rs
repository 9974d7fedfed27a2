//! Notices that files change: at once by the system's notifications, and by looking every two
//! seconds where those fail (network file systems, exhausted inotify watches). Directories are
//! watched rather than files, because editors and Kubernetes replace what they do not rewrite. A file
//! that somebody is writing is not read before it is closed: what is there so far may be good YAML, and
//! half of the policy.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use crate::source::Inventory;

/// A file counts as written once nothing happened for this long.
const QUIET: Duration = Duration::from_millis(10);
/// A file that is written on and on is read all the same.
const PATIENCE: Duration = Duration::from_millis(100);
/// A file that is written and not closed is waited for so long; some programs never close theirs.
const HELD: Duration = Duration::from_secs(3);

/// Watches the directories of the files that were read.
pub struct Watch {
    watcher: Option<RecommendedWatcher>,
    signal: Arc<Signal>,
    directories: BTreeMap<PathBuf, Identity>,
}

/// How sure it is that a file changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// A file itself was written or replaced. Its metadata may look the same: clocks of file
    /// systems are coarse.
    Written,
    /// Something happened nearby, such as the swap of a symlink on the way to a file.
    Nearby,
}

/// Which directory was watched: another one under the same name needs a watch of its own.
type Identity = Option<(u64, u64)>;

#[derive(Default)]
struct Signal {
    happened: Notify,
    written: AtomicBool,
    files: RwLock<BTreeSet<PathBuf>>,
    /// Those of the files that were written to and not closed, and since when.
    open: Mutex<BTreeMap<PathBuf, Instant>>,
}

impl Default for Watch {
    fn default() -> Self {
        let signal = Arc::new(Signal::default());
        let told = Arc::clone(&signal);
        let watcher = notify::recommended_watcher(move |event| told.take(event))
            .inspect_err(|error| warn!(%error, "no file notifications, looking every two seconds"))
            .ok();
        Self {
            watcher,
            signal,
            directories: BTreeMap::new(),
        }
    }
}

impl Watch {
    /// Watches these files from now on, and no others. Cheap when nothing changed, and to be
    /// called again from time to time, for directories that came or were replaced.
    pub fn follow(&mut self, inventory: &Inventory) {
        let files: BTreeSet<PathBuf> = inventory.paths().flat_map(names).collect();
        let wanted: BTreeMap<PathBuf, Identity> = files
            .iter()
            .map(|file| directory(file))
            .map(|directory| (directory.clone(), identity(&directory)))
            .collect();
        *self
            .signal
            .files
            .write()
            .unwrap_or_else(PoisonError::into_inner) = files;
        if wanted == self.directories {
            return;
        }
        if let Some(watcher) = &mut self.watcher {
            follow(watcher, &self.directories, &wanted);
        }
        self.directories = wanted;
        // What happened between reading and watching left no event.
        self.signal.happened.notify_one();
    }

    /// Whether a file is being written now, so that what is read of it may be half of it.
    pub fn is_being_written(&self) -> bool {
        self.signal.held_until().is_some()
    }

    /// Waits until something happened and then was quiet for a moment, with all files closed. A call
    /// that is cancelled loses no write.
    pub async fn changed(&self) -> Hint {
        // A write that a cancelled call had heard of is not waited for again.
        if !self.signal.written.load(Ordering::Acquire) {
            self.signal.happened.notified().await;
        }
        let begun = Instant::now();
        let (patience, limit) = (begun + PATIENCE, begun + HELD);
        loop {
            let quiet = patience.min(Instant::now() + QUIET);
            let held = self.signal.held_until().map(|until| until.min(limit));
            let happened = timeout_at(held.unwrap_or(quiet), self.signal.happened.notified()).await;
            let now = Instant::now();
            let done = (happened.is_err() || now >= patience) && !self.is_being_written();
            if done || now >= limit {
                break;
            }
        }
        if self.signal.written.swap(false, Ordering::AcqRel) {
            Hint::Written
        } else {
            Hint::Nearby
        }
    }
}

impl Signal {
    fn take(&self, event: notify::Result<Event>) {
        match event {
            Ok(event) if !is_change(event.kind) => return,
            Ok(event) => {
                let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
                let ours = event.paths.iter().filter(|path| files.contains(*path));
                let ours: Vec<&PathBuf> = ours.collect();
                if event.need_rescan() || !ours.is_empty() {
                    self.note(event.kind, &ours);
                    self.written.store(true, Ordering::Release);
                }
            }
            Err(error) => {
                debug!(%error, "file notification lost");
                self.written.store(true, Ordering::Release);
            }
        }
        self.happened.notify_one();
    }

    /// A write opens a file for us; that it is closed, removed or replaced ends that.
    fn note(&self, kind: EventKind, files: &[&PathBuf]) {
        let mut open = self.open();
        for file in files {
            match kind {
                EventKind::Modify(ModifyKind::Data(_)) => {
                    open.entry((*file).clone()).or_insert_with(Instant::now);
                }
                EventKind::Modify(ModifyKind::Metadata(_)) => {}
                _ => {
                    open.remove(*file);
                }
            }
        }
    }

    /// Until when a file that is being written is waited for at the most.
    fn held_until(&self) -> Option<Instant> {
        let now = Instant::now();
        let open = self.open();
        let until = open.values().map(|since| *since + HELD);
        until.filter(|until| *until > now).max()
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Instant>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn follow(
    watcher: &mut RecommendedWatcher,
    before: &BTreeMap<PathBuf, Identity>,
    wanted: &BTreeMap<PathBuf, Identity>,
) {
    for (directory, identity) in before {
        if wanted.get(directory) != Some(identity) {
            // A directory that is gone took its watch along.
            let _ = watcher.unwatch(directory);
        }
    }
    for (directory, identity) in wanted {
        if identity.is_none() || before.get(directory) == Some(identity) {
            continue;
        }
        if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
            warn!(directory = %directory.display(), %error, "no notifications for this directory, looking every two seconds");
        }
    }
}

/// Reading a file is reported as well, and is no change; else every load would cause the next.
const fn is_change(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if !matches!(access, AccessKind::Close(AccessMode::Write)))
}

/// Under which names a change of this file is reported: its own, and where its symlinks lead.
fn names(path: &Path) -> impl Iterator<Item = PathBuf> {
    let own = path
        .file_name()
        .map(|name| directory(path).join(name))
        .unwrap_or_else(|| path.to_owned());
    let real = fs::canonicalize(path).ok().filter(|real| {
        real.file_name() != path.file_name()
            || own.is_symlink()
            || true_parent(path) != real.parent().map(Path::to_owned)
    });
    [Some(own), real].into_iter().flatten()
}

/// Where the file's directory really is.
fn true_parent(path: &Path) -> Option<PathBuf> {
    fs::canonicalize(directory(path)).ok()
}

fn directory(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn identity(directory: &Path) -> Identity {
    let meta = fs::metadata(directory).ok()?;
    Some((meta.dev(), meta.ino()))
}

#[cfg(test)]
mod tests;
