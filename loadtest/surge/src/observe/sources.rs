//! Where the cost of a server is read: `--observe pid:1234`, `--observe cgroup:/sys/fs/cgroup/x`, `--observe http://127.0.0.1:9464/metrics`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};
use spillway_fleet::http_get;
use tokio::time::{MissedTickBehavior, interval};

use super::{Proc, ProcessSample, malformed};

/// Proportional set sizes are read so seldom, because the kernel walks all pages for it.
const PSS_EVERY_S: u64 = 5;
/// Between two looks at an endpoint.
const SCRAPE_EVERY: Duration = Duration::from_secs(1);
/// Linux's size of a page on the architectures that it is served on; TCP memory is told in pages.
const PAGE_BYTES: u64 = 4_096;

/// Something that tells what a server takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Pid(u32),
    /// Of version 2, as it is mounted.
    Cgroup(PathBuf),
    /// An endpoint in the text format of Prometheus, with the names that client libraries give their process's figures.
    Prometheus {
        address: SocketAddr,
        path: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not understood: write pid:1234, cgroup:/sys/fs/cgroup/x, or http://127.0.0.1:9464/metrics with an address and a port"
)]
pub struct SourceError(String);

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let wrong = || SourceError(text.to_owned());
        if let Some(pid) = text.strip_prefix("pid:") {
            return pid.parse().map(Self::Pid).map_err(|_| wrong());
        }
        if let Some(path) = text.strip_prefix("cgroup:") {
            return Some(path)
                .filter(|path| path.starts_with('/'))
                .map(|path| Self::Cgroup(path.into()))
                .ok_or_else(wrong);
        }
        let rest = text.strip_prefix("http://").ok_or_else(wrong)?;
        let (address, path) = rest.split_once('/').unwrap_or((rest, "metrics"));
        // Whoever writes the name of this machine means it, and no other is looked up.
        let address = match address.strip_prefix("localhost:") {
            Some(port) => SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().map_err(|_| wrong())?)),
            None => address.parse().map_err(|_| wrong())?,
        };
        Ok(Self::Prometheus { address, path: format!("/{path}") })
    }
}

/// What is known beside a process's own figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Memory of the processes, in which what they share counts once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pss_bytes: Option<u64>,
    /// Memory of all TCP sockets of this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_bytes: Option<u64>,
    /// Sessions that the service says are open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<u64>,
}

/// What an endpoint said last.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Scraped {
    process: Option<ProcessSample>,
    sessions: Option<u64>,
}

/// All sources of a run, added up.
#[derive(Clone, Debug, Default)]
pub struct Observer {
    proc: Proc,
    pids: Vec<u32>,
    cgroups: Vec<PathBuf>,
    endpoints: Vec<(SocketAddr, String, Arc<ArcSwapOption<Scraped>>)>,
}

impl Observer {
    pub fn new(pids: &[u32], sources: &[Source]) -> Self {
        let mut observer = Self { pids: pids.to_vec(), ..Self::default() };
        for source in sources {
            match source {
                Source::Pid(pid) => observer.pids.push(*pid),
                Source::Cgroup(path) => observer.cgroups.push(path.clone()),
                Source::Prometheus { address, path } => {
                    observer.endpoints.push((*address, path.clone(), Arc::default()));
                }
            }
        }
        observer
    }

    /// Looks at the endpoints once a second, for ever; returns at once where there are none.
    pub async fn watch(self) {
        let mut ticks = interval(SCRAPE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.endpoints.is_empty() {
            ticks.tick().await;
            for (address, path, seen) in &self.endpoints {
                match http_get(*address, path).await {
                    Ok((200, text)) => seen.store(Some(Arc::new(Scraped::read(&text)))),
                    // A server that is gone leaves a gap.
                    Ok(_) | Err(_) => seen.store(None),
                }
            }
        }
    }

    /// All of them together; `None` when one could not be read, or there are none.
    pub fn process(&self) -> Option<ProcessSample> {
        let pids = self.pids.iter().map(|pid| self.proc.process(*pid).ok());
        let cgroups = self.cgroups.iter().map(|path| cgroup(path).ok());
        let endpoints =
            self.endpoints.iter().map(|(.., seen)| seen.load().as_deref().and_then(|seen| seen.process));
        pids.chain(cgroups).chain(endpoints).reduce(|a, b| Some(a?.plus(b?))).flatten()
    }

    /// `sessions` are those that the service's admin ports tell of.
    pub fn observed(&self, second: u64, sessions: Option<u64>) -> Observed {
        let pss = || self.pids.iter().map(|pid| self.proc.pss_bytes(*pid).ok()).sum::<Option<u64>>();
        let scraped = self.endpoints.iter().filter_map(|(.., seen)| seen.load().as_deref()?.sessions);
        Observed {
            pss_bytes: if second.is_multiple_of(PSS_EVERY_S) && !self.pids.is_empty() { pss() } else { None },
            tcp_bytes: self.proc.tcp_bytes().ok(),
            sessions: sessions.or_else(|| scraped.reduce(|a, b| a + b)),
        }
    }
}

impl Proc {
    /// Fails when the process is gone or belongs to somebody else.
    pub fn pss_bytes(&self, pid: u32) -> io::Result<u64> {
        let rollup = fs::read_to_string(self.root.join(pid.to_string()).join("smaps_rollup"))?;
        let pss = super::kilobytes(&rollup, "Pss:").ok_or_else(|| malformed("smaps_rollup"))?;
        Ok(pss * 1_024)
    }

