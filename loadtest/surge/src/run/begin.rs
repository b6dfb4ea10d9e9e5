//! From what a run is given to what it is made of.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustix::process::{Pid, kill_process};
use spillway_client::{ClientConfig, Meter};
use spillway_types::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Run, RunError, id_of, late, probe, shares};
use crate::admin::Admin;
use crate::carrier::Carrier;
use crate::cli::RunOptions;
use crate::codes::{CodeStream, Phones};
use crate::cohorts::Crowd;
use crate::gates::GateFile;
use crate::ledger::{Ledger, OwnPart};
use crate::metrics;
use crate::observe::Observer;
use crate::offer;
use crate::population::Population;
use crate::profile::Profile;
use crate::progress::Progress;
use crate::room::Room;
use crate::slo::ExitCode;
use crate::stats::Stats;
use crate::target::Target;
use crate::workers::{Part, Tie};
use crate::workload::{Habits, Stage, World};

/// From the seed of a run to that of the people of the run that it is compared with.
const OTHER_NUMBERS: u64 = 0x5EED;

/// What a run begins with.
pub(super) struct Beginning {
    pub(super) started: Timestamp,
    pub(super) target: Target,
    pub(super) carrier: Option<Carrier>,
    pub(super) phones: Phones,
    pub(super) tasks: JoinSet<()>,
    pub(super) asked: GateFile,
    pub(super) tie: Option<Tie>,
    pub(super) interrupts: Signal,
}

impl Run {
    pub(super) async fn new(options: RunOptions, beginning: Beginning) -> Result<Self, RunError> {
        let Beginning { started, target, carrier, phones, mut tasks, asked, tie, interrupts } = beginning;
        let seed = options.seed();
        let behaviour = offer::behaviour(&options)?;
        let mut address = target.public.clone();
        let lateness = (!behaviour.slow.is_empty()).then(late::Lateness::default);
        if let Some(lateness) = &lateness {
            address = late::put_in_front(&address, lateness, &mut tasks).await.map_err(RunError::Late)?;
        }
        let meter = Meter::default();
        let admin = Admin::new(target.admin.iter().map(String::as_str))?;
        tasks.spawn(admin.clone().watch());
        for address in &target.codes {
            let codes = CodeStream::open(address, phones.clone()).await?;
            tasks.spawn(async move {
                if let Err(error) = codes.run().await {
                    tracing::warn!(error = %anyhow::Error::new(error), "no more codes will arrive from there");
                }
            });
        }
        let shares = shares(&options, &asked);
        let here = tie.as_ref().map_or(Part::WHOLE, |tie| tie.part).users(options.existing);
        let crowd = Crowd::new(shares.members(options.existing, seed)?, &here, options.silent);
        // Two runs against one service have other numbers, so that they do not meet. All else is the same.
        let meets = options.silent && !options.target.is_empty();
        let people = if meets { seed.wrapping_add(OTHER_NUMBERS) } else { seed };
        let newcomers_from = options.existing + probe::INDICES;
        let mut ledger = Ledger::excepting(id_of(seed, started), crowd.exceptions());
        if let Some(tie) = &tie {
            ledger = ledger.of_part(OwnPart { part: tie.part, existing: options.existing, newcomers_from });
        }
        let world = World {
            address,
            client: ClientConfig { meter: Some(meter.clone()), ..ClientConfig::default() },
            population: Population::new(people),
            existing: options.existing,
            habits: habits(&options.profile),
            behaviour,
            newcomers_from,
            phones,
            ledger,
            crowd,
            stats: ArcSwap::new(Stats::of_totals(Instant::now(), "setup")),
            room: ArcSwap::new(Room::new(Instant::now())),
            room_required: AtomicBool::new(false),
            stage: watch::Sender::new(Stage::Running),
            meter,
            sent_again: AtomicU64::new(0),
            asked_until_recovery: OnceLock::new(),
            sending: AtomicUsize::new(0),
            finishing: AtomicUsize::new(0),
            clock: tie.as_ref().map(|tie| tie.clock).unwrap_or_default(),
        };
        let world = Arc::new(world);
        if let Some(address) = options.metrics {
            let unheard = |source| RunError::Metrics { address, source };
            let (_, served) = metrics::listen(address, world.clone()).await.map_err(unheard)?;
            tasks.spawn(async move {
                if let Err(error) = served.await {
                    tracing::warn!(error = %anyhow::Error::new(error), "metrics are not served any more");
                }
            });
        }
        let observer = Observer::new(&target.pids, &options.asked.observe);
        tasks.spawn(observer.clone().watch());
        let own_server = if options.target.is_empty() { target.pids.clone() } else { Vec::new() };
        let interrupted = interruptions(&mut tasks, interrupts, own_server);
        let progress = Progress::stderr(options.quiet);
        let GateFile { defaults: default_gates, rules, faults, cohorts: _ } = asked;
        Ok(Self {
            options,
            seed,
            started,
            target,
            admin,
            carrier,
            rules,
            default_gates,
            faults,
            observer,
            empty: None,
            world,
            shares,
            peer: None,
            lateness,
            progress,
            tasks,
            interrupted,
            tie,
        })
    }
}

fn habits(profile: &Profile) -> Habits {
    match profile {
        // As often as the settings of the profile allow a second code: see `own_server`.
        Profile::ProviderBrownout => Habits { resend_after: Duration::from_secs(10), ..Habits::default() },
        _ => Habits::default(),
    }
}

/// From here on Ctrl-C does not end this process by itself. To be called before a service is started, which would be left behind.
pub(super) fn interrupts() -> Result<Signal, RunError> {
    signal(SignalKind::interrupt()).map_err(RunError::Signal)
}

/// The first Ctrl-C ends the run early with a report; the second ends the process, and the service that was started for the run.
fn interruptions(
    tasks: &mut JoinSet<()>,
    mut interrupts: Signal,
    own_server: Vec<u32>,
) -> watch::Receiver<bool> {
    let (sender, interrupted) = watch::channel(false);
    tasks.spawn(async move {
        interrupts.recv().await;
        sender.send_replace(true);
        interrupts.recv().await;
        for pid in own_server {
            // It may have ended by itself.
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                kill_process(pid, rustix::process::Signal::KILL).ok();
            }
        }
        std::process::exit(i32::from(u8::from(ExitCode::Interrupted)));
    });
    interrupted
}
