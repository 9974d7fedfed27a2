//! `make bench`: how long a change takes until every worker of a real Envoy decides by it, and what
//! it costs the requests that are under way. A word after `--` measures one of them alone.

mod changes;
mod table;
mod takeover;

use anyhow::{Result, bail};

use table::Table;

#[tokio::main]
async fn main() -> Result<()> {
    let only = std::env::args().nth(1);
    match only.as_deref() {
        None => {
            changes().await?;
            takeover::measure().await
        }
        Some("changes") => changes().await,
        Some("takeover") => takeover::measure().await,
        Some(other) => bail!("`{other}` is no benchmark; there are `changes` and `takeover`"),
    }
}

async fn changes() -> Result<()> {
    let mut table = Table::default();
    for routes in [3, 2000] {
        changes::measure(routes, &mut table).await?;
    }
    print!("{table}");
    Ok(())
}
