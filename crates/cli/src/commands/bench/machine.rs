//! A QEMU with the disks that are compared, and what the guest in it is told and says.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use daemon::run::Tool;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::{sleep, timeout},
};

use super::{guest::Guest, job::Job};
use crate::{Failure, args::DiskCache};

/// A guest that is emulated on a busy machine is up in a minute.
const BOOT_LIMIT: Duration = Duration::from_secs(180);
/// QEMU makes its socket in milliseconds; what hinders it, it says itself.
const SOCKET_LIMIT: Duration = Duration::from_secs(30);
/// Sixteen writes of 64 MiB on a disk that does 5 MB/s.
const STEP_LIMIT: Duration = Duration::from_secs(300);
/// A whole comparison.
const RUN_LIMIT: Duration = Duration::from_secs(24 * 3600);
const MEMORY_MIB: &str = "768";
/// The console; no mitigations, and no checks of an emulated clock.
const CMDLINE: &str =
    "rdinit=/init console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable no_timer_check";

/// A disk of the guest.
pub(super) struct Drive {
    /// Its file.
    pub(super) file: PathBuf,
    /// `raw` or `qcow2`.
    pub(super) format: &'static str,
    /// Where QEMU logs what reaches the file, if it is to.
    pub(super) log: Option<PathBuf>,
}

impl DiskCache {
    /// As QEMU's block layer has it.
    fn options(self) -> serde_json::Value {
        json!({ "direct": self == Self::None, "no-flush": self == Self::Unsafe })
    }
}

/// A machine, being described.
pub(super) struct Machine<'a> {
    pub(super) emulator: &'a Path,
    pub(super) guest: &'a Guest,
    pub(super) drives: &'a [Drive],
    pub(super) cache: DiskCache,
    /// A folder for its socket and its console.
    pub(super) dir: &'a Path,
}

impl Machine<'_> {
    /// Runs it for as long as the work in it takes.
    pub(super) async fn run<T>(
        &self,
        work: impl AsyncFnOnce(&mut Writer) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let socket = self.dir.join("guest.sock");
        let _left_over = std::fs::remove_file(&socket);
        let qemu = self.tool(&socket).timeout(RUN_LIMIT);
        let work = async {
            let mut writer = Writer::meet(&socket).await?;
            work(&mut writer).await
        };
        qemu.during(work).await.unwrap_or_else(|ended| {
            let why = ended
                .err()
                .map_or("it ended by itself".to_owned(), |e| e.to_string());
            Err(Failure::failed(
                "QEMU",
                format!("{why}{}", self.last_words()),
            ))
        })
    }

    fn tool(&self, socket: &Path) -> Tool {
        let accel = if daemon::examine::host_has_kvm() {
            "kvm"
        } else {
            "tcg"
        };
        let mut tool = Tool::new(self.emulator)
            .args(["-machine", &format!("pc,accel={accel}"), "-cpu", "max"])
            .args(["-m", MEMORY_MIB, "-nodefaults", "-no-reboot"])
            .args(["-display", "none", "-append", CMDLINE])
            .arg("-kernel")
            .arg(&self.guest.kernel)
            .arg("-initrd")
            .arg(&self.guest.ramdisk)
            .arg("-serial")
            .arg(format!("file:{}", self.console().display()))
            .arg("-chardev")
            .arg(format!(
                "socket,id=writer,server=on,wait=off,path={}",
                socket.display()
            ))
            .args(["-serial", "chardev:writer"]);
        for (n, drive) in self.drives.iter().enumerate() {
            for node in self.nodes(n, drive) {
                tool = tool.args(["-blockdev", &node.to_string()]);
            }
            // A queue in which a write of 1 MiB is one request, however its memory lies.
            let device = format!("virtio-blk-pci,drive=disk{n},queue-size=1024");
            tool = tool.args(["-device", &device]);
        }
        tool
    }

    /// A disk's format over its file, the log between them.
    fn nodes(&self, n: usize, drive: &Drive) -> Vec<serde_json::Value> {
        let cache = self.cache.options();
        let file = json!({
            "driver": "file", "node-name": format!("file{n}"), "filename": drive.file,
            "cache": cache, "discard": "unmap",
        });
        let mut nodes = vec![file];
        let mut below = format!("file{n}");
        if let Some(log) = &drive.log {
            // What is logged is written twice; the log itself need not survive anything.
            nodes.push(json!({
                "driver": "file", "node-name": format!("log{n}"), "filename": log,
                "cache": { "direct": false, "no-flush": true },
            }));
            let logged = format!("logged{n}");
            nodes.push(json!({
                "driver": "blklogwrites", "node-name": logged,
                "file": below, "log": format!("log{n}"), "cache": cache,
                // Counted without a flush as well: there are none with cache=unsafe.
                "log-super-update-interval": 1,
            }));
            below = logged;
        }
        nodes.push(json!({
            "driver": drive.format, "node-name": format!("disk{n}"), "file": below,
            "cache": cache, "discard": "unmap",
        }));
        nodes
    }

    fn console(&self) -> PathBuf {
        self.dir.join("console")
    }

    fn last_words(&self) -> String {
        let said = std::fs::read(self.console()).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        match said.trim() {
            "" => String::new(),
            said => format!("; its console:\n{said}"),
        }
    }
}

/// The program in the guest, as it is spoken to.
pub(super) struct Writer {
    lines: Lines<BufReader<OwnedReadHalf>>,
    port: OwnedWriteHalf,
}

impl Writer {
    async fn meet(socket: &Path) -> Result<Self, Failure> {
        let connecting = async {
            loop {
                match UnixStream::connect(socket).await {
                    Ok(stream) => return stream,
                    Err(_) => sleep(Duration::from_millis(20)).await,
                }
            }
        };
        let connected = timeout(SOCKET_LIMIT, connecting).await;
        let (read, port) = connected.map_err(|_| lost("no answer"))?.into_split();
        let lines = BufReader::new(read).lines();
        let mut writer = Self { lines, port };
        match writer.hear(BOOT_LIMIT).await?.as_str() {
            "ready" => Ok(writer),
            other => Err(lost(&format!("it said {other:?}"))),
        }
    }

    async fn hear(&mut self, limit: Duration) -> Result<String, Failure> {
        let line = timeout(limit, self.lines.next_line()).await;
        match line {
            Ok(Ok(Some(line))) => Ok(line),
            Ok(Ok(None)) => Err(lost("it hung up")),
            Ok(Err(error)) => Err(lost(&error.to_string())),
            Err(_) => Err(lost(&format!("no word in {} s", limit.as_secs()))),
        }
    }

    /// Has the guest write, and tells how long that took by the guest's clock.
    pub(super) async fn write(
        &mut self,
        job: Job,
        mut step: impl FnMut(),
    ) -> Result<Duration, Failure> {
        let order = format!("{job}\n");
        let sent = self.port.write_all(order.as_bytes()).await;
        sent.map_err(|error| lost(&error.to_string()))?;
        loop {
            let line = self.hear(STEP_LIMIT).await?;
            match line.split_once(' ').unwrap_or((&line, "")) {
                ("step", _) => step(),
                ("took", nanos) => {
                    let nanos = nanos.parse().map_err(|_| lost(&line))?;
                    return Ok(Duration::from_nanos(nanos));
                }
                _ => return Err(lost(&line)),
            }
        }
    }
}

fn lost(why: &str) -> Failure {
    Failure::failed("the guest", why)
}
