//! Descriptors over a connected local socket (unix(7), SCM_RIGHTS): one as the answer to a knock, or
//! a few with a parcel of bytes.
//!
//! A local stream socket keeps no borders between messages, with one exception: a read that took in
//! descriptors ends where the first piece of their message ends. So bytes sent *before* may come in
//! front of a parcel, bytes sent *after* one with descriptors never come with its first piece. The
//! kernel cuts a message of more than some 30 KiB into pieces, of which the first carries the
//! descriptors; the receiver goes on with [`receive_more`] until it has as many bytes as the head of the
//! parcel announced.

use crate::sys::fd::Fd;
use crate::sys::make::{self, RECV_FLAGS, SEND_FLAGS};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Descriptors in one parcel at most.
const MOST: usize = 4;

/// What lies in a connection whose other end owes us a descriptor.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The descriptor, made non-blocking and close-on-exec.
    Fd(Fd),
    /// Nothing yet.
    NotYet,
    /// The connection is of no use: ended, reset, cut short, or without a descriptor.
    Broken,
    /// We are out of descriptors, and the answer is lost.
    TooManyFiles,
}

/// What lies in a connection over which a parcel comes.
#[derive(Debug)]
#[allow(dead_code, reason = "until the drivers of functions use it")]
pub(crate) enum Parcel {
    /// The first piece of it, or all. The descriptors are non-blocking (where that means anything)
    /// and close-on-exec; what they are is not known.
    Here {
        /// At least one; never more than was asked for.
        bytes: Vec<u8>,
        /// At most four.
        fds: Vec<Fd>,
    },
    /// Nothing yet.
    NotYet,
    /// The connection is of no use: ended, reset, or with more descriptors than a parcel has.
    Broken,
    /// We are out of descriptors, and the parcel is lost.
    TooManyFiles,
}

/// How far the rest of a parcel came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "until the drivers of functions use it")]
pub(crate) enum More {
    /// All of it is here.
    All,
    /// Some is still missing.
    NotYet,
    /// The connection ended before.
    Broken,
}

/// Sends `fd` in one non-blocking step. On any error close the connection: an unanswered one that
/// stays open would let the other side wait for ever.
pub(crate) fn send(conn: &Fd, fd: &Fd) -> io::Result<()> {
    send_parcel(conn, b"!", &[fd])
}

/// Sends `bytes` with at most four descriptors in one non-blocking step: all of it or an error. On any
/// error close the connection; a part of the bytes may have gone out.
///
/// A connection on which nothing is under way takes 64 KiB and some (half of
/// `net.core.wmem_default` of 212992 bytes is in use then); what does not fit is an error.
pub(crate) fn send_parcel(conn: &Fd, bytes: &[u8], fds: &[&Fd]) -> io::Result<()> {
    if bytes.is_empty() || fds.len() > MOST {
        // Descriptors travel with bytes or not at all.
        return Err(Errno::INVAL.into());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = fds.iter().map(|fd| fd.as_fd()).collect();
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::other("no room for a control message"));
    }
    loop {
        match rustix::net::sendmsg(conn, &[IoSlice::new(bytes)], &mut control, SEND_FLAGS) {
            Ok(sent) if sent == bytes.len() => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            Err(Errno::INTR) => {}
            Err(err) => return Err(err.into()),
        }
    }
}

/// What one `recvmsg` brought.
enum Got {
    Here(usize, Vec<OwnedFd>),
    NotYet,
    Broken,
    TooManyFiles,
}

/// One `recvmsg` without waiting. Call it while no fork can happen.
fn receive_raw(conn: &Fd, bytes: &mut [u8]) -> Got {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        let mut into = [IoSliceMut::new(bytes)];
        match rustix::net::recvmsg(conn, &mut into, &mut control, RECV_FLAGS) {
            Ok(message) => break message,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Got::NotYet,
            Err(_) => return Got::Broken,
        }
    };
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(list) = part {
            fds.extend(list);
        }
    }
    // What did come is closed with `fds`. The space is rounded up, so more than four may fit.
    let cut = message.flags.contains(ReturnFlags::CTRUNC);
    match fds.len() {
        count if cut && count < MOST => Got::TooManyFiles,
        count if cut || count > MOST || message.bytes == 0 => Got::Broken,
        _ => Got::Here(message.bytes, fds),
    }
}

/// The same with the descriptors entered in the table of [`Fd`] and made non-blocking.
fn take(conn: &Fd, bytes: &mut [u8]) -> Result<(usize, Vec<Fd>), Parcel> {
    let mut count = 0;
    let fds = Fd::open_all(|| match receive_raw(conn, bytes) {
        Got::Here(came, fds) => {
            count = came;
            Ok(fds)
        }
        Got::NotYet => Err(Parcel::NotYet),
        Got::Broken => Err(Parcel::Broken),
        Got::TooManyFiles => Err(Parcel::TooManyFiles),
    })?;
    match fds.iter().all(|fd| make::received(fd).is_ok()) {
        true => Ok((count, fds)),
        false => Err(Parcel::Broken),
    }
}

/// Takes the descriptor out of a connection, without waiting.
pub(crate) fn receive(conn: &Fd) -> Answer {
    match take(conn, &mut [0]) {
        Ok((_, fds)) => fds.into_iter().next().map_or(Answer::Broken, Answer::Fd),
        Err(Parcel::NotYet) => Answer::NotYet,
        Err(Parcel::TooManyFiles) => Answer::TooManyFiles,
        Err(_) => Answer::Broken,
    }
}

/// Takes what has come of a parcel, `max_bytes` at most, without waiting. Where a parcel may end is told
/// at the top of this file. After anything but [`Parcel::Here`] and [`Parcel::NotYet`] close the
/// connection.
#[allow(dead_code, reason = "until the drivers of functions use it")]
pub(crate) fn receive_parcel(conn: &Fd, max_bytes: usize) -> Parcel {
    let mut bytes = vec![0; max_bytes];
    match take(conn, &mut bytes) {
        Ok((count, fds)) => {
            bytes.truncate(count);
            Parcel::Here { bytes, fds }
        }
        Err(other) => other,
    }
}

/// Appends to `bytes` until there are `wanted` of them, without waiting. Descriptors that a peer adds
/// here are dropped by the kernel.
#[allow(dead_code, reason = "until the drivers of functions use it")]
pub(crate) fn receive_more(conn: &Fd, bytes: &mut Vec<u8>, wanted: usize) -> More {
    let mut have = bytes.len();
    bytes.resize(wanted.max(have), 0);
    let outcome = loop {
        if have >= wanted {
            break More::All;
        }
        // Not `recvmsg`: without room for them no descriptor can come in.
        match rustix::net::recv(conn, &mut bytes[have..wanted], RECV_FLAGS) {
            Ok((_, 0)) => break More::Broken,
            Ok((_, came)) => have += came,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => break More::NotYet,
            Err(_) => break More::Broken,
        }
    };
    bytes.truncate(have);
    outcome
}

#[cfg(test)]
#[path = "fdpass_tests.rs"]
mod tests;
