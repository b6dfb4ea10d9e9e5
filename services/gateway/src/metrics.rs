//! What the gateway counts.

mod delivery;

use std::sync::Arc;

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use spillway_chassis::exemplars::Exemplars;
use spillway_chassis::metrics::register;

use crate::session::End;
pub(crate) use delivery::{DeliveryMetrics, Route};

/// A closed set of label values, one counter each, looked up by index.
pub(crate) trait Label: Copy + 'static {
    const ALL: &'static [Self];
    fn index(self) -> usize;
    fn as_str(self) -> &'static str;
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$what:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$what])* $variant,)* }

        impl $crate::metrics::Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)*];

            fn index(self) -> usize {
                self as usize
            }

            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}
pub(crate) use label;

label!(
    /// How a send ended.
    SendOutcome {
        Stored = "stored",
        PartlyFull = "partly_full",
        Whispered = "whispered",
        Full = "full",
        StaleDevices = "stale_devices",
        Quota = "quota",
        NotFound = "not_found",
        Failed = "failed",
    }
);
label!(
    /// Why an append was tried again.
    RetryCause { Unanswered = "unanswered", OutOfWindow = "id_out_of_window", IdTooOld = "id_too_old", }
);
label!(
    /// Where a delivery came from.
    Source { Hint = "hint", Store = "store", Whisper = "whisper", }
);
label!(
    /// Whether the devices of an account were known.
    Lookup { Hit = "hit", Miss = "miss", }
);
label!(
    /// With what a device proved itself.
    IdentityKind { Credential = "credential", Token = "token", Ticket = "ticket", }
);
label!(
    /// What somebody at the door of sign-ups was told.
    RoomAnswer {
        Puzzle = "puzzle",
        Waiting = "waiting",
        Called = "called",
        Over = "over",
        Admitted = "admitted",
        TurnedAway = "turned_away",
        Refused = "refused",
    }
);
label!(
    /// Numbers that were asked about.
    DiscoverNumber { New = "new", AskedBefore = "asked_before", Postponed = "postponed", }
);
label!(ProofOutcome { Proved = "proved", Renewed = "renewed", Refused = "refused", Failed = "failed", });

/// One counter for each value of a label.
#[derive(Debug)]
pub(crate) struct Counters<L> {
    counters: Vec<IntCounter>,
    label: std::marker::PhantomData<fn(L)>,
}

impl<L: Label> Counters<L> {
    fn register(registry: &Registry, name: &str, help: &str, label: &str) -> Self {
        let family = register(registry, family(name, help, &[label]));
        Self::of(|value| family.with_label_values(&[value]))
    }

    fn of(counter: impl Fn(&str) -> IntCounter) -> Self {
        let counters = L::ALL.iter().map(|value| counter(value.as_str())).collect();
        Self { counters, label: std::marker::PhantomData }
    }

    pub(crate) fn count(&self, value: L) {
        self.counters[value.index()].inc();
    }

    pub(crate) fn add(&self, value: L, count: usize) {
        self.counters[value.index()].inc_by(count as u64);
    }
}

#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) sends: Counters<SendOutcome>,
    pub(crate) append_retries: Counters<RetryCause>,
    pub(crate) device_lookups: Counters<Lookup>,
    pub(crate) deliveries: Counters<Source>,
    pub(crate) delivery: DeliveryMetrics,
    pub(crate) room: Counters<RoomAnswer>,
    pub(crate) discovered: Counters<DiscoverNumber>,
    pub(crate) discover_pauses: IntCounter,
    pub(crate) acks: IntCounter,
    pub(crate) sessions_open: IntGauge,
    pub(crate) sessions_moved: IntCounter,
    pub(crate) session_ends: Counters<End>,
    calls: Vec<Counters<ProofOutcome>>,
    hellos: Vec<Counters<ProofOutcome>>,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry, exemplars: &Exemplars) -> Arc<Self> {
        let proofs = register(
            registry,
            family(
                "spillway_gateway_proofs_total",
                "Times that a device proved who it is, by what it showed and where",
                &["at", "identity", "outcome"],
            ),
        );
        let proofs = |at: &str| {
            let kinds = IdentityKind::ALL.iter();
            kinds
                .map(|kind| Counters::of(|outcome| proofs.with_label_values(&[at, kind.as_str(), outcome])))
                .collect()
        };
        let counter = |name: &str, help: &str| {
            register(registry, IntCounter::new(name, help).expect("the name is valid"))
        };
        let gauge = IntGauge::new(
            "spillway_gateway_sessions_open",
            "Session streams that are open, before and after hello",
        );
        Arc::new(Self {
            sends: Counters::register(
                registry,
                "spillway_gateway_sends_total",
                "Sends by how they ended",
                "outcome",
            ),
            room: Counters::register(
                registry,
                "spillway_gateway_room_answers_total",
                "Answers to who enters the waiting room, polls or claims",
                "answer",
            ),
            append_retries: Counters::register(
                registry,
                "spillway_gateway_append_retries_total",
                "Appends that were tried again",
                "cause",
            ),
            device_lookups: Counters::register(
                registry,
                "spillway_gateway_device_lookups_total",
                "Look-ups of an account's devices in the cache",
                "result",
            ),
            deliveries: Counters::register(
                registry,
                "spillway_gateway_deliveries_total",
                "Messages given to session streams",
                "source",
            ),
            delivery: DeliveryMetrics::register(registry, exemplars),
            discovered: Counters::register(
                registry,
                "spillway_gateway_discover_numbers_total",
                "Numbers asked about: paid for, asked about before, and left for later to spare the store",
                "kind",
            ),
            discover_pauses: counter(
                "spillway_gateway_discover_pauses_total",
                "Calls of discovery refused because the ladder has switched it off",
            ),
            acks: counter("spillway_gateway_acks_total", "Message ids acknowledged by devices"),
            sessions_open: register(registry, gauge.expect("the name is valid")),
            sessions_moved: counter(
                "spillway_gateway_sessions_moved_total",
                "Sessions that were told to come again elsewhere, because this gateway has more than others",
            ),
            session_ends: Counters::register(
                registry,
                "spillway_gateway_session_ends_total",
                "Session streams that ended",
                "reason",
            ),
            calls: proofs("call"),
            hellos: proofs("hello"),
        })
    }

    /// How proofs shown with a unary call ended.
    pub(crate) fn calls(&self, kind: IdentityKind) -> &Counters<ProofOutcome> {
        &self.calls[kind.index()]
    }

    /// How proofs shown in a session's hello ended.
    pub(crate) fn hellos(&self, kind: IdentityKind) -> &Counters<ProofOutcome> {
        &self.hellos[kind.index()]
    }
}

/// Registers what the role counts, so that it can be described.
pub fn describe_metrics(registry: &Registry) {
    Metrics::register(registry, &Exemplars::default());
}

fn family(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), labels).expect("the name and labels are valid")
}
