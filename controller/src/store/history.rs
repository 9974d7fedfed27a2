//! What happened: transitions with their evidence, people's orders with who and why, alerts.

use ombre_policy::duration::Moment;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{Store, StoreError, signed, unsigned};

/// So many entries of each kind are kept of each service: a year of three transitions a day. Counted by
/// kind, so that whoever repeats a refused order does not drive out what led to a fail-back. With its
/// evidence a transition takes about 2 KiB.
const KEPT: u32 = 1000;

/// Something that happened, to be kept.
#[derive(Clone, Debug)]
pub struct NewEntry {
    /// When.
    pub at: Moment,
    /// What kind of thing.
    pub kind: Kind,
    /// Who ordered it, and why.
    pub order: Option<(String, String)>,
    /// Everything about it.
    pub detail: Value,
}

/// Something that happened.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Entry {
    /// Its number, rising; 0 for one that could not be written yet.
    pub id: u64,
    /// When.
    #[schema(value_type = u64)]
    pub at: Moment,
    /// To which service.
    pub service: String,
    /// What kind of thing.
    pub kind: String,
    /// Who ordered it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Everything about it.
    #[schema(value_type = Object)]
    pub detail: Value,
}

/// The kinds of things that happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A release began.
    Begun,
    /// From one phase or share to another.
    Transition,
    /// Somebody should know.
    Alert,
    /// A person's order, followed.
    Order,
    /// A person's order, not followed.
    Refused,
}

/// Which part of the history.
#[derive(Clone, Debug)]
pub struct Query {
    /// Of this service alone.
    pub service: Option<String>,
    /// Older than this number.
    pub before: Option<u64>,
    /// So many at most.
    pub limit: u32,
}

impl NewEntry {
    /// As it is told.
    pub fn numbered(&self, service: &str, id: u64) -> Entry {
        let (actor, reason) = self.order.clone().unzip();
        Entry {
            id,
            at: self.at,
            service: service.to_owned(),
            kind: self.kind.name().to_owned(),
            actor,
            reason,
            detail: self.detail.clone(),
        }
    }
}

impl Kind {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Transition => "transition",
            Self::Alert => "alert",
            Self::Order => "order",
            Self::Refused => "refused",
        }
    }
}

impl Store {
    /// What happened, newest first.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn history(&self, query: &Query) -> Result<Vec<Entry>, StoreError> {
        let db = self.db();
        let sql = "SELECT id, at, service, kind, actor, reason, detail FROM history
            WHERE (?1 IS NULL OR service = ?1) AND id < ?2 ORDER BY id DESC LIMIT ?3";
        let read = || {
            let mut statement = db.prepare_cached(sql)?;
            let before = query.before.map_or(i64::MAX, signed);
            let rows = statement.query_map(params![query.service, before, query.limit], entry)?;
            rows.collect::<rusqlite::Result<Vec<Entry>>>()
        };
        read().map_err(|error| self.failed(error))
    }

    /// When a service's release began or moved last; none when that is not known any more.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn last_move(&self, service: &str) -> Result<Option<Moment>, StoreError> {
        let db = self.db();
        let sql = "SELECT at FROM history WHERE service = ?1 AND kind IN (?2, ?3) ORDER BY id DESC LIMIT 1";
        let (begun, moved) = (Kind::Begun.name(), Kind::Transition.name());
        let read = || {
            let mut statement = db.prepare_cached(sql)?;
            let found = statement.query_row(params![service, begun, moved], |row| row.get(0));
            found.optional()
        };
        let at: Option<i64> = read().map_err(|error| self.failed(error))?;
        Ok(at.map(|at| Moment::from_unix_millis(unsigned(at))))
    }
}

pub(super) fn insert(db: &Connection, service: &str, new: &NewEntry) -> rusqlite::Result<Entry> {
    let (actor, reason) = new.order.clone().unzip();
    let kind = new.kind.name();
    let at = signed(new.at.unix_millis());
    db.execute(
        "INSERT INTO history (at, service, kind, actor, reason, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![at, service, kind, actor, reason, new.detail.to_string()],
    )?;
    Ok(new.numbered(service, unsigned(db.last_insert_rowid())))
}

/// Keeps the newest [`KEPT`] entries of each kind that `news` adds to.
pub(super) fn forget_oldest(
    db: &Connection,
    service: &str,
    news: &[NewEntry],
) -> rusqlite::Result<()> {
    let sql = "DELETE FROM history WHERE service = ?1 AND kind = ?2 AND id <= (
        SELECT id FROM history WHERE service = ?1 AND kind = ?2 ORDER BY id DESC LIMIT 1 OFFSET ?3)";
    for (number, new) in news.iter().enumerate() {
        let known = news.iter().take(number).any(|other| other.kind == new.kind);
        if !known {
            let kind = new.kind.name();
            db.prepare_cached(sql)?
                .execute(params![service, kind, KEPT])?;
        }
    }
    Ok(())
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let detail: String = row.get(6)?;
    Ok(Entry {
        id: unsigned(row.get(0)?),
        at: Moment::from_unix_millis(unsigned(row.get(1)?)),
        service: row.get(2)?,
        kind: row.get(3)?,
        actor: row.get(4)?,
        reason: row.get(5)?,
        detail: serde_json::from_str(&detail).unwrap_or(Value::String(detail)),
    })
}
