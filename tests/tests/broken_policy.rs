//! A broken policy file leaves the last good one in force, and `ombre validate`, the log and
//! `/v1/status` name file, place and fix.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use ombre_tests::binaries;
use ombre_tests::client::Ask;
use ombre_tests::poll::{SOON, eventually};
use ombre_tests::stack::Stack;

const GOOD: &str = r#"apiVersion: ombre/v1
services:
  - name: shop
    routes:
      - { name: pages, path: "/shop/{*rest}" }
    versions:
      - { name: v1, cluster: demo_v1 }
      - { name: v2, cluster: demo_v2 }
    default: v2
"#;

/// A mistake: what replaces what in the good policy, and words that the report must have.
struct Mistake {
    name: &'static str,
    from: &'static str,
    to: &'static str,
    /// `line:` of the file, where there is one line to name.
    line: Option<u32>,
    says: &'static [&'static str],
}

const MISTAKES: &[Mistake] = &[
    Mistake {
        name: "bad YAML",
        from: "    routes:\n",
        to: "    routes: [\n",
        line: None,
        says: &[],
    },
    Mistake {
        name: "unknown field",
        from: "    default: v2\n",
        to: "    default: v2\n    defualt: v2\n",
        line: Some(10),
        says: &["defualt"],
    },
    Mistake {
        name: "duplicate name",
        from: "    default: v2\n",
        to: "    default: v2\n  - name: shop\n    routes: [{ name: other, path: /other }]\n    versions: [{ name: v1, cluster: demo_v1 }]\n    default: v1\n",
        line: Some(10),
        says: &["`shop`", "unique"],
    },
    Mistake {
        name: "cluster left out",
        from: "{ name: v2, cluster: demo_v2 }",
        to: "{ name: v2 }",
        line: Some(8),
        says: &["cluster"],
    },
    Mistake {
        name: "two routes that collide",
        from: "    versions:\n",
        to: "      - { name: again, path: \"/shop/{*other}\" }\n    versions:\n",
        line: Some(6),
        says: &["collides", "`pages`"],
    },
    Mistake {
        name: "default that is no version",
        from: "default: v2",
        to: "default: v3",
        line: Some(9),
        says: &["`v3`"],
    },
];

/// What `ombre validate` says: its exit status and what it printed.
fn validate(path: &std::path::Path) -> Result<(Option<i32>, String)> {
    let output = Command::new(binaries::ombre()?)
        .arg("validate")
        .arg(path)
        .output()?;
    let printed = [output.stdout, output.stderr].concat();
    Ok((
        output.status.code(),
        String::from_utf8_lossy(&printed).into_owned(),
    ))
}

/// Every worker still decides by the good policy: v2 serves, which no default of Envoy does.
async fn good_in_force(stack: &Stack) -> Result<()> {
    for mut worker in stack.envoy.worker_connections().await? {
        let answer = worker.ask(&Ask::get("/shop/a")).await?;
        ensure!(
            answer.status == 200 && answer.echo()?.version == "v2",
            "the good policy is not in force: {} {:?}",
            answer.status,
            answer.headers
        );
    }
    Ok(())
}

/// The status and the log name the file and have all of `says`; so does `ombre validate`.
async fn reported(stack: &mut Stack, name: &str, line: Option<u32>, says: &[&str]) -> Result<()> {
    let path = stack.policy_path().to_path_buf();
    let file = path
        .file_name()
        .context("no file name")?
        .to_string_lossy()
        .into_owned();
    let status = eventually(SOON, "the status reports the mistake", async || {
        let error = stack
            .controller
            .last_error()
            .await?
            .unwrap_or_default()
            .to_string();
        ensure!(error.contains(&file), "{error}");
        let missing: Vec<_> = says.iter().filter(|word| !error.contains(**word)).collect();
        ensure!(missing.is_empty(), "{missing:?} are not in {error}");
        Ok(error)
    })
    .await
    .with_context(|| name.to_owned())?;
    let (code, printed) = validate(&path)?;
    let place = line.map_or_else(|| file.clone(), |line| format!("{file}:{line}"));
    ensure!(
        code == Some(1),
        "{name}: validate ended with {code:?}: {printed}"
    );
    ensure!(
        printed.contains(&place),
        "{name}: validate does not name {place}: {printed}"
    );
    for word in says {
        ensure!(
            printed.contains(word),
            "{name}: validate does not say {word}: {printed}"
        );
    }
    let log = stack.controller.process().log();
    let logged = log
        .lines()
        .any(|line| line.contains(&file) && says.iter().all(|word| line.contains(word)));
    ensure!(logged, "{name}: the log does not say it");
    println!("{name}: {status}");
    good_in_force(stack).await.with_context(|| name.to_owned())
}

