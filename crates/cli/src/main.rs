//! `mallee`: see the library.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = cli::Args::try_parse().unwrap_or_else(|error| {
        // Help and version are no mistakes; everything else on the command line is.
        let code = if error.use_stderr() {
            cli::failure::USAGE
        } else {
            0
        };
        let _ = error.print();
        std::process::exit(i32::from(code));
    });
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("mallee: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(cli::run(args));
    // A console's reader may still wait for a key; nobody waits for it.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("mallee: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}
