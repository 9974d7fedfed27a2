//! Why a request goes where it goes, for people: the same decision as in the filter, from the
//! same code, with everything that was seen on the way.

use std::fmt;

use serde::Serialize;

use crate::headers::HeaderMap;
use crate::in_force::InForce;
use crate::plan::GroupPlan;
use crate::verdict::{Asked, Choice, Edit, Reason, Refusal, Routed, UnitSeen, Verdict};
use crate::version::Wanted;

/// A request to explain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// `GET`, `POST`, ...
    pub method: String,
    /// `https` or `http`.
    pub scheme: String,
    /// Host, and port if there is one.
    pub authority: String,
    /// Path and query.
    pub target: String,
    /// Further headers; names in any case.
    pub headers: Vec<(String, String)>,
}

/// The decision about a request, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The decision in one word: `pass`, `route` or `refuse`.
    pub decision: &'static str,
    /// The decision in one sentence.
    pub summary: String,
    /// The service, when a route matched.
    pub service: Option<String>,
    /// The route that matched.
    pub route: Option<String>,
    /// The version that serves the request.
    pub version: Option<String>,
    /// The Envoy cluster.
    pub cluster: Option<String>,
    /// Why this version, in the word of `x-ombre-decision`.
    pub reason: Option<&'static str>,
    /// The status of a refusal.
    pub status: Option<u32>,
    /// What was seen, step by step.
    pub steps: Vec<Step>,
    /// The headers that are set or removed (`null`).
    pub headers: Vec<(String, Option<String>)>,
}

/// One step of a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What was looked at.
    pub name: &'static str,
    /// What was found.
    pub found: String,
}

/// Explains what happens to a request. A unit that would be minted is all zeros here.
pub fn explain(in_force: &mut InForce, question: &Question) -> Explanation {
    let lower = |(name, value): &(String, String)| (name.to_ascii_lowercase(), value.clone());
    let pseudo = [
        (":method", &question.method),
        (":authority", &question.authority),
        (":path", &question.target),
        ("x-forwarded-proto", &question.scheme),
    ];
    let pseudo = pseudo
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.clone()));
    // Envoy removes what clients send under ombre's own names before the filter sees it.
    let sent = question.headers.iter().map(lower);
    let sent = sent.filter(|(name, _)| !name.starts_with("x-ombre-"));
    let headers = HeaderMap::encode(&pseudo.chain(sent).collect::<Vec<_>>());
    match in_force.decide(HeaderMap::new(&headers), || [0; 16]) {
        Verdict::Pass => passed(),
        Verdict::Refuse(refusal) => refused(&refusal),
        Verdict::Route(routed) => routed_to(routed),
    }
}

fn passed() -> Explanation {
    Explanation {
        decision: "pass",
        summary: "no route matches: the request passes untouched to Envoy's default cluster"
            .to_owned(),
        service: None,
        route: None,
        version: None,
        cluster: None,
        reason: None,
        status: None,
        steps: Vec::new(),
        headers: Vec::new(),
    }
}

fn refused(refusal: &Refusal<'_>) -> Explanation {
    let mut headers = vec![(
        "content-type".to_owned(),
        Some("application/json".to_owned()),
    )];
    if let Some(seconds) = refusal.retry_after() {
        headers.push(("retry-after".to_owned(), Some(seconds.to_string())));
    }
    Explanation {
        decision: "refuse",
        summary: format!(
            "answered with {} by the filter: {}",
            refusal.status(),
            refusal.body()
        ),
        service: refusal.service.map(|service| service.name.clone()),
        reason: Some(refusal.why().name()),
        status: Some(refusal.status()),
        headers,
        ..passed()
    }
}

fn routed_to(mut routed: Routed<'_>) -> Explanation {
    let mut headers = Vec::new();
    routed.write(|edit| match edit {
        Edit::Set(name, value) => headers.push((name.to_owned(), Some(text(value)))),
        Edit::Remove(name) => headers.push((name.to_owned(), None)),
    });
    let choice = &routed.choice;
    let (version, cluster) = (&choice.serving.name, &choice.serving.cluster);
    let route = routed.plan.route_name(routed.route);
    Explanation {
        decision: "route",
        summary: format!("goes to {version} (cluster {cluster}): {}", why(choice)),
        service: Some(routed.service.name.clone()),
        route: Some(route.to_owned()),
        version: Some(version.clone()),
        cluster: Some(cluster.clone()),
        reason: Some(choice.reason.name()),
        status: None,
        steps: steps(&routed, route),
        headers,
    }
}

