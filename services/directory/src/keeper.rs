//! Keeps the filter true.
//!
//! 1. Whoever puts an entry says so on the bus, before he puts it; that is heard within milliseconds (`listen`).
//! 2. Hints get lost. So the store has a log of what was put, and it is read every ten seconds, and at once when the bus
//!    says that something was lost (`catch_up`). Each reading goes back to the beginning of the last one that succeeded,
//!    and [`LATE`] more for clocks that differ. While it does not succeed, the filter is not believed for long.
//! 3. The filter is built from a walk over the store, and anew each hour, because it cannot forget (`build`). An entry that
//!    is put while the walk is under way may be missing in the walk; it is in the log, for a time that is not before the
//!    walk began, less [`PUT_LOGGED_WITHIN`]. So a build reads the log as well, from [`BEFORE_WALK`] before it began, and
//!    what comes later is added to both.
//!
//! So somebody who can be found is denied by no process for longer than [`BELIEVED_FOR`](crate::filter::BELIEVED_FOR) after
//! he was put into the log, whatever is lost, late or restarted. `simulation` plays it.

mod build;
mod catch_up;
mod listen;

use std::sync::Arc;
use std::time::Duration;

use spillway_bus::Bus;
use spillway_chassis::{Component, Tasks};
use spillway_store::Directory as DirectoryStore;
use spillway_store::directory::PUT_LOGGED_WITHIN;
use spillway_types::{Clock, Timestamp};
use tokio::sync::{Notify, watch};

use crate::config::FilterConfig;
use crate::filter::Filter;
use crate::metrics::Metrics;

/// How far the clocks of those who put may be behind or ahead of the one here, with the few seconds that writing to the log
/// may take.
pub(crate) const LATE: Duration = Duration::from_secs(30);
/// The longest time between two readings of the log: two may fail before the filter is no longer believed.
pub(crate) const CATCH_UP_MAX: Duration = Duration::from_secs(15);
/// How far back a build reads the log.
const BEFORE_WALK: Duration = PUT_LOGGED_WITHIN.saturating_add(LATE).saturating_add(CATCH_UP_MAX);

#[derive(Debug)]
pub(crate) struct Deps {
    pub(crate) filter: Arc<Filter>,
    pub(crate) store: Arc<dyn DirectoryStore>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    /// -1 to 1: how this process differs from others in what they should not do at the same time.
    pub(crate) jitter: f64,
}

#[derive(Debug)]
struct Keeper {
    config: FilterConfig,
    deps: Deps,
    /// Something may have been missed on the bus.
    catch_up_now: Notify,
    /// The filter has grown out of shape, or was lost.
    build_now: Notify,
    /// Whether a filter was finished once.
    is_built: watch::Sender<bool>,
}

/// Runs until the tasks are cancelled.
pub(crate) fn start(config: FilterConfig, deps: Deps, health: Component, tasks: &Tasks) {
    let keeper = Arc::new(Keeper {
        config,
        deps,
        catch_up_now: Notify::new(),
        build_now: Notify::new(),
        is_built: watch::Sender::new(false),
    });
    spawn(tasks, "directory hints", &keeper, |keeper| async move { keeper.listen().await });
    spawn(tasks, "directory log", &keeper, |keeper| async move { keeper.keep_up().await });
    spawn(tasks, "directory filter", &keeper, |keeper| async move { keeper.keep_building().await });
    spawn(tasks, "directory readiness", &keeper, |keeper| async move { keeper.tell(&health).await });
}

fn spawn<F>(
    tasks: &Tasks,
    name: &'static str,
    keeper: &Arc<Keeper>,
    work: impl FnOnce(Arc<Keeper>) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let (keeper, cancelled) = (Arc::clone(keeper), tasks.cancelled());
    tasks.spawn(name, async move {
        tokio::select! {
            () = cancelled => {}
            () = work(keeper) => {}
        }
    });
}

impl Keeper {
    fn now(&self) -> Timestamp {
        self.deps.clock.now()
    }

    /// A fleet should not replace the next process while this one sends every question to the store. For a minute: it can
    /// serve without.
    async fn tell(&self, health: &Component) {
        let mut is_built = self.is_built.subscribe();
        let built = is_built.wait_for(|is_built| *is_built);
        if tokio::time::timeout(self.config.ready_within, built).await.is_err() {
            tracing::warn!("the directory is not known yet; until it is, every question goes to the store");
        }
        health.ready();
    }
}
