//! Unix signals as values that something else can stand in for, so that whoever reacts to them is tested without
//! sending any.
//!
//! SIGTERM and SIGINT are [`StopSignals`]; [`crate::Drain::run`] decides what the first and the second mean. SIGHUP is
//! [`Hangups`]: reload certificates, re-read the log level. Once one of the two is made from the operating system, the
//! default action of its signals (ending the process) is off for good. No task is involved, so the second signal works
//! whatever has been cancelled.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopSignal {
    Terminate,
    Interrupt,
}

/// SIGTERM and SIGINT, in order of arrival.
#[derive(Debug)]
pub struct StopSignals(StopSource);

#[derive(Debug)]
enum StopSource {
    Process { terminate: Signal, interrupt: Signal },
    Channel(mpsc::Receiver<StopSignal>),
}

impl StopSignals {
    /// The signals of this process. For the binary only.
    ///
    /// # Errors
    ///
    /// When the operating system refuses a handler.
    pub fn of_process() -> io::Result<Self> {
        Ok(Self(StopSource::Process {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        }))
    }

    pub fn from_channel(source: mpsc::Receiver<StopSignal>) -> Self {
        Self(StopSource::Channel(source))
    }

    /// Waits for the next signal; for ever when none can come any more. Cancel-safe.
    pub async fn recv(&mut self) -> StopSignal {
        let received = match &mut self.0 {
            StopSource::Process { terminate, interrupt } => tokio::select! {
                Some(()) = terminate.recv() => Some(StopSignal::Terminate),
                Some(()) = interrupt.recv() => Some(StopSignal::Interrupt),
                else => None,
            },
            StopSource::Channel(source) => source.recv().await,
        };
        match received {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }
}

/// SIGHUPs. Those that arrive while the receiver is busy count as one.
#[derive(Debug)]
pub struct Hangups(HangupSource);

#[derive(Debug)]
enum HangupSource {
    Process(Signal),
    Channel(watch::Receiver<()>),
}

impl Hangups {
    /// The SIGHUPs of this process. For the binary only; every value made here sees each of them.
    ///
    /// # Errors
    ///
    /// When the operating system refuses the handler.
    pub fn of_process() -> io::Result<Self> {
        Ok(Self(HangupSource::Process(signal(SignalKind::hangup())?)))
    }

    pub fn from_channel(source: watch::Receiver<()>) -> Self {
        Self(HangupSource::Channel(source))
    }

    /// Waits for the next SIGHUP; for ever when none can come any more. Cancel-safe.
    pub async fn recv(&mut self) {
        let received = match &mut self.0 {
            HangupSource::Process(signal) => signal.recv().await,
            HangupSource::Channel(source) => source.changed().await.ok(),
        };
        if received.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Real signals: this test process has handlers for them from the first line on.
    #[tokio::test]
    async fn signals_of_the_process_arrive() {
        let mut stop = StopSignals::of_process().unwrap();
        let mut first = Hangups::of_process().unwrap();
        let mut second = Hangups::of_process().unwrap();
        let bound = Duration::from_secs(10);

        kill("HUP").await;
        tokio::time::timeout(bound, async { tokio::join!(first.recv(), second.recv()) }).await.unwrap();
        kill("TERM").await;
        assert_eq!(tokio::time::timeout(bound, stop.recv()).await.unwrap(), StopSignal::Terminate);
        kill("INT").await;
        assert_eq!(tokio::time::timeout(bound, stop.recv()).await.unwrap(), StopSignal::Interrupt);
    }

    async fn kill(signal: &str) {
        let command = format!("kill -{signal} {}", std::process::id());
        let status = tokio::process::Command::new("sh").args(["-c", &command]).status().await.unwrap();
        assert!(status.success(), "{command}: {status}");
    }
}
