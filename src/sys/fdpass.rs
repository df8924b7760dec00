//! One descriptor over a connected local socket (unix(7), SCM_RIGHTS), and the answer to a knock.

use crate::sys::fd::Fd;
use crate::sys::make::{self, RECV_FLAGS, SEND_FLAGS};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

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

/// Sends `fd` in one non-blocking step. On any error close the connection: an unanswered one that
/// stays open would let the other side wait for ever.
pub(crate) fn send(conn: &Fd, fd: &Fd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::other("no room for a control message"));
    }
    loop {
        match rustix::net::sendmsg(conn, &[IoSlice::new(b"!")], &mut control, SEND_FLAGS) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(err) => return Err(err.into()),
        }
    }
}

/// Takes the descriptor out of a connection, without waiting.
pub(crate) fn receive(conn: &Fd) -> Answer {
    let mut byte = [0; 1];
    let mut answer = Answer::Broken;
    let got = Fd::open(|| {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let message = loop {
            let mut bytes = [IoSliceMut::new(&mut byte)];
            match rustix::net::recvmsg(conn, &mut bytes, &mut control, RECV_FLAGS) {
                Ok(message) => break message,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    answer = Answer::NotYet;
                    return Err(());
                }
                Err(_) => return Err(()),
            }
        };
        if message.flags.contains(ReturnFlags::CTRUNC) {
            answer = Answer::TooManyFiles;
            return Err(());
        }
        let mut fds = control.drain().filter_map(|part| match part {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        fds.next().and_then(|mut list| list.next()).ok_or(())
    });
    match got {
        Ok(fd) => match make::received(&fd) {
            Ok(()) => Answer::Fd(fd),
            Err(_) => Answer::Broken,
        },
        Err(()) => answer,
    }
}
