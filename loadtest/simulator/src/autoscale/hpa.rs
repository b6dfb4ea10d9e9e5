//! A HorizontalPodAutoscaler as Kubernetes documents it, and as its controller does it (`pkg/controller/podautoscaler`): a wish
//! from a metric ([`metric`]), then windows of stabilisation, then how much may change in a period, then the bounds.

pub(super) mod metric;

use std::collections::VecDeque;

/// One rule of `behavior`: at most so much in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Percent { value: u32, period_s: u64 },
    Pods { value: u32, period_s: u64 },
}

/// Which of several policies counts: the one that allows the most change, the least, or no change at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    Max,
    Min,
    Disabled,
}

/// One direction of `behavior`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    pub window_s: u64,
    pub select: Select,
    pub policies: Vec<Policy>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Behavior {
    pub up: Rules,
    pub down: Rules,
    /// Of the ratio of measured to wanted, what is left alone.
    pub tolerance: f64,
}

/// What one of them remembers.
#[derive(Clone, Debug)]
pub struct Hpa {
    least: u32,
    most: u32,
    behavior: Behavior,
    /// Wishes, before anything bounded them, and when.
    wishes: VecDeque<(u64, u32)>,
    begun: bool,
    /// By how much the scale was changed, and when.
    ups: VecDeque<(u64, u32)>,
    downs: VecDeque<(u64, u32)>,
}

/// The controller's flag, where `behavior` says nothing else.
const TOLERANCE: f64 = 0.1;

impl Behavior {
    /// What Kubernetes does with no `behavior` at all.
    pub fn kubernetes() -> Self {
        let up = vec![Policy::Percent { value: 100, period_s: 15 }, Policy::Pods { value: 4, period_s: 15 }];
        let down = vec![Policy::Percent { value: 100, period_s: 15 }];
        Self {
            up: Rules { window_s: 0, select: Select::Max, policies: up },
            down: Rules { window_s: 300, select: Select::Max, policies: down },
            tolerance: TOLERANCE,
        }
    }

    /// `behavior` of `helm/spillway/values.yaml`, with the window of `values-surge.yaml`.
    pub fn chart() -> Self {
        let up = vec![Policy::Percent { value: 900, period_s: 15 }, Policy::Pods { value: 50, period_s: 15 }];
        let down = vec![Policy::Percent { value: 10, period_s: 60 }];
        Self {
            up: Rules { window_s: 0, select: Select::Max, policies: up },
            down: Rules { window_s: 1_800, select: Select::Max, policies: down },
            tolerance: TOLERANCE,
        }
    }
}

impl Hpa {
    pub fn new(least: u32, most: u32, behavior: Behavior) -> Self {
        let (wishes, ups, downs) = Default::default();
        Self { least, most, behavior, wishes, begun: false, ups, downs }
    }

    pub fn tolerance(&self) -> f64 {
        self.behavior.tolerance
    }

    /// What becomes of `current` replicas when the metric asks for `wish`; `None`: the metric is not known.
    pub fn scale(&mut self, now: u64, current: u32, wish: Option<u32>) -> u32 {
        // Scaling to none and from none is not its business.
        if current == 0 {
            return 0;
        }
        // What it finds counts as its first wish, so that it does not begin by taking away.
        if !self.begun {
            self.wishes.push_back((now, current));
            self.begun = true;
        }
        let next = if current > self.most {
            self.most
        } else if current < self.least {
            self.least
        } else if let Some(wish) = wish {
            let stable = self.stabilise(now, current, wish);
            self.bound(now, current, stable)
        } else {
            current
        };
        if next > current {
            self.ups.push_back((now, next - current));
        } else if next < current {
            self.downs.push_back((now, current - next));
        }
        next
    }

    /// Up by no more than the least wish of a window, down by no more than the highest of another.
    fn stabilise(&mut self, now: u64, current: u32, wish: u32) -> u32 {
        let (up_s, down_s) = (self.behavior.up.window_s, self.behavior.down.window_s);
        forget(&mut self.wishes, now, up_s.max(down_s));
        let within = |window: u64| {
            let old = self.wishes.iter().filter(move |(at, _)| now - at < window);
            old.map(|(_, wish)| *wish).chain([wish])
        };
        let up = within(up_s).min().unwrap_or(wish);
        let down = within(down_s).max().unwrap_or(wish);
        self.wishes.push_back((now, wish));
        if current < up {
            up
        } else if current > down {
            down
        } else {
            current
        }
    }

    fn bound(&mut self, now: u64, current: u32, wish: u32) -> u32 {
        let longest = [&self.behavior.up, &self.behavior.down].map(Rules::longest_period).into_iter().max();
        for events in [&mut self.ups, &mut self.downs] {
            forget(events, now, longest.unwrap_or(0));
        }
        if wish > current {
            let allowed = self.allowed_up(now, current).max(current);
            wish.min(allowed).min(self.most)
        } else if wish < current {
            let allowed = self.allowed_down(now, current).min(current);
            wish.max(allowed).max(self.least)
        } else {
            current.clamp(self.least, self.most)
        }
    }

    fn allowed_up(&self, now: u64, current: u32) -> u32 {
        let limit = |policy: &Policy| {
            let start = self.at_start_of(policy.period(), now, current);
            match policy {
                Policy::Pods { value, .. } => start + f64::from(*value),
                Policy::Percent { value, .. } => (start * (1.0 + f64::from(*value) / 100.0)).ceil(),
            }
        };
        let limits = self.behavior.up.policies.iter().map(limit);
        match self.behavior.up.select {
            Select::Max => limits.fold(0.0, f64::max) as u32,
            Select::Min => limits.fold(f64::INFINITY, f64::min) as u32,
            Select::Disabled => current,
        }
    }

    fn allowed_down(&self, now: u64, current: u32) -> u32 {
        let limit = |policy: &Policy| {
            let start = self.at_start_of(policy.period(), now, current);
            match policy {
                Policy::Pods { value, .. } => start - f64::from(*value),
                Policy::Percent { value, .. } => (start * (1.0 - f64::from(*value) / 100.0)).trunc(),
            }
        };
        let limits = self.behavior.down.policies.iter().map(limit);
        match self.behavior.down.select {
            // The most change, so the fewest pods.
            Select::Max => limits.fold(f64::INFINITY, f64::min) as u32,
            Select::Min => limits.fold(0.0, f64::max) as u32,
            Select::Disabled => current,
        }
    }

    /// Replicas before what was changed in this period.
    fn at_start_of(&self, period_s: u64, now: u64, current: u32) -> f64 {
        let changed = |events: &VecDeque<(u64, u32)>| {
            events.iter().filter(|(at, _)| now - at < period_s).map(|(_, by)| f64::from(*by)).sum::<f64>()
        };
        f64::from(current) - changed(&self.ups) + changed(&self.downs)
    }
}

impl Rules {
    fn longest_period(&self) -> u64 {
        self.policies.iter().map(Policy::period).max().unwrap_or(0)
    }
}

impl Policy {
    fn period(&self) -> u64 {
        let (Self::Percent { period_s, .. } | Self::Pods { period_s, .. }) = self;
        *period_s
    }
}

fn forget(events: &mut VecDeque<(u64, u32)>, now: u64, window_s: u64) {
    while events.front().is_some_and(|(at, _)| now - at >= window_s) {
        events.pop_front();
    }
}

#[cfg(test)]
mod tests;
