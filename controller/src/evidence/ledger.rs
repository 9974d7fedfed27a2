//! One version's counters of every proxy as they were last, and what happened since: a sample per
//! tick, merged over the proxies. Missing, idle and counted stay three different things.

use std::collections::BTreeMap;

use ombre_policy::duration::Moment;
use ombre_policy::release::evidence::{Gap, RollCall, Sample, Totals, Weight};
use ombre_policy::release::settings::Settings;

use super::{ClusterTotals, ProxyId, Reading, Readings, envoy::stat_name};

/// One version's books.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    proxies: BTreeMap<ProxyId, Proxy>,
}

#[derive(Clone, Debug)]
struct Proxy {
    at: Moment,
    uptime: Option<u64>,
    totals: Totals,
    weight: u64,
}

impl Ledger {
    /// What happened to `cluster` since the last tick.
    pub fn tick(&mut self, cluster: &str, readings: &Readings, settings: &Settings) -> Sample {
        let name = stat_name(cluster);
        let mut call = RollCall::default();
        let mut gap = Gap::Missing;
        // Nobody waits for the others any more.
        self.proxies.retain(|id, _| readings.contains_key(id));
        for (id, reading) in readings {
            let found = reading.as_ref().and_then(|reading| {
                let totals = reading.clusters.get(&name)?;
                Some((reading, totals))
            });
            let sample = match found {
                Some((reading, totals)) => self.since_last(*id, reading, totals, settings),
                // A proxy that answers and never had this cluster carries none of its traffic.
                None if reading.is_some() && !self.proxies.contains_key(id) => continue,
                None => Sample::Unknown(Gap::Missing),
            };
            if let Sample::Unknown(why) = sample {
                gap = why;
            }
            let weight = self.weigh(*id, &sample);
            call.merge(&RollCall::of(&sample, weight));
        }
        match call.close(settings.evidence.coverage) {
            Sample::Unknown(Gap::Missing) => Sample::Unknown(gap),
            sample => sample,
        }
    }

    fn since_last(
        &mut self,
        id: ProxyId,
        reading: &Reading,
        found: &ClusterTotals,
        settings: &Settings,
    ) -> Sample {
        let at = reading.at;
        if reading.age > settings.evidence.stale {
            return Sample::Unknown(Gap::Stale);
        }
        let mut now = totals(found, settings);
        let Some(proxy) = self.proxies.get_mut(&id) else {
            let proxy = Proxy {
                at,
                uptime: reading.uptime,
                totals: now,
                weight: 0,
            };
            self.proxies.insert(id, proxy);
            return Sample::Unknown(Gap::Missing);
        };
        // What was scraped once is no news a second time, and not a tick without traffic.
        if at <= proxy.at {
            return Sample::Unknown(Gap::Missing);
        }
        let interval = settings.evidence.interval;
        // Counts of more than two intervals in one tick would look like a burst.
        let longest = interval.saturating_mul(5).get() / 2;
        let late = at.since(proxy.at).get() > longest;
        // Envoy raises the two counters one after the other, and they are read in between now and
        // then: an error whose request is not counted yet waits for the next tick.
        if let Some(requests) = now.requests.checked_sub(proxy.totals.requests) {
            now.errors = now.errors.min(proxy.totals.errors.saturating_add(requests));
        }
        // What a new process has counted may be more than the old one had.
        let restarted = reading.uptime < proxy.uptime;
        let sample = if restarted {
            Sample::Unknown(Gap::Reset)
        } else if late {
            Sample::Unknown(Gap::Stale)
        } else {
            now.since(&proxy.totals)
        };
        proxy.at = at;
        proxy.uptime = reading.uptime;
        proxy.totals = now;
        sample
    }

