//! Who gets which group and which version by it: the article's experiment file as it is printed,
//! sticky units, weights that move only whom they must, minted cookies, layers and the rollout.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use ombre_tests::client::{Answer, Ask, Connection};
use ombre_tests::poll::{SOON, eventually};
use ombre_tests::stack::{Setup, Stack};
use serde_json::json;

/// Byte for byte as §3.2 prints it.
const ARTICLE: &str = "# ab-strategy.yaml
version: v1
experiment: checkout-flow-v2
groups:
  - name: control
    weight: 60
    features: { enable_new_cart: false }
  - name: treatment
    weight: 40
    features: { enable_new_cart: true }
";

const FILE: &str = "ab-strategy.yaml";

const SHOP: &str = r#"apiVersion: ombre/v1
services:
  - name: shop
    routes: [{ name: pages, path: "/shop/{*rest}" }]
    versions: [{ name: v1, cluster: demo_v1 }, { name: v2, cluster: demo_v2 }]
    default: v1
    unit: [{ header: x-user-id }, { cookie: uid }]
"#;

fn with_file() -> Setup {
    Setup::new(&format!("{SHOP}    experiment: {FILE}\n")).file(FILE, ARTICLE)
}

fn user(number: usize) -> Ask {
    Ask::get("/shop/a").header("x-user-id", format!("user-{number}"))
}

/// A header of each user's request, as the upstream got it; empty for none.
async fn each_user(stack: &Stack, users: usize, name: &str) -> Result<Vec<String>> {
    let mut connection = Connection::open(stack.envoy.address()).await?;
    let mut found = Vec::new();
    for number in 0..users {
        let echo = connection.ask(&user(number)).await?.echo()?;
        found.push(echo.header(name).unwrap_or_default().to_owned());
    }
    Ok(found)
}

fn share(groups: &[String], group: &str) -> f64 {
    let of = groups.iter().filter(|found| *found == group).count();
    of as f64 / groups.len() as f64
}

/// Whose header differs: before, after, how many.
fn moves(before: &[String], after: &[String]) -> BTreeMap<(String, String), usize> {
    let mut moves = BTreeMap::new();
    for (from, to) in before.iter().zip(after).filter(|(from, to)| from != to) {
        *moves.entry((from.clone(), to.clone())).or_default() += 1;
    }
    moves
}

const CONTROL: &str = "checkout-flow-v2=control";
const TREATMENT: &str = "checkout-flow-v2=treatment";

