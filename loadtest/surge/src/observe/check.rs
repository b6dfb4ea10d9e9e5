//! Whether the sources of a run can be read, before it begins: a figure that is missing from the report is noticed too late.

use std::path::{Path, PathBuf};
use std::time::Duration;

use spillway_fleet::http_get;
use tokio::time::timeout;

use super::sources::{Scraped, Source, cgroup};
use super::{Observer, Proc};

/// An endpoint that takes longer would be looked at more seldom than every second.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    #[error(
        "process {pid} cannot be read: {reason}. Is it running, and yours? `pgrep -x spillway` says its number"
    )]
    Process { pid: u32, reason: std::io::Error },
    #[error(
        "{} is no control group of version 2 that can be read: {reason}. Its folder has cpu.stat and memory.stat; `cat /proc/PID/cgroup` says which one a \
         process is in, below /sys/fs/cgroup",
        path.display()
    )]
    Cgroup { path: PathBuf, reason: std::io::Error },
    #[error("nothing can be read at http://{address}{path}: {reason}")]
    Endpoint { address: std::net::SocketAddr, path: String, reason: String },
}

impl Observer {
    /// # Errors
    ///
    /// With the first source that tells nothing.
    pub async fn check(pids: &[u32], sources: &[Source]) -> Result<(), ObserveError> {
        for pid in pids {
            process(*pid)?;
        }
        for source in sources {
            match source {
                Source::Pid(pid) => process(*pid)?,
                Source::Cgroup(path) => group(path)?,
                Source::Prometheus { address, path } => {
                    let wrong = |reason: String| ObserveError::Endpoint {
                        address: *address,
                        path: path.clone(),
                        reason,
                    };
                    match timeout(ANSWERS_WITHIN, http_get(*address, path)).await {
                        Err(_) => return Err(wrong("it does not answer within 2 s".to_owned())),
                        Ok(Err(error)) => return Err(wrong(format!("{:#}", anyhow::Error::new(error)))),
                        Ok(Ok((200, text))) if Scraped::read(&text) == Scraped::default() => {
                            return Err(wrong(
                                "it has neither process_cpu_seconds_total nor spillway_gateway_sessions_open"
                                    .to_owned(),
                            ));
                        }
                        Ok(Ok((200, _))) => {}
                        Ok(Ok((status, _))) => return Err(wrong(format!("it answers {status}"))),
                    }
                }
            }
        }
        Ok(())
    }
}

fn process(pid: u32) -> Result<(), ObserveError> {
    let read = Proc::default().process(pid);
    read.map(|_| ()).map_err(|reason| ObserveError::Process { pid, reason })
}

fn group(path: &Path) -> Result<(), ObserveError> {
    cgroup(path).map(|_| ()).map_err(|reason| ObserveError::Cgroup { path: path.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn error(source: &str) -> String {
        Observer::check(&[], &[source.parse().unwrap()]).await.unwrap_err().to_string()
    }

    /// Answers whatever is asked with this.
    async fn endpoint(answer: &'static str) -> (tokio::task::JoinSet<()>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut asked = [0; 1_024];
                assert!(stream.read(&mut asked).await.unwrap() > 0);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (tasks, format!("http://{address}/metrics"))
    }

    #[tokio::test]
    async fn a_source_that_tells_nothing_is_named_before_the_run() {
        assert!(Observer::check(&[std::process::id()], &[]).await.is_ok());
        assert!(
            error("pid:4194305").await.contains("process 4194305 cannot be read"),
            "more than there can be"
        );
        let folder = tempfile::tempdir().unwrap();
        let group = format!("cgroup:{}", folder.path().display());
        assert!(error(&group).await.contains("no control group of version 2"));
        std::fs::write(folder.path().join("cpu.stat"), "usage_usec 1\n").unwrap();
        std::fs::write(folder.path().join("memory.stat"), "file 1\n").unwrap();
        assert!(error(&group).await.contains("has no `anon`"), "{}", error(&group).await);
        std::fs::write(folder.path().join("memory.stat"), "anon 1\n").unwrap();
        assert!(Observer::check(&[], &[group.parse().unwrap()]).await.is_ok());

        assert!(
            error("http://127.0.0.1:1/metrics").await.contains("nothing can be read at http://127.0.0.1:1")
        );
        let (_server, url) =
            endpoint("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        assert!(error(&url).await.contains("answers 404"), "{}", error(&url).await);
        let (_server, url) =
            endpoint("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nup 1\n").await;
        assert!(error(&url).await.contains("process_cpu_seconds_total"), "{}", error(&url).await);
        let (_server, url) = endpoint(
            "HTTP/1.1 200 OK\r\nContent-Length: 31\r\nConnection: close\r\n\r\nprocess_cpu_seconds_total 1.25\n",
        )
        .await;
        assert!(Observer::check(&[], &[url.parse().unwrap()]).await.is_ok());
    }
}
