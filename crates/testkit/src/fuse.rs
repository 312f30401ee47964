//! A file system as clusters have them: it passes everything through to a folder, but maps no file
//! into memory, clones nothing, knows no holes, and locks nothing that another host would see. If
//! asked, it has no hard links either, or hangs like a server that is away.
//!
//! A test that has it hang has it served by a process of its own, as the Node Controller's example
//! `shared_fs` does: one that was killed while its own threads served what its own threads waited for
//! could never end.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a lock is poisoned when a test has failed already, and a file's times are the machine's"
)]

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request,
    TimeOrNow, WriteFlags,
};
/// Nothing is remembered by the kernel, so that every call comes here.
const TTL: Duration = Duration::ZERO;

/// Closed, it lets no call pass.
#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self) {
        let closed = self.closed.lock().unwrap();
        drop(self.opened.wait_while(closed, |closed| *closed).unwrap());
    }

    fn set(&self, closed: bool) {
        *self.closed.lock().unwrap() = closed;
        self.opened.notify_all();
    }
}

/// The gate of a mounted file system, by which it is made to hang. For the process that serves it.
pub struct Serving {
    gate: Arc<Gate>,
    mountpoint: PathBuf,
    _session: BackgroundSession,
}

impl Serving {
    /// Mounts one there that passes through to `behind`.
    pub fn mount(behind: &Path, mountpoint: &Path, has_links: bool) -> io::Result<Self> {
        let gate = Arc::new(Gate::default());
        let passing = Passing {
            root: behind.to_owned(),
            has_links,
            gate: gate.clone(),
            paths: Mutex::default(),
            handles: Mutex::default(),
            next: AtomicU64::new(1),
        };
        let mut config = Config::default();
        // As many as a hung server may keep busy, and some for those who ask it again.
        config.n_threads = Some(16);
        Ok(Self {
            gate,
            mountpoint: mountpoint.to_owned(),
            _session: fuser::spawn_mount2(passing, mountpoint, &config)?,
        })
    }

    /// From now on every call hangs.
    pub fn hang(&self) {
        self.gate.set(true);
    }

    /// All that hung goes on.
    pub fn go_on(&self) {
        self.gate.set(false);
    }

    /// Takes the mount away, without waiting for anybody. What still hangs in it fails when this
    /// process ends.
    pub fn unmount(&self) {
        let flags = nix::mount::MntFlags::MNT_DETACH;
        let _ended = nix::mount::umount2(&self.mountpoint, flags);
    }
}

struct Passing {
    root: PathBuf,
    has_links: bool,
    gate: Arc<Gate>,
    paths: Mutex<HashMap<u64, PathBuf>>,
    handles: Mutex<HashMap<u64, Arc<File>>>,
    next: AtomicU64,
}

type Answer<T> = Result<T, Errno>;

fn errno(error: io::Error) -> Errno {
    Errno::from_i32(error.raw_os_error().unwrap_or(libc::EIO))
}

impl Passing {
    fn path(&self, ino: INodeNo) -> Answer<PathBuf> {
        if ino == INodeNo::ROOT {
            return Ok(self.root.clone());
        }
        let paths = self.paths.lock().unwrap();
        paths.get(&u64::from(ino)).cloned().ok_or(Errno::ENOENT)
    }

    fn child(&self, parent: INodeNo, name: &OsStr) -> Answer<PathBuf> {
        Ok(self.path(parent)?.join(name))
    }

