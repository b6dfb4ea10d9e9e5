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
