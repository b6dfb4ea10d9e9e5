//! The registration role through its generated client, on the embedded store and the local bus.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on panics; clippy exempts only the test functions"
)]

#[path = "all/accounts.rs"]
mod accounts;
#[path = "all/budget.rs"]
mod budget;
#[path = "all/devices.rs"]
mod devices;
#[path = "all/dispatch.rs"]
mod dispatch;
#[path = "all/http_provider.rs"]
mod http_provider;
#[path = "all/keys.rs"]
mod keys;
#[path = "all/logs.rs"]
mod logs;
#[path = "all/numbers.rs"]
mod numbers;
#[path = "all/providers.rs"]
mod providers;
#[path = "all/scripted.rs"]
mod scripted;
#[path = "all/smpp.rs"]
mod smpp;
#[path = "all/smpp_tls.rs"]
mod smpp_tls;
#[path = "all/smsc.rs"]
mod smsc;
#[path = "all/twilio.rs"]
mod twilio;
#[path = "all/verification.rs"]
mod verification;
#[path = "all/workers.rs"]
mod workers;
#[path = "all/world.rs"]
mod world;
