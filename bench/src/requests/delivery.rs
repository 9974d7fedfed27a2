//! A stand-in for the controller: hands one policy to the poller and then has nothing newer. The
//! controller itself would read Envoy's statistics every second, which would be counted as Envoy's.

use std::io::Write;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};
use ombre_policy::decisions::DecisionTable;
use ombre_policy::document::{Kind, Revision, seal};
use ombre_policy::load::load_text;
use ombre_policy::plan::Plan;
use ombre_policy::policy::SlotTables;

use super::upstream::serve;

const HOLD: Duration = Duration::from_secs(30);

/// The sealed document of a policy.
pub(crate) fn sealed(text: String) -> Result<Vec<u8>> {
    let loaded = load_text(&text);
    let policy = loaded.map_err(|problems| anyhow!("{problems}"))?.policy;
    let plan = Plan::compile(&policy, &policy.slots(&SlotTables::default()));
    let first = Revision::new(1);
    let body = plan.encode(&DecisionTable::default());
    Ok(seal(Kind::Policy, first, first, &body))
}

/// Serves it.
pub(crate) fn start(sealed: Vec<u8>) -> Result<SocketAddr> {
    serve(move |stream, head| {
        if head.starts_with(b"GET /v1/delivery/policy?after=0 ") {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
                sealed.len()
            )?;
            return stream.write_all(&sealed);
        }
        thread::sleep(HOLD);
        stream.write_all(b"HTTP/1.1 304 Not Modified\r\n\r\n")
    })
}
