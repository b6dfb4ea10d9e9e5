//! What stands in the terminal when a run is over.

use crate::outputs::{cohorts, markdown};
use crate::run_folder::{RunFolder, SUMMARY};
use crate::slo::steal_warning;
use crate::summary::Summary;

/// The last lines of a run: what came of it, and where to read more.
pub(in crate::run) fn print(summary: &Summary, folder: &RunFolder) {
    let counts = &summary.ledger;
    println!();
    for gate in &summary.gates {
        println!(
            "  {} {:<36} {} ({}, wanted {} {})",
            if gate.pass { "pass" } else { "FAIL" },
            gate.figure,
            gate.means,
            markdown::value(gate, gate.observed),
            gate.comparison.sign(),
            markdown::value(gate, gate.threshold),
        );
        if let Some(advice) = &gate.advice {
            println!("       {advice}.");
        }
    }
    println!(
        "\n  {} acked, {} delivered, {} lost, {} duplicated, {} reordered",
        counts.acked, counts.delivered, counts.lost, counts.duplicated, counts.reordered
    );
    cohorts::print(summary);
    if let Some(room) = &summary.room {
        println!(
            "  waiting room: {} came, {} let in, {} at once; {} got their account, {} still wait with their place, {} failed",
            room.entered, room.admitted, room.at_once, room.finished, room.still_waiting, room.failed
        );
    }
    for worker in &summary.workers {
        println!("  {}", markdown::in_words(worker));
    }
    for fault in &summary.faults {
        println!("  fault at {:.1} s, {}: {}", fault.at_s, fault.label, fault.in_words());
    }
    if let Some(warning) = summary.generator.steal_ratio.and_then(steal_warning) {
        println!("  warning: {warning}");
    }
    let codes = &summary.codes;
    if codes.sent > 0 || codes.accounts > 0 {
        println!(
            "  {} codes for {} accounts, {:.2} spent at {} each",
            codes.sent, codes.accounts, codes.spent, codes.cost
        );
    }
    println!("  report: {}", folder.report().display());
    println!("  {}", folder.path().join(SUMMARY).display());
    println!("\n{}: {}", summary.verdict.word(), summary.headline);
}
