//! A run that several workers play: planned and judged here, offered there.

mod conclude;
mod gather;
mod live;
mod play;
mod watching;

use std::time::Duration;

use spillway_types::{Clock, SystemClock};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Beginning, Run, RunError, conclusion, folder_name, harm, interrupts, own_server, room};
use super::{check_faults, check_shared_target, shares, stop, warn_of, what_is_played};
use crate::cli::RunOptions;
use crate::codes::Phones;
use crate::observe::Observer;
use crate::offer::{self, Offer, SignUps};
use crate::profile::Profile;
use crate::run_folder::RunFolder;
use crate::summary::Summary;
use crate::target::Target;
use crate::workers::{Link, LocalWorkers, Login, OwnNats, Staff, WorkersError, check_people};

/// The least time between the word and the start, so that everybody has heard it and opened what has to be open.
const START_AHEAD: Duration = Duration::from_secs(3);
/// For a server that was named.
const SERVER_WITHIN: Duration = Duration::from_secs(4);

/// Runs with `count` workers and writes the run folder. The options have a seed.
///
/// # Errors
///
/// When the run could not take place.
pub(super) async fn measure(options: &RunOptions, count: u32) -> Result<(Summary, RunFolder), RunError> {
    let asked = options.asked.read()?;
    let shares = shares(options, &asked);
    shares.members(options.existing, options.seed())?;
    check_shared(options, count)?;
    check_faults(options, &asked.faults)?;
    warn_of(options, &asked);
    check_shared_target(options).await?;
    Observer::check(&options.server_pid, &options.asked.observe).await?;
    // Refused before anything is started, as far as it can be known.
    Offer::of(options, SignUps::without_probe(options))?;
    let name = options.workers.run.clone().unwrap_or_else(harm::name);
    let named = match &options.workers.nats[..] {
        [] if options.workers.local_workers.is_some() => None,
        [] => return Err(WorkersError::NoNats.into()),
        addresses => {
            let credentials = options.workers.nats_creds.as_deref();
            let login = Login::new(addresses, credentials).map_err(WorkersError::from)?;
            let link = connect(&login, &name).await?;
            link.refuse_bus_of_a_service().await.map_err(WorkersError::from)?;
            Some((link, login))
        }
    };
    let started = SystemClock.now();
    let folder = RunFolder::create(&options.out, started, &folder_name(options))?;
    let interrupts = interrupts()?;
    let mut own_nats = None;
    let (link, login) = match named {
        Some(named) => named,
        None => {
            let nats: &OwnNats = own_nats.insert(OwnNats::start(folder.path()).await?);
            let login = Login::nobody(&nats.address).map_err(WorkersError::from)?;
            (connect(&login, &name).await?, login)
        }
    };
    let local = match options.workers.local_workers {
        Some(count) => Some(LocalWorkers::start(count, &name, &login, folder.path())?),
        None => None,
    };

    let mut server = None;
    let target = if options.target.is_empty() {
        let own = own_server::start(options, &folder, None).await?;
        let target = own_server::target(&own);
        server = Some(own);
        target
    } else {
        let (pids, admin) = (options.server_pid.clone(), options.admin.clone());
        Target { public: options.target.join(","), codes: options.codes.clone(), admin, pids }
    };
    let beginning = Beginning {
        started,
        target,
        carrier: None,
        phones: Phones::default(),
        tasks: JoinSet::new(),
        asked,
        tie: None,
        interrupts,
    };
    let run = Run::new(options.clone(), beginning).await?;
    let staff = Staff::new(link, count as usize, options.existing, run.world.newcomers_from).await?;
    let mut coordinator = Coordinator { run, staff, local, name };
    let measured = coordinator.go(&folder).await;
    match &measured {
        Ok(_) => coordinator.staff.close().await,
        Err(error) => coordinator.staff.call_off(&error.to_string()).await,
    }
    let Coordinator { local, .. } = coordinator;
    if let Some(local) = local {
        local.end(Duration::from_secs(10)).await;
    }
    if let Some(server) = server {
        stop(server).await;
    }
    Ok((measured?, folder))
}

async fn connect(login: &Login, name: &str) -> Result<Link, WorkersError> {
    Ok(Link::connect(login, name, SERVER_WITHIN).await?)
}

/// Whether it is something that several can play.
fn check_shared(options: &RunOptions, count: u32) -> Result<(), RunError> {
    if options.profile.plays_provider() {
        return Err(
            WorkersError::NotShared("a profile in which the load tool is the provider of codes").into()
        );
    }
    if options.profile == Profile::RoomMillion {
        return Err(WorkersError::NotShared("a profile in virtual time").into());
    }
    if options.metrics.is_some() {
        return Err(WorkersError::Metrics.into());
    }
    if options.continued.is_some() {
        return Err(WorkersError::NotShared("the rest of a run that was killed").into());
    }
    if offer::is_to_be_probed(options)? {
        return Err(WorkersError::Probe.into());
    }
    check_people(&vec![1; count as usize], options.existing)?;
    Ok(())
}

struct Coordinator {
    run: Run,
    staff: Staff,
    local: Option<LocalWorkers>,
    name: String,
}

impl Coordinator {
    async fn go(&mut self, folder: &RunFolder) -> Result<Summary, RunError> {
        let what = what_is_played(&self.run.options);
        let (target, seed) = (self.run.target.public.clone(), self.run.seed);
        self.run.say(&format!("surge: {what} against {target}, seed {seed}, run `{}`", self.name));
        self.gather().await?;
        let plan = self.run.plan().await?;
        room::open(&self.run).await?;
        self.run.empty = self.run.memory_and_sessions();
        self.prepare().await?;
        room::pace(&mut self.run, &plan).await?;
        let mut manifest = conclusion::manifest(&self.run, &plan);
        manifest.workers = self.staff.summaries();
        folder.write_manifest(&manifest)?;
        let at = SystemClock.now().saturating_add(START_AHEAD);
        let begins = Instant::now() + START_AHEAD;
        self.staff.start(at).await?;
        let watching = self.play(&plan, begins, folder).await;
        room::let_go(&self.run).await;
        self.conclude(watching, folder, manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Before anything is started: nobody listens at that address.
    #[tokio::test]
    async fn several_do_not_play_against_a_system_to_compare_with() {
        let line = [
            "--local-workers",
            "2",
            "--profile",
            "send(5s@1)",
            "--seed",
            "1",
            "--target",
            "nats://127.0.0.1:1",
        ];
        let options = RunOptions::typed(line);
        let error = measure(&options, 2).await.unwrap_err();
        assert!(
            error.to_string().contains("a system to compare with is not played by several workers"),
            "{error}"
        );
    }
}
