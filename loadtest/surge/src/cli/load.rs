//! Options of what is offered, and `surge plan`.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use super::RunOptions;
use crate::friends::Friends;
use crate::language::duration;
use crate::load::{Load, Op, Sizes};
use crate::offer::{Offer, OfferError, SignUps};
use crate::plan::{Machine, cohorts, draw, svg};
use crate::profile::Profile;
use crate::run;
use crate::run_folder::RunFolderError;
use crate::schedule::Arrivals;
use crate::slo::ExitCode;
use crate::workers::Part;

/// How a load is played.
#[derive(Clone, Debug, Default, Args)]
pub struct LoadOptions {
    /// What one time an operation's base rate is, such as signup=5/s,send=100/s. Without one for sign-ups, it is chosen so that the
    /// highest second is the peak
    #[arg(long, value_name = "OPERATION=RATE,…", value_delimiter = ',')]
    pub base_rate: Vec<BaseRate>,
    /// Play it so many times as fast, at the same rates: with 3600x an hour takes a second
    #[arg(long, value_name = "FACTOR", value_parser = factor, conflicts_with = "seconds")]
    pub time_compress: Option<f64>,
    /// How arrivals fall around the curve
    #[arg(long, value_enum, value_name = "HOW", default_value_t)]
    pub within: Within,
    /// Play these operations of the load and leave out the others, such as send,reconnect
    #[arg(long, value_name = "OPERATION,…", value_delimiter = ',', value_parser = operation)]
    pub only: Vec<Op>,
    /// How large messages are: 512, lognormal(median=300, p99=4000), or a CSV file with a column `bytes`, from which sizes are drawn. Default: 512, or
    /// what a trace says
    #[arg(long, value_name = "SIZES", allow_negative_numbers = true)]
    pub bytes: Option<Sizes>,
    /// Whom existing users write to: anybody, or with power-law only friends, of whom few people have many and most have few. power-law=2.5 gives the exponent,
    /// from 2 to 4
    #[arg(long, value_name = "WHO", default_value_t)]
    pub friends: Friends,
    /// Most arrivals of the load that are under way at a time. Default: as many as there are, because nobody who comes waits for others to be served
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_in_flight: Option<u32>,
    /// What becomes of an arrival beyond --max-in-flight
    #[arg(long, value_enum, value_name = "WHAT", default_value_t, requires = "max_in_flight")]
    pub on_overflow: OnOverflow,
    /// Replay this trace instead of a profile: counts, events or multiples by time, as CSV, also with gzip or zstd
    #[arg(long, value_name = "FILE", conflicts_with = "profile")]
    pub trace: Option<PathBuf>,
    #[command(flatten)]
    pub replay: ReplayOptions,
    /// Say what would be done, and do not do it
    #[arg(long)]
    pub dry_run: bool,
}

impl LoadOptions {
    /// Whether an operation of the load is played.
    pub(crate) fn plays(&self, op: Op) -> bool {
        self.only.is_empty() || self.only.contains(&op)
    }
}

/// How a trace is read.
#[derive(Clone, Debug, Default, Args)]
pub struct ReplayOptions {
    /// So many times as fast, with the same arrivals: with 2x a minute takes 30 s, at twice the rate
    #[arg(long, value_name = "FACTOR", value_parser = factor)]
    pub speed: Option<f64>,
    /// So many times as many arrivals
    #[arg(long, value_name = "FACTOR", value_parser = factor)]
    pub scale: Option<f64>,
    /// From the beginning again when it is over, for as long as --for (or --seconds, of a run) says
    #[arg(long = "loop")]
    pub repeat: bool,
    /// Stop after that time of the replay, such as 90s
    #[arg(id = "length", long = "for", value_name = "TIME", value_parser = time)]
    pub length: Option<Duration>,
    /// Only this part of the trace, such as 10m..20m, 10m.. or ..20m
    #[arg(long, value_name = "FROM..TO")]
    pub clip: Option<Clip>,
    /// Column of a curve of multiples
    #[arg(long, value_name = "NAME")]
    pub column: Option<String>,
    /// What rows without an operation are
    #[arg(long, value_name = "OPERATION", value_parser = operation)]
    pub op: Option<Op>,
    /// Sort the events first; otherwise one that is out of order is an error
    #[arg(long)]
    pub sort: bool,
}

