//! Making a connection: the server hands the memory of both rings and both doorbells over, in one message,
//! as soon as it has looked at who calls; the client checks what came. Blocking code: in async programs it
//! runs on a thread of its own, which the dropped future calls off.

use crate::error::{Fault, FaultKind, OpenError, errno};
use crate::ring::{BadPair, PairEnd, PairGeometry, PairSide};
use crate::rpc::claim::{self, Found};
use crate::rpc::conn::Conn;
use crate::rpc::error::{CallError, Delivered};
use crate::rpc::front::{self, Reached};
use crate::rpc::hello::{self, HELLO_LEN, Hello, MAX_TABLE, NoHello, Welcome};
use crate::rpc::link::Link;
use crate::sys::door;
use crate::sys::doorbell::{Bell, Doorbell};
use crate::sys::failpoint::failpoint;
use crate::sys::fd::Fd;
use crate::sys::fdpass::{self, More, Parcel};
use crate::sys::map::Mapping;
use crate::sys::poll::{self, PollSet, Waited};
use crate::sys::{file, memfd};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The memory of one connection, made by the server: its own side of it, and the parcel for the caller.
pub(crate) struct Made {
    pub(crate) link: Link,
    memory: Fd,
    for_client: [Fd; 2],
}

impl Made {
    /// Makes it for a caller that may call. The lifeline is the connection itself, which comes back with
    /// an error.
    pub(crate) fn new(conn: Fd, geometry: PairGeometry) -> Result<Made, (Fd, io::Error)> {
        let parts = || {
            let memory = memfd::create(geometry.len())?;
            let len = usize::try_from(geometry.len()).map_err(io::Error::other)?;
            let mapping = Mapping::new(&memory, len)?;
            PairEnd::format(&mapping)
                .ok_or_else(|| io::Error::other("a mapping that is too small"))?;
            let (mine, theirs) = (Doorbell::new()?, Doorbell::private()?);
            let for_client = [mine.for_waker().duplicate()?, theirs.watched().duplicate()?];
            let pidfd = door::peer_pidfd(&conn)?;
            let end = PairEnd::new(Arc::new(mapping), geometry, PairSide::Server, file::random()?)
                .map_err(|bad| io::Error::other(format!("{bad:?}")))?;
            Ok((memory, for_client, end, mine, theirs.into_bell(), pidfd))
        };
        match parts() {
            Ok((memory, for_client, end, mine, theirs, pidfd)) => {
                Ok(Made { link: Link::new(end, mine, theirs, conn, pidfd), memory, for_client })
            }
            Err(err) => Err((conn, err)),
        }
    }

    /// Hands it over, in one step that does not wait; watched by `set` from then on, as `whose`. The
    /// connection comes back with an error.
    pub(crate) fn hand_over(
        self,
        hello: &[u8],
        set: &PollSet,
        whose: u64,
    ) -> Result<Link, (Fd, io::Error)> {
        let [bell, watched] = &self.for_client;
        let watched = self.link.watch(set, whose).and_then(|()| {
            fdpass::send_parcel(self.link.lifeline(), hello, &[&self.memory, bell, watched])
        });
        if let Err(err) = watched {
            self.link.unwatch(set);
            return Err((self.link.into_lifeline(), err));
        }
        failpoint!("rpc.handed");
        Ok(self.link)
    }
}

/// Rounds without a pause.
const QUICK: u32 = 4;
/// How long one round waits for the end of a server that hangs up, and lives by all that can be seen.
const DYING: Duration = Duration::from_millis(10);

/// Connects to whoever serves `name`, waiting until `deadline` at most, or until `cancel` is readable.
pub(crate) fn connect(
    name: &str,
    deadline: Option<Instant>,
    cancel: &Fd,
) -> Result<Conn, CallError> {
    // A server that is replaced, or leaves, between our looks is looked for anew; each round sees
    // another tag, so the bound is for a directory in which somebody makes mischief.
    for attempt in 0..64 {
        let found = claim::find(name)?;
        let object = found.region.subject().to_string();
        let os = |call: &'static str| {
            let object = object.clone();
            move |err: io::Error| CallError::Connect(Fault::os(object, call, &err).into())
        };
        let reached = front::connect_waiting(found.region.doors(), found.tag, deadline, cancel)
            .map_err(os("calling its server"))?;
        match reached {
            None => return Err(called_off(&object)),
            Some(Reached::Conn(conn)) => {
                // Else it left at that moment.
                if let Some(conn) = received(&object, conn, deadline, cancel)? {
                    return Ok(conn);
                }
            }
            Some(Reached::Full) => {
                let cause =
                    "the time is over, and its server has not taken up the callers before us";
                return Err(timeout(&object, cause));
            }
            Some(Reached::Refused | Reached::Missing) => {}
        }
        if let Some(fault) = lost(&found)? {
            return Err(CallError::Connect(fault.into()));
        }
        // A killed server closes its doors one after the other, and is proven dead only after the last.
        if attempt >= QUICK && found.ends_within(DYING, deadline, cancel).map_err(os("poll"))? {
            return Err(called_off(&object));
        }
    }
    let cause = "its server keeps changing, or hangs up on every caller";
    let fault = Fault::new(FaultKind::PeerUnreachable, format!("function {name}"), cause);
    Err(CallError::Connect(fault.into()))
}

fn lost(found: &Found) -> Result<Option<Fault>, CallError> {
    found.lost().map_err(|fault| CallError::Connect(fault.into()))
}

fn timeout(object: &str, cause: &str) -> CallError {
    let fault = Fault::new(FaultKind::Os, object, cause);
    CallError::Timeout(fault.with_errno(errno::ETIMEDOUT))
}

