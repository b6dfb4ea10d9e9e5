//! KEDA's external scaler: tells Kubernetes how many replicas of a role the fleet's demand fills.
//!
//! Any process of the role answers, whoever holds the lease, because all of them hear all beacons. What is told is demand over
//! capacity ([`demand`]), times replicas: refused load counts, so that a fleet which sheds load does not look idle, and a replica's
//! capacity is what it has measured, so that the target needs no tuning when a machine or a version changes.
//!
//! **Without knowing it answers an error, never a small number.** A control process that has just started, or does not hear half of
//! the fleet, would otherwise tell an autoscaler to take away what carries the load. On an error Kubernetes keeps the replicas that
//! there are, and KEDA its activation.
//!
//! `IsActive` is true for whoever does not set `activation`: a role that nobody can reach is never wanted. With it, it is what a
//! burst deployment is switched on by: see [`burst`].

mod burst;
mod demand;
mod metadata;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use futures::stream::unfold;
use spillway_api::externalscaler::external_scaler_server::{ExternalScaler, ExternalScalerServer};
use spillway_api::externalscaler::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec, MetricValue,
    ScaledObjectRef,
};
use spillway_api::{Reason, Refusal};
use spillway_chassis::Tasks;
use spillway_rpc::{ServiceError, into_status};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tonic::{Request, Response, Status};

use crate::fleet::Total;
use crate::role::Role;
use crate::{Control, Shared};
use burst::Bursts;
use demand::{Demand, Unknown};
use metadata::{Ask, MetadataError};

/// Beacons come each second, so a change is pushed within a second and a half of its cause and half a second after it is known.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A fleet has a handful of burst deployments, and KEDA one stream for each.
const STREAMS_MAX: usize = 64;
/// When to ask again while nothing is known.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// The service. Clones are handles on the same.
#[derive(Clone, Debug)]
pub struct Scaler {
    shared: Arc<Shared>,
    bursts: Arc<Bursts>,
    streams: Arc<Semaphore>,
    /// Streams end with them.
    tasks: Tasks,
}

#[derive(Debug, thiserror::Error)]
enum ScalerError {
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error("there is no metric {0:?} of this scaled object, only {1}")]
    NoMetric(String, String),
    #[error(transparent)]
    Unknown(#[from] Unknown),
    #[error(
        "more than {} different burst deployments, or {STREAMS_MAX} streams, are asked about",
        burst::BURSTS_MAX
    )]
    TooMany,
}

impl ServiceError for ScalerError {
    fn refusal(&self) -> Refusal {
        let text = self.to_string();
        match self {
            Self::Metadata(_) | Self::NoMetric(..) => Refusal::new(Reason::InvalidArgument, text),
            Self::Unknown(_) | Self::TooMany => {
                Refusal::new(Reason::Unavailable, text).retry_after(Some(ASK_AGAIN))
            }
        }
    }
}

impl Control {
    /// KEDA's external scaler, to be served on a port of its own until `tasks` is cancelled.
    pub fn scaler(&self, tasks: &Tasks) -> ExternalScalerServer<Scaler> {
        ExternalScalerServer::new(Scaler {
            shared: Arc::clone(&self.shared),
            bursts: Arc::default(),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            tasks: tasks.clone(),
        })
    }
}

impl Shared {
    /// All processes of a role that `counts` takes by their names.
    pub(crate) fn demand(
        &self,
        role: Role,
        counts: impl Fn(&str) -> bool,
        now: Instant,
    ) -> Result<Demand, Unknown> {
        self.demand_of(&self.fleet.total(role, counts, now), now)
    }

    pub(crate) fn demand_of(&self, total: &Total, now: Instant) -> Result<Demand, Unknown> {
        Demand::of(total, self.fleet.listening(now), self.listen_first)
    }
}

impl Scaler {
    fn ask(&self, object: Option<&ScaledObjectRef>) -> Result<Ask, ScalerError> {
        let empty = ScaledObjectRef::default();
        Ok(Ask::try_from(&object.unwrap_or(&empty).scaler_metadata)?)
    }

