//! The whole system, from outside. One binary, so that it is linked once.

#![allow(clippy::unwrap_used, reason = "a test may end anywhere")]
#![allow(clippy::disallowed_methods, reason = "tests own their tasks through join sets and real time")]

mod all {
    /// Clients that do what no client should.
    mod abuse;
    /// Who may depend on whom.
    mod arrows;
    mod attestation;
    /// The client's example.
    mod chat;
    mod clock;
    mod codes;
    /// Clients of the load tool that do not behave.
    mod cohorts;
    mod contacts;
    mod desk;
    mod disk;
    mod drain;
    /// Roles in processes of their own.
    mod fleet;
    /// Parts of a fleet that die under load.
    mod fleet_faults;
    mod grpc_go;
    mod inbox;
    mod journal;
    mod keys;
    mod kill;
    mod limits;
    /// The load tool itself.
    mod load;
    mod multi_device;
    mod overload;
    mod peers;
    /// The load tool with other loads than January, and with traces.
    mod profiles;
    mod raw;
    mod reflection;
    mod room;
    /// An autoscaler that asks.
    mod scaler;
    mod session;
    mod sign_up;
    /// A service that stands still, as the load tool's histograms see it.
    mod stall;
    mod start;
    /// The live page of the admin port.
    mod status;
    mod support;
    mod tls;
    /// What a collector gets.
    mod traces;
    /// Rules, dashboards and pages beside what processes expose.
    mod watch;
    /// One run of the load tool on several machines.
    mod workers;
}
