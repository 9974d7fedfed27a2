//! The sync log (§4.3): a candidate's writes, one row for each key with its newest change. An older
//! change of a key and a repeated one alter nothing, so whatever comes twice comes once. Numbers rise
//! with every row that is new or replaced: applying rows in their order ends at the newest state.
//! Each release has a log of its own. Numbers go on over all of them, so that none is given twice;
//! what is up to `begun` is of the releases before, and nothing but waste.

use ombre_policy::duration::{Millis, Moment};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{Store, StoreError, signed, unsigned};
use crate::app::openapi::shapes;

/// What was applied is known for so long after it came, in case that it comes again.
const REMEMBERED: Millis = Millis::from_secs(86_400);

/// A write of the candidate, as the article has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The version that wrote.
    pub src_ver: String,
    /// The version that has yet to learn of it.
    pub dst_ver: String,
    /// What was written, by its primary key.
    pub pk: String,
    /// Its whole new state.
    #[schema(schema_with = shapes::any)]
    pub payload: Value,
    /// When, in any unit that rises; the newest of a key wins.
    pub ts: u64,
}

/// A change that is to be applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Pending {
    /// Its place in the order.
    pub seq: u64,
    /// The change.
    pub change: Change,
}

/// How far a service's log is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Backlog {
    /// The newest entry.
    pub top: u64,
    /// The last entry applied.
    pub applied: u64,
    /// Entries that wait.
    pub waiting: u64,
    /// When the oldest of them came.
    #[schema(value_type = Option<u64>)]
    pub oldest: Option<Moment>,
}

/// How far a log is.
#[derive(Default)]
struct State {
    top: u64,
    applied: u64,
    begun: u64,
}

