//! Alerts of which the pages say what brings them about, and what ends them: done here as an operator would.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::time::Instant;

use super::prometheus::Prometheus;
use super::target::{POOR, RICH, Target};
use super::urls;
use crate::check::eventually;

/// Waits of some seconds, on a machine that has much to do.
const FIRES_MAX: Duration = Duration::from_secs(90);

pub(super) async fn check(prometheus: &Prometheus, target: &mut Target, surge: &Path) -> Result<()> {
    a_process_stands_still(prometheus, target).await?;
    an_operator_holds_the_ladder(prometheus, target).await?;
    the_money_is_spent(prometheus, target, surge).await?;
    the_scaler_is_killed(prometheus, target).await
}

/// `SpillwayTargetDown`: "the process is gone, or its admin port is not reached".
async fn a_process_stands_still(prometheus: &Prometheus, target: &mut Target) -> Result<()> {
    let admin = target.freeze().await?;
    fires(prometheus, "SpillwayTargetDown", Some(admin)).await?;
    if let Target::One(_) = target {
        fires(prometheus, "SpillwayNoTargets", None).await?;
    } else {
        eventually("the status page says who is silent", FIRES_MAX, async || {
            Ok(target.silent("mailbox").await? == 1)
        })
        .await?;
        println!("    the status page says that a mailbox process is silent");
    }
    target.thaw()?;
    resolves(prometheus, &["SpillwayTargetDown", "SpillwayNoTargets"]).await
}

/// `SpillwayBrownoutDeep`: "rung 4 of the ladder", until `spillway ladder auto`.
async fn an_operator_holds_the_ladder(prometheus: &Prometheus, target: &Target) -> Result<()> {
    target.ladder("4").await?;
    fires(prometheus, "SpillwayBrownoutDeep", None).await?;
    fires(prometheus, "SpillwayLadderHeld", None).await?;
    target.ladder("auto").await?;
    resolves(prometheus, &["SpillwayBrownoutDeep", "SpillwayLadderHeld"]).await
}

/// `SpillwayBudgetSpent`: "raise it in the settings and restart". Without a room, which would let in nobody for whom there is no money.
async fn the_money_is_spent(prometheus: &Prometheus, target: &mut Target, surge: &Path) -> Result<()> {
    let Target::One(one) = target else { return Ok(()) };
    one.restart(|settings| settings.replace(RICH, POOR).replace("required = true", "required = false"))
        .await?;
    let mut people = Command::new(surge);
    people.args(["run", "--existing", "20", "--sends", "1", "--peak-rate", "5", "--seconds", "30"]);
    people.args(["--target", &urls(&[one.public]), "--codes", &urls(&[one.codes])]);
    people.arg("--out").arg(one.folder().join("poor"));
    let mut people =
        people.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("cannot start the load tool")?;
    let fired = fires(prometheus, "SpillwayBudgetSpent", None).await;
    // It waits for codes that do not come.
    people.kill().and_then(|()| people.wait()).context("cannot end the load tool")?;
    fired?;
    one.restart(|settings| settings.replace(POOR, RICH)).await?;
    resolves(prometheus, &["SpillwayBudgetSpent"]).await
}

/// With the process dies the scaler that it is. Another one answers, acts, and says what is known.
async fn the_scaler_is_killed(prometheus: &Prometheus, target: &mut Target) -> Result<()> {
    let Target::Fleet(fleet) = target else { return Ok(()) };
    let killed = fleet.node("control-1").context("no control-1")?;
    let admin = killed.endpoint("admin").context("control-1 has no admin port")?;
    killed.kill().await?;
    fires(prometheus, "SpillwayTargetDown", Some(admin)).await?;
    eventually("the other control process acts, and knows that one is silent", FIRES_MAX, async || {
        let acts = prometheus.query("sum(spillway_control_holder)").await? == [1.0];
        Ok(acts && target.silent("control").await? == 1)
    })
    .await?;
    println!("    the other control process acts, and its page says that one is silent");
    let Target::Fleet(fleet) = target else { return Ok(()) };
    fleet.node("control-1").context("no control-1")?.start().await?;
    resolves(prometheus, &["SpillwayTargetDown"]).await
}

async fn fires(prometheus: &Prometheus, alert: &str, instance: Option<SocketAddr>) -> Result<()> {
    let began = Instant::now();
    let is_it = |firing: &Value| {
        let labels = &firing["labels"];
        let here = instance.is_none_or(|instance| labels["instance"] == instance.to_string());
        labels["alertname"] == alert && here
    };
    eventually(&format!("{alert} fires"), FIRES_MAX, async || {
        Ok(prometheus.firing().await?.iter().any(is_it))
    })
    .await?;
    println!("    {alert} fires after {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

async fn resolves(prometheus: &Prometheus, alerts: &[&str]) -> Result<()> {
    let began = Instant::now();
    eventually(&format!("{} end", alerts.join(", ")), FIRES_MAX, async || {
        let firing = prometheus.firing().await?;
        Ok(!firing.iter().any(|firing| alerts.iter().any(|alert| firing["labels"]["alertname"] == *alert)))
    })
    .await?;
    println!("    {} resolved after {:.0} s", alerts.join(", "), began.elapsed().as_secs_f64());
    Ok(())
}
