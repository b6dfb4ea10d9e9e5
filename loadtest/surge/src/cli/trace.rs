//! `surge trace`: make traces, and look at them.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};

use super::load::{BaseRate, Clip, ReplayOptions, operation};
use crate::language::{duration, in_words};
use crate::load::Op;
use crate::offer::how;
use crate::plan::{draw, svg};
use crate::slo::ExitCode;
use crate::trace::{Counts, How, Scanned, TraceError, azure, nginx, scale, scan};

#[derive(Clone, Debug, Args)]
pub(super) struct TraceOptions {
    #[command(subcommand)]
    command: TraceCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum TraceCommand {
    /// Make a trace of counts from somebody else's file
    Import(ImportOptions),
    /// Say what is in a trace
    Stats(LookOptions),
    /// Draw a trace
    Plot(LookOptions),
    /// Write a trace again, at another speed and scale
    Scale(LookOptions),
}

#[derive(Clone, Debug, Args)]
#[group(id = "from", required = true, multiple = false, args = ["azure2021", "nginx"])]
struct ImportOptions {
    /// Invocations of Azure Functions of 2021: app,func,end_timestamp,duration
    #[arg(long, value_name = "FILE")]
    azure2021: Option<PathBuf>,
    /// Access log in the combined format of nginx and Apache
    #[arg(long, value_name = "FILE")]
    nginx: Option<PathBuf>,
    /// What each line is. Default: send; with --map, lines that are none of its paths are passed over
    #[arg(long, value_name = "OPERATION", value_parser = operation)]
    op: Option<Op>,
    /// Which operation a request is whose path begins so, such as /v1/accounts=signup
    #[arg(long, value_name = "PATH=OPERATION,…", value_delimiter = ',', value_parser = prefix, requires = "nginx")]
    map: Vec<(String, Op)>,
    /// Length of what is counted together
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = bucket)]
    bucket: Duration,
    /// Where the trace goes. Default: standard output
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
struct LookOptions {
    /// The trace
    file: PathBuf,
    #[command(flatten)]
    replay: ReplayOptions,
    /// What one time is, for multiples
    #[arg(long, value_name = "OPERATION=RATE,…", value_delimiter = ',')]
    base_rate: Vec<BaseRate>,
    /// Where the scaled trace, or a drawing as SVG, goes. Default: standard output, and no drawing but in the terminal
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn run(options: &TraceOptions) -> ExitCode {
    match dispatch(&options.command) {
        Ok(()) => ExitCode::Pass,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::Usage
        }
    }
}

fn dispatch(command: &TraceCommand) -> anyhow::Result<()> {
    match command {
        TraceCommand::Import(options) => import(options),
        TraceCommand::Stats(options) => {
            let scanned = scan(&options.file, &options.how())?;
            show(&stats(&options.file, &scanned));
            Ok(())
        }
        TraceCommand::Plot(options) => {
            let load = scan(&options.file, &options.how())?.load()?;
            show(&draw(&load));
            if let Some(path) = &options.out {
                std::fs::write(path, svg(&options.file.display().to_string(), &load))?;
            }
            Ok(())
        }
        TraceCommand::Scale(options) => {
            // Read as a whole first: half a trace is none.
            scan(&options.file, &options.how())?;
            scale(&options.file, &options.how(), &mut out(options.out.as_deref())?)?;
            Ok(())
        }
    }
}

fn import(options: &ImportOptions) -> anyhow::Result<()> {
    let bucket_s = options.bucket.as_secs_f64();
    let counts = match (&options.azure2021, &options.nginx) {
        (Some(path), _) => azure(path, options.op.unwrap_or(Op::Send), bucket_s)?,
        (None, Some(path)) => {
            let op = options.op.or(options.map.is_empty().then_some(Op::Send));
            nginx(path, &options.map, op, bucket_s)?
        }
        (None, None) => anyhow::bail!("say what to import: --azure2021 or --nginx"),
    };
    counts.write(&mut out(options.out.as_deref())?)?;
    let Counts { counted, passed_over, .. } = counts;
    eprintln!("{counted} lines counted, {passed_over} passed over");
    Ok(())
}

impl LookOptions {
    fn how(&self) -> How {
        how(&self.replay, &self.base_rate)
    }
}

fn stats(path: &Path, scanned: &Scanned) -> String {
    let seconds = scanned.duration.as_secs_f64();
    let length = in_words(Duration::from_millis(scanned.duration.as_millis() as u64));
    let format = format!("{:?}", scanned.format).to_lowercase();
    let mut text = format!("{}: {format}, {} rows, {length}\n", path.display(), scanned.rows);
    text.push_str("  operation   arrivals    mean/s  most in a second  peak/mean  dispersion\n");
    for (op, of) in &scanned.ops {
        let mean = of.total as f64 / seconds;
        text.push_str(&format!(
            "  {:<10} {:>9} {mean:>9.3} {:>17} {:>10.1} {:>11.2}\n",
            op.name(),
            of.total,
            of.most_in_a_second,
            of.most_in_a_second as f64 / mean,
            of.dispersion,
        ));
    }
    text.push_str("  (dispersion: variance over mean of the counts of seconds; 1 when arrivals are independent, more in bursts)\n");
    text
}

fn show(text: &str) {
    // A closed pipe is nobody's business.
    io::stdout().write_all(text.as_bytes()).ok();
}

fn out(path: Option<&Path>) -> Result<Box<dyn Write>, TraceError> {
    match path {
        Some(path) => Ok(Box::new(BufWriter::new(File::create(path).map_err(TraceError::Write)?))),
        None => Ok(Box::new(BufWriter::new(io::stdout().lock()))),
    }
}

fn prefix(text: &str) -> Result<(String, Op), String> {
    let (path, op) = text.split_once('=').ok_or("is written as /path=operation")?;
    Ok((path.to_owned(), operation(op)?))
}

fn bucket(text: &str) -> Result<Duration, String> {
    let bucket = duration(text).map_err(|_| "must be a time such as 1s or 1m".to_owned())?;
    if bucket < Duration::from_millis(1) {
        Err("must be a millisecond or longer".to_owned())
    } else {
        Ok(bucket)
    }
}

impl Clip {
    pub(crate) fn seconds(self) -> (f64, Option<f64>) {
        (self.from.as_secs_f64(), self.to.map(|to| to.as_secs_f64()))
    }
}
