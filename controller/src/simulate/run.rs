//! The simulation itself: pure, with the evidence's own clock. Every proxy confirms a freeze at once,
//! the sync log is empty, and chance adds nothing to a cool-down.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use ombre_policy::duration::Moment;
use ombre_policy::policy::Policy;
use ombre_policy::release::fleet::{Standing, admit};
use ombre_policy::release::judge::{Judge, Judgement, Verdict};
use ombre_policy::release::machine::{
    Action, Alert, Context, Event, Jitter, Permit, PhaseName, Release, Terms, Transition, step,
};
use ombre_policy::release::settings::Settings;
use ombre_policy::release::share::Percent;
use ombre_policy::release::triggers::sustained::RatioAccount;
use serde::Serialize;

use super::Line;
use crate::engine::whole;
use crate::timestamp;

/// Releases under simulation.
pub struct Simulation {
    services: BTreeMap<String, Simulated>,
}

struct Simulated {
    settings: Settings,
    terms: Terms,
    weight: f64,
    judge: Judge,
    release: Option<Release>,
    fired: bool,
    severity: f64,
}

/// Something that would have happened.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// The evidence was judged.
    Judged {
        /// The service.
        service: String,
        /// Its phase when it was judged.
        phase: PhaseName,
        /// Its candidate's share then.
        share: Percent,
        /// The whole account.
        judgement: Box<Judgement>,
    },
    /// The release moved.
    Moved {
        /// The service.
        service: String,
        /// From where to where.
        transition: Transition,
    },
    /// Somebody would have been called.
    Alerted {
        /// The service.
        service: String,
        /// When.
        at: Moment,
        /// Why.
        alert: Alert,
    },
}

impl Simulation {
    /// The releases of a policy, each to begin with its first line of evidence.
    pub fn new(policy: &Policy) -> Self {
        let services = policy.releases().map(|release| {
            let settings = release.settings.clone();
            let simulated = Simulated {
                judge: Judge::new(settings.clone()),
                settings,
                terms: release.terms,
                weight: release.weight,
                release: None,
                fired: false,
                severity: 0.0,
            };
            (release.service.to_owned(), simulated)
        });
        Self {
            services: services.collect(),
        }
    }

    /// Takes one line; none when it is of no release.
    pub fn take(&mut self, line: Line) -> Option<Vec<Told>> {
        let at = line.at;
        let service = self.services.get_mut(&line.service)?;
        let release = service.release(at);
        let trial = release.trial(at, &service.terms);
        let judged = service
            .judge
            .observe(at, line.candidate, line.stable, trial);
        let mut told = Vec::new();
        if let Some(judgement) = &judged {
            service.fired = matches!(judgement.verdict, Verdict::Fired(_));
            service.severity = judgement.severity();
            told.push(Told::Judged {
                service: line.service.clone(),
                phase: release.phase.name(),
                share: release.phase.share(),
                judgement: Box::new(judgement.clone()),
            });
        }
        let permit = self.permit(&line.service, at);
        let event = judged.map_or(Event::Clock, |judgement| Event::Judged {
            verdict: judgement.verdict,
            permit,
        });
        let service = self.services.get_mut(&line.service)?;
        service.step(&line.service, at, event, &mut told);
        Some(told)
    }

    fn permit(&mut self, name: &str, at: Moment) -> Permit {
        let standings: Vec<Standing> = self
            .services
            .values_mut()
            .map(|service| {
                let release = service.release(at);
                let most = service.settings.guards.max_concurrent;
                Standing::of(&release, service.fired, service.severity, most, at)
            })
            .collect();
        let permits = self.services.keys().zip(admit(&standings, at));
        let mut own = permits.filter(|(service, _)| *service == name);
        own.next().map_or(Permit::Deferred, |(_, permit)| permit)
    }
}

impl Simulated {
    fn release(&mut self, at: Moment) -> Release {
        let begin = || Release::begin(whole(self.weight), Percent::FULL, at);
        self.release.get_or_insert_with(begin).clone()
    }

    fn step(&mut self, name: &str, at: Moment, event: Event, told: &mut Vec<Told>) {
        let mut next = Some(event);
        while let Some(event) = next.take() {
            let before = self.release(at);
            let context = Context {
                terms: &self.terms,
                now: at,
                jitter: Jitter::new(0.0),
                confirmed: Some(Percent::FULL),
            };
            let (after, actions) = step(&before, &event, &context);
            for action in actions {
                let service = name.to_owned();
                match action {
                    Action::Notify(transition) => told.push(Told::Moved {
                        service,
                        transition,
                    }),
                    Action::Alert(alert) => told.push(Told::Alerted { service, at, alert }),
                    Action::ForgetEvidence => self.judge.forget(),
                    Action::Publish(decision) if decision.frozen => {
                        next = Some(Event::Frozen {
                            turn: decision.turn,
                            freeze_seq: 0,
                        });
                    }
                    Action::StartDrain { turn, freeze_seq } => {
                        next = Some(Event::Drained {
                            turn,
                            applied_seq: freeze_seq,
                        });
                    }
                    _ => {}
                }
            }
            self.release = Some(after);
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Judged {
                service,
                phase,
                share,
                judgement,
            } => {
                write!(f, "{} {service} {phase} {share}: ", time(judgement.at))?;
                match judgement.verdict {
                    Verdict::Unknown(gap) => write!(f, "unknown ({gap:?})")?,
                    Verdict::Idle => f.write_str("idle")?,
                    Verdict::Quiet(standing) => write!(f, "quiet ({standing:?})")?,
                    Verdict::Breached => f.write_str("breached")?,
                    Verdict::Fired(trigger) => write!(f, "FIRED by {trigger}")?,
                    Verdict::Held(trigger) => write!(f, "held, {trigger} fired")?,
                    Verdict::SharedFault(trigger) => write!(f, "shared fault, {trigger} fired")?,
                }
                if let Some(score) = &judgement.score {
                    write!(f, "; score {:.2} of {:.2}", score.score, score.threshold)?;
                }
                if let Some(breach) = &judgement.breach {
                    ratio(f, "errors", &breach.errors)?;
                    ratio(f, "slow", &breach.slow)?;
                }
                Ok(())
            }
            Self::Moved {
                service,
                transition,
            } => {
                let (from, to) = (transition.from, transition.to);
                let (from_share, to_share) = (transition.from_share, transition.to_share);
                let at = time(transition.at);
                write!(
                    f,
                    "{at} {service} MOVES {from} {from_share} -> {to} {to_share}"
                )
            }
            Self::Alerted { service, at, alert } => {
                write!(f, "{} {service} ALERT {alert:?}", time(*at))
            }
        }
    }
}

fn ratio(f: &mut fmt::Formatter<'_>, name: &str, account: &RatioAccount) -> fmt::Result {
    let percent = |ratio: f64| ratio * 100.0;
    match account.ratio {
        Some(ratio) => write!(
            f,
            "; {name} {:.2}% (surely {:.2}%) of {:.2}%",
            percent(ratio),
            percent(account.lower),
            percent(account.limit)
        ),
        None => write!(f, "; {name} none"),
    }
}

fn time(at: Moment) -> String {
    timestamp::text(UNIX_EPOCH + Duration::from_millis(at.unix_millis()))
}