    fn attr_of(&self, metadata: &fs::Metadata) -> FileAttr {
        let kind = FileType::from_std(metadata.file_type()).unwrap_or(FileType::RegularFile);
        let is_root = fs::metadata(&self.root).is_ok_and(|root| root.ino() == metadata.ino());
        FileAttr {
            ino: if is_root {
                INodeNo::ROOT
            } else {
                INodeNo(metadata.ino())
            },
            size: metadata.len(),
            blocks: metadata.blocks(),
            atime: metadata.accessed().unwrap_or(SystemTime::UNIX_EPOCH),
            mtime: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            ctime: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            crtime: SystemTime::UNIX_EPOCH,
            kind,
            perm: (metadata.mode() & 0o7777) as u16,
            nlink: metadata.nlink() as u32,
            uid: metadata.uid(),
            gid: metadata.gid(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    /// What is at a path, known by its inode from now on.
    fn entry(&self, path: PathBuf) -> Answer<FileAttr> {
        let metadata = fs::symlink_metadata(&path).map_err(errno)?;
        self.paths.lock().unwrap().insert(metadata.ino(), path);
        Ok(self.attr_of(&metadata))
    }

    fn handle(&self, fh: FileHandle) -> Answer<Arc<File>> {
        let handles = self.handles.lock().unwrap();
        handles.get(&u64::from(fh)).cloned().ok_or(Errno::EBADF)
    }

    fn keep(&self, file: File) -> FileHandle {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        self.handles.lock().unwrap().insert(number, Arc::new(file));
        FileHandle(number)
    }

    /// An open file of that inode, or one opened by its path: its name may be gone.
    fn file(&self, ino: INodeNo, fh: Option<FileHandle>) -> Answer<Arc<File>> {
        if let Some(fh) = fh {
            return self.handle(fh);
        }
        let open = self.handles.lock().unwrap();
        let is_it = |file: &&Arc<File>| {
            file.metadata()
                .is_ok_and(|found| found.ino() == u64::from(ino))
        };
        if let Some(file) = open.values().find(is_it) {
            return Ok(file.clone());
        }
        drop(open);
        File::open(self.path(ino)?).map(Arc::new).map_err(errno)
    }

    fn set(
        &self,
        ino: INodeNo,
        fh: Option<FileHandle>,
        (mode, size): (Option<u32>, Option<u64>),
        (atime, mtime): (Option<TimeOrNow>, Option<TimeOrNow>),
    ) -> Answer<FileAttr> {
        let file = self.file(ino, fh)?;
        if let Some(size) = size {
            match fh {
                Some(_) => file.set_len(size),
                None => OpenOptions::new()
                    .write(true)
                    .open(self.path(ino)?)
                    .and_then(|file| file.set_len(size)),
            }
            .map_err(errno)?;
        }
        if let Some(mode) = mode {
            let permissions = fs::Permissions::from_mode(mode & 0o7777);
            file.set_permissions(permissions).map_err(errno)?;
        }
        let time = |time: TimeOrNow| match time {
            TimeOrNow::SpecificTime(time) => time,
            TimeOrNow::Now => SystemTime::now(),
        };
        let mut times = fs::FileTimes::new();
        if let Some(atime) = atime {
            times = times.set_accessed(time(atime));
        }
        if let Some(mtime) = mtime {
            times = times.set_modified(time(mtime));
        }
        file.set_times(times).map_err(errno)?;
        Ok(self.attr_of(&file.metadata().map_err(errno)?))
    }

    fn rename_to(&self, from: PathBuf, to: PathBuf, flags: RenameFlags) -> Answer<()> {
        // Network file systems know none of them.
        if !flags.is_empty() {
            return Err(Errno::EINVAL);
        }
        fs::rename(&from, &to).map_err(errno)?;
        self.entry(to).map(drop)
    }

    fn link_to(&self, ino: INodeNo, to: PathBuf) -> Answer<FileAttr> {
        if !self.has_links {
            return Err(Errno::EPERM);
        }
        fs::hard_link(self.path(ino)?, &to).map_err(errno)?;
        self.entry(to)
    }

    fn list(&self, ino: INodeNo) -> Answer<Vec<(INodeNo, FileType, std::ffi::OsString)>> {
        let mut found = vec![
            (ino, FileType::Directory, ".".into()),
            (ino, FileType::Directory, "..".into()),
        ];
        for entry in fs::read_dir(self.path(ino)?).map_err(errno)? {
            let entry = entry.map_err(errno)?;
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            let attr = self.attr_of(&metadata);
            found.push((attr.ino, attr.kind, entry.file_name()));
        }
        Ok(found)
    }
}

macro_rules! answer {
    ($reply:ident, $outcome:expr, $value:pat => $good:expr) => {
        match $outcome {
            Ok($value) => $good,
            Err(error) => $reply.error(error),
        }
    };
}

impl Filesystem for Passing {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.gate.pass();
        let found = self.child(parent, name).and_then(|path| self.entry(path));
        answer!(reply, found, attr => reply.entry(&TTL, &attr, Generation(0)));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        self.gate.pass();
        let by_path = || {
            let metadata = fs::symlink_metadata(self.path(ino)?).map_err(errno)?;
            Ok(self.attr_of(&metadata))
        };
        let found = by_path().or_else(|_: Errno| {
            let metadata = self.file(ino, fh)?.metadata().map_err(errno)?;
            Ok(self.attr_of(&metadata))
        });
        answer!(reply, found, attr => reply.attr(&TTL, &attr));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        fh: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.gate.pass();
        let set = self.set(ino, fh, (mode, size), (atime, mtime));
        answer!(reply, set, attr => reply.attr(&TTL, &attr));
    }

    fn mkdir(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        self.gate.pass();
        let made = self.child(parent, name).and_then(|path| {
            let mut maker = fs::DirBuilder::new();
            maker.mode(mode).create(&path).map_err(errno)?;
            self.entry(path)
        });
        answer!(reply, made, attr => reply.entry(&TTL, &attr, Generation(0)));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.gate.pass();
        let gone = self.child(parent, name);
        let gone = gone.and_then(|path| fs::remove_file(path).map_err(errno));
        answer!(reply, gone, () => reply.ok());
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.gate.pass();
        let gone = self.child(parent, name);
        let gone = gone.and_then(|path| fs::remove_dir(path).map_err(errno));
        answer!(reply, gone, () => reply.ok());
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        self.gate.pass();
        let renamed = self.child(parent, name).and_then(|from| {
            let to = self.child(new_parent, new_name)?;
            self.rename_to(from, to, flags)
        });
        answer!(reply, renamed, () => reply.ok());
    }

    fn link(
        &self,
        _: &Request,
        ino: INodeNo,
        new_parent: INodeNo,
        new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        self.gate.pass();
        let linked = self
            .child(new_parent, new_name)
            .and_then(|to| self.link_to(ino, to));
        answer!(reply, linked, attr => reply.entry(&TTL, &attr, Generation(0)));
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.gate.pass();
        let writes = flags.0 & libc::O_ACCMODE != libc::O_RDONLY;
        let opened = self.path(ino).and_then(|path| {
            let mut options = OpenOptions::new();
            options
                .read(true)
                .write(writes)
                .truncate(flags.0 & libc::O_TRUNC != 0);
            options.open(path).map_err(errno)
        });
        // Direct: no page of it can be shared by a mapping.
        let direct = FopenFlags::FOPEN_DIRECT_IO;
        answer!(reply, opened, file => reply.opened(self.keep(file), direct));
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        self.gate.pass();
        let made = self.child(parent, name).and_then(|path| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).mode(mode);
            options.truncate(flags & libc::O_TRUNC != 0);
            options.create_new(flags & libc::O_EXCL != 0);
            let file = options.open(&path).map_err(errno)?;
            Ok((self.entry(path)?, file))
        });
        let direct = FopenFlags::FOPEN_DIRECT_IO;
        answer!(reply, made, (attr, file) => {
            reply.created(&TTL, &attr, Generation(0), self.keep(file), direct);
        });
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.gate.pass();
        let read = self.handle(fh).and_then(|file| {
            let (mut bytes, mut done) = (vec![0; size as usize], 0);
            while done < bytes.len() {
                let count = file.read_at(&mut bytes[done..], offset + done as u64);
                match count.map_err(errno)? {
                    0 => break,
                    count => done += count,
                }
            }
            bytes.truncate(done);
            Ok(bytes)
        });
        answer!(reply, read, bytes => reply.data(&bytes));
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.gate.pass();
        let file = self.handle(fh);
        let written = file.and_then(|file| file.write_all_at(data, offset).map_err(errno));
        answer!(reply, written, () => reply.written(data.len() as u32));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        self.gate.pass();
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.handles.lock().unwrap().remove(&u64::from(fh));
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, fh: FileHandle, _: bool, reply: ReplyEmpty) {
        self.gate.pass();
        let synced = self.handle(fh);
        let synced = synced.and_then(|file| file.sync_all().map_err(errno));
        answer!(reply, synced, () => reply.ok());
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.gate.pass();
        reply.ok();
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        self.gate.pass();
        let listed = self.list(ino);
        answer!(reply, listed, entries => {
            for (index, (ino, kind, name)) in entries.into_iter().enumerate().skip(offset as usize) {
                if reply.add(ino, index as u64 + 1, kind, name) {
                    break;
                }
            }
            reply.ok();
        });
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        self.gate.pass();
        let found = nix::sys::statvfs::statvfs(&self.root).map_err(|_| Errno::EIO);
        answer!(reply, found, found => reply.statfs(
            found.blocks(), found.blocks_free(), found.blocks_available(), found.files(),
            found.files_free(), found.block_size() as u32, 255, found.fragment_size() as u32,
        ));
    }
}
