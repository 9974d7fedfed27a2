//! Before anything is timed: do the cases that are compared do the same? Each of 1,000 requests is
//! sent to ombre, to the scripts and to the external processor, and all that the upstream got is compared.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, ensure};

use super::cases::{self, Case, Kind, Policy};
use super::load::{connect, read};
use super::mix;
use super::stage::Stage;

const REQUESTS: usize = 1000;

/// Compares, and says what was compared; an error where a case differs that must not.
pub(crate) fn check(stage: &Stage, cases: &[Case]) -> Result<String> {
    let place = |case: &Case| cases.iter().position(|other| other.name == case.name);
    let listener = |case: &Case| stage.listeners().nth(place(case)?);
    let Some(ombre) = cases
        .iter()
        .find(|case| case.name == cases::DEMO)
        .and_then(listener)
    else {
        return Ok(String::new());
    };
    let requests = mix::drawn(REQUESTS);
    let due = received(ombre, &requests)?;
    let mut text = String::new();
    for case in cases {
        let address = listener(case).context("a case without a listener")?;
        let same = |other: &&(BTreeSet<String>, &BTreeSet<String>)| other.0 == *other.1;
        match case.kind {
            Kind::Lua { own_hash: false } | Kind::ExtProc | Kind::Ombre(Policy::Demo, Some(_)) => {
                let got = received(address, &requests)?;
                for ((request, due), got) in requests.iter().zip(&due).zip(got) {
                    let request = String::from_utf8_lossy(request);
                    ensure!(
                        got == *due,
                        "`{}` differs for\n{request}\nfrom {due:#?}\nby {got:#?}",
                        case.name
                    );
                }
                text.push_str(&format!(
                    "`{}`: for all of {REQUESTS} requests the upstream got the same from it as from `{}`.\n\n",
                    case.name,
                    cases::DEMO
                ));
            }
            Kind::Lua { own_hash: true } => {
                let got = received(address, &requests)?;
                let pairs: Vec<_> = got.into_iter().zip(&due).collect();
                let equal = pairs.iter().filter(same).count();
                let bucketed = |lines: &BTreeSet<String>| {
                    lines.iter().any(|line| {
                        line.ends_with("reason=rollout") || line.ends_with("reason=default")
                    })
                };
                let unbucketed = pairs.iter().filter(|(_, due)| !bucketed(due));
                let all_same = unbucketed.clone().all(|pair| same(&pair));
                ensure!(
                    all_same,
                    "`{}` differs in more than who is in the rollout",
                    case.name
                );
                text.push_str(&format!(
                    "`{}`: the same for {equal} of {REQUESTS} requests, among them all {} that are not bucketed.\n\n",
                    case.name,
                    unbucketed.count()
                ));
            }
            _ => {}
        }
    }
    print!("{text}");
    Ok(text)
}

/// What the upstream got for each request: which upstream, and its header lines in any order.
fn received(address: SocketAddr, requests: &[Vec<u8>]) -> Result<Vec<BTreeSet<String>>> {
    let mut stream = connect(address)?;
    let each = requests.iter().map(|request| one(&mut stream, request));
    each.collect()
}

fn one(stream: &mut TcpStream, request: &[u8]) -> Result<BTreeSet<String>> {
    stream.write_all(request)?;
    let mut buffer = Vec::new();
    let answer = read(stream, &mut buffer)?;
    ensure!(answer.status == 200, "status {}", answer.status);
    let body = String::from_utf8_lossy(buffer.get(answer.body..).unwrap_or_default()).into_owned();
    Ok(body.lines().map(str::to_owned).collect())
}
