//! Logs: `tracing` to standard error, with a filter that can change while the process runs. Traces beside them are in [`traces`].
//!
//! [`init`] is for the binary only, because a subscriber and a panic hook belong to the whole process. A panic is
//! logged like everything else, so that one in JSON mode does not break the reader of the stream. The binary never
//! prints logs to standard output, which is for answers such as `--print-config`.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tracing::Subscriber;
use tracing_subscriber::filter::{Directive, EnvFilter, FilterFn, LevelFilter};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::reload;

use crate::traces::{self, Attributes, TracesConfig, TracesError};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// A level (`off`, `error`, `warn`, `info`, `debug`, `trace`), or several filters with commas between them, each a
    /// level or `target=level`: `info,spillway_gateway=debug`.
    pub level: String,
    pub format: Format,
    pub traces: TracesConfig,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// For people; coloured on a terminal.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// The filter in force, and the way to change it. Clones share it.
#[derive(Clone, Debug)]
pub struct LogLevel {
    directives: Arc<Mutex<String>>,
    filter: reload::Handle<EnvFilter, Registry>,
}

#[derive(Debug, thiserror::Error)]
pub enum LogLevelError {
    /// The text after the semicolon says what is valid.
    #[error(
        "{directive:?} is not a log filter; give a level (off, error, warn, info, debug, trace) or target=level, \
         with commas between several, for example info,spillway_gateway=debug"
    )]
    Invalid { directive: String },
    #[error("the log subscriber is gone")]
    Gone(#[source] reload::Error),
}

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("invalid log level")]
    Level(#[from] LogLevelError),
    #[error("traces cannot be set up")]
    Traces(#[from] TracesError),
    #[error("another log subscriber is installed")]
    Installed(#[from] tracing::subscriber::SetGlobalDefaultError),
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: Format::default(), traces: TracesConfig::default() }
    }
}

/// Installs the process's subscriber and panic hook. For the binary only; tests use [`subscriber`].
///
/// # Errors
///
/// When the level or the traces are invalid, or a subscriber is installed already.
pub fn init(config: &TelemetryConfig, attributes: Attributes) -> Result<LogLevel, TelemetryError> {
    let colour = std::io::stderr().is_terminal();
    let log_level = match traces::install(&config.traces, attributes)? {
        None => {
            let (subscriber, log_level) = subscriber(config, std::io::stderr, colour)?;
            tracing::subscriber::set_global_default(subscriber)?;
            log_level
        }
        Some(tracer) => {
            // The filter is for the lines alone, so that what is traced does not depend on what is logged.
            let (filter, handle) = reload::Layer::new(parse(&config.level)?);
            let lines = lines(config, std::io::stderr, colour).with_filter(filter);
            let spans = tracing_opentelemetry::layer()
                .with_tracer(tracer)
                .with_location(false)
                .with_threads(false)
                .with_tracked_inactivity(false)
                .with_level(false)
                .with_target(false)
                .with_context_activation(false)
                .with_filter(FilterFn::new(|metadata| {
                    metadata.is_span() && metadata.target() == traces::TARGET
                }));
            tracing::subscriber::set_global_default(Registry::default().with(lines).with(spans))?;
            let directives = Arc::new(Mutex::new(config.level.trim().to_owned()));
            LogLevel { directives, filter: handle }
        }
    };
    std::panic::set_hook(Box::new(log_panic));
    Ok(log_level)
}

/// A subscriber that is not installed, writing to `writer`.
///
/// # Errors
///
/// When the level is invalid.
pub fn subscriber<W>(
    config: &TelemetryConfig,
    writer: W,
    colour: bool,
) -> Result<(impl Subscriber + Send + Sync, LogLevel), LogLevelError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(parse(&config.level)?);
    let lines = lines(config, writer, colour);
    let directives = Arc::new(Mutex::new(config.level.trim().to_owned()));
    Ok((Registry::default().with(filter).with(lines), LogLevel { directives, filter: handle }))
}

fn lines<S, W>(config: &TelemetryConfig, writer: W, colour: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(colour);
    match config.format {
        Format::Text => lines.boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    }
}

impl LogLevel {
    /// Replaces the filter.
    ///
    /// # Errors
    ///
    /// When `directives` is invalid; the filter in force stays.
    pub fn set(&self, directives: &str) -> Result<(), LogLevelError> {
        let filter = parse(directives)?;
        // Held while the filter changes, so that `get` answers for the filter that won.
        let mut current = self.directives.lock().unwrap_or_else(PoisonError::into_inner);
        self.filter.reload(filter).map_err(LogLevelError::Gone)?;
        directives.trim().clone_into(&mut current);
        tracing::info!(directives = directives.trim(), "log filter changed");
        Ok(())
    }

    pub fn get(&self) -> String {
        self.directives.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Stricter than `EnvFilter`, to which a mistyped level (`inof`) is the name of a target: it would turn off every log
/// line but those of a target that does not exist.
fn parse(directives: &str) -> Result<EnvFilter, LogLevelError> {
    let mut filters = Vec::new();
    for directive in directives.split(',').map(str::trim) {
        let selects = directive.contains(['=', '[', ']']);
        if directive.parse::<Directive>().is_err() || (!selects && directive.parse::<LevelFilter>().is_err())
        {
            return Err(LogLevelError::Invalid { directive: directive.to_owned() });
        }
        filters.push(directive);
    }
    let filters = filters.join(",");
    EnvFilter::builder().parse(&filters).map_err(|_error| LogLevelError::Invalid { directive: filters })
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    // Captured only when RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    let thread = std::thread::current();
    tracing::error!(place, thread = thread.name(), backtrace, panic = message(panic.payload()), "panicked");
}

fn message(payload: &dyn Any) -> &str {
    if let Some(text) = payload.downcast_ref::<&str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "not a string"
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_level_changes_while_running_and_json_is_one_object_a_line() {
        let captured = Captured::default();
        let config =
            TelemetryConfig { level: "warn".to_owned(), format: Format::Json, ..TelemetryConfig::default() };
        let writer = captured.clone();
        let (subscriber, log_level) = subscriber(&config, move || writer.clone(), false).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("too quiet");
            log_level.set(" off,spillway_chassis=debug ").unwrap();
            assert_eq!(log_level.get(), "off,spillway_chassis=debug");
            tracing::debug!(answer = 42, "heard");
            log_level.set("inof").unwrap_err();
            tracing::debug!("still heard");
        });

        let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let messages: Vec<_> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
        assert_eq!(messages, ["log filter changed", "heard", "still heard"]);
        assert_eq!(lines[1]["answer"], 42);
    }

    #[test]
    fn filters_that_would_silence_everything_by_mistake_are_refused() {
        for bad in
            ["", "inof", "info,", "info,dbug", "spillway_gateway", "spillway_gateway=loud", "5 o'clock"]
        {
            let error = parse(bad).unwrap_err().to_string();
            assert!(error.contains("give a level (off, error, warn"), "{bad:?}: {error}");
        }
        for good in
            ["info", "OFF", "warn, spillway_store=trace", "info,[session{device=1}]=debug", "error,[session]"]
        {
            parse(good).unwrap();
        }
    }
}