/// The good policy again, and nothing is wrong any more.
async fn mend(stack: &mut Stack) -> Result<()> {
    stack.change_policy(GOOD).await?;
    eventually(SOON, "the mistake is forgotten", async || {
        let error = stack.controller.last_error().await?;
        ensure!(error.is_none(), "{error:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn mistakes_in_the_file_are_named_and_change_nothing() -> Result<()> {
    Stack::with(GOOD, async |stack| {
        for Mistake {
            name,
            from,
            to,
            line,
            says,
        } in MISTAKES
        {
            let broken = GOOD.replace(from, to);
            ensure!(broken != GOOD, "{name}: nothing was replaced");
            stack.write_policy(broken.as_bytes())?;
            reported(stack, name, *line, says).await?;
            mend(stack).await.with_context(|| name.to_string())?;
        }
        let (code, printed) = validate(stack.policy_path())?;
        ensure!(code == Some(0), "the good policy is refused: {printed}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_is_no_policy_at_all_is_named_and_changes_nothing() -> Result<()> {
    Stack::with(GOOD, async |stack| {
        let path = stack.policy_path().to_path_buf();

        // Deterministic noise: no byte sequence is more broken than another.
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        })
        .take(10_000_000)
        .collect();
        stack.write_policy(&noise)?;
        reported(stack, "10 MB of noise", None, &[]).await?;
        mend(stack).await?;

        // The same as text, which has to get as far as the YAML parser.
        let text: Vec<u8> = noise.iter().map(|byte| b' ' + byte % 95).collect();
        stack.write_policy(&text)?;
        reported(stack, "10 MB of text", None, &[]).await?;
        mend(stack).await?;

        fs::remove_file(&path)?;
        fs::create_dir(&path)?;
        reported(stack, "a directory", None, &["directory"]).await?;
        fs::remove_dir(&path)?;
        mend(stack).await?;

        fs::remove_file(&path)?;
        reported(stack, "no file", None, &[]).await?;
        mend(stack).await?;

        stack.write_policy(b"")?;
        reported(stack, "an empty file", None, &[]).await?;
        mend(stack).await?;

        if rustix::process::geteuid().is_root() {
            println!("no read permission: root reads every file, so there is nothing to test");
            return Ok(());
        }
        fs::set_permissions(&path, Permissions::from_mode(0o000))?;
        reported(stack, "no read permission", None, &[]).await?;
        fs::remove_file(&path)?;
        mend(stack).await
    })
    .await
}

#[tokio::test]
async fn a_cluster_that_envoy_does_not_have_is_refused() -> Result<()> {
    Stack::with(GOOD, async |stack| {
        let broken = GOOD.replace("cluster: demo_v2", "cluster: demo_v7");
        stack.write_policy(broken.as_bytes())?;
        eventually(SOON, "the status reports the cluster", async || {
            let error = stack
                .controller
                .last_error()
                .await?
                .unwrap_or_default()
                .to_string();
            ensure!(
                error.contains("`demo_v7`") && error.contains("policy.yaml"),
                "{error}"
            );
            Ok(())
        })
        .await?;
        good_in_force(stack).await?;
        mend(stack).await
    })
    .await
}
