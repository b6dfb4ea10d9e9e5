//! When calls are born: a Poisson process for each class, whose rates change by steps, bursts and faults.
//!
//! Arrivals do not wait for answers. A process has no memory, so a change of its rate just draws the next arrival anew.

use super::{Event, World};
use crate::plan::Plan;
use crate::time::Nanos;

#[derive(Debug)]
pub(super) struct Arrivals {
    /// Calls per second of each class.
    rates: Vec<f64>,
    /// Arrivals that were drawn under older rates do not count.
    epoch: u32,
    in_burst: bool,
    /// Over the rates, while a fault multiplies them.
    pub(super) fault_factor: f64,
    /// Of the poison tenant.
    pub(super) poison: f64,
}

impl Arrivals {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            rates: vec![0.0; plan.classes.len()],
            epoch: 0,
            in_burst: true,
            fault_factor: 1.0,
            poison: 0.0,
        }
    }
}

impl World<'_> {
    pub(super) fn step(&mut self, index: u32) {
        self.arrivals.rates.clone_from(&self.plan.steps[index as usize].1);
        self.draw_all();
    }

    pub(super) fn modulate(&mut self) {
        let Some(bursts) = self.plan.bursts else { return };
        self.arrivals.in_burst = !self.arrivals.in_burst;
        let mean = if self.arrivals.in_burst { bursts.mean } else { bursts.calm_mean() };
        let stay = self.streams.arrivals.exponential(mean.as_secs_f64());
        self.events.at(self.now() + Nanos::from_secs_f64(stay), Event::Modulate);
        self.draw_all();
    }

    /// Draws the next arrival of every class under the present rates.
    pub(super) fn draw_all(&mut self) {
        self.arrivals.epoch += 1;
        for class in 0..self.plan.classes.len() {
            self.draw(class as u8);
        }
    }

    fn draw(&mut self, class: u8) {
        let rate = self.rate(usize::from(class));
        if rate > 0.0 {
            let at = self.now() + Nanos::from_secs_f64(self.streams.arrivals.exponential(1.0 / rate));
            if at < self.plan.end {
                self.events.at(at, Event::Arrive { class, epoch: self.arrivals.epoch });
            }
        }
    }

    fn rate(&self, class: usize) -> f64 {
        let modulation = match self.plan.bursts {
            Some(bursts) if self.arrivals.in_burst => bursts.factor,
            Some(bursts) => bursts.calm_factor(),
            None => 1.0,
        };
        let rate = self.arrivals.rates[class] * modulation * self.arrivals.fault_factor;
        match self.plan.poison {
            Some((poison, _)) if poison == class => self.arrivals.poison,
            _ => rate,
        }
    }

    pub(super) fn arrive(&mut self, class: u8, epoch: u32) {
        if epoch != self.arrivals.epoch {
            return;
        }
        self.draw(class);
        let tenant = self.plan.classes[usize::from(class)].tenant;
        let client = tenant.unwrap_or_else(|| self.population.pick(&mut self.streams.arrivals));
        self.birth(client, class);
    }
}
