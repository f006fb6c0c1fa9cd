//! The command line, one file a subcommand.
//!
//! Exit codes: 0 it went well, 1 a check failed, 2 the command line is wrong, 3 it failed while running.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

mod bots;
mod check;
mod data;
mod draw;
mod evaluate;
mod evaluate_bots;
mod explain;
mod journal;
mod judged;
mod keys;
mod page;
mod schema;
mod serve;
mod train;
mod train_bots;
#[cfg(feature = "train")]
mod training;
mod try_model;
mod upstream;

/// A gate for flash sales, put in front of the shop that already exists.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version = env!("TIDEGATE_VERSION"), about = "A gate for flash sales, put in front of the shop that already exists.", arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tidegate serve --upstream http://127.0.0.1:3000        in front of a shop, with sane defaults
  tidegate serve --policy drop-day.yaml                  as the policy says
  tidegate check drop-day.yaml                           before it is used
  tidegate explain drop-day.yaml                         in plain words
  tidegate draw verify transcript.json                   was the draw right?
  tidegate data describe access.log                      what your traffic is like
  tidegate evaluate forecast access.log                  how well it can be forecast
  tidegate evaluate bots builtin access.log              how well programs are told from people

Exit codes: 0 it went well, 1 a check failed, 2 the command line is wrong, 3 it failed while running.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Stands in front of a shop.
    Serve(serve::Serve),
    /// Says everything that is wrong with a policy.
    Check(check::Check),
    /// Says in plain words what a policy does.
    Explain(explain::Explain),
    /// Prints the JSON Schema of the policy, for editors.
    Schema(schema::Schema),
    /// Draws by hand, verifies draws, proves receipts; offline.
    Draw(draw::Draw),
    /// Reads journals, access logs and CSV into series of counts, and says what they are like.
    Data(data::Data),
    /// Judges forecasts and bot models on your own data.
    Evaluate(evaluate::Evaluate),
    /// Trains models from your own data.
    Train(train::Train),
    /// Reads the journal of decisions.
    Journal(journal::Journal),
    /// Tries thresholds and models on the journal, explains decisions, keeps labels.
    Bots(bots::Bots),
    /// Looks after the signing keys.
    Keys(keys::Keys),
    /// Prints the shipped waiting page and its words, to start your own from.
    Page(page::Page),
    /// Prints the version.
    Version,
    /// Loads a model and scores one row; `check` and `serve` run it in a child process.
    #[command(hide = true)]
    TryModel(try_model::TryModel),
}

/// How a command ended, when not well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// A check failed: 1.
    Check,
    /// The command line is wrong: 2.
    Usage,
    /// It failed while running: 3.
    Runtime,
}

type Outcome = Result<(), Failure>;

impl Cli {
    /// Runs the command.
    pub fn run(self) -> ExitCode {
        let outcome = match self.command {
            Command::Serve(c) => c.run(),
            Command::Check(c) => c.run(),
            Command::Explain(c) => c.run(),
            Command::Schema(c) => c.run(),
            Command::Draw(c) => c.run(),
            Command::Data(c) => c.run(),
            Command::Evaluate(c) => c.run(),
            Command::Train(c) => c.run(),
            Command::Journal(c) => c.run(),
            Command::Bots(c) => c.run(),
            Command::Keys(c) => c.run(),
            Command::Page(c) => c.run(),
            Command::Version => say(&format!("tidegate {}", env!("TIDEGATE_VERSION"))),
            Command::TryModel(c) => c.run(),
        };
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(Failure::Check) => ExitCode::from(1),
            Err(Failure::Usage) => ExitCode::from(2),
            Err(Failure::Runtime) => ExitCode::from(3),
        }
    }
}

/// A line, or several, on standard output. A reader that went away (`| head`) is no error.
fn say(text: &str) -> Outcome {
    let mut out = io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    match write!(out, "{text}{end}").and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(fail(Failure::Runtime, &format!("cannot write: {e}"))),
        Err(_) => std::process::exit(0),
        Ok(()) => Ok(()),
    }
}

/// An error for people, on standard error.
fn fail(how: Failure, what: &str) -> Failure {
    let start = if what.starts_with("error") { "" } else { "error: " };
    let end = if what.ends_with('\n') { "" } else { "\n" };
    let _ = write!(io::stderr().lock(), "{start}{what}{end}");
    how
}

/// A word on standard error that is no error.
fn note(text: &str) {
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    let _ = write!(io::stderr().lock(), "{text}{end}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_every_command_shows_examples() {
        let mut command = Cli::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands_mut().filter(|s| !s.is_hide_set() && s.get_name() != "version") {
            let help = sub.render_long_help().to_string();
            assert!(help.contains("Examples:"), "{} has no examples", sub.get_name());
        }
    }
}
