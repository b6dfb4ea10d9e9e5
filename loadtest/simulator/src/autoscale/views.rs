//! What is known of the pods, by whom, and how late.

use std::collections::VecDeque;

use super::fleet::{Fleet, Pool};
use super::gate::Second;
use super::hpa::metric::Processors;
use super::setting::Setting;

/// metrics-server says nothing of a container before it has run for so long, in seconds.
const FIRST_USE_S: u64 = 10;

/// What `control` has been told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Demand {
    /// Pods that the offered load fills, refused calls included.
    pub(super) pods_filled: f64,
    main: u32,
    burst: u32,
}

/// What metrics-server has read.
#[derive(Clone, Copy, Debug)]
struct Use {
    at: u64,
    of_request: f64,
}

#[derive(Debug)]
pub(super) struct Views {
    told: VecDeque<Demand>,
    scraped: Option<Demand>,
    busy: VecDeque<f64>,
    used: Option<Use>,
    /// When, in its interval, each looks.
    scrape_phase: u64,
    use_phase: u64,
    setting: Setting,
}

impl Demand {
    /// `spillway_control_demand_ratio`.
    pub(super) fn ratio(&self) -> f64 {
        self.pods_filled / f64::from(self.main + self.burst)
    }

    /// The ratio if there were no burst.
    pub(super) fn ratio_without_burst(&self) -> f64 {
        self.pods_filled / f64::from(self.main)
    }
}

impl Views {
    pub(super) fn new(setting: &Setting, scrape_phase: u64, use_phase: u64) -> Self {
        Self {
            told: VecDeque::new(),
            scraped: None,
            busy: VecDeque::new(),
            used: None,
            scrape_phase,
            use_phase,
            setting: *setting,
        }
    }

    /// After each second.
    pub(super) fn see(&mut self, now: u64, second: &Second, fleet: &Fleet) {
        let delays = &self.setting.delays;
        self.told.push_back(Demand {
            pods_filled: self.setting.limits.pods_filled(second.offered),
            main: fleet.ready(Pool::Main, now),
            burst: fleet.ready(Pool::Burst, now),
        });
        while self.told.len() as u64 > delays.told + 1 {
            self.told.pop_front();
        }
        if now % delays.scrape == self.scrape_phase % delays.scrape {
            self.scraped = self.told();
        }
        self.busy.push_back(second.busy);
        while self.busy.len() as u64 > delays.cpu_resolution {
            self.busy.pop_front();
        }
        if now % delays.cpu_resolution == self.use_phase % delays.cpu_resolution {
            let of_request = self.busy.iter().sum::<f64>() / self.busy.len() as f64;
            self.used = Some(Use { at: now, of_request });
        }
    }

    /// As `control` knows it.
    pub(super) fn told(&self) -> Option<Demand> {
        let old_enough = self.told.len() as u64 > self.setting.delays.told;
        self.told.front().copied().filter(|told| old_enough && told.main > 0)
    }

    /// As Prometheus does.
    pub(super) fn scraped(&self) -> Option<Demand> {
        self.scraped
    }

    /// Pods sorted as in `groupPods` of Kubernetes' controller.
    pub(super) fn processors(&self, now: u64, fleet: &Fleet) -> Option<Processors> {
        let used = self.used?;
        let delays = &self.setting.delays;
        let mut pods = Processors { use_of_request: used.of_request, ..Processors::default() };
        for pod in fleet.of(Pool::Main) {
            let running = pod.start.filter(|start| start.runs_at <= now);
            match running {
                None => pods.unready += 1,
                // The first pods have run for long.
                Some(start) if start.runs_at > 0 && used.at < start.runs_at + FIRST_USE_S => {
                    pods.missing += 1
                }
                Some(start) => {
                    let young = start.runs_at > 0 && now < start.runs_at + delays.cpu_initialization;
                    let partly = used.at < start.ready_at + delays.cpu_resolution;
                    if now < start.ready_at || (young && partly) {
                        pods.unready += 1
                    } else {
                        pods.measured += 1
                    }
                }
            }
        }
        Some(pods)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autoscale::fleet::Replicas;

    #[test]
    fn a_fresh_pod_counts_once_it_has_been_ready_for_a_whole_span() {
        let setting = Setting { least: 2, ..Setting::default() };
        let mut fleet = Fleet::new(&setting, 1);
        let mut views = Views::new(&setting, 0, 0);
        let busy = Second { busy: 0.8, ..Second::default() };
        let mut counts = Vec::new();
        for now in 0..100 {
            if now == 20 {
                fleet.order(now, Replicas { main: 5, burst: 0 });
            }
            fleet.step(now);
            views.see(now, &busy, &fleet);
            counts.push(
                views.processors(now, &fleet).map_or((0, 0, 0), |p| (p.measured, p.unready, p.missing)),
            );
        }
        assert_eq!(counts[19], (2, 0, 0));
        assert_eq!(counts[20], (2, 3, 0), "no container runs yet");
        assert!(counts.contains(&(2, 0, 3)), "they run and nothing is known of them: {counts:?}");
        assert_eq!(counts[99], (5, 0, 0));
        let from = counts.iter().position(|count| count.0 == 5);
        // Ready some ten seconds after the order, a span of 15 s, and the next read.
        assert!(from.is_some_and(|from| (40..=70).contains(&from)), "{from:?}");
    }

    #[test]
    fn control_knows_two_seconds_late_and_prometheus_up_to_five_more() {
        let setting = Setting::default();
        let fleet = Fleet::new(&setting, 1);
        let mut views = Views::new(&setting, 4, 0);
        for now in 0..20 {
            let offered = setting.limits.capacity_per_s * now as f64;
            views.see(now, &Second { offered, ..Second::default() }, &fleet);
        }
        assert_eq!(views.told().map(|told| told.pods_filled), Some(17.0));
        assert_eq!(views.scraped().map(|told| told.pods_filled), Some(17.0), "read in second 19");
        views.see(20, &Second::default(), &fleet);
        assert_eq!(views.scraped().map(|told| told.pods_filled), Some(17.0));
        assert!((views.told().map_or(0.0, |told| told.ratio()) - 2.0).abs() < 1e-9);
    }
}