    fn is_active(&self, ask: &Ask, now: Instant) -> Result<bool, ScalerError> {
        let Some(burst) = &ask.burst else { return Ok(true) };
        let all = self.shared.demand(ask.role, |_| true, now)?;
        // The burst's own processes are left out, or it would switch itself off by coming up.
        let others = self.shared.fleet.total(ask.role, |name| !burst.is_its_own(name), now);
        let ratio = demand::ratio_without(&all, &others);
        self.bursts.step(ask.role, burst, ratio, now).ok_or(ScalerError::TooMany)
    }
}

fn metric_name(role: Role) -> String {
    format!("demand-{}", role.label())
}

#[tonic::async_trait]
impl ExternalScaler for Scaler {
    async fn is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<IsActiveResponse>, Status> {
        let ask = self.ask(Some(request.get_ref())).map_err(into_status)?;
        let result = self.is_active(&ask, Instant::now()).map_err(into_status)?;
        Ok(Response::new(IsActiveResponse { result }))
    }

    type StreamIsActiveStream = Pin<Box<dyn Stream<Item = Result<IsActiveResponse, Status>> + Send>>;

    /// What it is now, as soon as that is known, and every change. While it is not known the last word holds.
    async fn stream_is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        let ask = self.ask(Some(request.get_ref())).map_err(into_status)?;
        let permit = Arc::clone(&self.streams).try_acquire_owned();
        let permit = permit.map_err(|_full| into_status(ScalerError::TooMany))?;
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let follow = Follow { scaler: self.clone(), ask, ticks, told: None, _permit: permit };
        let changes = unfold(follow, |mut follow| async {
            let result = follow.next().await?;
            Some((Ok(IsActiveResponse { result }), follow))
        });
        Ok(Response::new(Box::pin(changes)))
    }

    async fn get_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        let ask = self.ask(Some(request.get_ref())).map_err(into_status)?;
        // Also while the demand is not known: KEDA makes no autoscaler at all if it gets no answer here.
        let spec = MetricSpec {
            metric_name: metric_name(ask.role),
            target_size_float: ask.target,
            ..MetricSpec::default()
        };
        Ok(Response::new(GetMetricSpecResponse { metric_specs: vec![spec] }))
    }

    async fn get_metrics(
        &self,
        request: Request<GetMetricsRequest>,
    ) -> Result<Response<GetMetricsResponse>, Status> {
        let GetMetricsRequest { scaled_object_ref, metric_name: asked } = request.into_inner();
        let ask = self.ask(scaled_object_ref.as_ref()).map_err(into_status)?;
        let name = metric_name(ask.role);
        if asked != name {
            return Err(into_status(ScalerError::NoMetric(asked, name)));
        }
        let demand = self.shared.demand(ask.role, |_| true, Instant::now());
        let demand = demand.map_err(|error| into_status(ScalerError::Unknown(error)))?;
        let value = MetricValue {
            metric_name: name,
            metric_value_float: demand.replicas_filled().max(ask.floor * ask.target),
            ..MetricValue::default()
        };
        Ok(Response::new(GetMetricsResponse { metric_values: vec![value] }))
    }
}

/// One stream.
struct Follow {
    scaler: Scaler,
    ask: Ask,
    ticks: Interval,
    told: Option<bool>,
    _permit: OwnedSemaphorePermit,
}

impl Follow {
    /// `None` when the process ends.
    async fn next(&mut self) -> Option<bool> {
        loop {
            tokio::select! {
                () = self.scaler.tasks.cancelled() => return None,
                _ = self.ticks.tick() => {}
            }
            match self.scaler.is_active(&self.ask, Instant::now()) {
                Ok(active) if self.told != Some(active) => {
                    self.told = Some(active);
                    return Some(active);
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "whether a burst is wanted is not known"),
            }
        }
    }
}

#[cfg(test)]
mod tests;
