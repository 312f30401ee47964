//! Named network namespaces, as `ip netns` keeps them: files below `/run/netns`, machine-wide.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    thread,
};

use nix::{
    sched::{CloneFlags, setns},
    sys::statfs::{NSFS_MAGIC, statfs},
};
use tokio::sync::oneshot;

use crate::names;

const FOLDER: &str = "/run/netns";

/// Where a namespace's file is.
pub fn path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

/// Whether there is a namespace behind the name. A file alone is what an interrupted
/// `ip netns add` leaves.
pub fn is_alive(name: &str) -> bool {
    statfs(&path(name)).is_ok_and(|found| found.filesystem_type() == NSFS_MAGIC)
}

/// The names that this prefix owns, dead ones included.
pub fn list(prefix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(FOLDER) else {
        return Vec::new();
    };
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter(|name| names::is_namespace_of(prefix, name))
        .collect();
    names.sort();
    names
}

/// Does something inside a namespace, on a thread of its own that ends with it. Sockets that are
/// made inside stay of that namespace wherever they are used.
pub async fn within<T: Send + 'static>(
    name: &str,
    act: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let file = File::open(path(name))?;
    let (done, wait) = oneshot::channel();
    thread::Builder::new()
        .name(format!("in-{name}"))
        .spawn(move || {
            let entered = setns(&file, CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
            // A caller that no longer waits has no use for the answer.
            let _ = done.send(entered.map(|()| act()));
        })?;
    wait.await
        .map_err(|_| io::Error::other("the thread inside the namespace panicked"))?
}

/// Sets kernel parameters inside a namespace, those only that differ. Gives their number.
pub async fn set_parameters(
    name: &str,
    parameters: &'static [(&'static str, &'static str)],
) -> io::Result<usize> {
    within(name, || write_parameters(parameters)).await?
}

/// Sets kernel parameters in the calling thread's namespace, those only that differ.
pub fn write_parameters(parameters: &[(&str, &str)]) -> io::Result<usize> {
    let mut changed = 0;
    for (name, value) in parameters {
        let path = Path::new("/proc/sys/net").join(name);
        if fs::read_to_string(&path)?.trim() != *value {
            fs::write(&path, value)?;
            changed += 1;
        }
    }
    Ok(changed)
}
