use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::load::{Op, Work};
use crate::schedule::{Arrival, Arrivals};

fn file(folder: &TempDir, text: &str) -> PathBuf {
    let path = folder.path().join("trace.csv");
    fs::write(&path, text).unwrap();
    path
}

fn play(text: &str, how: How) -> Vec<Arrival<Work>> {
    let folder = tempfile::tempdir().unwrap();
    of(&file(&folder, text), how)
}

fn of(path: &Path, how: How) -> Vec<Arrival<Work>> {
    let arrivals: Vec<_> = Replay::open(path, how).unwrap().map(Result::unwrap).collect();
    assert!(arrivals.is_sorted_by_key(|arrival| arrival.at));
    arrivals
}

fn error(text: &str, how: How) -> String {
    let folder = tempfile::tempdir().unwrap();
    let error = scan(&file(&folder, text), &how).expect_err(text).to_string();
    error.replace(folder.path().to_str().unwrap(), "")
}

fn times(arrivals: &[Arrival<Work>]) -> Vec<f64> {
    arrivals.iter().map(|arrival| arrival.at.as_secs_f64()).collect()
}

#[test]
fn counts_are_spread_evenly_over_their_buckets() {
    let arrivals = play("t_s,op,count\n100,signup,2\n110,signup,4\n110,send,1\n", How::default());
    assert_eq!(times(&arrivals), [2.5, 7.5, 11.25, 13.75, 15.0, 16.25, 18.75]);
    assert_eq!(arrivals[4].stream, Work::of(Op::Send));
    assert_eq!(arrivals.iter().map(|arrival| arrival.index).collect::<Vec<_>>(), (0..7).collect::<Vec<_>>());
}

#[test]
fn events_keep_their_gaps_and_what_was_recorded_of_them() {
    let text = "t_ms,op,user,peer,bytes\n500,send,3,4,100\n1500,signup,,,\n1500,discover,9,,\n";
    let arrivals = play(text, How::default());
    assert_eq!(times(&arrivals), [0.0, 1.0, 1.0]);
    assert_eq!(arrivals[0].stream, Work { op: Op::Send, user: Some(3), peer: Some(4), bytes: Some(100) });
    assert_eq!(arrivals[1].stream, Work::of(Op::SignUp));
    let half = play(text, How { speed: 2.0, ..How::default() });
    assert_eq!(times(&half), [0.0, 0.5, 0.5]);
    let twice = play(text, How { scale: 2.0, ..How::default() });
    assert_eq!(twice.len(), 6);
    assert_eq!((twice[0].stream.user, twice[1].stream.user), (Some(3), None), "the second is somebody else");
    let isos = play("time,op\n2021-01-15T15:00Z,send\n2021-01-15T15:00:02.5Z,send\n", How::default());
    assert_eq!(times(&isos), [0.0, 2.5]);
}

#[test]
fn multiples_are_of_the_base_rate_and_january_is_read_as_it_ships() {
    let mut how = How { compress: 3_600.0, column: Some("mult_reconciled".to_owned()), ..How::default() };
    how.rates.sign_up = 0.5;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/signal-2021.csv");
    let scanned = scan(&path, &how).unwrap();
    assert_eq!((scanned.format, scanned.rows), (Format::Multiples, 744));
    assert_eq!(scanned.duration, Duration::from_secs(744));
    // 50.62 million at 35,071 a day are 1,443 ordinary days; an hour takes a second at the same rate.
    let total = scanned.ops[&Op::SignUp].total as f64;
    assert!((total - 0.5 * 24.0 * 50.62e6 / 35_071.0).abs() < 100.0, "{total}");
    assert_eq!(scanned.ops[&Op::SignUp].most_in_a_second, 181, "half of 362.66");
}

#[test]
fn a_part_can_be_played_and_played_again() {
    let text = "t_s,op,count\n0,signup,10\n10,signup,20\n20,signup,40\n";
    let clip = How { from_s: 5.0, to_s: Some(15.0), ..How::default() };
    let part = play(text, clip.clone());
    assert_eq!((part.len(), part.iter().filter(|a| a.at < Duration::from_secs(5)).count()), (15, 5));
    let again = How { repeat: true, length: Some(Duration::from_secs(25)), ..clip };
    let rounds = play(text, again.clone());
    assert_eq!(rounds.len(), 15 + 15 + 5);
    let events = "t_ms,op\n0,send\n100,send\n200,send\n";
    let rounds = play(events, How { repeat: true, length: Some(Duration::from_secs(3)), ..How::default() });
    assert_eq!(rounds.len(), 30, "the gap between two rounds is an ordinary gap");
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(scan(&file(&folder, text), &again).unwrap().duration, Duration::from_secs(25));
}