/// One operation's base rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BaseRate {
    pub op: Op,
    pub per_s: f64,
}

/// Of the time of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clip {
    pub from: Duration,
    pub to: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Within {
    /// As independent people come
    #[default]
    Poisson,
    /// Evenly: every window holds the curve's integral, give or take one
    Uniform,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OnOverflow {
    /// It goes out when there is room, in its turn; the wait counts as lag of the generator, and in the response time
    #[default]
    Queue,
    /// It is left out and counted; a run that left anything out is INVALID
    Shed,
}

/// What a plan is told.
#[derive(Clone, Debug, Args)]
pub struct PlanOptions {
    /// What to draw; as --profile
    #[arg(value_name = "PROFILE", conflicts_with_all = ["profile", "trace"])]
    pub what: Option<Profile>,
    #[command(flatten)]
    pub run: RunOptions,
    /// Draw it into a file as well, as SVG
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

impl From<Within> for Arrivals {
    fn from(within: Within) -> Self {
        match within {
            Within::Poisson => Arrivals::Poisson,
            Within::Uniform => Arrivals::Uniform,
        }
    }
}

impl FromStr for BaseRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (op, rate) = text.split_once('=').ok_or("is written as signup=50/s")?;
        let op = operation(op)?;
        if matches!(op, Op::Reconnect | Op::Flap | Op::Wake | Op::FanOut) {
            return Err(format!(
                "{op} has no rate of its own: sessions follow --existing, and fan-out follows send"
            ));
        }
        let (number, per) = rate.split_once('/').unwrap_or((rate, "s"));
        let seconds = match per {
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return Err("a rate is so many /s, /m or /h".to_owned()),
        };
        Ok(Self { op, per_s: super::positive(number)? / seconds })
    }
}

impl FromStr for Clip {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (from, to) = text.split_once("..").ok_or("is written as 10m..20m")?;
        let at = |text: &str| if text.is_empty() { Ok(None) } else { time(text).map(Some) };
        let (from, to) = (at(from)?.unwrap_or_default(), at(to)?);
        if to.is_some_and(|to| to <= from) {
            return Err("ends before it begins".to_owned());
        }
        Ok(Self { from, to })
    }
}

pub(crate) fn operation(text: &str) -> Result<Op, String> {
    Op::parse(text).ok_or_else(|| format!("`{text}` is no operation: {}", Op::names()))
}

fn factor(text: &str) -> Result<f64, String> {
    super::positive(text.trim_end_matches(['x', '×']))
}

pub(super) fn time(text: &str) -> Result<Duration, String> {
    duration(text).map_err(|_| "must be a time such as 90s or 1h30m".to_owned())
}

/// Prints a plan. What a machine cannot run ends with status 1.
pub(super) fn plan(options: &PlanOptions) -> ExitCode {
    let mut run = options.run.clone();
    if let Some(what) = &options.what {
        run.profile = what.clone();
    }
    match print(&run, options.svg.as_deref(), &mut io::stdout().lock()) {
        Ok(()) => ExitCode::Pass,
        Err(error) => {
            eprintln!("error: {:#}", anyhow::Error::new(error));
            ExitCode::Usage
        }
    }
}

/// Draws what the options say, and checks whether the machine can run it.
///
/// # Errors
///
/// When there is nothing to draw, the picture cannot be written, or the machine is too small.
pub(crate) fn print(
    options: &RunOptions,
    picture: Option<&std::path::Path>,
    out: &mut impl Write,
) -> Result<(), OfferError> {
    let shares = run::shares(options, &options.asked.read()?);
    shares.members(options.existing, options.seed())?;
    let sign_ups = SignUps::without_probe(options);
    let offer = Offer::of(options, sign_ups)?;
    let parts = Part::split(&vec![1; options.workers.count().unwrap_or(1) as usize]);
    let needs = offer.needs(options, &shares, parts[0]);
    let title = offer.title(options);
    let mut text = format!("{title}\n\n{}", draw(&offer.load));
    for word in offer.load.behaviour.words() {
        text.push_str(&format!("  {word}\n"));
    }
    if matches!(sign_ups, SignUps::AssumedPeak(_)) && offer.is_scaled {
        text.push_str(&format!(
            "  Sign-ups are drawn for a peak of {} a second. A run probes what the machine takes, unless --peak-rate or \
             --base-rate signup=… says it.\n",
            crate::offer::ASSUMED_PEAK_PER_S
        ));
    }
    text.push_str(&cohorts(&shares, options.existing, &offer.load));
    if options.harm {
        text.push_str("\nWith --harm it is played twice, first with the rude silent.\n");
    }
    if let Some(count) = options.workers.count() {
        text.push_str(&of_workers(&parts, &offer.load, options.existing));
        text.push_str(&format!("\nWhat one of {count} equal workers needs:\n{needs}\n"));
    } else {
        text.push_str(&format!("\nWhat it needs:\n{needs}\n"));
    }
    // A closed pipe is nobody's business.
    out.write_all(text.as_bytes()).ok();
    if let Some(path) = picture {
        let write_error = |source| RunFolderError::Write { path: path.to_owned(), source };
        fs::write(path, svg(&title, &offer.load)).map_err(write_error)?;
    }
    // Workers on other machines look there.
    if options.workers.workers.is_none() {
        needs.check(&Machine::here())?;
    }
    Ok(())
}

