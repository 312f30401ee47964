//! `mallee-nc`: the Node Controller.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXAMPLES: &str = "Examples:
  mallee-nc join --token TOKEN       look at this host, and become a node of a zone
  mallee-nc                          run with /etc/mallee/nc.toml
  mallee-nc --check                  print the merged configuration
  mallee-nc --set hypervisor.accelerator=tcg";

/// The Node Controller: image cache, disks, domains, taps, rules, metadata, console.
#[derive(Parser)]
#[command(name = "mallee-nc", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(flatten)]
    daemon: daemon::start::Args,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Becomes a node of a cloud; needs a token from `mallee-clc token --role nc --zone ZONE`
    #[command(after_help = "\
Example:
  mallee-nc join --token \"$(ssh cloud mallee-clc token --role nc --zone mallee-1a)\"
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
                nc::run::join(config, &token).await
            })
        }
        None => daemon::start::start(&arguments.daemon, env!("CARGO_PKG_VERSION"), nc::run::run),
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
