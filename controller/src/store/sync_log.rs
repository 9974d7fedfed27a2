//! The sync log (§4.3): a candidate's writes, one row for each key with its newest change. An older
//! change of a key and a repeated one alter nothing, so whatever comes twice comes once. Numbers rise
//! with every row that is new or replaced: applying rows in their order ends at the newest state.

use ombre_policy::duration::Moment;
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{Store, StoreError, signed, unsigned};
use crate::app::openapi::shapes;

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

impl Store {
    /// Takes a batch, all of it or nothing, and says how many of its changes were news.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn log(&self, service: &str, batch: &[Change], now: Moment) -> Result<u64, StoreError> {
        self.write(|write| {
            let mut top = self::top(write, service)?;
            let mut news = 0;
            for change in batch {
                let payload = change.payload.to_string();
                let taken = write.prepare_cached(
                    "INSERT INTO sync_log (service, pk, seq, ts, src_ver, dst_ver, payload, received)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                     ON CONFLICT (service, pk) DO UPDATE SET seq = excluded.seq, ts = excluded.ts,
                        src_ver = excluded.src_ver, dst_ver = excluded.dst_ver,
                        payload = excluded.payload, received = excluded.received
                     WHERE excluded.ts > ts",
                )?
                .execute(params![
                    service,
                    change.pk,
                    signed(top + 1),
                    signed(change.ts),
                    change.src_ver,
                    change.dst_ver,
                    payload,
                    signed(now.unix_millis())
                ])?;
                if taken > 0 {
                    top += 1;
                    news += 1;
                }
            }
            write.execute(
                "INSERT INTO sync_state VALUES (?1, ?2, 0) ON CONFLICT (service) DO UPDATE SET top = ?2",
                params![service, signed(top)],
            )?;
            Ok(news)
        })
    }

    /// The newest entry's number, 0 for an empty log.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn log_top(&self, service: &str) -> Result<u64, StoreError> {
        top(&self.db(), service).map_err(|error| self.failed(error))
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
            let state = "SELECT top, applied FROM sync_state WHERE service = ?1";
            let state: Option<(i64, i64)> = db
                .query_row(state, [service], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let (top, applied) = state.unwrap_or_default();
            let waiting =
                "SELECT COUNT(*), MIN(received) FROM sync_log WHERE service = ?1 AND seq > ?2";
            let (waiting, oldest): (i64, Option<i64>) =
                db.query_row(waiting, params![service, applied], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?;
            Ok(Backlog {
                top: unsigned(top),
                applied: unsigned(applied),
                waiting: unsigned(waiting),
                oldest: oldest.map(unsigned).map(Moment::from_unix_millis),
            })
        };
        read().map_err(|error| self.failed(error))
    }
}

fn top(db: &rusqlite::Connection, service: &str) -> rusqlite::Result<u64> {
    let sql = "SELECT top FROM sync_state WHERE service = ?1";
    let top: Option<i64> = db.query_row(sql, [service], |row| row.get(0)).optional()?;
    Ok(top.map_or(0, unsigned))
}
