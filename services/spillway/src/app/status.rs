//! The live status page of the admin port: `/` is the page, `/status/events` a stream of server-sent events, one a second, and
//! `/status` the last of them.
//!
//! What it shows comes from the views by which the controllers decide, as `/admission`, `/control` and `Status.Get` do. It is put together
//! once a second, whoever watches, so watching costs the service a write for each watcher, of whom there are at most
//! [`WATCHERS_MAX`]. A watcher who reads slowly misses seconds and delays nobody.

mod snapshot;

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use futures::stream::unfold;
use spillway_chassis::{AdminServer, Health, Tasks};
use spillway_control::Control;
use spillway_gateway::GatewayOutlook;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::roles::ControlPage;
use crate::overload::Overload;
use snapshot::Rates;

/// People who look during an incident, and their forgotten tabs.
const WATCHERS_MAX: usize = 32;
const EVERY: Duration = Duration::from_secs(1);

const PAGE: &str = include_str!("status/page.html");
/// The page is one file and asks for nothing but the events.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'";

/// Where the numbers come from. Clones are handles on the same.
#[derive(Clone)]
pub(super) struct Status(Arc<Inner>);

struct Inner {
    name: String,
    roles: String,
    started: Instant,
    health: Health,
    overload: Overload,
    control: ControlPage,
    gateway: OnceLock<GatewayOutlook>,
    last: watch::Sender<Arc<str>>,
    watchers: Arc<Semaphore>,
}

/// What the process says of itself.
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) roles: String,
}

impl Status {
    /// Begins to put the page's numbers together, until `tasks` is cancelled.
    pub(super) fn start(
        Identity { name, roles }: Identity,
        health: &Health,
        overload: &Overload,
        control: &ControlPage,
        tasks: &Tasks,
    ) -> Self {
        let inner = Inner {
            name,
            roles,
            started: Instant::now(),
            health: health.clone(),
            overload: overload.clone(),
            control: control.clone(),
            gateway: OnceLock::new(),
            last: watch::Sender::new(Arc::from("{}")),
            watchers: Arc::new(Semaphore::new(WATCHERS_MAX)),
        };
        let status = Self(Arc::new(inner));
        let (of, cancelled) = (status.clone(), tasks.cancelled());
        tasks.spawn("status page", async move {
            let mut ticks = interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut rates = Rates::default();
            tokio::pin!(cancelled);
            loop {
                tokio::select! {
                    () = &mut cancelled => return,
                    _ = ticks.tick() => {}
                }
                of.0.last.send_replace(snapshot::json(&of.0, &mut rates, Instant::now()));
            }
        });
        status
    }

    /// Once the gateway has started.
    pub(super) fn show_gateway(&self, gateway: GatewayOutlook) {
        // It starts once.
        self.0.gateway.set(gateway).ok();
    }

    pub(super) fn mount(&self, admin: AdminServer, tasks: &Tasks) -> AdminServer {
        let watching = (self.clone(), tasks.clone());
        admin
            .route("/", get(page))
            .route("/status", get(last).with_state(self.clone()))
            .route("/status/events", get(events).with_state(watching))
    }
}

impl Inner {
    fn control(&self) -> Option<&Control> {
        self.control.get()
    }
}

async fn page() -> Response {
    let headers = [(header::CONTENT_SECURITY_POLICY, POLICY), (header::CACHE_CONTROL, "no-cache")];
    (headers, Html(PAGE)).into_response()
}

async fn last(State(status): State<Status>) -> Response {
    let text = status.0.last.borrow().to_string();
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], text).into_response()
}

async fn events(State((status, tasks)): State<(Status, Tasks)>) -> Response {
    let Ok(place) = Arc::clone(&status.0.watchers).try_acquire_owned() else {
        let text = format!("{WATCHERS_MAX} watch already: close one, or read /status once a second\n");
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    };
    let mut seen = status.0.last.subscribe();
    // What there is now, and then every second.
    seen.mark_changed();
    let watcher = Watcher { seen, tasks, _place: place };
    let events = unfold(watcher, |mut watcher| async {
        let text = watcher.next().await?;
        Some((Ok::<_, Infallible>(Event::default().data(&*text)), watcher))
    });
    let headers = [(header::CACHE_CONTROL, "no-store")];
    (headers, Sse::new(events)).into_response()
}

struct Watcher {
    seen: watch::Receiver<Arc<str>>,
    tasks: Tasks,
    _place: OwnedSemaphorePermit,
}

impl Watcher {
    /// `None` when the process ends: the admin port waits for whom it serves.
    async fn next(&mut self) -> Option<Arc<str>> {
        tokio::select! {
            () = self.tasks.cancelled() => None,
            changed = self.seen.changed() => changed.ok().map(|()| Arc::clone(&self.seen.borrow_and_update())),
        }
    }
}