impl Store {
    /// Takes a batch, all of it or nothing, and says how many of its changes were news. None when one
    /// of them is not between the versions of the service's release as it is kept.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn log(
        &self,
        service: &str,
        batch: &[Change],
        now: Moment,
    ) -> Result<Option<u64>, StoreError> {
        self.write(|write| {
            let versions = "SELECT candidate, stable FROM releases WHERE service = ?1";
            let versions: Option<(String, String)> = write
                .query_row(versions, [service], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let of_release = |change: &Change| {
                versions.as_ref().is_some_and(|(candidate, stable)| {
                    (candidate, stable) == (&change.src_ver, &change.dst_ver)
                })
            };
            if !batch.iter().all(of_release) {
                return Ok(None);
            }
            let State { mut top, begun, .. } = state(write, service)?;
            let mut news = 0;
            for change in batch {
                let payload = change.payload.to_string();
                let taken = write.prepare_cached(
                    "INSERT INTO sync_log (service, pk, seq, ts, src_ver, dst_ver, payload, received)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                     ON CONFLICT (service, pk) DO UPDATE SET seq = excluded.seq, ts = excluded.ts,
                        src_ver = excluded.src_ver, dst_ver = excluded.dst_ver,
                        payload = excluded.payload, received = excluded.received
                     WHERE excluded.ts > ts OR seq <= ?9",
                )?
                .execute(params![
                    service,
                    change.pk,
                    signed(top + 1),
                    signed(change.ts),
                    change.src_ver,
                    change.dst_ver,
                    payload,
                    signed(now.unix_millis()),
                    signed(begun)
                ])?;
                if taken > 0 {
                    top += 1;
                    news += 1;
                }
            }
            write.execute(
                "INSERT INTO sync_state (service, top, applied) VALUES (?1, ?2, 0)
                 ON CONFLICT (service) DO UPDATE SET top = ?2",
                params![service, signed(top)],
            )?;
            Ok(Some(news))
        })
    }

    /// The newest entry's number, 0 for an empty log.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn log_top(&self, service: &str) -> Result<u64, StoreError> {
        let state = state(&self.db(), service).map_err(|error| self.failed(error))?;
        Ok(state.top)
    }

    /// The last entry that is applied.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn log_applied(&self, service: &str) -> Result<u64, StoreError> {
        let state = state(&self.db(), service).map_err(|error| self.failed(error))?;
        Ok(state.applied)
    }

    /// Gives up whatever waits: it counts as applied.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn give_up(&self, service: &str) -> Result<(), StoreError> {
        let sql = "UPDATE sync_state SET applied = top WHERE service = ?1";
        self.write(|change| change.execute(sql, [service]).map(drop))
    }

    /// The entries after `after` up to `until`, in order, `limit` at most.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn pending(
        &self,
        service: &str,
        after: u64,
        until: u64,
        limit: u32,
    ) -> Result<Vec<Pending>, StoreError> {
        let db = self.db();
        let sql = "SELECT seq, src_ver, dst_ver, pk, payload, ts FROM sync_log
            WHERE service = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq LIMIT ?4";
        let read = || {
            let mut statement = db.prepare_cached(sql)?;
            let bounds = params![service, signed(after), signed(until), limit];
            let rows = statement.query_map(bounds, |row| {
                let payload: String = row.get(4)?;
                Ok(Pending {
                    seq: unsigned(row.get(0)?),
                    change: Change {
                        src_ver: row.get(1)?,
                        dst_ver: row.get(2)?,
                        pk: row.get(3)?,
                        payload: serde_json::from_str(&payload).unwrap_or(Value::String(payload)),
                        ts: unsigned(row.get(5)?),
                    },
                })
            })?;
            rows.collect::<rusqlite::Result<Vec<Pending>>>()
        };
        read().map_err(|error| self.failed(error))
    }

    /// Notes that everything up to `seq` is applied.
    ///
    /// # Errors
    /// When it cannot be written; the entries are then applied once more, which changes nothing.
    pub fn applied(&self, service: &str, seq: u64) -> Result<(), StoreError> {
        let sql = "UPDATE sync_state SET applied = MAX(applied, ?2) WHERE service = ?1";
        self.write(|change| change.execute(sql, params![service, signed(seq)]).map(drop))
    }

    /// How far a service's log is applied.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn backlog(&self, service: &str) -> Result<Backlog, StoreError> {
        let db = self.db();
        let read = || {
            let State { top, applied, .. } = state(&db, service)?;
            let waiting =
                "SELECT COUNT(*), MIN(received) FROM sync_log WHERE service = ?1 AND seq > ?2";
            let (waiting, oldest): (i64, Option<i64>) =
                db.query_row(waiting, params![service, signed(applied)], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?;
            Ok(Backlog {
                top,
                applied,
                waiting: unsigned(waiting),
                oldest: oldest.map(unsigned).map(Moment::from_unix_millis),
            })
        };
        read().map_err(|error| self.failed(error))
    }

    /// Deletes rows that nobody needs any more: those of releases that ended, and those that were
    /// applied and came more than a day ago. At most `limit` of each service; how many it were.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn forget_applied(&self, now: Moment, limit: u32) -> Result<usize, StoreError> {
        let oldest = signed(now.before(REMEMBERED).unix_millis());
        // Rows of a service in their order are also in the order of their time.
        let first = "SELECT 1 FROM sync_state AS log WHERE EXISTS (
            SELECT 1 FROM (
                SELECT seq, received FROM sync_log WHERE service = log.service ORDER BY seq LIMIT 1
            ) WHERE seq <= log.begun OR (seq <= log.applied AND received < ?1))";
        let found: Option<i64> = {
            let db = self.db();
            let found = db.query_row(first, [oldest], |row| row.get(0)).optional();
            found.map_err(|error| self.failed(error))?
        };
        if found.is_none() {
            return Ok(0);
        }
        self.write(|change| {
            let logs = "SELECT service, begun, applied FROM sync_state";
            let logs = change
                .prepare(logs)?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect::<rusqlite::Result<Vec<(String, i64, i64)>>>()?;
            let waste = "DELETE FROM sync_log WHERE rowid IN (
                SELECT rowid FROM (
                    SELECT rowid, seq, received FROM sync_log
                    WHERE service = ?1 AND seq <= ?3 ORDER BY seq LIMIT ?5
                ) WHERE seq <= ?2 OR received < ?4)";
            let mut gone = 0;
            for (service, begun, applied) in logs {
                gone += change.execute(waste, params![service, begun, applied, oldest, limit])?;
            }
            Ok(gone)
        })
    }
}

/// Begins the log of a release: whatever is there is of the releases before.
pub(super) fn begin(change: &Transaction<'_>, service: &str) -> rusqlite::Result<()> {
    let sql = "UPDATE sync_state SET begun = top, applied = top WHERE service = ?1";
    change.execute(sql, [service]).map(drop)
}

fn state(db: &Connection, service: &str) -> rusqlite::Result<State> {
    let sql = "SELECT top, applied, begun FROM sync_state WHERE service = ?1";
    let state = db.query_row(sql, [service], |row| {
        Ok(State {
            top: unsigned(row.get(0)?),
            applied: unsigned(row.get(1)?),
            begun: unsigned(row.get(2)?),
        })
    });
    Ok(state.optional()?.unwrap_or_default())
}
