//! `mallee-clc`: the Cloud Controller, and the commands that make a cloud.

use std::{fmt::Write, process::ExitCode};

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use clc::{
    MIGRATIONS,
    config::Config,
    control::{Refused, join},
    init::{self, Choices, Credentials, Places},
};
use daemon::{
    clock::SystemClock,
    start::Args,
    tls::{Authority, Role},
};
use types::{Region, Timestamp, Zone};

const EXAMPLES: &str = "Examples:
  mallee-clc init                              make a cloud in the state folder
  mallee-clc token --role nc --zone mallee-1a  invite a node; `mallee-nc join --token ...` takes it
  mallee-clc --config ./clc.toml --check       show what would be used
  mallee-clc                                   run";

/// The Cloud Controller of Mallee: EC2, IAM and STS at the edge, the record of intent.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    args: Args,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Make the cloud: authority, keys, first account. Safe to run again; prints the same each time
    #[command(after_help = "\
Examples:
  mallee-clc init
  mallee-clc init --region lab-1 --zone lab-1a --account physics --output json > credentials.json")]
    Init {
        /// The region; fixed for the life of the cloud
        #[arg(long)]
        region: Option<Region>,
        /// The first zone [default: the region's name and "a"]
        #[arg(long)]
        zone: Option<Zone>,
        /// The name of the first account
        #[arg(long, default_value = "admin")]
        account: String,
        /// How to print the credentials
        #[arg(long, default_value = "text")]
        output: Output,
    },
    /// Print a one-time token with which a daemon or an administrator joins
    #[command(after_help = "\
Examples:
  mallee-clc token --role nc --zone mallee-1a
  mallee-clc token --role walrus --valid-hours 1
The daemon's host takes it: mallee-nc join --token TOKEN. A token holds once.")]
    Token {
        /// What joins: cc, nc, sc, walrus, admin
        #[arg(long)]
        role: Role,
        /// Its zone, for cc, nc and sc; a cc may bring a new one
        #[arg(long)]
        zone: Option<Zone>,
        /// How long the token holds
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=168))]
        valid_hours: u64,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Json,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        None => daemon::start(&cli.args, env!("CARGO_PKG_VERSION"), clc::serve),
        Some(Command::Init {
            region,
            zone,
            account,
            output,
        }) => {
            let region = region.unwrap_or_else(Region::first);
            let zone = zone.unwrap_or_else(|| region.first_zone());
            let choices = Choices {
                region,
                zone,
                account_name: account,
            };
            daemon::start::command(&cli.args, async |config| {
                init(&config, &choices, output).await
            })
        }
        Some(Command::Token {
            role,
            zone,
            valid_hours,
        }) => {
            let ask = control::cloud::TokenAsk {
                role,
                zone,
                valid_ms: valid_hours * 3_600_000,
            };
            daemon::start::command(&cli.args, async |config| token(&config, ask).await)
        }
    }
}

async fn init(config: &Config, choices: &Choices, output: Output) -> anyhow::Result<()> {
    let made = init::init(config, choices)
        .await
        .map_err(anyhow::Error::from_boxed)?;
    match output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&made)?),
        Output::Text => print!("{}", as_text(config, &made)),
    }
    Ok(())
}

fn as_text(config: &Config, made: &Credentials) -> String {
    let mut text = String::new();
    for (name, value) in [
        ("region", made.region.as_str()),
        ("zone", made.zone.as_str()),
        ("account", made.account_id.as_str()),
        ("access key", made.access_key_id.as_str()),
        ("secret key", made.secret_access_key.reveal()),
        ("endpoint", &config.public_url()),
        (
            "credentials",
            &Places::of(config).credentials().display().to_string(),
        ),
    ] {
        let _never_fails = writeln!(text, "{name:<12} {value}");
    }
    text + "\nBack up the state folder: who loses image-key.pem loses every bundle.\n"
}

/// Works beside a running daemon: SQLite lets the two take turns.
async fn token(config: &Config, ask: control::cloud::TokenAsk) -> anyhow::Result<()> {
    let places = Places::of(config);
    let authority =
        Authority::load(places.ca()).context("no cloud here: `mallee-clc init` first")?;
    let db = store::Db::open(places.database(), MIGRATIONS)?;
    let made = join::Made {
        authority: authority.fingerprint(),
        clc: config.advertised(),
        now: Timestamp(SystemClock::shared().now_ms()),
    };
    let token = db
        .write(move |tx| join::make_token(tx, &made, &ask).map_err(Refused))
        .await
        .map_err(|refused| refused.0)?;
    println!("{}", token.reveal());
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn every_command_has_an_example() {
        let command = super::Cli::command();
        assert_eq!(daemon::start::without_example(&command), [""; 0]);
    }
}
