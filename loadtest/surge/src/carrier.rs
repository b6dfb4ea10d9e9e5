//! A provider of codes that takes what the service hands over by its webhook, and takes no more than it is told to.
//!
//! The sandbox in the service delivers to nobody either, but how it behaves is a setting that stands for the life of the process. This one can
//! fail in the middle of a run, and knows of every code that somebody would have been paid for.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::codes::Phones;

/// How far a burst may go ahead of the rate.
const BURST: Duration = Duration::from_millis(250);
/// What a throttled caller is told, in whole seconds, as the header has it.
const RETRY_AFTER_S: &str = "1";
/// Digits at the end of a number that do not count for its prefix.
const SUBSCRIBER_DIGITS: usize = 4;

/// Clones are the same provider.
#[derive(Clone, Debug)]
pub struct Carrier {
    state: Arc<Mutex<Taking>>,
    phones: Phones,
    address: SocketAddr,
}

#[derive(Debug)]
struct Taking {
    /// Codes a second; `None` for any number.
    per_s: Option<f64>,
    /// When the rate is next at rest (GCRA's theoretical arrival time).
    rests_at: Instant,
    taken: u64,
    throttled: u64,
    by_prefix: HashMap<String, u64>,
}

/// What the webhook's default body says.
#[derive(Debug, Deserialize)]
struct HandedOver {
    number: String,
    code: String,
}

impl Carrier {
    /// Listens on a free loopback port, and serves it when the future is awaited.
    ///
    /// # Errors
    ///
    /// When there is no port.
    pub async fn start(phones: Phones) -> io::Result<(Self, impl Future<Output = io::Result<()>> + Send)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let taking = Taking {
            per_s: None,
            rests_at: Instant::now(),
            taken: 0,
            throttled: 0,
            by_prefix: HashMap::new(),
        };
        let carrier = Self { state: Arc::new(Mutex::new(taking)), phones, address: listener.local_addr()? };
        let router = Router::new().route("/", post(take)).with_state(carrier.clone());
        Ok((carrier, async move { axum::serve(listener, router).await }))
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// From now on, no more than so many codes a second.
    pub fn takes(&self, per_s: f64) {
        self.taking().per_s = Some(per_s);
    }

    /// Codes that it was handed and took.
    pub fn taken(&self) -> u64 {
        self.taking().taken
    }

    /// Those that it did not take.
    pub fn throttled(&self) -> u64 {
        self.taking().throttled
    }

    /// Codes to numbers that are `prefix` and four digits.
    pub fn taken_for(&self, prefix: &str) -> u64 {
        self.taking().by_prefix.get(prefix).copied().unwrap_or(0)
    }

    fn take(&self, code: HandedOver) -> bool {
        {
            let mut taking = self.taking();
            if !taking.within_rate(Instant::now()) {
                taking.throttled += 1;
                return false;
            }
            taking.taken += 1;
            let digits = code.number.len().saturating_sub(SUBSCRIBER_DIGITS);
            let prefix = code.number.get(..digits).unwrap_or_default();
            *taking.by_prefix.entry(prefix.to_owned()).or_default() += 1;
        }
        self.phones.ring(&code.number, code.code);
        true
    }

    fn taking(&self) -> MutexGuard<'_, Taking> {
        // Counts that are one short at worst.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taking {
    fn within_rate(&mut self, now: Instant) -> bool {
        let Some(per_s) = self.per_s else { return true };
        let rests_at = self.rests_at.max(now) + Duration::from_secs_f64(1.0 / per_s.max(1e-3));
        // One at a time is always taken, however slow the rate.
        let is_within = self.rests_at <= now || rests_at <= now + BURST;
        if is_within {
            self.rests_at = rests_at;
        }
        is_within
    }
}

async fn take(State(carrier): State<Carrier>, Json(code): Json<HandedOver>) -> Response {
    match carrier.take(code) {
        true => StatusCode::OK.into_response(),
        false => (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, RETRY_AFTER_S)]).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(number: &str) -> HandedOver {
        HandedOver { number: number.to_owned(), code: "123456".to_owned() }
    }

    #[tokio::test(start_paused = true)]
    async fn it_takes_what_it_is_told_to_and_rings_the_phone() {
        let phones = Phones::default();
        let (carrier, _served) = Carrier::start(phones.clone()).await.unwrap();
        let expected = phones.expect("+4917612340001");
        assert!(carrier.take(code("+4917612340001")));
        assert_eq!(expected.within(Duration::from_secs(1)).await.as_deref(), Some("123456"));
        carrier.takes(100.0);
        let mut taken = 0;
        for _ in 0..1_000 {
            tokio::time::advance(Duration::from_millis(2)).await;
            taken += u32::from(carrier.take(code("+4917612349999")));
        }
        // Two seconds, and a burst.
        assert!((200..=226).contains(&taken), "{taken}");
        carrier.takes(0.5);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(carrier.take(code("+4917699990000")), "one at a time");
        assert!(!carrier.take(code("+4917699990000")));
        assert_eq!(carrier.taken_for("+491761234"), 1 + u64::from(taken));
        assert_eq!((carrier.taken(), carrier.throttled()), (2 + u64::from(taken), 1_001 - u64::from(taken)));
    }
}
