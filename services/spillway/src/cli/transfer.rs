//! `spillway export` and `spillway import`: from one machine to a fleet.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use prometheus::Registry;
use spillway_chassis::signals::StopSignals;
use spillway_store::embedded::EmbeddedHandle;
use spillway_store::transfer::{
    self, ExportOptions, Exported, ImportOptions, Imported, Monitor, Phase, Section, Total,
};
use spillway_store::{Store, cql, embedded};
use spillway_types::{Clock, SystemClock};

use crate::config::{Config, StoreKind};
use crate::secrets::{self, Secrets};

const SHOW_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(super) struct Export {
    /// What to write; it must not exist
    file: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// What `spillway export` wrote
    file: PathBuf,
    /// Records that are written at a time; of conditional writes a quarter
    #[arg(long, value_name = "N", default_value_t = ImportOptions::CONCURRENCY)]
    concurrency: usize,
    /// Do not read everything back
    #[arg(long)]
    no_verify: bool,
}

/// Writes the embedded store of the settings to a file.
pub(super) async fn export(config: Config, arguments: Export) -> Result<ExitCode> {
    let options = ExportOptions {
        store: embedded::Config { path: config.store_folder(), ..config.store.embedded.clone() },
        file: arguments.file,
        fingerprint: fingerprint(&secrets_of(&config)?),
    };
    let file = options.file.clone();
    let monitor = Monitor::default();
    let work = {
        let monitor = monitor.clone();
        // It does nothing but read and write files.
        tokio::task::spawn_blocking(move || transfer::export(&options, &SystemClock, &monitor))
    };
    let joined = watched(&monitor, None, work).await?;
    let exported = joined.context("the export panicked")??;
    print_exported(&exported);
    println!(
        "{} holds everything but the secrets: the destination needs the same ones, so copy {} to it.\n\
         Do not start this server again: what it would accept is not in the file.",
        file.display(),
        secrets_file(&config).display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Writes an export into the store of the settings.
pub(super) async fn import(config: Config, arguments: Import) -> Result<ExitCode> {
    let file = arguments.file;
    let header = transfer::header(&file).with_context(|| format!("{} cannot be imported", file.display()))?;
    let secrets = secrets_of(&config)
        .context("the destination needs the secrets of the store that was exported; copy their file to it")?;
    if fingerprint(&secrets) != header.fingerprint {
        bail!(
            "{} holds other secrets than those of the store that was exported, with which no account could be \
             used; copy that store's file to the destination",
            secrets_file(&config).display()
        );
    }
    let bytes = std::fs::metadata(&file)?.len();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let destination = Destination::open(&config, &clock).await?;
    let options = ImportOptions {
        concurrency: arguments.concurrency,
        verify: !arguments.no_verify,
        ..ImportOptions::new(&file, destination.name.clone())
    };
    let monitor = Monitor::default();
    let work = transfer::import(&options, &destination.store, &*clock, &monitor);
    let imported = watched(&monitor, Some(bytes), work).await?;
    destination.close().await;
    let imported = imported?;
    print_imported(&imported);
    Ok(if imported.is_equal() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Destination {
    name: String,
    store: Store,
    embedded: Option<EmbeddedHandle>,
}

impl Destination {
    async fn open(config: &Config, clock: &Arc<dyn Clock>) -> Result<Self> {
        let registry = Registry::new();
        match config.store.kind {
            StoreKind::Embedded => {
                let path = config.store_folder();
                let store_config = embedded::Config { path: path.clone(), ..config.store.embedded.clone() };
                let (store, handle) = embedded::open(&store_config, &registry, Arc::clone(clock))?;
                let name = format!("embedded {}", path.canonicalize()?.display());
                Ok(Self { name, store, embedded: Some(handle) })
            }
            StoreKind::Cql => {
                let (store, _) = cql::open(&config.store.cql, &registry, Arc::clone(clock)).await?;
                let mut nodes = config.store.cql.contact_points.clone();
                nodes.sort();
                let name = format!("cql {} {}", nodes.join(","), config.store.cql.keyspace_prefix);
                Ok(Self { name, store, embedded: None })
            }
        }
    }

    async fn close(self) {
        if let Some(handle) = self.embedded {
            handle.close().await;
        }
    }
}

fn secrets_file(config: &Config) -> PathBuf {
    config.secrets.file.clone().unwrap_or_else(|| config.node.data.join(secrets::FILE))
}

fn secrets_of(config: &Config) -> Result<Secrets> {
    Ok(secrets::load(&secrets_file(config))?)
}

/// Equal for equal secrets; says nothing about them. The number is one of those reserved for fiction.
fn fingerprint(secrets: &Secrets) -> [u8; 32] {
    let mac = secrets.pepper.mac_of_text("+12025550100").expect("it has the form of a number");
    *secrets.master.hash("spillway export: fingerprint", &[mac.as_bytes()]).as_bytes()
}

/// Runs a transfer, shows each second how far it is, and stops it on a signal.
async fn watched<T>(monitor: &Monitor, bytes: Option<u64>, work: impl Future<Output = T>) -> Result<T> {
    let mut stop = StopSignals::of_process().context("cannot listen for signals")?;
    let mut ticks = tokio::time::interval(SHOW_EVERY);
    // The first one is at once.
    ticks.tick().await;
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Ok(done),
            _ = ticks.tick() => show(monitor, bytes),
            _ = stop.recv() => {
                eprintln!("spillway: stopping");
                monitor.stop();
            }
        }
    }
}

fn show(monitor: &Monitor, bytes: Option<u64>) {
    let what = match monitor.phase() {
        Phase::Exporting => "exporting",
        Phase::Checking => "checking the file",
        Phase::Importing => "importing",
        Phase::Verifying => "verifying",
    };
    let (records, done) = (monitor.records(), monitor.bytes());
    match bytes {
        Some(bytes) => {
            let percent = done.saturating_mul(100) / bytes.max(1);
            eprintln!("spillway: {what}: {records} records, {percent} % of the file");
        }
        None => eprintln!("spillway: {what}: {records} records, {} MB", done / 1_000_000),
    }
}

fn print_exported(exported: &Exported) {
    println!("{:<14}{:>12}  checksum", "section", "records");
    for (section, total) in exported.totals.iter() {
        println!("{:<14}{}", section.name(), side(*total));
    }
    if exported.expired > 0 {
        println!("left behind because they had expired: {}", exported.expired);
    }
    println!("{} bytes", exported.bytes);
}

fn print_imported(imported: &Imported) {
    match &imported.verified {
        Some(verified) => {
            println!("{:<14}{:>12}  {:<32}{:>12}  destination", "section", "records", "source", "records");
            for (section, sides) in verified.sections.iter() {
                let verdict = if sides.source == sides.destination { "equal" } else { "DIFFERENT" };
                let (source, destination) = (side(sides.source), side(sides.destination));
                println!("{:<14}{source}{destination}  {verdict}{}", section.name(), ended(sides.expired));
            }
            print_named("different or missing in the destination", &verified.differences);
        }
        None => {
            println!("not verified; {} conflicts in all runs", imported.conflicts_of_all_runs);
            for section in Section::ALL {
                let tally = imported.tallies[section];
                let (name, stored, conflicts) = (section.name(), tally.stored, tally.conflicts);
                println!("{name:<14}{stored:>12} written, {conflicts} conflicts{}", ended(tally.expired));
            }
        }
    }
    print_named("conflicts of this run, where the destination keeps what it had", &imported.conflicts);
}

fn side(total: Total) -> String {
    format!("{:>12}  {:032x}", total.records, total.checksum)
}

fn ended(expired: u64) -> String {
    if expired == 0 { String::new() } else { format!(", {expired} expired meanwhile") }
}

fn print_named(what: &str, differences: &transfer::Differences) {
    if differences.count() == 0 {
        return;
    }
    println!("{what}: {}", differences.count());
    for name in differences.named() {
        println!("  {name}");
    }
    let unnamed = differences.count() - differences.named().len() as u64;
    if unnamed > 0 {
        println!("  and {unnamed} more");
    }
}
