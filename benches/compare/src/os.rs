//! The few system calls the cells need: pinning, CPU time, shared memory, eventfds.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The processors this process may run on, in order.
pub fn cpus() -> io::Result<Vec<usize>> {
    // SAFETY: a zeroed cpu_set_t is an empty set, and the call writes at most its size.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        check(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set))?;
        set
    };
    // SAFETY: every index is below CPU_SETSIZE.
    Ok((0..libc::CPU_SETSIZE as usize).filter(|&n| unsafe { libc::CPU_ISSET(n, &set) }).collect())
}

/// Binds this thread, and the threads it starts later, to one processor.
pub fn pin(cpu: usize) -> io::Result<()> {
    // SAFETY: as in `cpus`; `cpu` came from there.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        check(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set))?;
    }
    Ok(())
}

/// CPU time and voluntary switches (sleeps) of this process so far.
pub fn usage() -> io::Result<(Duration, u64)> {
    // SAFETY: getrusage fills the struct it is given.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        check(libc::getrusage(libc::RUSAGE_SELF, &mut usage))?;
        usage
    };
    let time = |t: libc::timeval| {
        Duration::from_secs(t.tv_sec as u64) + Duration::from_micros(t.tv_usec as u64)
    };
    Ok((time(usage.ru_utime) + time(usage.ru_stime), usage.ru_nvcsw as u64))
}

/// Nanoseconds of a clock that all processes share.
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills the struct it is given; this clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// For `pre_exec`: the kernel kills the child when its parent's thread ends.
pub fn die_with_parent() -> io::Result<()> {
    // SAFETY: a plain system call.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }).map(drop)
}

/// Waits until a child ends, and leaves it to be waited for; whether it ended by itself, with an
/// error.
pub fn failed(child: u32) -> bool {
    // SAFETY: waitid fills the struct it is given.
    let info = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let options = libc::WEXITED | libc::WNOWAIT;
        while libc::waitid(libc::P_PID, child, &mut info, options) != 0 {
            if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return false; // somebody else has waited for it
            }
        }
        info
    };
    // SAFETY: waitid has filled the fields of a SIGCHLD.
    info.si_code == libc::CLD_EXITED && unsafe { info.si_status() } != 0
}

/// Ends the process without running anything.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit never returns and touches nothing.
    unsafe { libc::_exit(status) }
}

/// An anonymous shared file of `len` bytes that children inherit.
pub fn shared_file(len: usize) -> io::Result<File> {
    // SAFETY: the name is a C string; the descriptor is new and ours.
    let file = unsafe { File::from_raw_fd(check(libc::memfd_create(c"compare".as_ptr(), 0))?) };
    file.set_len(len as u64)?;
    Ok(file)
}

/// An eventfd that children inherit.
pub fn eventfd(nonblocking: bool) -> io::Result<OwnedFd> {
    let flags = if nonblocking { libc::EFD_NONBLOCK } else { 0 };
    // SAFETY: the descriptor is new and ours.
    Ok(unsafe { OwnedFd::from_raw_fd(check(libc::eventfd(0, flags))?) })
}

/// Takes over a descriptor that the parent let this process inherit.
pub fn inherited<T: FromRawFd>(number: RawFd) -> T {
    // SAFETY: the parent passed the number of a descriptor that it keeps open for exactly this use.
    unsafe { T::from_raw_fd(number) }
}

/// Lets children inherit a descriptor.
pub fn inherit(fd: &impl AsRawFd) -> io::Result<RawFd> {
    // SAFETY: plain system call on an open descriptor.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, 0) })?;
    Ok(fd.as_raw_fd())
}

/// Adds one to an eventfd.
pub fn ring(fd: &OwnedFd) -> io::Result<()> {
    let one = 1u64.to_ne_bytes();
    // SAFETY: eight readable bytes.
    let n = unsafe { libc::write(fd.as_raw_fd(), one.as_ptr().cast(), 8) };
    if n == 8 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits for an eventfd and resets it.
pub fn wait(fd: &OwnedFd) -> io::Result<()> {
    let mut value = [0u8; 8];
    // SAFETY: eight writable bytes.
    let n = unsafe { libc::read(fd.as_raw_fd(), value.as_mut_ptr().cast(), 8) };
    if n == 8 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A shared mapping, every page present; unmapped at the end of the process.
pub fn map(file: &File, len: usize) -> io::Result<*mut u8> {
    let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE);
    // SAFETY: a fresh mapping at a place the kernel chooses.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), len, prot, flags, file.as_raw_fd(), 0) };
    if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(at.cast()) }
}