    /// The traffic that a proxy carries by its last known tick.
    fn weigh(&mut self, id: ProxyId, sample: &Sample) -> Weight {
        let Some(proxy) = self.proxies.get_mut(&id) else {
            return Weight::new(0);
        };
        match sample {
            Sample::Counted(counts) => proxy.weight = counts.requests(),
            Sample::Idle => proxy.weight = 0,
            Sample::Unknown(_) => {}
        }
        Weight::new(proxy.weight)
    }
}

fn totals(found: &ClusterTotals, settings: &Settings) -> Totals {
    let limit = settings.limits.latency.get().saturating_mul(1000);
    Totals {
        requests: found.requests,
        errors: found.errors,
        timed: found.latency.total(),
        slow: found.latency.at_or_above(limit),
        latency: found.latency.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use ombre_policy::duration::Millis;

    fn reading(second: u64, requests: u64, errors: u64) -> Option<Reading> {
        let totals = ClusterTotals {
            requests,
            errors,
            ..ClusterTotals::default()
        };
        Some(Reading {
            at: Moment::from_unix_millis(second * 1000),
            age: Millis::ZERO,
            uptime: None,
            clusters: [("c_1".to_owned(), totals)].into(),
        })
    }

    fn empty(second: u64) -> Option<Reading> {
        reading(second, 0, 0).map(|reading| Reading {
            clusters: BTreeMap::new(),
            ..reading
        })
    }

    fn tick(ledger: &mut Ledger, readings: &[Option<Reading>]) -> Sample {
        let numbered = (1..).map(ProxyId::new).zip(readings.iter().cloned());
        ledger.tick("c:1", &numbered.collect(), &Settings::article())
    }

    fn counted(sample: &Sample) -> Option<(u64, u64)> {
        match sample {
            Sample::Counted(counts) => Some((counts.requests(), counts.errors())),
            _ => None,
        }
    }

    #[test]
    fn missing_idle_and_counted_are_told_apart() {
        let mut ledger = Ledger::default();
        let unknown = |gap| Sample::Unknown(gap);
        let steps = [
            ("first reading", reading(1, 5, 0), unknown(Gap::Missing)),
            ("no traffic", reading(2, 5, 0), Sample::Idle),
            ("no answer", None, unknown(Gap::Missing)),
            ("too long ago", reading(6, 900, 0), unknown(Gap::Stale)),
            ("fresh again", reading(7, 900, 0), Sample::Idle),
            ("restarted", reading(8, 3, 0), unknown(Gap::Reset)),
            ("cluster gone", empty(9), unknown(Gap::Missing)),
        ];
        for (name, reading, expected) in steps {
            assert_eq!(tick(&mut ledger, &[reading]), expected, "{name}");
        }
        assert_eq!(
            tick(&mut Ledger::default(), &[empty(1)]),
            unknown(Gap::Missing)
        );
        assert_eq!(tick(&mut Ledger::default(), &[]), unknown(Gap::Missing));
    }

    #[test]
    fn a_restart_is_seen_although_the_counters_are_higher() {
        let mut ledger = Ledger::default();
        let up = |second, requests, uptime| {
            reading(second, requests, 0).map(|reading| Reading { uptime, ..reading })
        };
        tick(&mut ledger, &[up(1, 10, Some(60))]);
        let steps = [
            ("flushed later", up(2, 20, Some(60)), Some((10, 0))),
            ("restarted", up(3, 90, Some(0)), None),
            ("goes on", up(4, 95, Some(0)), Some((5, 0))),
            ("flushed", up(5, 96, Some(5)), Some((1, 0))),
        ];
        for (name, reading, expected) in steps {
            let sample = tick(&mut ledger, &[reading]);
            assert_eq!(counted(&sample), expected, "{name}");
            let reset = sample == Sample::Unknown(Gap::Reset);
            assert_eq!(reset, expected.is_none(), "{name}");
        }
    }

    #[test]
    fn one_late_tick_is_made_up_for() {
        let mut ledger = Ledger::default();
        tick(&mut ledger, &[reading(1, 10, 0)]);
        tick(&mut ledger, &[None]);
        let sample = tick(&mut ledger, &[reading(3, 30, 2)]);
        assert_eq!(counted(&sample), Some((20, 2)));
    }

    #[test]
    fn an_error_read_before_its_request_waits() {
        let mut ledger = Ledger::default();
        tick(&mut ledger, &[reading(1, 11, 10)]);
        let sample = tick(&mut ledger, &[reading(2, 20, 20)]);
        assert_eq!(counted(&sample), Some((9, 9)));
        let sample = tick(&mut ledger, &[reading(3, 30, 30)]);
        assert_eq!(counted(&sample), Some((10, 10)));
        let sample = tick(&mut ledger, &[reading(4, 50, 30)]);
        assert_eq!(counted(&sample), Some((20, 1)), "the one that waited");
    }

    #[test]
    fn proxies_are_merged_and_strangers_left_out() {
        let mut ledger = Ledger::default();
        tick(
            &mut ledger,
            &[reading(1, 10, 0), reading(1, 0, 0), empty(1)],
        );
        let both = [reading(2, 90, 1), reading(2, 10, 1), empty(2)];
        assert_eq!(counted(&tick(&mut ledger, &both)), Some((90, 2)));
        let big_one = [reading(3, 170, 1), None, empty(3)];
        assert_eq!(counted(&tick(&mut ledger, &big_one)), Some((80, 0)));
        let small_one = [None, reading(4, 20, 1), empty(4)];
        assert_eq!(tick(&mut ledger, &small_one), Sample::Unknown(Gap::Partial));
    }

    #[test]
    fn the_same_scrape_again_is_no_tick_without_traffic() {
        let mut ledger = Ledger::default();
        tick(&mut ledger, &[reading(1, 10, 0)]);
        assert_eq!(
            counted(&tick(&mut ledger, &[reading(2, 30, 2)])),
            Some((20, 2))
        );
        for (name, second, requests) in [("again", 2, 30), ("an older one", 1, 10)] {
            let sample = tick(&mut ledger, &[reading(second, requests, 0)]);
            assert_eq!(sample, Sample::Unknown(Gap::Missing), "{name}");
        }
        assert_eq!(
            counted(&tick(&mut ledger, &[reading(3, 40, 2)])),
            Some((10, 0))
        );
    }

    #[test]
    fn an_old_scrape_is_no_evidence() {
        let aged = |second, requests, age| {
            reading(second, requests, 0).map(|reading| Reading {
                age: Millis::from_secs(age),
                uptime: None,
                ..reading
            })
        };
        let mut ledger = Ledger::default();
        tick(&mut ledger, &[aged(1, 10, 0)]);
        assert_eq!(
            counted(&tick(&mut ledger, &[aged(2, 20, 15)])),
            Some((10, 0))
        );
        let stale = tick(&mut ledger, &[aged(3, 30, 16)]);
        assert_eq!(stale, Sample::Unknown(Gap::Stale));
    }

    #[test]
    fn a_removed_proxy_is_not_missed_and_one_in_its_place_begins_anew() {
        let mut ledger = Ledger::default();
        let mut readings: Readings = BTreeMap::new();
        let mut tick = |id: u64, reading: Option<Reading>, only: bool| {
            if only {
                readings.clear();
            }
            readings.insert(ProxyId::new(id), reading);
            ledger.tick("c:1", &readings, &Settings::article())
        };
        tick(1, reading(1, 10, 0), true);
        assert_eq!(counted(&tick(1, reading(2, 90, 0), true)), Some((80, 0)));
        assert_eq!(tick(1, None, true), Sample::Unknown(Gap::Missing));
        let other = tick(2, reading(4, 500, 0), true);
        assert_eq!(other, Sample::Unknown(Gap::Missing), "its first reading");
        assert_eq!(counted(&tick(2, reading(5, 510, 0), false)), Some((10, 0)));
    }
}