#[test]
fn compressed_files_are_read_whatever_they_are_called() {
    let text = "t_s,op,count\n0,signup,3\n1,signup,4\n";
    let folder = tempfile::tempdir().unwrap();
    let gzip = |text: &str| {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        gzip.finish().unwrap()
    };
    let zstd = |text: &str| {
        ruzstd::encoding::compress_to_vec(text.as_bytes(), ruzstd::encoding::CompressionLevel::Fastest)
    };
    // Two members and two frames with something between them that is to be skipped, as `gzip -c >>` and `pzstd` leave them.
    let (first, second) = text.split_at(20);
    let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], b"more"].concat();
    let members = [gzip(first), gzip(second)].concat();
    let frames = [zstd(first), skipped, zstd(second)].concat();
    for bytes in [gzip(text), zstd(text), members, frames] {
        let path = folder.path().join("trace.csv");
        fs::write(&path, &bytes).unwrap();
        assert_eq!(of(&path, How::default()).len(), 7);
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let error = scan(&path, &How::default()).unwrap_err();
        assert!(matches!(error, TraceError::Read { .. }), "{error}");
    }
}

#[test]
fn what_is_wrong_is_named_by_line_and_column() {
    let how = How::default;
    assert_eq!(
        error("t_s,op,count\n0,signup,1\n1,signup,-3\n", how()),
        "/trace.csv, line 3, column `count`: `-3` is not a number of at least 0"
    );
    assert_eq!(
        error("# a comment\nt_s,op,count\n0,teleport,1\n", how()),
        "/trace.csv, line 3, column `op`: `teleport` is not an operation: signup, send, fan-out, discover, reconnect, flap, wake"
    );
    assert_eq!(
        error("t_s,op,count\n0,signup\n", how()),
        "/trace.csv, line 2: this is not CSV: it has 2 fields, and the header 3"
    );
    assert_eq!(
        error("t_s,op,count\n5,signup,1\n3,signup,1\n", how()),
        "/trace.csv, line 3: -2 s comes after 0 s. A trace is in order of time; --sort puts events in order"
    );
    assert_eq!(error("t_s,op,count\n", how()), "/trace.csv is empty: there is no row in it");
    assert_eq!(error("", how()), "/trace.csv is empty: there is no row in it");
    for (text, part) in [
        ("a,b\n1,2\n", "has the columns a, b, which are no trace"),
        ("t_s,op\nnoon,send\n", "line 2, column `t_s`: `noon` is not a time"),
        ("t_ms,op,user\n1,send,me\n", "column `user`: `me` is not a whole number"),
        ("t_ms,op,bytes\n1,send,999999999\n", "is not at most 200000 bytes"),
        ("t_s,mult\n0,x\n", "column `mult`: `x` is not a number of at least 0"),
        ("t_s,mult_a,mult_b\n0,1,2\n", "name one of mult_a, mult_b with --column"),
        ("t_s,op,count\n0,signup,inf\n", "`inf` is not a number"),
    ] {
        let error = error(text, how());
        assert!(error.contains(part), "{text:?}: {error}");
    }
    let column = How { column: Some("x".to_owned()), ..how() };
    assert!(error("t_s,mult\n0,1\n", column).contains("has no column `x`; its columns are t_s, mult"));
    assert!(matches!(Replay::open(Path::new("/no/such/trace"), how()), Err(TraceError::Open { .. })));
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "t_s,op,count\n0,send,1\n");
    assert!(matches!(Replay::open(&path, How { sort: true, ..how() }), Err(TraceError::NotEvents { .. })));
}

#[test]
fn events_out_of_order_can_be_put_in_order() {
    let text = "t_ms,op,user\n3000,send,3\n1000,send,1\n2000,send,2\n1000,discover,4\n";
    assert!(error(text, How::default()).contains("line 3: -2 s comes after 0 s"));
    let arrivals = play(text, How { sort: true, ..How::default() });
    assert_eq!(times(&arrivals), [0.0, 0.0, 1.0, 2.0]);
    assert_eq!(arrivals.iter().map(|a| a.stream.user.unwrap()).collect::<Vec<_>>(), [1, 4, 2, 3]);
}

