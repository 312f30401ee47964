//! The shape of a daemon's `main`: arguments → configuration → trace → run → drain → exit code.
//!
//! Exit codes: 0 stopped as asked; 1 failed, or did not stop in time; 64 the command line or the
//! configuration is wrong (EX_USAGE of sysexits).

use std::{future::Future, path::PathBuf, process::ExitCode, time::Duration};

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    BoxError, Context, admin, chain,
    config::{self, Settings, Sources},
    files, trace,
};

/// The command line or the configuration is wrong.
pub const EXIT_USAGE: u8 = 64;
/// Requests in progress get this long to finish; systemd's own limit (90 s) is well above.
const DRAIN: Duration = Duration::from_secs(30);

/// The options that every daemon has. Flatten it into the daemon's own parser.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// The configuration file [default: /etc/mallee/NAME.toml, if it is there]
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Where durable state is, instead of what the configuration says
    #[arg(long, value_name = "DIR", global = true)]
    pub state: Option<PathBuf>,
    /// What is logged: "debug", "info,clc::api=debug"
    #[arg(long, value_name = "FILTER", global = true)]
    pub log: Option<String>,
    /// Overrides one key of the configuration, as in --set api.listen=0.0.0.0:8773
    #[arg(long = "set", value_name = "KEY=VALUE", global = true)]
    pub sets: Vec<String>,
    /// Print the merged configuration, secrets masked, and exit: 0 if it is right, 64 if not
    #[arg(long)]
    pub check: bool,
}

impl Args {
    /// Reads the configuration that these arguments ask for.
    pub fn load<S: Settings>(&self) -> Result<S, config::Error> {
        let default = Sources::default_file(S::NAME);
        let mut sets = self.sets.clone();
        sets.extend(
            self.state
                .as_ref()
                .map(|state| format!("state_dir={}", state.display())),
        );
        sets.extend(self.log.as_ref().map(|log| format!("log.filter={log}")));
        config::load(&Sources {
            file: self
                .config
                .clone()
                .or_else(|| default.exists().then_some(default)),
            env: Sources::environment(S::NAME),
            sets,
        })
    }
}

/// The commands whose help shows no example, by name, but for hidden ones; a test of each program holds that there is none.
pub fn without_example(command: &clap::Command) -> Vec<String> {
    let has_example = command
        .get_after_help()
        .is_some_and(|help| help.to_string().contains("Example"));
    let mut without = Vec::new();
    if !has_example && !command.has_subcommands() && !command.is_hide_set() {
        without.push(command.get_name().to_owned());
    }
    for inner in command.get_subcommands() {
        let names = without_example(inner).into_iter();
        without.extend(names.map(|name| format!("{} {name}", command.get_name())));
    }
    without
}

/// Runs a daemon to its end. `run` opens what it needs, starts its tasks on the context and
/// returns; from then on the daemon is up (`READY=1`) until a signal or a failed task.
pub fn start<S: Settings, E: Into<BoxError>>(
    args: &Args,
    version: &str,
    run: impl AsyncFnOnce(S, Context) -> Result<(), E>,
) -> ExitCode {
    let settings = match args.load::<S>() {
        Ok(settings) => settings,
        Err(error) => return wrong_usage::<S>(&error),
    };
    if args.check {
        print!("{}", config::show(&settings));
        return ExitCode::SUCCESS;
    }
    in_runtime::<S, BoxError>(settings, async move |settings| {
        let context = Context::new(S::NAME, version, settings.state_dir());
        let listen = settings.admin().listen;
        up(&context, version, listen, run(settings, context.clone())).await
    })
}

/// Runs one command of a daemon (`init`, `join`, `token`) with its configuration, as the user whose
/// state it is.
pub fn command<S: Settings, E: Into<BoxError>>(
    args: &Args,
    run: impl AsyncFnOnce(S) -> Result<(), E>,
) -> ExitCode {
    let settings = match args.load::<S>() {
        Ok(settings) => settings,
        Err(error) => return wrong_usage::<S>(&error),
    };
    if let Err(error) = files::act_as_owner_of(settings.state_dir()) {
        eprintln!("mallee-{}: {}", S::NAME, chain(&error));
        return ExitCode::FAILURE;
    }
    in_runtime(settings, run)
}

fn wrong_usage<S: Settings>(error: &config::Error) -> ExitCode {
    eprintln!("mallee-{}: {}", S::NAME, chain(error));
    ExitCode::from(EXIT_USAGE)
}

fn in_runtime<S: Settings, E: Into<BoxError>>(
    settings: S,
    run: impl AsyncFnOnce(S) -> Result<(), E>,
) -> ExitCode {
    let outcome = (|| -> Result<(), BoxError> {
        trace::init(&settings.log().filter, settings.log().format)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        let outcome = runtime.block_on(run(settings)).map_err(Into::into);
        // Blocking work (a slow disk) may still run; whoever waited for it is gone.
        runtime.shutdown_timeout(Duration::from_secs(1));
        outcome
    })();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mallee-{}: {}", S::NAME, chain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn up<E: Into<BoxError>>(
    context: &Context,
    version: &str,
    listen: std::net::SocketAddr,
    begin: impl Future<Output = Result<(), E>>,
) -> Result<(), BoxError> {
    files::make_dir(&context.state)?;
    let stopped_by_signal = stop_on_signal(context.cancel.clone())?;
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .map_err(|error| format!("admin.listen {listen}: {error}"))?;
    tracing::info!(version, admin = %listener.local_addr()?, state = %context.state.display(), "starting");
    // Before anybody can ask: without a condition yet, a daemon would be ready.
    let started = context.ready.condition("started");
    context.spawn("admin", admin::serve(context.clone(), listener));

    tokio::select! {
        begun = begin => {
            begun.map_err(Into::into)?;
            started.met();
        }
        () = context.cancel.cancelled() => {}
    }
    tracing::info!("up");
    tell_systemd(NotifyState::Ready);

    context.cancel.cancelled().await;
    tell_systemd(NotifyState::Stopping);
    tracing::info!("stopping");
    let drained = context.drain(DRAIN).await;
    stopped_by_signal.abort();
    drained.map_err(Into::into)
}

/// The first SIGTERM or SIGINT begins an orderly stop; the second ends the process at once.
fn stop_on_signal(cancel: CancellationToken) -> std::io::Result<tokio::task::JoinHandle<()>> {
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    Ok(tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        cancel.cancel();
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        std::process::exit(1);
    }))
}

/// Without systemd (`NOTIFY_SOCKET`) there is nobody to tell, which is no error.
fn tell_systemd(state: NotifyState) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd was not told");
    }
}
