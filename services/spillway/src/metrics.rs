//! The page of all metrics, made from what the parts of a process register: `spillway --print-metrics`, and `deploy/metrics.md`.

mod page;

use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, Opts, Registry};
use spillway_admission::{AdmissionMetrics, QuotaMetrics};
use spillway_bus::nats;
use spillway_chassis::{Drain, Tasks, admin, traces};
use spillway_store::{cql, embedded};

pub(crate) use page::page;

/// What stands for a name from the settings while metrics are described.
const EXAMPLE: &str = "example";

/// Where metrics are.
struct Part {
    title: &'static str,
    about: &'static str,
    register: fn(&Registry) -> prometheus::Result<()>,
}

const PARTS: [Part; 12] = [
    Part {
        title: "Every process",
        about: "Whatever its roles.",
        register: |registry| {
            admin::describe_metrics(registry)?;
            build_info(registry, EXAMPLE)?;
            spillway_rpc::describe_metrics(registry, EXAMPLE);
            example_drain().register(registry)
        },
    },
    Part {
        title: "Role gateway",
        about: "",
        register: |registry| {
            spillway_gateway::describe_metrics(registry);
            QuotaMetrics::register(registry)?;
            registry.register(Box::new(ladder_steered()?))
        },
    },
    Part {
        title: "Role registration",
        about: "",
        register: |registry| {
            spillway_registration::describe_metrics(registry, EXAMPLE);
            Ok(())
        },
    },
    Part { title: "Role mailbox", about: "", register: spillway_mailbox::describe_metrics },
    Part { title: "Role directory", about: "", register: spillway_directory::describe_metrics },
    Part {
        title: "Role control",
        about: "Each process of the role has all of them. Of the waiting room only the one that acts has figures, and the others have 0.",
        register: spillway_control::describe_metrics,
    },
    Part {
        title: "Overload control",
        about: "At each place where calls arrive from elsewhere: the public port of a gateway, and the services of other roles on the bus.",
        register: |registry| AdmissionMetrics::register(registry, EXAMPLE).map(drop),
    },
    Part {
        title: "TLS",
        about: "Where the public port has a certificate (`[tls]`).",
        register: spillway_rpc::describe_tls_metrics,
    },
    Part {
        title: "Traces",
        about: "Where there is a collector (`[telemetry.traces]`).",
        register: traces::describe_metrics,
    },
    Part {
        title: "Embedded store",
        about: "`[store] kind = \"embedded\"`.",
        register: embedded::describe_metrics,
    },
    Part {
        title: "CQL store",
        about: "`[store] kind = \"cql\"`: every role but the gateway.",
        register: cql::describe_metrics,
    },
    Part {
        title: "NATS",
        about: "`[bus] kind = \"nats\"`.",
        register: |registry| nats::describe_metrics(registry, EXAMPLE),
    },
];

impl Part {
    /// Sorted by name.
    fn families(&self) -> Vec<MetricFamily> {
        let registry = Registry::new();
        (self.register)(&registry).expect("a part has no metric twice");
        registry.gather()
    }
}

/// What runs here. The value says nothing.
pub(crate) fn build_info(registry: &Registry, roles: &str) -> prometheus::Result<()> {
    let help = "1, with the version of the process and the roles that it has.";
    let options = Opts::new("spillway_build_info", help)
        .const_label("version", env!("CARGO_PKG_VERSION"))
        .const_label("roles", roles);
    let info = IntGauge::with_opts(options)?;
    info.set(1);
    registry.register(Box::new(info))
}

/// Of a gateway: who moves its brownout ladder.
pub(crate) fn ladder_steered() -> prometheus::Result<IntGauge> {
    IntGauge::new(
        "spillway_admission_ladder_steered",
        "1 while an operator holds the brownout ladder at a rung, 0 while it moves by itself.",
    )
}

fn example_drain() -> Drain {
    let mut drain = Drain::new(&Tasks::new());
    drain.step(EXAMPLE, std::time::Duration::ZERO, std::future::ready(()));
    drain
}
