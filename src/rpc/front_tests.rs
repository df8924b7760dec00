//! Front doors: who gets in, full ones, deaf ones, and doors without descriptors.

use super::front::{Arrival, FrontDoor, Reached, connect, connect_waiting};
use crate::sys::door::{DoorDir, Knock};
use crate::sys::doorbell::Doorbell;
use crate::sys::fd::Fd;
use crate::sys::fdpass::{self, Parcel};
use crate::sys::{file, process};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const CHILD: &str = "RINGSPAN_FRONT_CHILD";
const REFUSAL: &[u8] = b"E";

/// A directory of doors that goes away with the test.
struct Place {
    path: PathBuf,
    doors: DoorDir,
}

impl Place {
    fn new() -> Place {
        let path = std::env::temp_dir().join(format!("front-{:x}", file::random().unwrap()));
        let doors = DoorDir::open_at(path.clone(), process::euid()).unwrap();
        Place { path, doors }
    }

    fn open(&self, tag: u64) -> FrontDoor {
        FrontDoor::listen(&self.doors, tag, process::euid()).unwrap()
    }

    fn entries(&self) -> Vec<String> {
        file::list(&self.path).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn conn(reached: Reached) -> Fd {
    match reached {
        Reached::Conn(conn) => conn,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_caller_is_known_before_it_speaks() {
    let place = Place::new();
    let door = place.open(0xabc);
    assert_eq!(place.entries(), ["0000000000000abc.call"]);
    assert!(matches!(door.accept(REFUSAL), Arrival::Nobody));
    let ours = conn(connect(&place.doors, 0xabc).unwrap());
    let Arrival::Caller { conn: theirs, pid, uid } = door.accept(REFUSAL) else { panic!("nobody") };
    assert_eq!((pid, uid), (process::pid(), process::euid()));
    assert!(matches!(door.accept(REFUSAL), Arrival::Nobody));
    fdpass::send_parcel(&ours, b"hello", &[]).unwrap();
    assert!(
        matches!(fdpass::receive_parcel(&theirs, 9), Parcel::Here { bytes, .. } if bytes == b"hello")
    );
    for end in [&ours, &theirs, door.fd()] {
        let flags = rustix::fs::fcntl_getfl(end).unwrap();
        assert!(flags.contains(rustix::fs::OFlags::NONBLOCK));
        let flags = rustix::io::fcntl_getfd(end).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }
    drop(door);
    assert!(place.entries().is_empty());
    assert!(matches!(connect(&place.doors, 0xabc).unwrap(), Reached::Missing));
}

/// A door as a killed process leaves it: bound, and nobody listens.
pub(super) fn deserted(path: &Path) {
    drop(UnixListener::bind(path).unwrap());
    // A child that another test is just starting has a copy of it until its exec.
    while UnixStream::connect(path).is_ok() {
        std::thread::yield_now();
    }
}

#[test]
fn the_dead_refuse_and_are_swept() {
    let place = Place::new();
    let door = place.open(1);
    for entry in ["0000000000000002.call", ".new-0000000000000003.call", ".new-0000000000000004"] {
        deserted(&place.path.join(entry));
    }
    assert!(matches!(connect(&place.doors, 2).unwrap(), Reached::Refused));
    assert_eq!(place.doors.sweep_fronts().unwrap(), 2);
    assert_eq!(place.doors.sweep_unfinished().unwrap(), 1);
    assert_eq!(place.entries(), ["0000000000000001.call"]);
    assert!(matches!(door.accept(REFUSAL), Arrival::Nobody), "the living is not disturbed");
    // Whoever takes a tag out takes both of its doors.
    let wake = place.doors.listen(1, process::euid()).unwrap();
    assert_eq!(place.entries().len(), 2);
    place.doors.unlink(1);
    assert!(place.entries().is_empty());
    drop((door, wake));
}

/// A sweeper may take an unfinished front door for a dead one's at any moment.
#[test]
fn a_front_door_is_made_in_spite_of_sweepers() {
    let place = Place::new();
    std::thread::scope(|scope| {
        let (done, end) = std::sync::mpsc::channel::<()>();
        let doors = &place.doors;
        scope.spawn(move || {
            while end.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                doors.sweep_fronts().unwrap();
            }
        });
        // Sweepers know the living of all directories by their tags, which are random otherwise.
        for tag in 0x5000..0x5200 {
            let door = place.open(tag);
            let caller = conn(connect(doors, tag).unwrap());
            drop((door, caller));
        }
        drop(done);
    });
    assert!(place.entries().is_empty());
}

/// Callers until there is no room; those who hang up stand there all the same.
fn crowd(doors: &DoorDir, tag: u64) -> usize {
    for count in 0..10_000 {
        match connect(doors, tag).unwrap() {
            Reached::Conn(_) => {}
            Reached::Full => return count,
            other => panic!("{other:?}"),
        }
    }
    panic!("the door takes any number");
}

#[test]
fn who_waits_at_a_full_door_gets_in_when_there_is_room() {
    let place = Place::new();
    let door = place.open(7);
    let room = crowd(&place.doors, 7);
    let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    assert_eq!(room, most.trim().parse::<usize>().unwrap().min(4096) + 1);
    let cancel = Doorbell::new().unwrap();
    let start = Instant::now();
    let soon = Some(start + Duration::from_millis(150));
    let late = connect_waiting(&place.doors, 7, soon, cancel.watched()).unwrap();
    assert!(matches!(late, Some(Reached::Full)));
    assert!(start.elapsed() >= Duration::from_millis(150));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| connect_waiting(&place.doors, 7, None, cancel.watched()));
        // It is in the midst of its wait, or before it: both end well.
        std::thread::park_timeout(Duration::from_millis(130));
        let Arrival::Caller { .. } = door.accept(REFUSAL) else { panic!("nobody") };
        let got = conn(waiter.join().unwrap().unwrap().unwrap());
        let flags = rustix::fs::fcntl_getfl(&got).unwrap();
        assert!(flags.contains(rustix::fs::OFlags::NONBLOCK));
        // Full again.
        let waiter = scope.spawn(|| connect_waiting(&place.doors, 7, None, cancel.watched()));
        std::thread::park_timeout(Duration::from_millis(30));
        crate::sys::doorbell::ring(cancel.for_waker()).unwrap();
        assert!(waiter.join().unwrap().unwrap().is_none());
    });
    while let Arrival::Caller { .. } = door.accept(REFUSAL) {}
    let got = connect_waiting(&place.doors, 7, soon, cancel.watched()).unwrap();
    assert!(matches!(got, Some(Reached::Conn(_))), "a deadline that is over still gets one look");
}

