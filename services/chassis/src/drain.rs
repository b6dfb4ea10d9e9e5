//! The end of the process: ordered and bounded.
//!
//! Serving, then Draining, then Stopped; never backwards. The binary lists the steps of the drain in the order in
//! which they run, each with its own bound, so the whole drain takes at most [`Drain::bound`], which must be less than
//! the grace period of whatever started the process. A step that overruns is abandoned and the next one starts.
//! A component only watches the phase; it never decides the order.
//!
//! [`Fatal`] skips the steps: what is acknowledged is already durable, and after a failed fsync nothing more may be
//! acknowledged.

mod metrics;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use metrics::{Progress, StepSeconds};
use prometheus::Registry;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::signals::StopSignals;
use crate::{Fatal, StillRunning, Tasks};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Serving,
    Draining,
    Stopped,
}

/// How the process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the exit code is in here"]
pub enum Exit {
    /// Every step ran; those named were abandoned at their bound.
    Drained { overran: Vec<&'static str> },
    /// A second signal cut the drain short.
    Interrupted,
    /// A component reported [`Fatal`]; the reason has been logged.
    Fatal(String),
}

/// Owned by the binary; components get a [`DrainHandle`].
pub struct Drain {
    handle: DrainHandle,
    steps: Vec<Step>,
    progress: Arc<Progress>,
}

struct Step {
    name: &'static str,
    bound: Duration,
    work: BoxFuture<'static, Result<(), Late>>,
}

/// Why a step overran.
#[derive(Debug, thiserror::Error)]
enum Late {
    #[error("abandoned at its bound")]
    Abandoned,
    #[error(transparent)]
    StillRunning(#[from] StillRunning),
}

/// What a component needs to take part in the drain. Clones are cheap.
#[derive(Clone, Debug)]
pub struct DrainHandle {
    phase: Arc<watch::Sender<Phase>>,
    fatal: Fatal,
}

impl Drain {
    /// A drain that also ends on what `tasks`, or a group made from it, reports as fatal.
    pub fn new(tasks: &Tasks) -> Self {
        let handle =
            DrainHandle { phase: Arc::new(watch::Sender::new(Phase::Serving)), fatal: tasks.fatal().clone() };
        Self { handle, steps: Vec::new(), progress: Arc::default() }
    }

    pub fn handle(&self) -> DrainHandle {
        self.handle.clone()
    }

    /// Adds the next step. Nothing of `work` runs before the drain reaches it.
    pub fn step(
        &mut self,
        name: &'static str,
        bound: Duration,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> &mut Self {
        let work = async move { tokio::time::timeout(bound, work).await.map_err(|_elapsed| Late::Abandoned) }
            .boxed();
        self.steps.push(Step { name, bound, work });
        self
    }

    /// Adds the step that cancels `tasks` and waits for them; what is late gets logged by name.
    pub fn step_tasks(&mut self, name: &'static str, bound: Duration, tasks: Tasks) -> &mut Self {
        let work = async move { Ok(tasks.close_and_wait(bound).await?) }.boxed();
        self.steps.push(Step { name, bound, work });
        self
    }

    /// The longest that the steps added so far can take together.
    pub fn bound(&self) -> Duration {
        self.steps.iter().map(|step| step.bound).sum()
    }

    /// Shows how long each of the steps added so far took, or takes, as `spillway_drain_step_seconds`.
    ///
    /// # Errors
    ///
    /// When the registry has it already.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        let steps = self.steps.iter().map(|step| step.name).collect();
        registry.register(Box::new(StepSeconds::new(steps, Arc::clone(&self.progress))?))
    }

    /// Serves until the first signal, [`DrainHandle::begin`] or a fatal report, then drains.
    ///
    /// The first signal starts the drain, or joins one that was started by `begin`; the second ends it at once. The
    /// caller should leave the process with [`Exit::code`] without waiting for what is left of the runtime.
    pub async fn run(mut self, mut signals: StopSignals) -> Exit {
        let steps = std::mem::take(&mut self.steps);
        let fatal = self.handle.fatal.clone();
        let handle = self.handle.clone();
        let progress = Arc::clone(&self.progress);
        let drained = async {
            handle.draining().await;
            tracing::info!(steps = steps.len(), "draining");
            run_steps(steps, &progress).await
        };
        let interrupted = async {
            let first = signals.recv().await;
            tracing::info!(signal = ?first, "stop requested");
            self.handle.begin();
            let second = signals.recv().await;
            tracing::warn!(signal = ?second, "second stop signal, not waiting for the drain");
        };
        let exit = tokio::select! {
            biased;
            reason = fatal.reported() => Exit::Fatal(reason),
            () = interrupted => Exit::Interrupted,
            overran = drained => Exit::Drained { overran },
        };
        self.handle.phase.send_replace(Phase::Stopped);
        exit
    }
}

async fn run_steps(steps: Vec<Step>, progress: &Progress) -> Vec<&'static str> {
    let mut overran = Vec::new();
    for step in steps {
        let started = Instant::now();
        progress.begin(step.name, started);
        let outcome = step.work.await;
        progress.end(step.name, started.elapsed());
        let elapsed_ms = started.elapsed().as_millis();
        match outcome {
            Ok(()) => tracing::info!(step = step.name, elapsed_ms, "drain step done"),
            Err(late) => {
                tracing::warn!(step = step.name, elapsed_ms, %late, "drain step overran its bound");
                overran.push(step.name);
            }
        }
    }
    overran
}

impl DrainHandle {
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// True from the start of the drain on, also when stopped.
    pub fn is_draining(&self) -> bool {
        self.phase() >= Phase::Draining
    }

