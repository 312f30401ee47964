//! `mallee`, the administrator's command: the state of the cloud, why an instance is what it is, its
//! console, a doctor, the invariants; images from a file to a registered id; what this host's disks do.
//!
//! It speaks to the cloud in two ways, and holds no state of its own:
//!
//! | way | for | by |
//! |---|---|---|
//! | [`admin`] | status, nodes, instances, explain, console, doctor, verify, accounts, s3 quota | the CLC's control port, with an administrator's certificate |
//! | [`object_store`] | s3 import, verify | any two S3 stores, with a key of each |
//! | [`public`] | image bundle, upload, register, install | the public S3 and EC2 API, with an access key |
//!
//! | module | holds |
//! |---|---|
//! | [`args`] | the command line: the one place that says what there is |
//! | [`failure`] | what goes wrong, and the exit code of each |
//! | [`output`] | tables for people, JSON for programs |
//! | [`neutral`] | a guest's output without what could command a terminal |
//! | `trust` | whom to believe at an https address |
//! | [`environment`] | the variables that EC2's clients have always read |
//! | [`commands`] | a file per command |

pub mod admin;
pub mod args;
pub mod commands;
pub mod environment;
pub mod failure;
pub mod neutral;
pub mod object_store;
pub mod output;
pub mod public;
mod trust;
mod xml;

pub use args::Args;
pub use failure::Failure;

/// Runs what the command line asks for.
pub async fn run(args: Args) -> Result<(), Failure> {
    use args::Command;

    let admin = &args.admin;
    let output = args.output;
    match args.command {
        Command::Status => commands::status::run(admin, output).await,
        Command::Nodes => commands::nodes::run(admin, output).await,
        Command::Instances => commands::instances::run(admin, output).await,
        Command::Explain(ask) => commands::explain::run(admin, output, ask).await,
        Command::Console(ask) => commands::console::run(admin, ask).await,
        Command::Doctor => commands::doctor::run(admin, output).await,
        Command::Verify => commands::verify::run(admin, output).await,
        Command::Account(ask) => commands::accounts::run(admin, output, ask).await,
        Command::Node(ask) => commands::nodes::change(admin, output, ask).await,
        Command::Bench(ask) => commands::bench::run(output, ask).await,
        Command::Image(ask) => commands::image::run(admin, output, ask).await,
        Command::S3(ask) => commands::s3::run(admin, output, ask).await,
    }
}
