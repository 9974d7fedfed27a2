//! Where each release stands, written together with what led there.

use ombre_policy::release::machine::Release;
use rusqlite::params;

use super::history::{Entry, Kind, NewEntry, forget_oldest, insert};
use super::{Store, StoreError, sync_log};

/// A release as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The service.
    pub service: String,
    /// The version that is being released.
    pub candidate: String,
    /// The version that takes over when it fails.
    pub stable: String,
    /// The candidate's share by the policy that was last acted on, in percent.
    pub weight: f64,
    /// While writes are being frozen: the proxies that must confirm it.
    pub awaited: Vec<String>,
    /// Where it stands.
    pub release: Release,
}

impl Store {
    /// All releases, by service.
    ///
    /// # Errors
    /// When they cannot be read or understood.
    pub fn releases(&self) -> Result<Vec<Record>, StoreError> {
        let db = self.db();
        let sql = "SELECT service, candidate, stable, weight, awaited, state FROM releases ORDER BY service";
        let mut statement = db.prepare(sql).map_err(|error| self.failed(error))?;
        let rows = statement.query_map([], |row| {
            let texts: (String, String) = (row.get(4)?, row.get(5)?);
            Ok(((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?), texts))
        });
        let mut records = Vec::new();
        for row in rows.map_err(|error| self.failed(error))? {
            let ((service, candidate, stable, weight), (awaited, state)) =
                row.map_err(|error| self.failed(error))?;
            records.push(Record {
                service,
                candidate,
                stable,
                weight,
                awaited: serde_json::from_str(&awaited).map_err(|error| self.damaged(error))?,
                release: serde_json::from_str(&state).map_err(|error| self.damaged(error))?,
            });
        }
        Ok(records)
    }

    /// Keeps where a release stands and what led there, both or neither. One that begins has a sync
    /// log of its own.
    ///
    /// # Errors
    /// When it cannot be written; then what was kept before still is.
    pub fn save(&self, record: &Record, news: &[NewEntry]) -> Result<Vec<Entry>, StoreError> {
        let text = |result: serde_json::Result<String>| result.map_err(|error| self.damaged(error));
        let awaited = text(serde_json::to_string(&record.awaited))?;
        let state = text(serde_json::to_string(&record.release))?;
        self.write(|change| {
            change.execute(
                "INSERT OR REPLACE INTO releases VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    record.service,
                    record.candidate,
                    record.stable,
                    record.weight,
                    awaited,
                    state
                ],
            )?;
            if news.iter().any(|entry| entry.kind == Kind::Begun) {
                sync_log::begin(change, &record.service)?;
            }
            let mut entries = Vec::with_capacity(news.len());
            for entry in news {
                entries.push(insert(change, &record.service, entry)?);
            }
            forget_oldest(change, &record.service, news)?;
            Ok(entries)
        })
    }

    /// Forgets a release that is over. Its history stays.
    ///
    /// # Errors
    /// When it cannot be written; then it is still there.
    pub fn forget(&self, service: &str) -> Result<(), StoreError> {
        let sql = "DELETE FROM releases WHERE service = ?1";
        self.write(|change| change.execute(sql, params![service]).map(drop))
    }
}
