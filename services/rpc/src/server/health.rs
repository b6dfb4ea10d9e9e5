//! `grpc.health.v1`, fed from the readiness of the process.

use spillway_chassis::{Health, Tasks};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

/// Reports all `names` as one: a process is ready or not as a whole.
pub(super) fn follow(
    health: &Health,
    names: Vec<&'static str>,
    tasks: &Tasks,
) -> HealthServer<HealthService> {
    let mut reporter = HealthReporter::new();
    let service = HealthServer::new(HealthService::from_health_reporter(reporter.clone()));
    let (mut watch, cancelled) = (health.watch(), tasks.cancelled());
    tasks.spawn("rpc health", async move {
        let mut cancelled = std::pin::pin!(cancelled);
        let mut ready = watch.is_ready();
        loop {
            let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
            for name in &names {
                reporter.set_service_status(*name, status).await;
            }
            ready = tokio::select! {
                () = cancelled.as_mut() => break,
                ready = watch.changed() => ready,
            };
        }
        // Ends the streams of those who watch, which would hold their connections open through the drain.
        for name in &names {
            reporter.clear_service_status(name).await;
        }
    });
    service
}
