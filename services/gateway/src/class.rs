//! How important a device's call is.
//!
//! Decided from the method and from who makes it, never from what the call says about itself. Who shows a good token is
//! known by his account; anybody else by his connection, since a device has one of its own while a whole town may share an
//! address. What only a known device may ask is looked at more closely when a stranger asks it, and so ranks lower.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use spillway_admission::{Cohorts, Level, Tier, User};
use spillway_rpc::{Class, Classify, Head};
use spillway_types::{AccountId, Clock, Secret};

use crate::config::IdentityConfig;
use crate::token::Tokens;

/// How long a user stays in a cohort: long enough to finish what he began, short enough that nobody is the last for a
/// day. DAGOR's hour.
const COHORT_PERIOD: Duration = Duration::from_secs(3_600);

/// Which cohort a user is in. The same at all gateways, because they have the same key.
#[derive(Debug)]
pub(crate) struct Classes {
    cohorts: Cohorts,
    clock: Arc<dyn Clock>,
}

impl Classes {
    pub(crate) fn new(key: &Secret, clock: Arc<dyn Clock>) -> Self {
        let hash = key.hash("spillway gateway: cohorts", &[]);
        let half = *hash.as_bytes().first_chunk().expect("a hash has 32 bytes");
        Self { cohorts: Cohorts::new(u128::from_be_bytes(half), COHORT_PERIOD), clock }
    }

    pub(crate) fn of_account(&self, tier: Tier, account: AccountId) -> Class {
        self.class(tier, self.cohorts.user(account.as_bytes()))
    }

    fn of_connection(&self, tier: Tier, peer: Option<SocketAddr>) -> Class {
        let mut id = [0; 18];
        if let Some(peer) = peer {
            let address = match peer.ip() {
                IpAddr::V4(address) => address.to_ipv6_mapped(),
                IpAddr::V6(address) => address,
            };
            id[..16].copy_from_slice(&address.octets());
            id[16..].copy_from_slice(&peer.port().to_be_bytes());
        }
        self.class(tier, self.cohorts.user(&id))
    }

    fn class(&self, tier: Tier, user: User) -> Class {
        let since_epoch = Duration::from_micros(self.clock.now().as_micros());
        Class { level: Level::new(tier, self.cohorts.cohort(user, since_epoch)), user }
    }
}

/// Classifies the calls of the public port.
#[derive(Debug)]
pub struct DeviceCalls {
    tokens: Tokens,
    classes: Classes,
    clock: Arc<dyn Clock>,
}

impl DeviceCalls {
    /// `token_key` as in [`Deps`](crate::Deps).
    pub fn new(config: &IdentityConfig, token_key: &Secret, clock: &Arc<dyn Clock>) -> Self {
        Self {
            tokens: Tokens::new(config, token_key),
            classes: Classes::new(token_key, Arc::clone(clock)),
            clock: Arc::clone(clock),
        }
    }

    fn account(&self, headers: &HeaderMap) -> Option<AccountId> {
        let value = headers.get("authorization")?.to_str().ok()?;
        let (scheme, token) = value.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        Some(self.tokens.verify(token, self.clock.now()).ok()?.caller.address.account)
    }
}

impl Classify for DeviceCalls {
    fn classify(&self, head: &Head<'_>) -> Class {
        let (tier, classes) = (tier(head.path), &self.classes);
        match self.account(head.headers) {
            Some(account) => classes.of_account(tier, account),
            None if tier == Tier::Send => classes.of_connection(Tier::Lookup, head.peer),
            None => classes.of_connection(tier, head.peer),
        }
    }
}

