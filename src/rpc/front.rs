//! The front door of a server: a listening local socket at which its callers stand. Whoever stands there
//! is looked at before a byte of theirs is read; the connection that follows is the lifeline of the
//! caller.

use crate::error::errno;
use crate::sys::door::{self, Caller, DoorDir, Knock};
use crate::sys::fd::{self, Fd};
use crate::sys::fdpass;
use crate::sys::poll;
use std::io;
use std::time::{Duration, Instant};

/// How long a thread sleeps in one connect before it looks whether it is still wanted.
const SLICE: Duration = Duration::from_millis(100);

/// An open front door.
#[derive(Debug)]
pub(crate) struct FrontDoor {
    doors: DoorDir,
    tag: u64,
    owner: u32,
    fd: Fd,
    forks: u64,
}

/// Who stands at the front door.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// A caller of the owner's, or root.
    Caller {
        /// Non-blocking; nothing was read from it.
        conn: Fd,
        /// Its process; 0 where it is in a pid namespace that ours cannot see.
        pid: u32,
        /// The owner or 0.
        uid: u32,
    },
    /// Somebody else, turned away without a word.
    Stranger {
        /// Who it was.
        #[cfg_attr(not(test), allow(dead_code, reason = "for tests"))]
        uid: u32,
    },
    /// Nobody.
    Nobody,
    /// We are out of descriptors, and one caller was turned away for it. Ask again: the next one may
    /// stand there.
    TooManyFiles,
    /// We are out of descriptors, the spare one too, and callers stay at the door, which goes on being
    /// readable: do not poll it before something of ours was closed.
    Beset,
}

impl FrontDoor {
    /// Opens the front door of `tag`; `owner` and root may call.
    pub(crate) fn listen(doors: &DoorDir, tag: u64, owner: u32) -> io::Result<FrontDoor> {
        fd::keep_spare();
        let fd = doors.listen_front(tag, owner)?;
        Ok(FrontDoor { doors: doors.clone(), tag, owner, fd, forks: fd::fork_count() })
    }

    /// Readable (level-triggered) while somebody stands there.
    pub(crate) fn fd(&self) -> &Fd {
        &self.fd
    }

    fn is_inherited(&self) -> bool {
        self.forks != fd::fork_count()
    }

    fn may_call(&self, uid: u32) -> bool {
        uid == self.owner || uid == 0
    }

    /// Takes in who stands there, without waiting. Call it until it says [`Arrival::Nobody`] or
    /// [`Arrival::Beset`]. Whoever is turned away for want of descriptors gets `refusal`, and the end of
    /// the connection behind it.
    pub(crate) fn accept(&self, refusal: &[u8]) -> Arrival {
        if self.is_inherited() {
            return Arrival::Nobody; // the number may be somebody else's by now
        }
        loop {
            match door::accept(&self.fd) {
                Caller::None => return Arrival::Nobody,
                Caller::Some(conn) => match door::credentials(&conn) {
                    Ok(cred) if self.may_call(cred.uid) => {
                        return Arrival::Caller { conn, pid: cred.pid, uid: cred.uid };
                    }
                    Ok(cred) => return Arrival::Stranger { uid: cred.uid },
                    Err(_) => {} // the kernel knows nobody there
                },
                Caller::TooManyFiles => return self.turn_away(refusal),
            }
        }
    }

    /// With the spare descriptor. Asked without one, accept says that there are too many files at an empty
    /// door too.
    #[cold]
    fn turn_away(&self, refusal: &[u8]) -> Arrival {
        let arrival = fd::with_spare(|| match door::accept(&self.fd) {
            Caller::Some(conn) => {
                match door::credentials(&conn) {
                    Ok(cred) if self.may_call(cred.uid) => {
                        // If even this does not fit, the end of the connection says enough.
                        let _ = fdpass::send_parcel(&conn, refusal, &[]);
                        Arrival::TooManyFiles
                    }
                    Ok(cred) => Arrival::Stranger { uid: cred.uid },
                    Err(_) => Arrival::TooManyFiles,
                }
            }
            Caller::None => Arrival::Nobody,
            // Somebody else in this process, or on this system, was faster.
            Caller::TooManyFiles => Arrival::Beset,
        });
        match arrival {
            Arrival::Beset if !poll::is_readable(&self.fd) => Arrival::Nobody,
            arrival => arrival,
        }
    }
}

impl Drop for FrontDoor {
    /// The name goes first, so that who connects to a name that is there is refused by the dead alone
    /// (but for those who are in the act).
    fn drop(&mut self) {
        if !self.is_inherited() {
            self.doors.unlink_front(self.tag);
        }
    }
}

/// Where a call led.
#[derive(Debug)]
pub(crate) enum Reached {
    /// To a server of the owner's, or root's; the connection is non-blocking.
    Conn(Fd),
    /// Nobody listens there any more: the server is dead (or is closing just now).
    Refused,
    /// So many stand there that there is no room for another one.
    Full,
    /// There is no such front door.
    Missing,
}

fn reached(doors: &DoorDir, knock: Knock) -> io::Result<Reached> {
    match knock {
        Knock::Open(conn) => {
            let cred = door::credentials(&conn)?;
            if cred.uid == doors.owner() || cred.uid == 0 {
                return Ok(Reached::Conn(conn));
            }
            let text = format!("the server runs as uid {}, not as the owner or root", cred.uid);
            Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
        }
        Knock::Refused => Ok(Reached::Refused),
        Knock::Full => Ok(Reached::Full),
        Knock::Failed(err) if errno::of(&err) == Some(errno::ENOENT) => Ok(Reached::Missing),
        Knock::Failed(err) => Err(err),
    }
}

/// Calls at the front door of `tag`, without waiting.
#[cfg(test)]
pub(crate) fn connect(doors: &DoorDir, tag: u64) -> io::Result<Reached> {
    reached(doors, doors.call(tag))
}

/// The same for a thread that may sleep: at a full front door it waits for room, until `deadline`
/// ([`Reached::Full`]) or until `cancel` is readable (`None`).
///
/// It sleeps in connect(2), which nothing but a signal ends early, so it looks at `cancel` every 100 ms;
/// room for it is noticed at once.
pub(crate) fn connect_waiting(
    doors: &DoorDir,
    tag: u64,
    deadline: Option<Instant>,
    cancel: &Fd,
) -> io::Result<Option<Reached>> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let over = left.is_some_and(|left| left.is_zero());
        let knock = match over {
            true => doors.call(tag),
            false => doors.call_within(tag, left.map_or(SLICE, |left| left.min(SLICE))),
        };
        match reached(doors, knock)? {
            Reached::Full if poll::is_readable(cancel) => return Ok(None),
            Reached::Full if !over => {}
            reached => return Ok(Some(reached)),
        }
    }
}
