//! `mallee-walrus`: the object store's daemon, and its commands.

use std::{cell::RefCell, process::ExitCode};

use clap::{Parser, Subcommand};
use control::{
    Role,
    newcomer::{self, Plan},
};
use daemon::{BoxError, start::Args};
use indicatif::{ProgressBar, ProgressStyle};
use walrus::{
    config::Config,
    engine::{fsck, scrub},
};

const EXAMPLES: &str = "Examples:
  mallee-walrus                                   runs with /etc/mallee/walrus.toml
  mallee-walrus --check                           prints the merged configuration
  mallee-walrus join --token TOKEN                becomes part of a cloud (mallee-clc token --role walrus)
  mallee-walrus fsck                              checks every byte that is kept; Walrus must be stopped
  mallee-walrus scrub                             shows how far the background scrub is, and what it found";

/// The object store of a Mallee cloud: S3 on one listener, the cloud's own questions on another
#[derive(Parser)]
#[command(name = "mallee-walrus", version, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    args: Args,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Become part of a cloud
    #[command(after_help = "\
Example:
  mallee-walrus join --token \"$(ssh cloud mallee-clc token --role walrus)\"
Looks at this host before and after; what would not work is said with its cause and what to do.")]
    Join {
        /// What `mallee-clc token --role walrus` printed
        #[arg(long)]
        token: String,
    },
    /// Read and check all that is kept, and make the index anew
    #[command(after_help = "\
Example:
  systemctl stop mallee-walrus && mallee-walrus fsck && systemctl start mallee-walrus
Exits 0 if every byte is right, 1 if something is damaged.")]
    Fsck {
        /// Give up what damaged places of the journal said, where no backup has it: the next start
        /// deletes files that nothing names, and compaction goes on
        #[arg(long)]
        give_up: bool,
    },
    /// Show how far the background scrub is, and what it found
    #[command(after_help = "\
Example:
  mallee-walrus scrub
Exits 0 if it found no damage, 1 if it did. Walrus may run.")]
    Scrub,
}

fn main() -> ExitCode {
    let Cli { args, command } = Cli::parse();
    match command {
        None => daemon::start(&args, env!("CARGO_PKG_VERSION"), walrus::run),
        Some(Command::Join { token }) => {
            daemon::start::command(&args, async move |config| join(config, &token).await)
        }
        Some(Command::Scrub) => {
            daemon::start::command(&args, async |config: Config| show_scrub(&config))
        }
        Some(Command::Fsck { give_up }) => {
            daemon::start::command(&args, async move |config| check(&config, give_up))
        }
    }
}

async fn join(config: Config, token: &str) -> Result<(), BoxError> {
    let plan = Plan {
        role: Role::Walrus,
        serves: config.control_address(),
        listens: vec![config.s3.listen, config.admin.listen],
        state: config.state_dir,
        pool: None,
        node: None,
    };
    Ok(newcomer::become_member(&plan, token).await?)
}

fn show_scrub(config: &Config) -> Result<(), BoxError> {
    let progress = scrub::Progress::read(&config.places().folder);
    println!("passes    {}", progress.passes);
    if let Some(ended) = progress.ended {
        println!("the last  ended {ended}");
    }
    println!("reading   {}", progress.place());
    println!(
        "so far    {} bytes since {}",
        progress.bytes, progress.began
    );
    damage_is_none(&progress.damage())
}

/// A bar for each work, where there is a terminal to show it on.
#[derive(Default)]
struct Bars(RefCell<Option<(&'static str, ProgressBar)>>);

impl Bars {
    fn tell(&self) -> impl Fn(&'static str, u64, u64) {
        move |what, done, of| {
            let mut shown = self.0.borrow_mut();
            if shown.as_ref().is_none_or(|(name, _)| *name != what) {
                let style = ProgressStyle::with_template("{prefix:9} {bar:30} {percent} % {eta}");
                let style = style.expect("the template is ours");
                *shown = Some((
                    what,
                    ProgressBar::new(of).with_prefix(what).with_style(style),
                ));
            }
            if let Some((_, bar)) = shown.as_ref() {
                bar.set_position(done);
            }
        }
    }
}

fn damage_is_none(damage: &[String]) -> Result<(), BoxError> {
    damage.iter().for_each(|line| println!("DAMAGE    {line}"));
    match damage.len() {
        0 => Ok(()),
        count => Err(format!("{count} places are damaged").into()),
    }
}

fn check(config: &Config, give_up: bool) -> Result<(), BoxError> {
    if give_up {
        fsck::give_up(&config.places())?;
    }
    let bars = Bars::default();
    let report = fsck::check(&config.places(), &bars.tell())?;
    println!("buckets   {}", report.totals.buckets);
    println!(
        "objects   {} ({} bytes)",
        report.totals.objects, report.totals.bytes
    );
    println!("frames    {} in the journal", report.frames);
    println!(
        "files     {} ({} bytes read and right)",
        report.blobs, report.blob_bytes
    );
    println!(
        "orphans   {} (the next start deletes them, unless the journal is damaged)",
        report.orphans
    );
    for line in &report.given_up {
        println!("GIVEN UP  {line}");
    }
    damage_is_none(&report.damage)
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