#[tokio::test]
async fn the_articles_file_decides_as_it_is_printed() -> Result<()> {
    with_file()
        .run(async |stack| {
            let groups = each_user(stack, 2000, "x-ombre-group").await?;
            let (control, treatment) = (share(&groups, CONTROL), share(&groups, TREATMENT));
            ensure!((control + treatment - 1.0).abs() < 1e-9, "{groups:?}");
            // Three standard deviations are 0.033.
            ensure!((treatment - 0.4).abs() < 0.033, "{treatment}");
            let features = each_user(stack, 2000, "x-ombre-features").await?;
            for (group, features) in groups.iter().zip(&features) {
                let features: serde_json::Value = serde_json::from_str(features)?;
                let due = json!({ "enable_new_cart": group == TREATMENT });
                ensure!(features == due, "{group}: {features}");
            }
            // The same on every worker, by header or cookie, whatever else the request says.
            for mut worker in stack.envoy.worker_connections().await? {
                for number in (0..2000).step_by(97) {
                    let cookie = Ask::get("/shop/b?color=blue")
                        .header("cookie", format!("a=b; uid=user-{number}; c=d"))
                        .header("x-api-version", "2");
                    for ask in [user(number), cookie] {
                        let echo = worker.ask(&ask).await?.echo()?;
                        ensure!(
                            echo.header("x-ombre-group") == groups.get(number).map(String::as_str),
                            "user {number} is in another group: {echo:?}"
                        );
                    }
                }
            }
            // Without a unit: the default group's features, but nobody's group.
            let answer = stack.ask(&Ask::get("/shop/a")).await?;
            let echo = answer.echo()?;
            ensure!(echo.header("x-ombre-group").is_none(), "{}", answer.seen());
            ensure!(
                echo.header("x-ombre-features") == Some(r#"{"enable_new_cart":false}"#),
                "{}",
                answer.seen()
            );
            ensure!(answer.header("set-cookie").is_none(), "{}", answer.seen());
            ensure!(stack.envoy.sum("ombre_no_unit_total").await? == 1);
            Ok(())
        })
        .await
}

#[tokio::test]
async fn new_weights_move_only_whom_they_must_and_broken_ones_nobody() -> Result<()> {
    const USERS: usize = 2000;
    with_file()
        .run(async |stack| {
            let before = each_user(stack, USERS, "x-ombre-group").await?;

            // The experiment's file alone is edited. 40 -> 70: only from control, half the change.
            let edited = ARTICLE
                .replace("weight: 60", "weight: 30")
                .replace("weight: 40", "weight: 70");
            stack.write_file(FILE, &edited)?;
            eventually(SOON, "the new weights decide", async || {
                let now = each_user(stack, USERS, "x-ombre-group").await?;
                ensure!(now != before, "nobody moved");
                Ok(())
            })
            .await?;
            // Every worker has them, before it is counted who moved.
            stack
                .change_policy(&format!("{SHOP}    experiment: {FILE}\n"))
                .await?;
            let raised = each_user(stack, USERS, "x-ombre-group").await?;
            let moved = moves(&before, &raised);
            let only = (CONTROL.to_owned(), TREATMENT.to_owned());
            ensure!(moved.keys().eq([&only]), "{moved:?}");
            let share = moved.values().sum::<usize>() as f64 / USERS as f64;
            ensure!((share - 0.3).abs() < 0.031, "{share} moved");

            // A broken file: reported by name, and the last good weights stay.
            for (name, broken) in [
                (
                    "the weights are 105",
                    ARTICLE.replace("weight: 60", "weight: 65"),
                ),
                (
                    "two groups of one name",
                    ARTICLE.replace("name: treatment", "name: control"),
                ),
                (
                    "a feature is a number",
                    ARTICLE.replace("enable_new_cart: true", "enable_new_cart: 7"),
                ),
                (
                    "half of it",
                    ARTICLE.split_at(ARTICLE.len() / 2).0.to_owned(),
                ),
            ] {
                stack.write_file(FILE, &broken)?;
                eventually(SOON, "the broken file is reported", async || {
                    let error = stack.controller.last_error().await?.context("it is not")?;
                    let file = error.get("file").and_then(|file| file.as_str());
                    ensure!(
                        file.is_some_and(|file| file.ends_with(FILE)),
                        "{name}: another file is: {error}"
                    );
                    Ok(())
                })
                .await?;
                let now = each_user(stack, 300, "x-ombre-group").await?;
                ensure!(raised.starts_with(&now), "{name}: somebody moved");
                stack.write_file(FILE, &edited)?;
                eventually(SOON, "the mended file is in force", async || {
                    ensure!(stack.controller.last_error().await?.is_none(), "{name}");
                    Ok(())
                })
                .await?;
            }

            // Back: those who were added last leave, so everybody is where they were.
            stack.write_file(FILE, ARTICLE)?;
            stack
                .change_policy(&format!("{SHOP}    experiment: {FILE}\n"))
                .await?;
            let back = each_user(stack, USERS, "x-ombre-group").await?;
            ensure!(back == before, "{:?}", moves(&before, &back));
            Ok(())
        })
        .await
}

#[tokio::test]
async fn a_group_between_two_others_stays_even_over_a_restart() -> Result<()> {
    const USERS: usize = 1500;
    // Planned anew, the middle group would lie elsewhere: only the table before says who stays.
    let policy = |[a, b, c]: [u32; 3]| {
        format!(
            "{SHOP}    experiment: {{ experiment: cart, groups: [{{ name: a, weight: {a} }}, \
             {{ name: b, weight: {b} }}, {{ name: c, weight: {c} }}] }}\n"
        )
    };
    Stack::with(&policy([20, 20, 60]), async |stack| {
        let before = each_user(stack, USERS, "x-ombre-group").await?;
        stack.change_policy(&policy([40, 20, 40])).await?;
        let after = each_user(stack, USERS, "x-ombre-group").await?;
        let moved = moves(&before, &after);
        let only = ("cart=c".to_owned(), "cart=a".to_owned());
        ensure!(moved.keys().eq([&only]), "{moved:?}");
        let share = moved.values().sum::<usize>() as f64 / USERS as f64;
        ensure!((share - 0.2).abs() < 0.036, "{share} moved");

        stack.controller.kill()?;
        stack.controller.restart()?;
        stack.controller.healthy().await?;
        stack.change_policy(&policy([40, 20, 40])).await?;
        let restarted = each_user(stack, USERS, "x-ombre-group").await?;
        ensure!(restarted == after, "{:?}", moves(&after, &restarted));
        stack.change_policy(&policy([20, 20, 60])).await?;
        let back = each_user(stack, USERS, "x-ombre-group").await?;
        ensure!(back == before, "{:?}", moves(&before, &back));
        Ok(())
    })
    .await
}

/// The attributes of a `set-cookie`, without the cookie itself.
fn attributes(cookie: &str) -> BTreeSet<&str> {
    cookie.split("; ").skip(1).collect()
}

#[tokio::test]
async fn a_unit_is_minted_once_and_kept_by_its_cookie() -> Result<()> {
    let policy = format!(
        "{}    mint: {{ lifetime: 30d }}\n    experiment: {FILE}\n",
        SHOP.replace("{ cookie: uid }]", "mint]")
    );
    Setup::new(&policy)
        .file(FILE, ARTICLE)
        .run(async |stack| {
            let mut minted = BTreeSet::new();
            for _ in 0..20 {
                let first = stack.ask(&Ask::get("/shop/a")).await?;
                let cookies: Vec<&str> = first.all("set-cookie").collect();
                let [cookie] = cookies.as_slice() else {
                    anyhow::bail!("not one cookie: {}", first.seen());
                };
                let value = cookie.split(';').next().unwrap_or_default();
                ensure!(value.starts_with("ombre_uid="), "{cookie}");
                let due = ["HttpOnly", "Max-Age=2592000", "Path=/", "SameSite=Lax"];
                ensure!(attributes(cookie) == BTreeSet::from(due), "{cookie}");
                ensure!(
                    minted.insert(value.to_owned()),
                    "{value} was given out twice"
                );

                // It comes back: the same group, and no second cookie.
                let again = Ask::get("/shop/b").header("cookie", format!("x=y; {value}"));
                let second = stack.ask(&again).await?;
                ensure!(second.header("set-cookie").is_none(), "{}", second.seen());
                let group = |answer: &Answer| -> Result<Option<String>> {
                    Ok(answer.echo()?.header("x-ombre-group").map(str::to_owned))
                };
                let (was, is) = (group(&first)?, group(&second)?);
                ensure!(was.is_some() && was == is, "{was:?} became {is:?}");
            }
            let count = stack.envoy.sum("ombre_minted_total").await?;
            ensure!(count == 20, "{count} were counted");
            Ok(())
        })
        .await
}

#[tokio::test]
async fn layers_are_independent_and_groups_may_choose_the_version() -> Result<()> {
    const USERS: usize = 2000;
    let policy = format!(
        "{SHOP}    experiments:
      - experiment: cart
        groups: [{{ name: old, weight: 50 }}, {{ name: new, weight: 50, version: v2 }}]
      - experiment: text
        layer: words
        share: 50
        groups: [{{ name: short, weight: 50, features: {{ text: short }} }}, {{ name: long, weight: 50, features: {{ text: null, bold: true }} }}]
      - experiment: size
        layer: words
        share: 50
        groups: [{{ name: all, weight: 100 }}]
"
    );
    Stack::with(&policy, async |stack| {
        let mut cells: BTreeMap<String, usize> = BTreeMap::new();
        let mut connection = Connection::open(stack.envoy.address()).await?;
        for number in 0..USERS {
            let answer = connection.ask(&user(number)).await?;
            let echo = answer.echo()?;
            let groups = echo.header("x-ombre-group").unwrap_or_default();
            let new = groups.split(',').any(|pair| pair == "cart=new");
            let (version, reason) = if new {
                ("v2", "experiment")
            } else {
                ("v1", "default")
            };
            ensure!(
                echo.version == version && answer.decision("reason") == Some(reason),
                "{}",
                answer.seen()
            );
            if groups.contains("text=long") {
                let features = echo.header("x-ombre-features").unwrap_or_default();
                let features: serde_json::Value = serde_json::from_str(features)?;
                ensure!(
                    features == json!({ "text": null, "bold": true }),
                    "{features}"
                );
            }
            *cells.entry(groups.to_owned()).or_default() += 1;
        }
        // Exactly one experiment of each layer, and each pair as often as its shares say.
        let shares = [
            ("text=short", 0.125),
            ("text=long", 0.125),
            ("size=all", 0.25),
        ];
        let due: BTreeMap<String, f64> = ["cart=old", "cart=new"]
            .into_iter()
            .flat_map(|cart| shares.map(|(word, share)| (format!("{cart},{word}"), share)))
            .collect();
        ensure!(cells.keys().eq(due.keys()), "{cells:?}");
        for ((cell, count), share) in cells.iter().zip(due.values()) {
            let expected = share * USERS as f64;
            let deviation = (expected * (1.0 - share)).sqrt();
            ensure!(
                (*count as f64 - expected).abs() < 3.5 * deviation,
                "{cell}: {count}, not about {expected}"
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_rollout_is_sticky_and_independent_of_experiments() -> Result<()> {
    const USERS: usize = 1500;
    let policy = |weight: u32| {
        format!(
            "{SHOP}    rollout: {{ candidate: v2, weight: {weight} }}\n    experiment: {FILE}\n"
        )
    };
    Setup::new(&policy(20))
        .file(FILE, ARTICLE)
        .run(async |stack| {
            let cluster = "x-ombre-cluster";
            let at_20 = each_user(stack, USERS, cluster).await?;
            ensure!((share(&at_20, "demo_v2") - 0.2).abs() < 0.036);
            let groups = each_user(stack, USERS, "x-ombre-group").await?;
            let both = at_20.iter().zip(&groups);
            let both = both.filter(|(cluster, group)| *cluster == "demo_v2" && *group == TREATMENT);
            let both = both.count() as f64 / USERS as f64;
            ensure!((both - 0.08).abs() < 0.025, "{both} are in both");

            stack.change_policy(&policy(50)).await?;
            let at_50 = each_user(stack, USERS, cluster).await?;
            let only = ("demo_v1".to_owned(), "demo_v2".to_owned());
            ensure!(moves(&at_20, &at_50).keys().eq([&only]));
            ensure!((share(&at_50, "demo_v2") - 0.5).abs() < 0.045);
            ensure!(each_user(stack, USERS, "x-ombre-group").await? == groups);
            stack.change_policy(&policy(20)).await?;
            ensure!(each_user(stack, USERS, cluster).await? == at_20);

            // Without a unit, and for traffic that is pinned, there is no rollout.
            stack.change_policy(&policy(100)).await?;
            for (name, ask, due) in [
                ("with a unit", user(1), "rollout"),
                ("no unit", Ask::get("/shop/a"), "default"),
                ("pinned", user(1).header("x-api-version", "1"), "header"),
            ] {
                let answer = stack.ask(&ask).await?;
                ensure!(
                    answer.decision("reason") == Some(due),
                    "{name}: {}",
                    answer.seen()
                );
            }
            Ok(())
        })
        .await
}
