//! Connections that can be lost, and the rush to have them back.
//!
//! A client without a connection makes one as soon as it wants something, or when it was told that the old one is
//! gone. The handshake is paid before anything can be refused.

use spillway_admission::Reconnect;

use super::record::CallEnd;
use super::{Event, World};
use crate::time::Nanos;

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
            let pause = self.reconnect_pause(client, u32::from(tries) + 1, Nanos::SECOND);
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
        if self.plan.connections.is_none() {
            return;
        }
        let state = self.population.client(client);
        if !state.connected {
            return;
        }
        state.connected = false;
        state.gateway = state.gateway.wrapping_add(1);
        // Who does not spread still needs a moment to notice.
        let noticed = self.streams.clients.within(Nanos::from_millis(200));
        let pause = self.reconnect_pause(client, 0, noticed);
        self.events.at(self.now() + pause, Event::Connect(client));
    }

    /// As the shipped client has it, for those who spread their return.
    fn reconnect_pause(&mut self, client: u32, tries: u32, deaf: Nanos) -> Nanos {
        match self.plan.connections {
            Some(connections) if self.population.behaviour(client).spreads_reconnects => {
                let reconnect = Reconnect { spread: connections.spread.duration(), ..Reconnect::default() };
                reconnect.pause(tries, self.streams.clients.rng()).into()
            }
            _ => deaf,
        }
    }
}
