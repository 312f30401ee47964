//! `mallee-sc`: the Storage Controller.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXAMPLES: &str = "Examples:
  mallee-sc join --token TOKEN       become the Storage Controller of a zone
  mallee-sc                          run with /etc/mallee/sc.toml
  mallee-sc --check                  print the merged configuration
  mallee-sc --set pool.dir=/srv/volumes";

/// The Storage Controller: volumes as sparse files.
#[derive(Parser)]
#[command(name = "mallee-sc", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(flatten)]
    daemon: daemon::start::Args,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Becomes part of a cloud; needs a token from `mallee-clc token --role sc --zone ZONE`
    #[command(after_help = "\
Example:
  mallee-sc join --token \"$(ssh cloud mallee-clc token --role sc --zone mallee-1a)\"
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
                sc::run::join(config, &token).await
            })
        }
        None => daemon::start::start(&arguments.daemon, env!("CARGO_PKG_VERSION"), sc::run::run),
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
