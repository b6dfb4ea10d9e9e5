//! One run, with everything resolved to numbers: what the engine is given.

use crate::client::Cohort;
use crate::fault::Fault;
use crate::policy::Law;
use crate::time::Nanos;

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) law: Law,
    /// Calls at once on a gateway and on a worker, as a sweep found best.
    pub(crate) limits: [u32; 2],
    pub(crate) gateways: u32,
    pub(crate) gateway: ServerPlan,
    pub(crate) workers: u32,
    pub(crate) worker: ServerPlan,
    /// One way between a client and a gateway.
    pub(crate) network: Nanos,
    /// One way between a gateway and a worker.
    pub(crate) hop: Nanos,
    pub(crate) clients: u32,
    /// How many, and how many times as often they call.
    pub(crate) elephants: (u32, f64),
    pub(crate) cohorts: Vec<(Cohort, f64)>,
    pub(crate) classes: Vec<Class>,
    /// From when on which class has which rate, calls per second; the first begins at zero.
    pub(crate) steps: Vec<(Nanos, Vec<f64>)>,
    pub(crate) bursts: Option<Bursts>,
    /// Nothing before it is counted.
    pub(crate) warmup: Nanos,
    /// Nobody calls any more.
    pub(crate) end: Nanos,
    /// So long after the end, what still runs counts as unfinished.
    pub(crate) settle: Nanos,
    /// What happens, from when until when.
    pub(crate) fault: Option<(Fault, Nanos, Nanos)>,
    /// Class and rate of the calls that a poison tenant adds.
    pub(crate) poison: Option<(usize, f64)>,
    /// Set when clients have connections that can be lost.
    pub(crate) connections: Option<Connections>,
    pub(crate) autoscaler: Option<Autoscaler>,
    /// Share of served calls that end in an error.
    pub(crate) failure: f64,
    /// How many more times the first calls after a flush cost, until the cache is warm.
    pub(crate) cache: Option<Cache>,
}

/// A server's processors and what a call takes there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerPlan {
    pub(crate) cores: f64,
    /// Nanoseconds of a core for reading the headers and deciding, which everybody costs who arrives.
    pub(crate) refusal: f64,
    /// Nanoseconds of a core for a served call, on the average, the above included.
    pub(crate) cpu: f64,
    pub(crate) spread: Spread,
    pub(crate) station: Option<StationPlan>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct StationPlan {
    pub(crate) places: u32,
    /// Nanoseconds, on the average.
    pub(crate) stay: f64,
    pub(crate) contention: f64,
}

/// How work varies around its mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Spread {
    Exponential,
    /// Nine in ten are short, one takes ten times as long.
    Bimodal,
}

#[derive(Clone, Debug)]
pub(crate) struct Class {
    pub(crate) tier: u8,
    pub(crate) deadline: Nanos,
    /// Work of a call over the mean.
    pub(crate) cost: f64,
    /// Opens a connection.
    pub(crate) connects: bool,
    /// Always the same client.
    pub(crate) tenant: Option<u32>,
}

/// A Markov-modulated Poisson process of two states; the mean rate stays what it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bursts {
    /// Rate in a burst over the mean rate.
    pub(crate) factor: f64,
    /// Mean length of a burst.
    pub(crate) mean: Nanos,
    /// Share of time in bursts.
    pub(crate) share: f64,
}

impl Bursts {
    /// Rate outside bursts over the mean rate.
    pub(crate) fn calm_factor(&self) -> f64 {
        ((1.0 - self.factor * self.share) / (1.0 - self.share)).max(0.0)
    }

    pub(crate) fn calm_mean(&self) -> Nanos {
        Nanos((self.mean.0 as f64 * (1.0 - self.share) / self.share) as u64)
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Connections {
    /// Nanoseconds of a core for a handshake.
    pub(crate) handshake: f64,
    /// Over which clients that cooperate spread their return.
    pub(crate) spread: Nanos,
}

/// A horizontal autoscaler with its delays. Defaults of Kubernetes' `HorizontalPodAutoscaler`: metrics and decisions
/// every 15 s, at most twice as many at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Autoscaler {
    pub(crate) interval: Nanos,
    /// From a measurement to the decision that it leads to.
    pub(crate) lag: Nanos,
    /// From the decision to a running process.
    pub(crate) start: Nanos,
    /// From there to the first call.
    pub(crate) ready: Nanos,
    /// Share of busy processors that it aims for.
    pub(crate) target: f64,
    pub(crate) most: u32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Cache {
    /// Work of a miss over that of a hit.
    pub(crate) miss: f64,
    /// Served calls that fill two thirds of it.
    pub(crate) fill: f64,
}
