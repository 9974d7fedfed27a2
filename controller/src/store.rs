//! What must survive: where each release stands, what led there, and the sync log, in one SQLite
//! file. Blocking: call it off the async threads. When a call returns, its change is on the disk.

#[cfg(test)]
pub(crate) mod fault;
mod history;
mod releases;
mod schema;
mod sync_log;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, Transaction};

pub use history::{Entry, Kind, NewEntry, Query};
pub use releases::Record;
pub use sync_log::{Backlog, Change, Pending};

const FILE: &str = "ombre.db";

/// The database.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    db: Mutex<Connection>,
    #[cfg(test)]
    pub(crate) faults: fault::Faults,
}

/// Why something could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database says no: no space, no permission, no sense.
    #[error("`{}`: {source}; free space there, or restore the file from a copy", .path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: rusqlite::Error,
    },
    /// It is not what was written.
    #[error("`{}` is damaged: {found}; restore it from a copy, or move it away, which forgets cool-downs and the sync log", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
    },
    /// Written by a later release of ombre.
    #[error("`{}` has schema {found}, this ombre knows up to {known}; run the release that wrote it", .path.display())]
    Later {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest known.
        known: i64,
    },
}

impl StoreError {
    /// Whether it may be otherwise the next time, without anybody touching the file.
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Database { .. } => true,
            Self::Damaged { .. } | Self::Later { .. } => false,
        }
    }
}

impl Store {
    /// Opens the database in the state directory, made or brought up to date as needed.
    ///
    /// # Errors
    /// When it cannot be opened, is damaged, or comes from a later release.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        let database = |source| StoreError::Database {
            path: path.clone(),
            source,
        };
        let mut db = Connection::open(&path).map_err(database)?;
        schema::prepare(&mut db, &path)?;
        Ok(Self {
            path,
            db: Mutex::new(db),
            #[cfg(test)]
            faults: fault::Faults::default(),
        })
    }

    /// Writes something that is read by nobody, to learn whether anything can be written.
    ///
    /// # Errors
    /// When it cannot.
    pub fn probe(&self) -> Result<(), StoreError> {
        self.write(|change| {
            let schema: i64 = change.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            change.pragma_update(None, "user_version", schema)
        })
    }

    /// The one way to the disk: all of `work` or nothing, and on the disk when this returns.
    fn write<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut db = self.db();
        #[cfg(test)]
        if !self.faults.reach(fault::Side::Before) {
            return Err(self.failed(rusqlite::Error::InvalidQuery));
        }
        let write = || {
            let change = db.transaction()?;
            let done = work(&change)?;
            change.commit()?;
            Ok(done)
        };
        let written = write().map_err(|error| self.failed(error));
        #[cfg(test)]
        self.faults.reach(fault::Side::After);
        written
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, source: rusqlite::Error) -> StoreError {
        StoreError::Database {
            path: self.path.clone(),
            source,
        }
    }

    fn damaged(&self, found: impl ToString) -> StoreError {
        StoreError::Damaged {
            path: self.path.clone(),
            found: found.to_string(),
        }
    }
}

/// SQLite's integers are signed; none of ours comes near the end.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

#[cfg(test)]
mod tests;