/// The classes of the public API, as the design has them. What is none of its methods is answered last.
fn tier(path: &str) -> Tier {
    match path {
        "/spillway.v1.Messages/Session" => Tier::Resume,
        "/spillway.v1.Messages/Send" => Tier::Send,
        "/spillway.v1.SignUp/Enter" | "/spillway.v1.SignUp/StartVerification" => Tier::StartSignUp,
        // Who asks when he may come does not come meanwhile.
        "/spillway.v1.SignUp/Poll"
        | "/spillway.v1.SignUp/Claim"
        | "/spillway.v1.SignUp/ResendCode"
        | "/spillway.v1.SignUp/CheckCode"
        | "/spillway.v1.SignUp/CreateAccount" => Tier::FinishSignUp,
        _ => {
            let service =
                path.strip_prefix('/').and_then(|path| path.split_once('/')).map(|(service, _)| service);
            match service {
                Some(
                    "spillway.v1.Devices"
                    | "spillway.v1.Account"
                    | "spillway.v1.Keys"
                    | "spillway.v1.Contacts",
                ) => Tier::Lookup,
                Some(
                    "spillway.v1.Status"
                    | "grpc.health.v1.Health"
                    | "grpc.reflection.v1.ServerReflection"
                    | "grpc.reflection.v1alpha.ServerReflection",
                ) => Tier::Exempt,
                _ => Tier::Background,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use prost::Message as _;
    use prost_types::FileDescriptorSet;
    use spillway_types::{DeviceAddress, DeviceId, MailboxId, TestClock};

    use super::*;
    use crate::auth::{Caller, Proof};

    const SEND: &str = "/spillway.v1.Messages/Send";

    struct World {
        calls: DeviceCalls,
        /// Signs as the gateway does.
        tokens: Tokens,
        clock: TestClock,
    }

    fn world() -> World {
        let (config, key, clock) =
            (IdentityConfig::default(), Secret::from_bytes([7; 32]), TestClock::default());
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let calls = DeviceCalls::new(&config, &key, &shared);
        World { calls, tokens: Tokens::new(&config, &key), clock }
    }

    impl World {
        fn token(&self, account: u8) -> String {
            let address =
                DeviceAddress { account: AccountId::from_bytes([account; 16]), device: DeviceId::PRIMARY };
            let caller = Caller { address, mailbox: MailboxId::from_bytes([account; 16]) };
            let now = self.clock.now();
            self.tokens.issue(&Proof { caller, proved_at: now, renewed: false }, now).text
        }

        /// Of a call from this port, with this authorization.
        fn class(&self, path: &str, authorization: &str, port: u16) -> Class {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", HeaderValue::try_from(authorization).unwrap());
            // What a device says of itself.
            headers.insert("x-spillway-level", HeaderValue::from_static("0.0"));
            let peer = Some(SocketAddr::from(([192, 0, 2, 1], port)));
            self.calls.classify(&Head { path, headers: &headers, peer })
        }
    }

    #[test]
    fn who_shows_a_good_token_is_known_wherever_he_comes_from() {
        let world = world();
        let (alice, bob) = (format!("Bearer {}", world.token(1)), format!("Bearer {}", world.token(2)));
        let known = world.class(SEND, &alice, 1);
        assert_eq!((known.level.tier(), known), (Tier::Send, world.class(SEND, &alice, 2)));
        assert_ne!(known.user, world.class(SEND, &bob, 1).user);
        let account = AccountId::from_bytes([1; 16]);
        assert_eq!(world.calls.classes.of_account(Tier::Send, account), known, "a session is the same user");
    }

    #[test]
    fn strangers_rank_lower_and_are_their_connections() {
        let world = world();
        let good = format!("Bearer {}", world.token(1));
        let other_key = Tokens::new(&IdentityConfig::default(), &Secret::from_bytes([8; 32]));
        let forged = format!("Bearer {}", World { tokens: other_key, ..self::world() }.token(1));
        for authorization in ["", "Device credential", "Bearer", "Bearer x", &forged] {
            let stranger = world.class(SEND, authorization, 1);
            assert_eq!(stranger.level.tier(), Tier::Lookup, "{authorization:?}");
            assert_eq!(stranger, world.class(SEND, "", 1));
            assert_ne!(stranger.user, world.class(SEND, "", 2).user);
        }
        let start = world.class("/spillway.v1.SignUp/StartVerification", "", 1);
        assert_eq!(start.level.tier(), Tier::StartSignUp);
        world.clock.advance(Duration::from_secs(365 * 86_400));
        assert_eq!(world.class(SEND, &good, 1).level.tier(), Tier::Lookup, "it has expired");
    }

    #[test]
    fn each_public_method_has_a_class() {
        let set = FileDescriptorSet::decode(spillway_api::DESCRIPTORS).unwrap();
        let mut methods = 0;
        for file in set.file.iter().filter(|file| file.package() == "spillway.v1") {
            for service in file.service.iter().filter(|service| service.name() != "SandboxCodes") {
                for method in &service.method {
                    let path = format!("/spillway.v1.{}/{}", service.name(), method.name());
                    assert_ne!(tier(&path), Tier::Background, "{path}");
                    methods += 1;
                }
            }
        }
        assert!(methods > 15, "{methods}");
    }

    #[test]
    fn what_nobody_serves_comes_last() {
        for path in
            ["", "/", "/spillway.v1.Messages", "/spillway.internal.v1.Mailbox/Append", "Messages/Send"]
        {
            assert_eq!(tier(path), Tier::Background, "{path:?}");
        }
    }
}