#[test]
fn a_scaled_trace_is_a_trace_with_as_many_more() {
    let folder = tempfile::tempdir().unwrap();
    let text = "t_s,op,count\n0,signup,100\n10,signup,200\n20,send,40\n";
    let path = file(&folder, text);
    let how = How { scale: 0.5, speed: 2.0, from_s: 5.0, ..How::default() };
    let mut out = Vec::new();
    scale(&path, &how, &mut out).unwrap();
    assert_eq!(
        String::from_utf8(out.clone()).unwrap(),
        "t_s,op,count\n0,signup,25\n2.5,signup,100\n7.5,send,20\n"
    );
    let scaled = folder.path().join("scaled.csv");
    fs::write(&scaled, out).unwrap();
    let count = |arrivals: Vec<Arrival<Work>>| arrivals.len();
    assert_eq!(count(of(&scaled, How::default())), count(of(&path, how)));
    let mut out = Vec::new();
    let events = file(&folder, "t_ms,op,user\n0,send,1\n5,send,2\n10,send,3\n15,send,4\n");
    assert_eq!(scale(&events, &How { scale: 0.5, ..How::default() }, &mut out).unwrap(), 2);
}

#[test]
fn logs_of_others_become_traces() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let line = |second: u32, path: &str| {
        format!(
            "1.2.3.4 - - [15/Jan/2021:15:00:{second:02} +0000] \"GET {path} HTTP/1.1\" 200 1 \"-\" \"-\"\n"
        )
    };
    let text = [line(1, "/signup"), line(1, "/x"), line(4, "/send/7"), line(2, "/signup")].concat();
    fs::write(&log, &text).unwrap();
    let prefixes = [("/signup".to_owned(), Op::SignUp), ("/send".to_owned(), Op::Send)];
    let counts = nginx(&log, &prefixes, None, 1.0).unwrap();
    assert_eq!((counts.counted, counts.passed_over), (3, 1));
    let mut out = Vec::new();
    counts.write(&mut out).unwrap();
    let trace = String::from_utf8(out).unwrap();
    assert_eq!(trace, "t_s,op,count\n0,signup,1\n1,signup,1\n2,send,0\n3,send,1\n");
    assert_eq!(play(&trace, How::default()).len(), 3);
    fs::write(&log, format!("{text}nonsense\n")).unwrap();
    assert!(nginx(&log, &prefixes, None, 1.0).unwrap_err().to_string().contains("line 5"));

    let azure_csv = folder.path().join("azure.csv");
    fs::write(&azure_csv, "app,func,end_timestamp,duration\na,b,61.5,1.0\na,b,180.0,150.0\na,b,62.0,0.1\n")
        .unwrap();
    let counts = azure(&azure_csv, Op::Send, 60.0).unwrap();
    let mut out = Vec::new();
    counts.write(&mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), "t_s,op,count\n0,send,1\n60,send,2\n");
    fs::write(&azure_csv, "app,func,end_timestamp,duration\na,b,soon,1.0\n").unwrap();
    let error = azure(&azure_csv, Op::Send, 60.0).unwrap_err().to_string();
    assert!(error.contains("line 2, column `end_timestamp`: `soon`"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// What is replayed is what was recorded, within one arrival everywhere.
    #[test]
    fn even_replays_hold_the_counts_of_every_bucket(
        counts in prop::collection::vec(0..60u32, 1..40), scale in 0.01..3.0f64, seed: u64
    ) {
        let rows: String = counts.iter().enumerate().map(|(n, count)| format!("{n},signup,{count}\n")).collect();
        let arrivals = play(&format!("t_s,op,count\n{rows}"), How { scale, seed, ..How::default() });
        let mut so_far = 0.0;
        for (n, count) in counts.iter().enumerate() {
            so_far += f64::from(*count) * scale;
            let until = arrivals.iter().filter(|a| a.at < Duration::from_secs(n as u64 + 1)).count() as f64;
            prop_assert!((until - so_far).abs() <= 1.0 + 1e-6, "{until} for {so_far} (seed {seed})");
        }
        let poisson = How { scale, seed, within: Arrivals::Poisson, ..How::default() };
        let text = format!("t_s,op,count\n{rows}");
        prop_assert_eq!(times(&play(&text, poisson.clone())), times(&play(&text, poisson)));
    }
}
