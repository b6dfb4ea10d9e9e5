//! A bound on the processor time of a process, so that the callers of a run can really offer ten times what it can do.
//!
//! A control group of Linux (`cpu.cfs_quota_us`, or `cpu.max` in version 2), which needs to be root or to have been given
//! one. The period is 10 ms and not the usual 100, so that the bound is a slow processor and not a pause of a tenth of a
//! second after each burst.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

const PERIOD_US: u64 = 10_000;
const VERSION_1: &str = "/sys/fs/cgroup/cpu";
const VERSION_2: &str = "/sys/fs/cgroup";

/// A control group. Removed when it is dropped, if its processes have ended by then.
#[derive(Debug)]
pub(crate) struct ProcessorShare(PathBuf);

impl ProcessorShare {
    /// `share`: of one processor.
    pub(crate) fn new(share: f64) -> Result<Self> {
        let quota_us = (share * PERIOD_US as f64) as u64;
        let name = format!("spillway-bench-{}-{:08x}", std::process::id(), rand::random::<u32>());
        let group = if Path::new(VERSION_1).join("cpu.cfs_quota_us").exists() {
            let group = made(&Path::new(VERSION_1).join(name))?;
            write(&group.0, "cpu.cfs_period_us", &PERIOD_US.to_string())?;
            write(&group.0, "cpu.cfs_quota_us", &quota_us.to_string())?;
            group
        } else if Path::new(VERSION_2).join("cgroup.controllers").exists() {
            let group = made(&Path::new(VERSION_2).join(name))?;
            write(&group.0, "cpu.max", &format!("{quota_us} {PERIOD_US}"))?;
            group
        } else {
            bail!(
                "there are no control groups here, and the service's processor time cannot be bounded without them"
            );
        };
        Ok(group)
    }

    /// All threads of the process share it from now on.
    pub(crate) fn hold(&self, pid: u32) -> Result<()> {
        write(&self.0, "cgroup.procs", &pid.to_string())
    }
}

fn made(group: &Path) -> Result<ProcessorShare> {
    fs::create_dir(group).with_context(|| {
        format!(
            "cannot make the control group {}: run this as root, or in a container that may",
            group.display()
        )
    })?;
    Ok(ProcessorShare(group.to_owned()))
}

fn write(group: &Path, file: &str, value: &str) -> Result<()> {
    let path = group.join(file);
    fs::write(&path, value).with_context(|| format!("cannot write {value} to {}", path.display()))
}

impl Drop for ProcessorShare {
    fn drop(&mut self) {
        // Not empty yet: the process is on its way out, and an empty group that stays does no harm.
        for _ in 0..20 {
            match fs::remove_dir(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    std::thread::sleep(std::time::Duration::from_millis(50));
                }
                _ => return,
            }
        }
    }
}
