//! The tables, and how an older file gets them: one step for each schema, never changed afterwards.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use super::{StoreError, signed};

/// Somebody else may look into the file for this long before a write gives up.
const PATIENCE: Duration = Duration::from_secs(2);

const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE releases (
        service TEXT PRIMARY KEY,
        candidate TEXT NOT NULL,
        stable TEXT NOT NULL,
        weight REAL NOT NULL,
        awaited TEXT NOT NULL,
        state TEXT NOT NULL
    ) STRICT;
    CREATE TABLE history (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at INTEGER NOT NULL,
        service TEXT NOT NULL,
        kind TEXT NOT NULL,
        actor TEXT,
        reason TEXT,
        detail TEXT NOT NULL
    ) STRICT;
    CREATE INDEX history_of_service ON history (service, id);
    CREATE TABLE sync_log (
        service TEXT NOT NULL,
        pk TEXT NOT NULL,
        seq INTEGER NOT NULL,
        ts INTEGER NOT NULL,
        src_ver TEXT NOT NULL,
        dst_ver TEXT NOT NULL,
        payload TEXT NOT NULL,
        received INTEGER NOT NULL,
        PRIMARY KEY (service, pk)
    ) STRICT;
    CREATE UNIQUE INDEX sync_log_order ON sync_log (service, seq);
    CREATE TABLE sync_state (
        service TEXT PRIMARY KEY,
        top INTEGER NOT NULL,
        applied INTEGER NOT NULL
    ) STRICT;
",
    // A log belongs to one release: what came up to `begun` is of those before. Nothing told them
    // apart until now but their versions.
    "
    ALTER TABLE sync_state ADD COLUMN begun INTEGER NOT NULL DEFAULT 0;
    DELETE FROM sync_log WHERE NOT EXISTS (
        SELECT 1 FROM releases
        WHERE service = sync_log.service AND candidate = src_ver AND stable = dst_ver
    );
",
];

/// Brings the tables up to date.
///
/// # Errors
/// When the file is damaged, from a later release, or cannot be written.
pub(super) fn prepare(db: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |source: rusqlite::Error| match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => StoreError::Damaged {
            path: path.to_owned(),
            found: source.to_string(),
        },
        _ => StoreError::Database {
            path: path.to_owned(),
            source,
        },
    };
    let found = check(db).map_err(failed)?;
    if found != "ok" {
        let path = path.to_owned();
        return Err(StoreError::Damaged { path, found });
    }
    let found: i64 = db
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(failed)?;
    let known = signed(MIGRATIONS.len() as u64);
    if found > known {
        let path = path.to_owned();
        return Err(StoreError::Later { path, found, known });
    }
    for (number, migration) in (1..).zip(MIGRATIONS).filter(|(number, _)| *number > found) {
        migrate(db, number, migration).map_err(failed)?;
    }
    Ok(())
}

fn check(db: &Connection) -> rusqlite::Result<String> {
    db.busy_timeout(PATIENCE)?;
    db.pragma_update(None, "journal_mode", "wal")?;
    // What was written is on the disk when the call returns.
    db.pragma_update(None, "synchronous", "full")?;
    db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
}

fn migrate(db: &mut Connection, number: i64, migration: &str) -> rusqlite::Result<()> {
    let step = db.transaction()?;
    step.execute_batch(migration)?;
    step.pragma_update(None, "user_version", number)?;
    step.commit()
}

/// A new file with the tables that it had at an earlier schema.
#[cfg(test)]
pub(super) fn of_version(path: &Path, schema: usize) -> Connection {
    let mut db = Connection::open(path).unwrap();
    for (number, migration) in (1..).zip(&MIGRATIONS[..schema]) {
        migrate(&mut db, number, migration).unwrap();
    }
    db
}
