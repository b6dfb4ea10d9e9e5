//! Connections that can be lost, and the rush to have them back.
//!
//! A client without a connection makes one as soon as it wants something, or when it was told that the old one is
//! gone. The handshake is paid before anything can be refused.

use super::record::CallEnd;
use super::{Event, World};
use crate::time::Nanos;

/// gRPC's connection backoff: 1 s, times 1.6, at most 120 s, jitter of a fifth.
const BACKOFF_BASE: f64 = 1.0;
const BACKOFF_FACTOR: f64 = 1.6;
const BACKOFF_MAX: f64 = 120.0;

impl World<'_> {
    /// The client begins to connect, unless it has or does already.
    pub(super) fn connect(&mut self, client: u32) {
        let Some(class) = self.plan.classes.iter().position(|class| class.connects) else { return };
        let state = self.population.client(client);
        if state.connected || state.connecting {
            return;
        }
        state.connecting = true;
        self.birth(client, class as u8);
    }

    /// An attempt to connect is over, well or not.
    pub(super) fn connection_tried(&mut self, client: u32, end: CallEnd) {
        let state = self.population.client(client);
        state.connecting = false;
        if end == CallEnd::Unfinished {
            return;
        }
        if end != CallEnd::Ok {
            let tries = state.reconnects;
            state.reconnects = tries.saturating_add(1);
            // Perhaps another gateway is better off.
            state.gateway = state.gateway.wrapping_add(1);
            let pause = if self.population.behaviour(client).spreads_reconnects {
                let ceiling = (BACKOFF_BASE * BACKOFF_FACTOR.powi(i32::from(tries))).min(BACKOFF_MAX);
                Nanos::from_secs_f64(ceiling * (0.8 + 0.4 * self.streams.clients.share()))
            } else {
                Nanos::SECOND
            };
            self.events.at(self.now() + pause, Event::Connect(client));
            return;
        }
        state.connected = true;
        state.reconnects = 0;
        for (call, stamp) in self.parked.remove(&client).unwrap_or_default() {
            if self.calls.get(call).is_some_and(|call| call.stamp == stamp && call.parked) {
                self.send(call);
            }
        }
    }

    /// The connection is gone, and the client knows.
    pub(super) fn disconnect(&mut self, client: u32) {
        let Some(connections) = self.plan.connections else { return };
        let state = self.population.client(client);
        if !state.connected {
            return;
        }
        state.connected = false;
        state.gateway = state.gateway.wrapping_add(1);
        let pause = if self.population.behaviour(client).spreads_reconnects {
            self.streams.clients.within(connections.spread)
        } else {
            // The time that a device needs to notice.
            self.streams.clients.within(Nanos::from_millis(200))
        };
        self.events.at(self.now() + pause, Event::Connect(client));
    }
}