#[test]
fn who_waits_at_a_door_whose_owner_goes_is_told() {
    let place = Place::new();
    let door = place.open(8);
    crowd(&place.doors, 8);
    let never = Doorbell::new().unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| connect_waiting(&place.doors, 8, None, never.watched()));
        std::thread::park_timeout(Duration::from_millis(30));
        drop(door);
        let told = waiter.join().unwrap().unwrap();
        assert!(matches!(told, Some(Reached::Missing | Reached::Refused)), "{told:?}");
    });
}

/// Another user, for whom the test opens what keeps others out.
#[test]
fn a_stranger_is_turned_away() {
    if process::euid() != 0 {
        eprintln!("skipped: only root can become a stranger");
        return;
    }
    let place = Place::new();
    let door = place.open(9);
    std::fs::set_permissions(&place.path, Permissions::from_mode(0o711)).unwrap();
    std::fs::set_permissions(place.doors.front_path(9), Permissions::from_mode(0o777)).unwrap();
    std::thread::scope(|scope| {
        // The system call changes this thread alone.
        scope.spawn(|| {
            let nobody = rustix::fs::Uid::from_raw(65_534);
            rustix::thread::set_thread_uid(nobody).unwrap();
            let Knock::Open(ours) = place.doors.call(9) else { panic!("no way in") };
            fdpass::send_parcel(&ours, b"hello", &[]).unwrap();
            let Arrival::Stranger { uid: 65_534 } = door.accept(REFUSAL) else { panic!("who?") };
            assert!(matches!(fdpass::receive_parcel(&ours, 9), Parcel::Broken), "without a word");
        });
    });
    assert!(matches!(door.accept(REFUSAL), Arrival::Nobody));
}

#[test]
#[allow(unsafe_code, reason = "fork")]
fn a_forked_child_leaves_the_door_alone() {
    let place = Place::new();
    let door = place.open(6);
    // SAFETY: the child makes plain system calls, takes the lock that fork keeps whole, and exits.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let deaf = matches!(door.accept(REFUSAL), Arrival::Nobody);
        drop(door);
        // SAFETY: ends the child without running anything of the parent's.
        unsafe { libc::_exit(i32::from(!deaf)) };
    }
    let mut status = 0;
    // SAFETY: our own child and a place for its status.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0);
    let caller = conn(connect(&place.doors, 6).unwrap());
    assert!(matches!(door.accept(REFUSAL), Arrival::Caller { .. }));
    drop((caller, door));
    assert!(place.entries().is_empty());
}

/// Does nothing unless it is the child of `without_descriptors_callers_are_told`.
#[test]
fn child_entry() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let place = Place::new();
    let door = place.open(5);
    let callers: Vec<Fd> = (0..3).map(|_| conn(connect(&place.doors, 5).unwrap())).collect();
    for caller in &callers {
        fdpass::send_parcel(caller, b"hello", &[]).unwrap();
    }
    let limit = rustix::process::Rlimit { current: Some(64), maximum: Some(64) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let mut hoard = Vec::new();
    while let Ok(fd) = callers[0].duplicate() {
        hoard.push(fd);
    }
    for caller in &callers {
        assert!(matches!(door.accept(REFUSAL), Arrival::TooManyFiles));
        let Parcel::Here { bytes, .. } = fdpass::receive_parcel(caller, 9) else { panic!("deaf") };
        assert_eq!(bytes, REFUSAL);
        assert!(matches!(fdpass::receive_parcel(caller, 9), Parcel::Broken));
    }
    assert!(matches!(door.accept(REFUSAL), Arrival::Nobody), "without descriptors, and empty");
    assert!(door_is_silent(&door));
    // A parcel whose descriptors find no place.
    let (a, b) = (hoard.pop().unwrap(), hoard.pop().unwrap());
    drop((a, b));
    let caller = conn(connect(&place.doors, 5).unwrap());
    let Arrival::Caller { conn: theirs, .. } = door.accept(REFUSAL) else { panic!("nobody") };
    fdpass::send_parcel(&caller, b"hello", &[&caller, &caller]).unwrap();
    assert!(matches!(fdpass::receive_parcel(&theirs, 9), Parcel::TooManyFiles));
    // And the door is as open as before.
    hoard.clear();
    let caller = conn(connect(&place.doors, 5).unwrap());
    assert!(matches!(door.accept(REFUSAL), Arrival::Caller { .. }));
    drop((caller, theirs, door, callers, place));
    std::process::exit(0);
}

fn door_is_silent(door: &FrontDoor) -> bool {
    !crate::sys::poll::is_readable(door.fd())
}

#[test]
fn without_descriptors_callers_are_told() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "rpc::front_tests::child_entry", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("running 1 test"));
}
