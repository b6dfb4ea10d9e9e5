//! Who uses the service as it is meant to be used.

use super::About;
use crate::summary::EXISTING_SEND;

pub(super) const ABOUT: About = About {
    name: "polite",
    operation: EXISTING_SEND,
    verb: "send",
    summary: "the reference client: backs off with jitter, within a budget, and when it is told to",
    does: "Uses the reference client (services/client). A call that failed is repeated at most twice, after a pause that doubles and is drawn \
           at random, as long as a budget of a tenth of the calls lasts; when the service names a time, it waits for that; what it was told \
           would be refused is not sent; a lost connection is opened again after about 1 s, 1.6 s and so on up to two minutes, each give or \
           take a fifth. Messages are repeated under one id, acked when they were read, and dropped when they were seen.",
    who: "Whoever takes the client that comes with the service. Every newcomer of a run is polite.",
    source: "gRPC's connection backoff (grpc/doc/connection-backoff.md), client retries and pushback (gRFC A6)",
    ceiling: "what the load plans",
};
