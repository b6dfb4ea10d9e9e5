//! The admin ports of the service under load, where they are known: what its waiting room means to do, and orders to it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use spillway_fleet::{http_get, http_put};
use tokio::time::{MissedTickBehavior, interval};

/// A rate from here on is none: the service knows of no limit.
const UNBOUNDED_PER_S: f64 = 1e6;
/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// The admin ports of all processes of one service. Clones share what was seen last.
#[derive(Clone, Debug, Default)]
pub struct Admin {
    ports: Arc<[SocketAddr]>,
    seen: Arc<ArcSwapOption<Sample>>,
}

/// What the service said at one moment, of all its processes together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Sign-ups a second that the room lets in; `None` without a limit.
    pub rate_per_s: Option<f64>,
    /// Nobody is let in.
    pub frozen: bool,
    /// Sessions that are open.
    pub sessions: Option<u64>,
}

#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("`{0}` is not an address such as 127.0.0.1:9464")]
    Address(String),
    #[error("no process took the order `{order}` for the waiting room: {answer}")]
    Order { order: String, answer: String },
}

impl Admin {
    /// Of addresses with or without `http://`.
    ///
    /// # Errors
    ///
    /// When one is not an address.
    pub fn new<'a>(addresses: impl IntoIterator<Item = &'a str>) -> Result<Self, AdminError> {
        let port = |text: &str| {
            let plain = text.strip_prefix("http://").unwrap_or(text);
            plain.parse::<SocketAddr>().map_err(|_| AdminError::Address(text.to_owned()))
        };
        let ports = addresses.into_iter().map(port).collect::<Result<_, _>>()?;
        Ok(Self { ports, seen: Arc::default() })
    }

    pub fn is_known(&self) -> bool {
        !self.ports.is_empty()
    }

    /// What was seen last; `None` while nothing was.
    pub fn seen(&self) -> Option<Sample> {
        self.seen.load().as_deref().copied()
    }

    /// Looks once a second, for ever.
    pub async fn watch(self) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.is_known() {
            ticks.tick().await;
            match self.sample().await {
                Ok(sample) => self.seen.store(Some(Arc::new(sample))),
                // One that is gone is seen by other means; what it said last stays.
                Err(error) => tracing::debug!(%error, "the service's metrics cannot be read"),
            }
        }
    }

    async fn sample(&self) -> io::Result<Sample> {
        let mut text = String::new();
        for port in &*self.ports {
            text += &http_get(*port, "/metrics").await?.1;
            text.push('\n');
        }
        Ok(Sample::read(&text))
    }

    /// Gives the room an order: `open`, `auto`, `freeze`, or a number of sign-ups a second. All processes are told, and those without the control role do not
    /// mind.
    ///
    /// # Errors
    ///
    /// When none of them took it.
    pub async fn order_room(&self, order: &str) -> Result<(), AdminError> {
        let (mut taken, mut answer) = (false, "no process is known".to_owned());
        for port in &*self.ports {
            match http_put(*port, "/room", order).await {
                Ok((200, _)) => taken = true,
                Ok((status, text)) => answer = format!("{status}, {}", text.trim()),
                Err(error) => answer = error.to_string(),
            }
        }
        if taken { Ok(()) } else { Err(AdminError::Order { order: order.to_owned(), answer }) }
    }
}

impl Sample {
    /// From the metrics of all processes. Those of them that do not hold the control lease say 0.
    fn read(metrics: &str) -> Self {
        let sum = |name: &str| -> f64 {
            let of_name =
                |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
            let value = |line: &str| line.rsplit_once(' ')?.1.parse::<f64>().ok();
            metrics.lines().filter(of_name).filter_map(value).sum()
        };
        let sessions = "spillway_gateway_sessions_open";
        let rate = sum("spillway_control_room_rate");
        Self {
            rate_per_s: (rate < UNBOUNDED_PER_S).then_some(rate),
            frozen: sum("spillway_control_room_frozen") > 0.0,
            sessions: metrics.contains(sessions).then(|| sum(sessions) as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_of_several_processes_are_added_up() {
        let text = "# HELP spillway_control_room_rate Sign-ups a second that there is room for.\n\
            spillway_control_room_rate 120.5\nspillway_control_room_rate_other 7\n\
            spillway_control_room_frozen 0\nspillway_control_room_rate 0\nspillway_control_room_frozen 0\n";
        assert_eq!(Sample::read(text), Sample { rate_per_s: Some(120.5), frozen: false, sessions: None });
        assert!(Sample::read("spillway_control_room_frozen 1\n").frozen);
        assert_eq!(Sample::read("spillway_control_room_rate 1000000\n").rate_per_s, None);
        let sessions = "spillway_gateway_sessions_open 40\nspillway_gateway_sessions_open 2\n";
        assert_eq!(Sample::read(sessions).sessions, Some(42));
    }

    #[test]
    fn an_address_may_have_a_scheme() {
        assert!(Admin::new(["http://127.0.0.1:1", "127.0.0.1:2"]).unwrap().is_known());
        assert!(matches!(Admin::new(["localhost"]), Err(AdminError::Address(_))));
    }
}
