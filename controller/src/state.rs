//! What the controller keeps over a restart: revisions, slot tables and the operator's decisions,
//! in one JSON file that is replaced whole or not at all.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ombre_policy::decisions::{Decisions, Released};
use ombre_policy::document::Revision;
use ombre_policy::policy::SlotTables;
use serde::{Deserialize, Serialize};

const FILE: &str = "state.json";
const LOCK: &str = "state.lock";
const FORMAT: u32 = 1;

/// What is kept.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    format: u32,
    /// The largest revision ever published, of either document.
    pub last: Revision,
    /// The policy that was published last.
    pub policy: Option<SavedPolicy>,
    /// The decisions document that was published last.
    pub decisions_revision: Revision,
    /// Where every unit's group lies, so that a restart moves nobody.
    pub slots: SlotTables,
    /// What the operator decided, by names.
    pub decisions: Decisions,
    /// What the releases decided, as it was published last. The truth is in the store; this is what
    /// holds while the store cannot be read.
    #[serde(default)]
    pub released: Released,
}

/// Which policy was published under which revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SavedPolicy {
    /// XXH64 of its encoded plan.
    pub fingerprint: u64,
    /// Its revision.
    pub revision: Revision,
}

/// The directory, held for this process alone.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// Locked while this lives; absent when the directory cannot be written.
    _lock: Option<File>,
}

/// Why the state cannot be kept or taken up.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another process holds it.
    #[error("`{}` is in use by another ombre; give each its own --state-dir", .0.display())]
    InUse(PathBuf),
    /// It is there, and cannot be read.
    #[error("`{}` cannot be read: {source}; give it to the user that runs ombre", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is there, and is not what was written.
    #[error("`{}` is damaged: {source}; restore it, or delete it, which may move users between groups once", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Written by another release.
    #[error("`{}` has format {found}, this ombre reads format {FORMAT}; run the release that wrote it", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It cannot be written.
    #[error("`{}` cannot be written: {source}; free space there, or let the user that runs ombre write to it", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Default for Saved {
    fn default() -> Self {
        Self {
            format: FORMAT,
            last: Revision::default(),
            policy: None,
            decisions_revision: Revision::default(),
            slots: SlotTables::default(),
            decisions: Decisions::default(),
            released: Released::default(),
        }
    }
}

impl StateDir {
    /// Takes hold of the directory and reads what is kept there. A directory that cannot be
    /// written is no failure yet: saving will say so, and say so again until it can be.
    ///
    /// # Errors
    /// When another process holds it, or what is there cannot be understood: starting anew
    /// beside it would move users without anybody having asked for it.
    pub fn open(path: &Path) -> Result<(Self, Saved), StateError> {
        let lock = fs::create_dir_all(path)
            .and_then(|()| File::create(path.join(LOCK)))
            .ok();
        if let Some(Err(TryLockError::WouldBlock)) = lock.as_ref().map(File::try_lock) {
            return Err(StateError::InUse(path.to_owned()));
        }
        let saved = read(&path.join(FILE))?;
        let dir = Self {
            path: path.to_owned(),
            _lock: lock,
        };
        Ok((dir, saved))
    }

    /// Reads what is kept there without taking hold of it, also while a controller does.
    ///
    /// # Errors
    /// When nothing is there, or it cannot be understood.
    pub fn look(path: &Path) -> Result<Saved, StateError> {
        let path = path.join(FILE);
        match fs::metadata(&path) {
            Ok(_) => read(&path),
            Err(source) => Err(StateError::Read { path, source }),
        }
    }

    /// Replaces what is kept. When this returns, it survives a power failure.
    ///
    /// # Errors
    /// When the directory cannot be written; what was kept before is still whole then.
    pub fn save(&self, saved: &Saved) -> Result<(), StateError> {
        let path = self.path.join(FILE);
        self.replace(&path, saved)
            .map_err(|source| StateError::Write { path, source })
    }

    fn replace(&self, path: &Path, saved: &Saved) -> io::Result<()> {
        fs::create_dir_all(&self.path)?;
        let next = self.path.join(format!("{FILE}.next"));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&next)?;
        file.write_all(&serde_json::to_vec(saved)?)?;
        file.sync_data()?;
        fs::rename(&next, path)?;
        // The rename itself is only durable once the directory is.
        File::open(&self.path)?.sync_all()
    }
}

fn read(path: &Path) -> Result<Saved, StateError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Saved::default()),
        Err(source) => {
            let path = path.to_owned();
            return Err(StateError::Read { path, source });
        }
    };
    let damaged = |source| StateError::Damaged {
        path: path.to_owned(),
        source,
    };
    let Head { format } = serde_json::from_slice(&bytes).map_err(damaged)?;
    if format != FORMAT {
        let path = path.to_owned();
        return Err(StateError::Format {
            path,
            found: format,
        });
    }
    serde_json::from_slice(&bytes).map_err(damaged)
}

#[derive(Deserialize)]
struct Head {
    format: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let (state, mut saved) = StateDir::open(dir.path()).unwrap();
        saved.last = Revision::new(7);
        state.save(&saved).unwrap();
        drop(state);
        let (_state, found) = StateDir::open(dir.path()).unwrap();
        assert_eq!(found.last, Revision::new(7));
    }

    #[test]
    fn two_processes_never_share_it() {
        let dir = tempfile::tempdir().unwrap();
        let (_held, _) = StateDir::open(dir.path()).unwrap();
        let error = StateDir::open(dir.path()).unwrap_err();
        assert!(matches!(error, StateError::InUse(_)), "{error}");
    }

    #[test]
    fn what_cannot_be_understood_is_not_overwritten() {
        for (name, text, expected) in [
            ("cut", "{\"format\":1,\"last\"", "is damaged"),
            ("empty", "", "is damaged"),
            ("newer", "{\"format\":2}", "has format 2"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(FILE), text).unwrap();
            let error = StateDir::open(dir.path()).unwrap_err().to_string();
            assert!(error.contains(expected), "{name}: {error}");
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_says_so_when_saving() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "not a directory").unwrap();
        let below = path.join("state");
        let error = match StateDir::open(&below) {
            Ok((state, saved)) => state.save(&saved).unwrap_err(),
            Err(error) => error,
        };
        assert!(error.to_string().contains("state"), "{error}");
    }
}