fn called_off(object: &str) -> CallError {
    let fault = Fault::new(FaultKind::Os, object, "connecting was called off");
    CallError::Disconnected { fault, delivered: Delivered::No }
}

/// Waits for the server's hello. `None`: it hung up without one.
fn received(
    object: &str,
    conn: Fd,
    deadline: Option<Instant>,
    cancel: &Fd,
) -> Result<Option<Conn>, CallError> {
    failpoint!("rpc.called");
    // Where a child of the server has kept the front door open, only this tells that nobody comes.
    let pidfd = door::peer_pidfd(&conn)
        .map_err(|err| CallError::Connect(Fault::os(object, "SO_PEERPIDFD", &err).into()))?;
    let mut parcel: Option<(Vec<u8>, Vec<Fd>)> = None;
    loop {
        match &mut parcel {
            None => match fdpass::receive_parcel(&conn, HELLO_LEN + MAX_TABLE) {
                Parcel::Here { bytes, fds } => {
                    parcel = Some((bytes, fds));
                    continue;
                }
                Parcel::NotYet => {}
                Parcel::Broken => return Ok(None),
                Parcel::TooManyFiles => {
                    let err = io::Error::from_raw_os_error(errno::EMFILE);
                    return Err(CallError::Connect(Fault::os(object, "connecting", &err).into()));
                }
            },
            Some((bytes, _)) => {
                let wanted = match bytes.len() < HELLO_LEN {
                    true => HELLO_LEN,
                    false => {
                        HELLO_LEN + hello::table_len(bytes).map_err(|no| refused(object, &no))?
                    }
                };
                match fdpass::receive_more(&conn, bytes, wanted) {
                    More::All if wanted > HELLO_LEN || bytes.len() > HELLO_LEN => break,
                    More::All => {
                        // The head is whole; an empty table ends it.
                        if hello::table_len(bytes).map_err(|no| refused(object, &no))? == 0 {
                            break;
                        }
                        continue;
                    }
                    More::NotYet => {}
                    More::Broken => return Ok(None),
                }
            }
        }
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let fds = [Some(&conn), Some(cancel), pidfd.as_ref()];
        let (waited, [fired, off, died]) = poll::wait_any(fds, left)
            .map_err(|err| CallError::Connect(Fault::os(object, "poll", &err).into()))?;
        if off {
            return Err(called_off(object));
        }
        if died && !fired {
            return Ok(None);
        }
        if waited == Waited::TimedOut {
            let cause = "the time is over, and its server does not answer; is it stopped, or busy in a \
                         handler that never yields?";
            return Err(timeout(object, cause));
        }
    }
    failpoint!("rpc.received");
    let Some((bytes, fds)) = parcel else { return Ok(None) };
    open(object, conn, pidfd, &bytes, fds).map(Some)
}

fn refused(object: &str, no: &NoHello) -> CallError {
    let (kind, code, cause) = match no {
        NoHello::Refused(Welcome::Full) => (
            FaultKind::TooManyAttached,
            errno::EUSERS,
            "as many clients as its server takes are connected; close some, or raise max_clients"
                .into(),
        ),
        NoHello::Refused(Welcome::TooManyFiles) => (
            FaultKind::TooManyFiles,
            errno::EMFILE,
            "its server is out of descriptors; raise its `ulimit -n`, or close some clients".into(),
        ),
        NoHello::Refused(_) => {
            (FaultKind::Os, errno::ECONNREFUSED, "its server is shutting down".to_owned())
        }
        NoHello::Version(version) => (
            FaultKind::Mismatch,
            errno::EINVAL,
            format!("its server speaks version {version} of the protocol; use the same ringspan"),
        ),
        NoHello::Malformed(why) => (
            FaultKind::Damaged,
            errno::EUCLEAN,
            format!("the hello of its server is damaged: {why}"),
        ),
    };
    CallError::Connect(Fault::new(kind, object, cause).with_errno(code).into())
}

/// Checks what came before anything of it is used.
fn open(
    object: &str,
    conn: Fd,
    pidfd: Option<Fd>,
    bytes: &[u8],
    fds: Vec<Fd>,
) -> Result<Conn, CallError> {
    let hello = Hello::from_bytes(bytes).map_err(|no| refused(object, &no))?;
    let bad = |why: &str| {
        refused(
            object,
            &NoHello::Malformed(match why {
                "memory" => "its memory is not sealed, or too small",
                _ => "its descriptors are not what they should be",
            }),
        )
    };
    let os = |call: &'static str| {
        move |err: io::Error| CallError::Connect(OpenError::Fault(Fault::os(object, call, &err)))
    };
    let Ok([memory, bell, watched]) = <[Fd; 3]>::try_from(fds) else { return Err(bad("fds")) };
    let len = memfd::check(&memory).map_err(|_| bad("memory"))?;
    let len = usize::try_from(len).ok().filter(|len| *len as u64 >= hello.geometry.len());
    let mapping = Mapping::new(&memory, len.ok_or_else(|| bad("memory"))?).map_err(os("mmap"))?;
    let random = file::random().map_err(os("getrandom"))?;
    let end = PairEnd::new(Arc::new(mapping), hello.geometry, PairSide::Client, random).map_err(
        |err| match err {
            BadPair::Foreign => bad("memory"),
            BadPair::Damage(damage) => CallError::Connect(
                Fault::new(FaultKind::Damaged, object, damage.to_string()).into(),
            ),
        },
    )?;
    let mine = Doorbell::received(watched).ok_or_else(|| bad("fds"))?;
    let theirs = Bell::new(bell).ok_or_else(|| bad("fds"))?;
    let link = Link::new(end, mine, theirs, conn, pidfd);
    Conn::new(object.into(), hello, link).map_err(os("epoll_create1"))
}
