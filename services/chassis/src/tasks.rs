//! Owned background tasks.
//!
//! Invariants: every task of the process is spawned here, so somebody can wait for it and its panic is logged with
//! its name; a task runs inside the span that spawned it, unless it is to outlive that; a group's wait covers the groups made from it with
//! [`Tasks::child`]. Cancellation is a request: a task looks at [`Tasks::cancelled`], and nothing is aborted, because
//! a task stopped half way through a write is worse than a late one.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::{Instrument, Span};

use crate::Fatal;

/// A group of tasks. Clones are handles on the same group.
#[derive(Clone, Debug)]
pub struct Tasks {
    group: Arc<Group>,
    cancellation: CancellationToken,
    fatal: Fatal,
}

/// Tasks that had not ended when the bound passed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct StillRunning {
    /// How many tasks of each name.
    pub names: BTreeMap<&'static str, usize>,
}

#[derive(Debug, Default)]
struct Group {
    tracker: TaskTracker,
    names: Mutex<BTreeMap<&'static str, usize>>,
    parent: Option<Arc<Group>>,
}

/// One running task, counted in its group and in every group above.
struct Entry {
    name: &'static str,
    group: Arc<Group>,
    _parent: Option<Box<Entry>>,
    // Dropped after `Entry::drop` has taken the name away, so an empty tracker means an empty map.
    _token: TaskTrackerToken,
}

impl Tasks {
    #[expect(
        clippy::new_without_default,
        reason = "a second root group by accident would be waited for by nobody"
    )]
    pub fn new() -> Self {
        Self { group: Arc::default(), cancellation: CancellationToken::new(), fatal: Fatal::new() }
    }

    /// A group within this one. Cancelling or waiting for the child leaves the rest alone; cancelling this group
    /// cancels the child, and waiting for this group waits for the child's tasks too.
    pub fn child(&self) -> Self {
        let group = Group { parent: Some(Arc::clone(&self.group)), ..Group::default() };
        Self {
            group: Arc::new(group),
            cancellation: self.cancellation.child_token(),
            fatal: self.fatal.clone(),
        }
    }

    /// Spawns a task whose failure the process survives. A panic is logged at ERROR and also reaches the handle.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.spawn_with(name, future, None, Span::current())
    }

    /// Spawns a task that outlives what began it, and so runs outside of its span: a span that lasts for hours tells nothing.
    pub fn spawn_apart<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.spawn_with(name, future, None, Span::none())
    }

    /// Spawns a task without which the process is useless: a panic is reported as [`Fatal`].
    ///
    /// Only a panic counts. A task that ends because of an error reports that itself, with its reason.
    pub fn spawn_critical<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.spawn_with(name, future, Some(self.fatal.clone()), Span::current())
    }

    fn spawn_with<F>(
        &self,
        name: &'static str,
        future: F,
        on_panic: Option<Fatal>,
        span: Span,
    ) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let entry = Entry::add(Arc::clone(&self.group), name);
        let task = async move {
            let outcome = AssertUnwindSafe(future).catch_unwind().await;
            // The panic hook has already logged the message and the place.
            let output = outcome.unwrap_or_else(|panic| {
                tracing::error!(task = name, "task panicked");
                if let Some(fatal) = on_panic {
                    fatal.report(format!("task {name} panicked"));
                }
                resume_unwind(panic)
            });
            drop(entry);
            output
        };
        #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
        tokio::spawn(task.instrument(span))
    }

    /// Asks this group and its children to stop.
    pub fn cancel(&self) {
        self.cancellation.cancel();
    }

    pub fn is_cancelled(&self) -> bool {
        self.cancellation.is_cancelled()
    }

    /// Resolves when this group, or one above it, is cancelled. Borrows nothing, so it can move into a task.
    pub fn cancelled(&self) -> WaitForCancellationFutureOwned {
        self.cancellation.clone().cancelled_owned()
    }

    /// Where a component of this process reports that it must stop.
    pub fn fatal(&self) -> &Fatal {
        &self.fatal
    }

    /// Resolves when no task of the group, or of its children, is running. Cancels nothing.
    pub async fn ended(&self) {
        self.group.tracker.close();
        self.group.tracker.wait().await;
    }

    /// Cancels the group and waits until its tasks, and its children's, have ended.
    ///
    /// Spawning stays possible, because a task that is finishing may need it; the wait covers those tasks as well.
    ///
    /// # Errors
    ///
    /// [`StillRunning`] when tasks remain after `bound`. They go on running; waiting again is allowed.
    pub async fn close_and_wait(&self, bound: Duration) -> Result<(), StillRunning> {
        self.cancel();
        self.group.tracker.close();
        match tokio::time::timeout(bound, self.group.tracker.wait()).await {
            Ok(()) => Ok(()),
            Err(_elapsed) => Err(StillRunning { names: self.group.names().clone() }),
        }
    }
}

impl Group {
    fn names(&self) -> MutexGuard<'_, BTreeMap<&'static str, usize>> {
        // Nothing under this lock can leave the map half changed.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn add(group: Arc<Group>, name: &'static str) -> Self {
        *group.names().entry(name).or_default() += 1;
        let parent = group.parent.clone().map(|parent| Box::new(Self::add(parent, name)));
        Self { name, _parent: parent, _token: group.tracker.token(), group }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut names = self.group.names();
        if let Some(count) = names.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                names.remove(self.name);
            }
        }
    }
}

impl fmt::Display for StillRunning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tasks still running: ")?;
        for (i, (name, count)) in self.names.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{name}")?;
            if *count > 1 {
                write!(f, " x{count}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn wait_covers_children_and_names_what_is_late() {
        let tasks = Tasks::new();
        let child = tasks.child();
        let (finish, finished) = tokio::sync::oneshot::channel::<()>();
        child.spawn("slow", async move { finished.await.is_ok() });
        tasks.spawn("polite", tasks.cancelled());

        let started = tokio::time::Instant::now();
        let late = tasks.close_and_wait(BOUND).await.unwrap_err();
        assert_eq!(started.elapsed(), BOUND);
        assert_eq!(late.names, BTreeMap::from([("slow", 1)]));
        assert_eq!(late.to_string(), "tasks still running: slow");

        finish.send(()).unwrap();
        tasks.close_and_wait(BOUND).await.unwrap();
        child.close_and_wait(Duration::ZERO).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_a_child_leaves_the_parent_running() {
        let tasks = Tasks::new();
        let child = tasks.child();
        child.spawn("inner", child.cancelled());
        tasks.spawn("outer", tasks.cancelled());

        child.close_and_wait(BOUND).await.unwrap();
        assert!(child.is_cancelled());
        assert!(!tasks.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_critical_panic_is_fatal_and_neither_leaks_a_count() {
        let tasks = Tasks::new();
        let handle = tasks.spawn("clumsy", async { panic!("dropped it") });
        assert!(handle.await.unwrap_err().is_panic());
        assert!(!tasks.fatal().is_reported());

        let child = tasks.child();
        let handle = child.spawn_critical("accept loop", async { panic!("dropped it") });
        assert!(handle.await.unwrap_err().is_panic());
        assert_eq!(tasks.fatal().reported().await, "task accept loop panicked");
        tasks.close_and_wait(Duration::ZERO).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_aborted_task_is_not_counted_as_running() {
        let tasks = Tasks::new();
        let handle = tasks.spawn("aborted", std::future::pending::<()>());
        handle.abort();
        assert!(handle.await.unwrap_err().is_cancelled());
        tasks.close_and_wait(Duration::ZERO).await.unwrap();
    }
}
