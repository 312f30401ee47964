//! The system calls of a jail: those that a program needs to read files, to write into its folder and
//! to start others. All others do not exist there, as far as it can tell (`ENOSYS`), so that C
//! libraries fall back to what there is. Above all there are no sockets, no mounts, no new namespaces,
//! no keys, no tracing, no `io_uring`, no `bpf`: most of where kernels have been broken out of.
//!
//! What is not named is refused, also what kernels to come will have.

use std::{collections::BTreeMap, env, sync::LazyLock};

use libc::{c_int, c_long};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// Files, as far as the mounts show them.
const FILES: &[c_long] = &[
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_copy_file_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    libc::SYS_fallocate,
    libc::SYS_fchdir,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_fgetxattr,
    libc::SYS_flistxattr,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getxattr,
    libc::SYS_chdir,
    libc::SYS_lgetxattr,
    libc::SYS_linkat,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_lseek,
    libc::SYS_mkdirat,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_pipe2,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_symlinkat,
    libc::SYS_sync_file_range,
    libc::SYS_truncate,
    libc::SYS_umask,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Memory, time, and waiting for either.
const MEMORY_AND_TIME: &[c_long] = &[
    libc::SYS_brk,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_futex,
    libc::SYS_get_robust_list,
    libc::SYS_getitimer,
    libc::SYS_getrandom,
    libc::SYS_gettimeofday,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mincore,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_msync,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_setitimer,
    libc::SYS_timer_create,
    libc::SYS_timer_delete,
    libc::SYS_timer_settime,
];

/// Processes of one's own, and becoming nobody.
const PROCESSES: &[c_long] = &[
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getgroups,
    libc::SYS_getpgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getpriority,
    libc::SYS_getresgid,
    libc::SYS_getresuid,
    libc::SYS_getrlimit,
    libc::SYS_getrusage,
    libc::SYS_getsid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_kill,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_tid_address,
    libc::SYS_setgid,
    libc::SYS_setgroups,
    libc::SYS_setpgid,
    libc::SYS_setpriority,
    libc::SYS_setregid,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_setreuid,
    libc::SYS_setsid,
    libc::SYS_setuid,
    libc::SYS_sigaltstack,
    libc::SYS_sysinfo,
    libc::SYS_tgkill,
    libc::SYS_times,
    libc::SYS_tkill,
    libc::SYS_uname,
    libc::SYS_wait4,
    libc::SYS_waitid,
];

/// What older processors' kernels have besides, for the same.
#[cfg(target_arch = "x86_64")]
const LEGACY: &[c_long] = &[
    libc::SYS_access,
    libc::SYS_alarm,
    libc::SYS_arch_prctl,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_creat,
    libc::SYS_dup2,
    libc::SYS_epoll_wait,
    libc::SYS_fork,
    libc::SYS_getdents,
    libc::SYS_getpgrp,
    libc::SYS_lchown,
    libc::SYS_link,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_open,
    libc::SYS_pause,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_rmdir,
    libc::SYS_select,
    libc::SYS_stat,
    libc::SYS_symlink,
    libc::SYS_time,
    libc::SYS_unlink,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_vfork,
];
#[cfg(not(target_arch = "x86_64"))]
const LEGACY: &[c_long] = &[];

/// What makes a new process one in a namespace of its own.
const NEW_NAMESPACES: c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP;

/// What types for the terminal that a jail was started from (CVE-2017-5226, CVE-2023-28100).
const TYPING: [u64; 2] = [libc::TIOCSTI, libc::TIOCLINUX];

/// The filter as bubblewrap reads it: the kernel's instructions, one behind the other.
pub(super) fn filter() -> &'static [u8] {
    static FILTER: LazyLock<Vec<u8>> = LazyLock::new(|| {
        // Of constants: a test makes it.
        let program = compiled().expect("a filter can be made of the list");
        let instruction = |one: &seccompiler::sock_filter| {
            let [code_low, code_high] = one.code.to_ne_bytes();
            let [a, b, c, d] = one.k.to_ne_bytes();
            [code_low, code_high, one.jt, one.jf, a, b, c, d]
        };
        program.iter().flat_map(instruction).collect()
    });
    &FILTER
}

fn compiled() -> Result<BpfProgram, seccompiler::BackendError> {
    let plain = [FILES, MEMORY_AND_TIME, PROCESSES, LEGACY].concat();
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        plain.into_iter().map(|call| (call, Vec::new())).collect();
    rules.insert(libc::SYS_clone, vec![without_namespaces()?]);
    rules.insert(libc::SYS_ioctl, vec![without_typing()?]);
    let arch = TargetArch::try_from(env::consts::ARCH)?;
    let (refuse, allow) = (
        SeccompAction::Errno(libc::ENOSYS.unsigned_abs()),
        SeccompAction::Allow,
    );
    SeccompFilter::new(rules, refuse, allow, arch)?.try_into()
}

/// Threads and processes, in the namespaces that there are. `clone3` cannot be looked into, and is
/// not there.
fn without_namespaces() -> Result<SeccompRule, seccompiler::BackendError> {
    let mask = SeccompCmpOp::MaskedEq(u64::from(NEW_NAMESPACES.unsigned_abs()));
    let none = SeccompCondition::new(0, SeccompCmpArgLen::Qword, mask, 0)?;
    SeccompRule::new(vec![none])
}

fn without_typing() -> Result<SeccompRule, seccompiler::BackendError> {
    let is_not =
        |request| SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, request);
    let conditions: Result<Vec<_>, _> = TYPING.into_iter().map(is_not).collect();
    SeccompRule::new(conditions?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_made_and_names_no_call_twice() {
        assert_eq!(filter().len() % 8, 0);
        assert!(filter().len() / 8 < 4096, "what the kernel takes");
        let mut all = [FILES, MEMORY_AND_TIME, PROCESSES, LEGACY].concat();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        for refused in [
            libc::SYS_socket,
            libc::SYS_mount,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_ptrace,
            libc::SYS_clone3,
            libc::SYS_io_uring_setup,
            libc::SYS_bpf,
            libc::SYS_keyctl,
        ] {
            assert!(!all.contains(&refused));
        }
    }
}