fn why(choice: &Choice<'_>) -> String {
    let reason = match choice.reason {
        Reason::Verification => "x-stage asks for it through the verification channel".to_owned(),
        Reason::Wanted(detector) => format!("the request asks for it ({})", detector.name()),
        Reason::UnknownVersion => "the version that is asked for is not configured".to_owned(),
        Reason::Color => format!("the color {} maps to it", choice.color.color.as_str()),
        Reason::Experiment => "the experiment group has it".to_owned(),
        Reason::Rollout => "the unit is in the candidate's share".to_owned(),
        Reason::RouteVersion => "ROUTE_VERSION makes it the default".to_owned(),
        Reason::Default => "nothing else decides, it is the default".to_owned(),
    };
    match choice.degraded {
        None => reason,
        Some(degraded) => format!("{reason}, but {} is degraded", degraded.name),
    }
}

fn steps(routed: &Routed<'_>, route: &str) -> Vec<Step> {
    let choice = &routed.choice;
    let mut steps = vec![
        step(
            "route",
            format!("{route} of service {}", routed.service.name),
        ),
        step("color", color(choice)),
        step("version wanted", asked(choice.asked)),
        step("unit", unit(&choice.unit)),
    ];
    for cohort in routed.cohorts {
        let Some(GroupPlan { label, .. }) = routed.service.group(cohort) else {
            continue;
        };
        steps.push(step(
            "cohort",
            match cohort.slot {
                Some(slot) => format!("{label} (slot {slot} of 100000)"),
                None => format!("{label} (no_unit: the default group, not counted)"),
            },
        ));
    }
    if let Some(rollout) = choice.rollout {
        let verdict = if rollout.slot < rollout.below {
            "candidate"
        } else {
            "not the candidate"
        };
        let found = format!(
            "slot {} of 100000, share is below {}: {verdict}",
            rollout.slot, rollout.below
        );
        steps.push(step("rollout", found));
    }
    if let Some(degraded) = choice.degraded {
        let found = format!(
            "{} is degraded, {} takes its requests",
            degraded.name, choice.serving.name
        );
        steps.push(step("health", found));
    }
    steps
}

fn step(name: &'static str, found: String) -> Step {
    Step { name, found }
}

fn color(choice: &Choice<'_>) -> String {
    let seen = choice.color;
    let from = seen.source.map_or("default", |source| source.name());
    let dropped = match seen.invalid {
        0 => String::new(),
        count => format!(", {count} invalid dropped"),
    };
    format!("{} ({from}{dropped})", seen.color.as_str())
}

fn asked(asked: Option<Asked>) -> String {
    let Some(Asked {
        detector,
        wanted,
        found,
    }) = asked
    else {
        return "none".to_owned();
    };
    let wanted = match wanted {
        None => "something that is no version".to_owned(),
        Some(Wanted { major, minor: None }) => format!("v{major}"),
        Some(Wanted {
            major,
            minor: Some(minor),
        }) => format!("v{major}.{minor}"),
    };
    let known = if found.is_some() {
        ""
    } else {
        ", not configured"
    };
    format!("{wanted} ({}{known})", detector.name())
}

fn unit(unit: &UnitSeen<'_>) -> String {
    match unit {
        UnitSeen::Unneeded => "not needed".to_owned(),
        UnitSeen::Missing => "none (no_unit)".to_owned(),
        UnitSeen::Header(name, value) => format!("{} (header {name})", text(value)),
        UnitSeen::Cookie(name, value) => format!("{} (cookie {name})", text(value)),
        UnitSeen::Minted(value) => format!("{} (minted)", text(value)),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.summary)?;
        for Step { name, found } in &self.steps {
            writeln!(f, "  {name:<15} {found}")?;
        }
        if !self.headers.is_empty() {
            let to = if self.status.is_some() {
                "the client"
            } else {
                "the upstream"
            };
            writeln!(f, "headers to {to}:")?;
        }
        for (name, value) in &self.headers {
            match value {
                Some(value) => writeln!(f, "  {name}: {value}")?,
                None => writeln!(f, "  {name} is removed")?,
            }
        }
        Ok(())
    }
}
