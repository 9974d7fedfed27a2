//! `make bench`: how long a change takes until every worker of a real Envoy decides by it.

mod changes;
mod table;

use anyhow::Result;

use table::Table;

#[tokio::main]
async fn main() -> Result<()> {
    let mut table = Table::default();
    for routes in [3, 2000] {
        changes::measure(routes, &mut table).await?;
    }
    print!("{table}");
    Ok(())
}
