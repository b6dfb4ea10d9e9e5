//! The server that watches: its settings, its life, and what it is asked.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use spillway_fleet::process::Launch;
use spillway_fleet::{Process, http_get};

use super::shorten;
use crate::check::eventually;
use crate::check::free_ports;
use crate::{chart, tools};

const START_MAX: Duration = Duration::from_secs(60);
/// A process is scraped once a second; a herd of them on a busy machine takes its time.
const UP_MAX: Duration = Duration::from_secs(60);
const STOP_MAX: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Prometheus {
    launch: Launch,
    process: Process,
    address: SocketAddr,
}

impl Prometheus {
    /// With the shipped rules, shortened, and what is given as its targets.
    pub(super) async fn start(folder: &Path, targets: &[SocketAddr]) -> Result<Self> {
        let rules = folder.join("rules");
        fs::create_dir_all(&rules)?;
        let shipped = chart::folder().join("files/rules");
        for entry in fs::read_dir(&shipped).with_context(|| format!("cannot read {}", shipped.display()))? {
            let file = entry?.path();
            if file.extension().is_some_and(|ending| ending == "yaml") {
                let text = fs::read_to_string(&file)?;
                fs::write(rules.join(file.file_name().unwrap_or_default()), shorten::rules(&text))?;
            }
        }
        let targets: Vec<_> = targets.iter().map(|target| format!("{:?}", target.to_string())).collect();
        let settings = folder.join("prometheus.yaml");
        let text = format!(
            "global:\n  scrape_interval: 1s\n  scrape_timeout: 900ms\n  evaluation_interval: 1s\n\
             rule_files:\n  - {:?}\n\
             scrape_configs:\n  - job_name: spillway\n    static_configs:\n      - targets: [{}]\n",
            rules.join("*.yaml"),
            targets.join(", ")
        );
        fs::write(&settings, text)?;
        let [port] = free_ports()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let marker = format!("--config.file={}", settings.display());
        let launch = Launch {
            program: tools::PROMETHEUS.path(),
            arguments: vec![
                marker.clone(),
                format!("--storage.tsdb.path={}", folder.join("prometheus").display()),
                format!("--web.listen-address={address}"),
                "--enable-feature=exemplar-storage".to_owned(),
                "--log.level=warn".to_owned(),
            ],
            environment: BTreeMap::new(),
            marker,
            log: folder.join("prometheus.log"),
            record: folder.join("prometheus.json"),
            locked_memory_bytes_max: None,
        };
        let process = Process::start(&launch)?;
        let prometheus = Self { launch, process, address };
        prometheus.until_ready().await?;
        Ok(prometheus)
    }

    pub(super) async fn kill(&mut self) -> Result<()> {
        Ok(self.process.kill().await?)
    }

    /// On what it had on its disk.
    pub(super) async fn start_again(&mut self) -> Result<()> {
        self.process = Process::start(&self.launch)?;
        self.until_ready().await
    }

    pub(super) async fn stop(mut self) -> Result<()> {
        self.process.stop(STOP_MAX).await?;
        Ok(())
    }

    async fn until_ready(&self) -> Result<()> {
        eventually("Prometheus is ready", START_MAX, async || {
            Ok(http_get(self.address, "/-/ready").await?.0 == 200)
        })
        .await
        .with_context(|| format!("see {}", self.launch.log.display()))
    }

    pub(super) async fn until_all_are_up(&self, targets: usize) -> Result<()> {
        eventually("all processes are scraped", UP_MAX, async || {
            let up = self.query("sum(up{job=\"spillway\"})").await?;
            Ok(up.first().is_some_and(|value| *value == targets as f64))
        })
        .await
    }

    /// By its own clock, in Unix time.
    pub(super) async fn now(&self) -> Result<f64> {
        self.query("time()").await?.first().copied().context("Prometheus does not know the time")
    }

    /// The values of an instant query.
    pub(super) async fn query(&self, expression: &str) -> Result<Vec<f64>> {
        let data = self.ask(&format!("/api/v1/query?query={}", encoded(expression))).await?;
        if data["resultType"] == "scalar" {
            return Ok(vec![number(&data["result"])?]);
        }
        let result = data["result"].as_array().cloned().unwrap_or_default();
        result.iter().map(|series| number(&series["value"])).collect()
    }

    /// How many series a query over a time answers, and how many values they have together.
    pub(super) async fn range(&self, expression: &str, from: f64, to: f64) -> Result<(usize, usize)> {
        let path = format!("/api/v1/query_range?query={}&start={from}&end={to}&step=2", encoded(expression));
        let data = self.ask(&path).await?;
        let result = data["result"].as_array().cloned().unwrap_or_default();
        let values = result.iter().map(|series| series["values"].as_array().map_or(0, Vec::len)).sum();
        Ok((result.len(), values))
    }

    /// The alerts that fire, with their labels.
    pub(super) async fn firing(&self) -> Result<Vec<Value>> {
        let data = self.ask("/api/v1/alerts").await?;
        let alerts = data["alerts"].as_array().cloned().unwrap_or_default();
        Ok(alerts.into_iter().filter(|alert| alert["state"] == "firing").collect())
    }

    async fn ask(&self, path: &str) -> Result<Value> {
        let (_, body) = http_get(self.address, path).await?;
        let answer: Value = serde_json::from_str(&body).with_context(|| format!("{path}: {body}"))?;
        if answer["status"] != "success" {
            bail!("{path}: {}", answer["error"]);
        }
        Ok(answer["data"].clone())
    }
}

/// `[time, "value"]`.
fn number(pair: &Value) -> Result<f64> {
    pair[1].as_str().and_then(|text| text.parse().ok()).with_context(|| format!("{pair} is no value"))
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