    /// What the kernel holds for all TCP sockets, of this machine and not of one process.
    pub fn tcp_bytes(&self) -> io::Result<u64> {
        let text = fs::read_to_string(self.root.join("net/sockstat"))?;
        let line =
            text.lines().find_map(|line| line.strip_prefix("TCP:")).ok_or_else(|| malformed("sockstat"))?;
        let mut words = line.split_whitespace().skip_while(|word| *word != "mem");
        let pages = words.nth(1).and_then(|pages| pages.parse::<u64>().ok());
        pages.map(|pages| pages * PAGE_BYTES).ok_or_else(|| malformed("sockstat"))
    }
}

/// A group of processes. Its memory is what they themselves have, without the page cache that is counted for them.
pub(super) fn cgroup(path: &Path) -> io::Result<ProcessSample> {
    let read = |name: &str| fs::read_to_string(path.join(name));
    let keyed = |text: &str, key: &str| {
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse::<u64>().ok());
        value.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{} has no `{key}`", path.display()))
        })
    };
    let number = |text: String| text.trim().parse::<u64>().ok();
    let anon = keyed(&read("memory.stat")?, "anon")?;
    Ok(ProcessSample {
        cpu_us: keyed(&read("cpu.stat")?, "usage_usec")?,
        rss_bytes: anon,
        // `memory.peak` counts the page cache; the highest sample is in the rows.
        rss_peak_bytes: anon,
        descriptors: 0,
        threads: read("pids.current").ok().and_then(number).unwrap_or(0),
    })
}

impl Scraped {
    pub(super) fn read(text: &str) -> Self {
        let sum = |name: &str| {
            let of_name =
                |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
            let values =
                text.lines().filter(of_name).filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
            values.reduce(|a, b| a + b)
        };
        let count = |name: &str| sum(name).map_or(0, |value| value as u64);
        let process = sum("process_cpu_seconds_total").map(|seconds| ProcessSample {
            cpu_us: (seconds * 1e6) as u64,
            rss_bytes: count("process_resident_memory_bytes"),
            rss_peak_bytes: count("process_resident_memory_bytes"),
            descriptors: count("process_open_fds"),
            threads: count("process_threads"),
        });
        Self { process, sessions: sum("spillway_gateway_sessions_open").map(|sessions| sessions as u64) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read() {
        assert_eq!("pid:12".parse(), Ok(Source::Pid(12)));
        assert_eq!("cgroup:/sys/fs/cgroup/x".parse(), Ok(Source::Cgroup("/sys/fs/cgroup/x".into())));
        let address = "127.0.0.1:9464".parse().unwrap();
        for text in
            ["http://127.0.0.1:9464/metrics", "http://127.0.0.1:9464", "http://localhost:9464/metrics"]
        {
            assert_eq!(text.parse(), Ok(Source::Prometheus { address, path: "/metrics".to_owned() }));
        }
        for wrong in [
            "",
            "12",
            "pid:x",
            "cgroup:x",
            "https://127.0.0.1:1/metrics",
            "http://localhost/m",
            "http://h:1/m",
        ] {
            assert!(wrong.parse::<Source>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_control_group_is_a_server_of_many_processes() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(root.path().join(name), text).unwrap();
        write("cpu.stat", "usage_usec 1500000\nuser_usec 1\n");
        write("memory.stat", "anon 4096\nanon_thp 0\nfile 99999\n");
        write("pids.current", "7\n");
        let observer = Observer::new(&[], &[Source::Cgroup(root.path().to_owned())]);
        let sample = observer.process().unwrap();
        assert_eq!((sample.cpu_us, sample.rss_bytes, sample.threads), (1_500_000, 4_096, 7));
        // One that is gone makes the sum wrong, so there is none.
        let both = [Source::Cgroup(root.path().to_owned()), Source::Cgroup(root.path().join("gone"))];
        assert_eq!(Observer::new(&[], &both).process(), None);
        assert_eq!(Observer::default().process(), None);
    }

    #[test]
    fn an_endpoint_tells_of_its_process_and_its_sessions() {
        let text = "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 1.5\n\
            process_resident_memory_bytes 2.048e+06\nprocess_open_fds 12\nprocess_threads 3\n\
            spillway_gateway_sessions_open 41\n";
        let scraped = Scraped::read(text);
        let process = scraped.process.unwrap();
        assert_eq!((process.cpu_us, process.rss_bytes, process.descriptors), (1_500_000, 2_048_000, 12));
        assert_eq!(scraped.sessions, Some(41));
        assert_eq!(Scraped::read("up 1\n"), Scraped::default());
    }

    #[test]
    fn memory_of_sockets_is_told_in_pages() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("net")).unwrap();
        let text = "sockets: used 5\nTCP: inuse 3 orphan 0 tw 1 alloc 4 mem 25\nUDP: inuse 0 mem 0\n";
        fs::write(root.path().join("net/sockstat"), text).unwrap();
        assert_eq!(Proc::at(root.path()).tcp_bytes().unwrap(), 25 * 4_096);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_a_proportional_size() {
        let own = Proc::default();
        let pss = own.pss_bytes(std::process::id()).unwrap();
        assert!(pss > 0 && pss <= own.own().unwrap().rss_peak_bytes * 2, "{pss}");
    }
}
