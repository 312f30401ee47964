//! `mallee-cc`: the Cluster Controller.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXAMPLES: &str = "Examples:
  mallee-cc join --token TOKEN       become the Cluster Controller of a zone
  mallee-cc                          run with /etc/mallee/cc.toml
  mallee-cc --check                  print the merged configuration
  mallee-cc --set schedule.policy=round-robin";

/// The Cluster Controller: nodes, scheduling, relaying.
#[derive(Parser)]
#[command(name = "mallee-cc", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(flatten)]
    daemon: daemon::start::Args,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Becomes part of a cloud; needs a token from `mallee-clc token --role cc --zone ZONE`
    #[command(after_help = "\
Example:
  mallee-cc join --token \"$(ssh cloud mallee-clc token --role cc --zone mallee-1a)\"
Looks at this host before and after; what would not work is said with its cause and what to do.")]
    Join {
        /// The token
        #[arg(long)]
        token: String,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Join { token }) => {
            daemon::start::command(&arguments.daemon, async |config| {
                cc::run::join(config, &token).await
            })
        }
        None => daemon::start::start(&arguments.daemon, env!("CARGO_PKG_VERSION"), cc::run::run),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn every_command_has_an_example() {
        let command = super::Arguments::command();
        assert_eq!(daemon::start::without_example(&command), [""; 0]);
    }
}
