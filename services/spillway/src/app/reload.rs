//! What a process takes up on SIGHUP without a restart: the certificates of the public port, and the limits.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use spillway_admission::{QuotaConfig, Quotas, render_table};
use spillway_chassis::signals::Hangups;
use spillway_chassis::{Tasks, config as settings};
use spillway_rpc::ServerTls;

use crate::config::{Config, OverloadConfig};
use crate::overload::Overload;

/// Reads the settings again, from where they were read at the start.
pub type ReadConfig = Box<dyn Fn() -> anyhow::Result<Config> + Send + Sync>;

/// The limits in force, for whoever enforces or shows them. Clones are handles on the same limits.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    settings: Arc<ArcSwap<QuotaConfig>>,
    /// A process without a gateway has none.
    quotas: Arc<OnceLock<Arc<Quotas>>>,
    overload: Overload,
}

impl Limits {
    pub(super) fn new(settings: QuotaConfig, overload: Overload) -> Self {
        Self { settings: Arc::new(ArcSwap::from_pointee(settings)), quotas: Arc::default(), overload }
    }

    /// These follow the settings from now on.
    pub(super) fn enforce(&self, quotas: &Arc<Quotas>) {
        self.quotas.get_or_init(|| Arc::clone(quotas));
    }

    pub(super) fn table(&self) -> String {
        render_table(&self.settings.load())
    }

    fn change(&self, config: &Config) -> anyhow::Result<()> {
        if let Some(quotas) = self.quotas.get() {
            quotas.reload(&config.quotas)?;
        }
        self.overload.reload(&config.admission)?;
        self.settings.store(Arc::new(config.quotas.clone()));
        Ok(())
    }
}

/// Follows SIGHUPs until `tasks` is cancelled.
pub(super) fn on_hangup(
    mut hangups: Hangups,
    tls: Option<ServerTls>,
    limits: Limits,
    started_with: Config,
    read: ReadConfig,
    tasks: &Tasks,
) {
    let stopped = tasks.cancelled();
    tasks.spawn("reload", async move {
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                () = hangups.recv() => {
                    if let Some(tls) = &tls {
                        tls.reload_and_log();
                    }
                    reload_limits(&limits, &started_with, &read);
                }
                () = &mut stopped => return,
            }
        }
    });
}

fn reload_limits(limits: &Limits, started_with: &Config, read: &ReadConfig) {
    let changed = read().and_then(|config| {
        config.check()?;
        limits.change(&config)?;
        Ok(config)
    });
    match changed {
        Ok(config) => {
            tracing::info!("the limits were read again");
            if needs_restart(started_with, &config) {
                tracing::warn!(
                    "other settings than [quotas] and [admission] have changed too, and are taken up at the next start"
                );
            }
        }
        Err(error) => {
            tracing::warn!(
                error = format!("{error:#}"),
                "the settings cannot be used; the limits stay as they are"
            );
        }
    }
}

fn needs_restart(before: &Config, after: &Config) -> bool {
    let rest = |config: &Config| {
        let (quotas, mut admission) = (QuotaConfig::default(), OverloadConfig::default());
        // The limiters keep what they have learnt, and their settings.
        admission.gateway.limiter = config.admission.gateway.limiter;
        admission.workers.limiter = config.admission.workers.limiter;
        settings::to_toml(&Config { quotas, admission, ..config.clone() })
    };
    rest(before) != rest(after)
}
