//! The report of a run: one HTML file that needs no network.

pub mod figures;
pub mod lanes;
pub mod svg;

use std::fs;

use anyhow::Context;

use crate::check::verdict::{Finding, Verdict};
use crate::check::{CHECKERS, WHOLE};
use crate::clock::seconds;
use crate::record::{Proof, Run};
use crate::rundir::{Environment, RunDir, Verdicts};
use svg::escaped;

const STYLE: &str = "body{font-family:sans-serif;margin:20px;max-width:1200px}\
    table{border-collapse:collapse;margin:12px 0}\
    td,th{border:1px solid #ccc;padding:3px 8px;font-size:12px;text-align:left}\
    .valid{background:#d5f0d8}.invalid{background:#f6c1c1;font-weight:bold}\
    .unknown{background:#ffe7b0}.skipped{background:#e6e6e6}\
    pre{background:#f4f4f4;padding:8px;font-size:12px;overflow-x:auto}svg{display:block}";

/// Writes `report.html` of a judged run.
///
/// # Errors
///
/// When the run has not been judged, or the folder cannot be written.
pub fn write(folder: &RunDir) -> anyhow::Result<()> {
    let html = html(&folder.load()?, &folder.read("result.json")?, &folder.read("env.json")?);
    let path = folder.file("report.html");
    fs::write(&path, html).with_context(|| format!("write {}", path.display()))
}

/// The report as text.
#[must_use]
pub fn html(run: &Run, verdicts: &Verdicts, environment: &Environment) -> String {
    let mut html = heading(verdicts, environment);
    html += &table(run, &verdicts.findings);
    html += &contradictions(run, &verdicts.findings);
    html += "<h2>What happened</h2>\n<p>";
    for (package, colour) in lanes::PACKAGES {
        html += &format!("<span style=\"background:{colour};padding:2px 8px\">{package}</span> ");
    }
    html += "latencies: green answered, grey refused, red unknown</p>\n";
    for lane in lanes::all(run) {
        html += &lane;
    }
    html += &faults(run);
    html += "<h2>Figures</h2>\n<table>\n";
    for (name, value) in &verdicts.figures {
        html += &format!("<tr><td>{}</td><td>{value:.2}</td></tr>\n", escaped(name));
    }
    html + &format!("</table>\n<h2>Again</h2>\n<pre>{}</pre>\n</body></html>\n", escaped(&environment.command))
}

fn heading(verdicts: &Verdicts, environment: &Environment) -> String {
    let totals = verdicts.totals;
    let mut html = format!(
        "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"/><title>Tidemill chaos run</title>\
         <style>{STYLE}</style></head><body>\n<h1>{} passed, {} failed, {} skipped</h1>\n",
        totals.passed, totals.failed, totals.skipped
    );
    html += &format!(
        "<p>seed {}, network {}, contained by {}, kernel {}, commit {}, load at the start {}</p>\n",
        environment.seed,
        escaped(&environment.net),
        escaped(&environment.containment),
        escaped(&environment.kernel),
        escaped(&environment.commit),
        escaped(&environment.load),
    );
    for missing in &environment.missing {
        html += &format!("<p>SKIPPED({})</p>\n", escaped(missing));
    }
    html
}

fn table(run: &Run, findings: &[Finding]) -> String {
    let mut columns: Vec<&str> = run.phases.iter().map(|phase| phase.name.as_str()).collect();
    columns.push(WHOLE);
    let mut html = String::from("<table>\n<tr><th></th>");
    for column in &columns {
        html += &format!("<th>{}</th>", escaped(column));
    }
    html += "</tr>\n";
    for (checker, meaning) in CHECKERS {
        html += &format!("<tr><th>{checker} {}</th>", escaped(meaning));
        for column in &columns {
            let of_cell = |finding: &&Finding| finding.checker == checker && finding.phase == *column;
            match findings.iter().find(of_cell) {
                None => html += "<td></td>",
                Some(Finding { verdict, .. }) => {
                    let (name, reason) = (verdict.name(), escaped(verdict.reason()));
                    html += &format!("<td class=\"{name}\" title=\"{reason}\">{name}</td>");
                }
            }
        }
        html += "</tr>\n";
    }
    html + "</table>\n"
}

/// What is not valid, with the calls that show it.
fn contradictions(run: &Run, findings: &[Finding]) -> String {
    let zero = run.phases.first().map_or(0, |phase| phase.from);
    let mut html = String::new();
    for Finding { checker, phase, verdict } in findings.iter().filter(|finding| finding.verdict.name() != "valid") {
        let (name, reason) = (verdict.name(), escaped(verdict.reason()));
        html += &format!("<h3>{checker} {}: {name}</h3>\n<p>{reason}</p>\n", escaped(phase));
        if let Verdict::Invalid { ops, between: (from, to), .. } = verdict {
            let (from, to) = (seconds(zero, *from), seconds(zero, *to));
            let ops: Vec<String> = ops.iter().map(|op| escaped(op)).collect();
            html += &format!("<p>between +{from:.3} s and +{to:.3} s</p>\n<pre>{}</pre>\n", ops.join("\n"));
        }
    }
    html
}

fn faults(run: &Run) -> String {
    let zero = run.phases.first().map_or(0, |phase| phase.from);
    let mut html = String::from("<h2>Faults</h2>\n<table>\n");
    html += "<tr><th>at, s</th><th>for, s</th><th>fault</th><th>hosts</th><th>proof</th></tr>\n";
    for fault in &run.faults {
        let hosts: Vec<String> = fault.targets.iter().map(ToString::to_string).collect();
        let (class, proof) = match &fault.proof {
            Proof::Fired(evidence) => ("valid", evidence.join("; ")),
            Proof::NotFired(why) => ("unknown", format!("it did not fire: {why}")),
            Proof::Skipped(why) => ("skipped", format!("SKIPPED({why})")),
        };
        let (at, lasted) = (seconds(zero, fault.from), seconds(fault.from, fault.to));
        html += &format!(
            "<tr><td>{at:.1}</td><td>{lasted:.1}</td><td>{}</td><td>{}</td><td class=\"{class}\">{}</td></tr>\n",
            fault.fault.name(),
            hosts.join(" "),
            escaped(&proof)
        );
    }
    html + "</table>\n"
}
