use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use spillway_admission::Network;
use spillway_api::v1;
use spillway_waiting_room::{DeviceKey, Difficulty, Flags, NetworkHash, TICKET_LIFETIME, Ticket};

use super::{ROOM, Room, RoomError};
use crate::arrival::Arrival;

impl Room {
    pub(crate) async fn enter(
        &self,
        arrival: &Arrival,
        request: v1::EnterRequest,
    ) -> Result<v1::Place, RoomError> {
        let device = device_key(&request.device_key)?;
        let now = self.0.clock.now();
        if self.0.config.proof_of_work {
            let (asked, least) = self.state().difficulty(&self.0.law);
            let Some(work) = request.work else {
                let puzzle = self.0.door.puzzle(&device, asked, now);
                let puzzle = v1::Puzzle {
                    challenge: puzzle.challenge.to_vec().into(),
                    bits: puzzle.difficulty.bits().into(),
                };
                return Ok(v1::Place {
                    ticket: Vec::new().into(),
                    state: Some(v1::place::State::Puzzle(puzzle)),
                });
            };
            let bits = u8::try_from(work.bits).map_err(|_| RoomError::Difficulty)?;
            if bits > Difficulty::MAX {
                return Err(RoomError::Difficulty);
            }
            self.0.door.check(&device, Difficulty::new(bits), least, work.counter, now)?;
        }
        let seq = self.number().await?;
        let ticket = Ticket {
            room: ROOM,
            seq,
            issued: now,
            lifetime: TICKET_LIFETIME,
            late: None,
            flags: Flags::default(),
            device: device.hash(),
            network: self.network(arrival).unwrap_or_else(|| self.hash(IpAddr::V6(Ipv6Addr::UNSPECIFIED))),
        };
        let sealed = ticket.seal(&self.0.keys.at(now));
        self.state().entered += 1;
        Ok(self.place(ticket, sealed, None))
    }

    /// Whence somebody asks, if it is known. The same at all gateways, and of no use to anybody without their key.
    pub(crate) fn network(&self, arrival: &Arrival) -> Option<NetworkHash> {
        arrival.network.map(|network| self.hash(address(network)))
    }

    fn hash(&self, address: IpAddr) -> NetworkHash {
        NetworkHash::of(&self.0.network_key, address)
    }
}

pub(super) fn device_key(bytes: &[u8]) -> Result<DeviceKey, RoomError> {
    bytes.try_into().map(DeviceKey::from_bytes).map_err(|_| RoomError::DeviceKey)
}

/// Any address of it.
fn address(network: Network) -> IpAddr {
    match network {
        Network::V4([a, b, c]) => Ipv4Addr::new(a, b, c, 0).into(),
        Network::V6(first) => {
            let mut octets = [0; 16];
            octets[..6].copy_from_slice(&first);
            Ipv6Addr::from(octets).into()
        }
    }
}
