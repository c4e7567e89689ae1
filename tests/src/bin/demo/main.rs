//! `demo`: two simulated hosts with the real programs. It installs them, breaks them, upgrades them and rolls them back, and
//! shows each command, its output and each alert.
//!
//! `cargo xtask demo` builds the programs and starts it. All processes and files are gone when it ends, however it ends; after
//! a failure the logs stay. Exit code 1: a step did something else than it says.

mod files;
mod fleet;
mod record;
mod screen;
mod signals;
mod steps;
mod tour;

use std::io::IsTerminal;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use sanctum_tests::program;
use sanctum_tests::receiver::Receiver;

use crate::fleet::DemoFleet;
use crate::screen::Screen;
use crate::steps::STEPS;
use crate::tour::{StepFailure, Tour};

/// A tour of Sanctum on two simulated hosts
#[derive(Debug, Parser)]
#[command(name = "demo")]
struct Args {
    /// End after the last step, instead of at Ctrl-C; also if standard input or output is not a terminal
    #[arg(long)]
    once: bool,
    /// Write a page with all that was shown
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// The time limit of each command and each wait, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 90.0, value_parser = seconds)]
    limit: f64,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=3600.0).contains(&value) => Ok(value),
        _ => Err("write a number of seconds from 0 to 3600, such as 90".to_owned()),
    }
}

/// The fleet, once it has been started.
type StartedFleet = Arc<Mutex<Option<Arc<DemoFleet>>>>;

fn main() -> ExitCode {
    let args = Args::parse();
    let screen = Arc::new(Screen::new());
    // Builds all programs, unless they are given.
    program("sanctum-server");
    let started = StartedFleet::default();
    let of_signal = started.clone();
    let is_complete = Arc::new(Mutex::new(false));
    let complete = is_complete.clone();
    let handled = signals::on_first(move |code| {
        if let Some(fleet) = locked(&of_signal).as_ref() {
            fleet.end(false);
        }
        // Ctrl-C is the normal end of a demo that stays up.
        let is_complete = *locked(&complete);
        eprintln!("\nall processes are stopped, and all files are removed");
        std::process::exit(if is_complete { 0 } else { code.into() });
    });
    if let Err(error) = handled {
        eprintln!("demo: cannot receive signals: {error}");
        return ExitCode::FAILURE;
    }
    // A panic is a failure like others: processes and files must not outlive it.
    let done = catch_unwind(AssertUnwindSafe(|| run(&args, &screen, &started)));
    let is_good = matches!(done, Ok(true));
    let stays = std::io::stdin().is_terminal() && std::io::stdout().is_terminal() && !args.once;
    if is_good && stays {
        *locked(&is_complete) = true;
        screen.note("\nIt stays up until Ctrl-C, which stops and removes everything.");
        wait_for_signal();
    }
    let fleet = locked(&started).clone();
    match fleet.map(|fleet| fleet.end(!is_good)) {
        // A signal has ended it, and ends this process.
        Some(None) => wait_for_signal(),
        Some(Some(Some(logs))) => screen.bad(&format!("  logs:     {}", logs.display())),
        Some(Some(None)) | None => {}
    }
    match is_good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Runs all steps; whether all have succeeded.
fn run(args: &Args, screen: &Arc<Screen>, started: &StartedFleet) -> bool {
    let limit = Duration::from_secs_f64(args.limit);
    let on_alert = screen.clone();
    let alerts = Receiver::calling(move |alert| on_alert.alert(alert));
    let fleet = match start(&alerts, started) {
        Ok(fleet) => fleet,
        Err(error) => {
            screen.bad(&format!("FAILED: the two hosts cannot be started: {error}"));
            return false;
        }
    };
    screen.note(&format!(
        "Two simulated hosts, {} and {}, in {}; everything is removed at the end.",
        fleet.mini.name,
        fleet.studio.name,
        fleet.root.display()
    ));
    let begun = Instant::now();
    for (number, step) in STEPS.iter().enumerate() {
        screen.title(&format!("{}. {}", number + 1, step.title));
        let step_begun = Instant::now();
        let tour = Tour::at_step(&fleet, screen, &alerts, limit);
        match (step.run)(&tour) {
            Ok(what) => screen.good(&format!(
                "ok after {:.1} s: {what}",
                step_begun.elapsed().as_secs_f64()
            )),
            Err(failure) => {
                failed(screen, number, step.title, &failure);
                screen.note(&format!("demo: {number} passed, 1 failed"));
                return false;
            }
        }
    }
    let tour = Tour::at_step(&fleet, screen, &alerts, limit);
    let addresses = match steps::addresses(&tour) {
        Ok(addresses) => addresses,
        Err(failure) => {
            failed(screen, STEPS.len(), "Open in a browser", &failure);
            screen.note(&format!("demo: {} passed, 1 failed", STEPS.len()));
            return false;
        }
    };
    screen.title("Open in a browser");
    for address in &addresses {
        screen.note(&format!("  {}  {}", address.url, address.name));
    }
    screen.title(&format!("demo: {} passed, 0 failed", STEPS.len()));
    screen.note(&format!("after {:.0} s", begun.elapsed().as_secs_f64()));
    let Some(path) = &args.record else {
        return true;
    };
    let mut replacements = fleet.replacements(&alerts);
    let pages = addresses.iter().skip(1);
    replacements.extend(pages.map(|page| (page.url.clone(), "http://127.0.0.1:1340/".to_owned())));
    let written = record::write(path, &screen.lines(), &replacements);
    if let Err(error) = &written {
        screen.bad(&format!("cannot write {}: {error}", path.display()));
    }
    written.is_ok()
}

/// Starts both hosts, with fleet.toml and three releases on the one that watches.
fn start(alerts: &Receiver, started: &StartedFleet) -> std::io::Result<Arc<DemoFleet>> {
    // A signal waits until the fleet is complete, and then ends it.
    let mut slot = locked(started);
    let fleet = Arc::new(DemoFleet::start()?);
    *slot = Some(fleet.clone());
    drop(slot);
    files::write_fleet_toml(&fleet, &alerts.url())?;
    files::make_releases(&fleet)?;
    Ok(fleet)
}

fn failed(screen: &Screen, number: usize, title: &str, failure: &StepFailure) {
    screen.bad(&format!("FAILED in step {}, \"{title}\"", number + 1));
    screen.bad(&format!("  expected: {}", failure.expected));
    screen.bad(&format!("  seen:     {}", failure.seen.trim_end()));
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread of the signals ends this process.
fn wait_for_signal() -> ! {
    loop {
        std::thread::park();
    }
}