    /// Starts the drain; does nothing when it has started.
    pub fn begin(&self) {
        self.phase.send_if_modified(|phase| {
            let serving = *phase == Phase::Serving;
            if serving {
                *phase = Phase::Draining;
            }
            serving
        });
    }

    /// Resolves when the drain starts, at once if it has. Cancel-safe.
    pub async fn draining(&self) {
        self.reached(Phase::Draining).await;
    }

    /// Resolves when the steps are over, whatever their outcome. Cancel-safe.
    pub async fn stopped(&self) {
        self.reached(Phase::Stopped).await;
    }

    /// Resolves when the drain starts or something fatal is reported, whichever comes first. Cancel-safe.
    pub(crate) async fn ended_service(&self) {
        tokio::select! {
            () = self.draining() => {}
            _reason = self.fatal.reported() => {}
        }
    }

    async fn reached(&self, wanted: Phase) {
        let mut phases = self.phase.subscribe();
        phases.wait_for(|phase| *phase >= wanted).await.expect("self holds the sender");
    }

    /// Makes the process stop with a non-zero exit code; see [`Fatal::report`].
    pub fn fatal(&self, reason: impl Into<String>) {
        self.fatal.report(reason);
    }

    /// False once something fatal has been reported.
    pub fn is_live(&self) -> bool {
        !self.fatal.is_reported()
    }
}

impl Exit {
    /// 0 when drained, even if steps overran, because each is bounded by design; 1 when fatal; 130 when
    /// interrupted, as a shell reports a process ended by SIGINT.
    pub fn code(&self) -> u8 {
        match self {
            Self::Drained { .. } => 0,
            Self::Fatal(_) => 1,
            Self::Interrupted => 130,
        }
    }
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: Vec<_> = self.steps.iter().map(|step| (step.name, step.bound)).collect();
        f.debug_struct("Drain").field("handle", &self.handle).field("steps", &steps).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::mpsc;

    use super::*;
    use crate::signals::StopSignal;

    const BOUND: Duration = Duration::from_secs(10);

    struct Running {
        signals: mpsc::Sender<StopSignal>,
        handle: DrainHandle,
        order: Arc<Mutex<Vec<&'static str>>>,
        exit: tokio::task::JoinHandle<Exit>,
    }

    /// A drain whose second step never ends by itself.
    fn start() -> Running {
        let tasks = Tasks::new();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut drain = Drain::new(&tasks);
        let (first, stuck, last) = (Arc::clone(&order), Arc::clone(&order), Arc::clone(&order));
        drain.step("first", BOUND, async move { first.lock().unwrap().push("first") });
        drain.step("stuck", BOUND, async move {
            stuck.lock().unwrap().push("stuck");
            std::future::pending().await
        });
        drain.step("last", BOUND, async move { last.lock().unwrap().push("last") });
        assert_eq!(drain.bound(), 3 * BOUND);

        let (signals, stop) = mpsc::channel(4);
        let handle = drain.handle();
        let exit = tasks.spawn("drain", drain.run(StopSignals::from_channel(stop)));
        Running { signals, handle, order, exit }
    }

    #[tokio::test(start_paused = true)]
    async fn steps_run_in_order_and_one_that_hangs_does_not_stop_the_next() {
        let running = start();
        assert_eq!(running.handle.phase(), Phase::Serving);

        let started = Instant::now();
        running.signals.send(StopSignal::Terminate).await.unwrap();
        running.handle.draining().await;
        assert_eq!(running.handle.phase(), Phase::Draining);
        running.handle.stopped().await;
        assert_eq!(started.elapsed(), BOUND);

        let exit = running.exit.await.unwrap();
        assert_eq!(exit, Exit::Drained { overran: vec!["stuck"] });
        assert_eq!(exit.code(), 0);
        assert_eq!(*running.order.lock().unwrap(), ["first", "stuck", "last"]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_signal_ends_the_drain_at_once() {
        let running = start();
        let started = Instant::now();
        running.signals.send(StopSignal::Terminate).await.unwrap();
        running.signals.send(StopSignal::Interrupt).await.unwrap();

        let exit = running.exit.await.unwrap();
        assert_eq!((exit.code(), exit), (130, Exit::Interrupted));
        assert_eq!(started.elapsed(), Duration::ZERO);
        assert_eq!(running.handle.phase(), Phase::Stopped);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_signal_joins_a_drain_begun_by_an_operator() {
        let running = start();
        running.handle.begin();
        running.handle.draining().await;
        running.signals.send(StopSignal::Terminate).await.unwrap();
        assert_eq!(running.exit.await.unwrap(), Exit::Drained { overran: vec!["stuck"] });
    }

    #[tokio::test(start_paused = true)]
    async fn a_fatal_report_skips_the_steps_and_keeps_the_first_reason() {
        let running = start();
        running.handle.fatal("fsync failed");
        running.handle.fatal("and then something else");
        let exit = running.exit.await.unwrap();
        assert_eq!((exit.code(), exit), (1, Exit::Fatal("fsync failed".to_owned())));
        assert!(running.order.lock().unwrap().is_empty());
        assert!(!running.handle.is_live());
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_of_tasks_is_a_step() {
        let tasks = Tasks::new();
        let sessions = tasks.child();
        sessions.spawn("polite", sessions.cancelled());
        let stuck = tasks.child();
        stuck.spawn("rude", std::future::pending::<()>());

        let mut drain = Drain::new(&tasks);
        drain.step_tasks("sessions", BOUND, sessions).step_tasks("stuck", BOUND, stuck);
        drain.handle().begin();
        let (_signals, stop) = mpsc::channel(1);
        let exit = drain.run(StopSignals::from_channel(stop)).await;
        assert_eq!(exit, Exit::Drained { overran: vec!["stuck"] });
    }
}