/// Who of several equal machines plays what. Where they are not, shares follow their processors.
fn of_workers(parts: &[Part], load: &Load, existing: u32) -> String {
    let arrivals = load.total();
    let highest: f64 = load.curves().map(|(_, curve)| curve.peak_per_s()).sum();
    let line = |(number, part): (usize, &Part)| {
        let users = part.users(existing);
        format!(
            "  worker {number}: {part} of the load, about {:.0} arrivals, at most {:.0} a second; people {} to {}\n",
            arrivals * part.share(),
            highest * part.share(),
            users.start,
            users.end.saturating_sub(1)
        )
    };
    "\nShares of workers with as many processors each:\n".to_owned()
        + &(1..).zip(parts).map(line).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_of_too_many_is_asked_where_there_can_be_too_many() {
        use clap::Parser;
        let typed =
            |words: &[&str]| crate::cli::Arguments::try_parse_from([&["surge", "run"], words].concat());
        let error = typed(&["--on-overflow", "shed"]).unwrap_err().to_string();
        assert!(error.contains("--max-in-flight"), "{error}");
        typed(&["--on-overflow", "shed", "--max-in-flight", "5"]).unwrap();
        typed(&["--existing", "50000"]).unwrap();
    }

    #[test]
    fn a_plan_for_several_says_who_plays_what() {
        let load = Load::one(Op::Send, crate::curve::Curve::constant(60.0, Duration::from_secs(10)).unwrap());
        let text = of_workers(&Part::split(&[1, 1, 1]), &load, 100);
        let second = "worker 2: 1/3 of the load, about 200 arrivals, at most 20 a second; people 33 to 65\n";
        assert!(text.contains(second), "{text}");
        assert_eq!(text.lines().filter(|line| line.contains("worker ")).count(), 3);
    }

    #[test]
    fn rates_and_parts_are_read() {
        let rate = |text: &str| text.parse::<BaseRate>();
        assert_eq!(rate("signup=50/s"), Ok(BaseRate { op: Op::SignUp, per_s: 50.0 }));
        assert_eq!(rate("send=90/m"), Ok(BaseRate { op: Op::Send, per_s: 1.5 }));
        assert_eq!(rate("discover=2"), Ok(BaseRate { op: Op::Discover, per_s: 2.0 }));
        for wrong in ["50", "signup=", "signup=-1/s", "signup=5/d", "teleport=1/s", "flap=1/s"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
        let clip = |text: &str| text.parse::<Clip>();
        let minutes = |count: u64| Duration::from_secs(60 * count);
        assert_eq!(clip("10m..20m"), Ok(Clip { from: minutes(10), to: Some(minutes(20)) }));
        assert_eq!(clip("..20m"), Ok(Clip { from: Duration::ZERO, to: Some(minutes(20)) }));
        assert_eq!(clip("10m.."), Ok(Clip { from: minutes(10), to: None }));
        for wrong in ["10m", "20m..10m", "a..b"] {
            assert!(clip(wrong).is_err(), "{wrong}");
        }
        assert_eq!((factor("2x"), factor("0.01"), factor("2.5×")), (Ok(2.0), Ok(0.01), Ok(2.5)));
        assert!(factor("0x").is_err());
    }
}
