//! Parcels over a socketpair.

use super::*;
use crate::sys::doorbell::Doorbell;
use crate::sys::{file, memfd, poll};
use rustix::fs::OFlags;
use rustix::io::FdFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

fn pair() -> (Fd, Fd) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let made = Fd::open_all(|| {
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map(|(a, b)| vec![a, b])
    });
    let mut ends = made.unwrap().into_iter();
    (ends.next().unwrap(), ends.next().unwrap())
}

fn here(conn: &Fd, most: usize) -> (Vec<u8>, Vec<Fd>) {
    match receive_parcel(conn, most) {
        Parcel::Here { bytes, fds } => (bytes, fds),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_parcel_brings_bytes_and_descriptors() {
    let (a, b) = pair();
    assert!(matches!(receive_parcel(&b, 64), Parcel::NotYet));
    let memory = memfd::create(4096).unwrap();
    file::write_at(&memory, 7, b"shared").unwrap();
    let bell = Doorbell::new().unwrap();
    // A descriptor that would wait is made one that does not.
    rustix::io::ioctl_fionbio(bell.for_waker(), false).unwrap();
    send_parcel(&a, b"head", &[&memory, bell.for_waker(), bell.for_waker()]).unwrap();
    send_parcel(&a, b"after", &[]).unwrap();
    let (bytes, fds) = here(&b, 64);
    assert_eq!((bytes.as_slice(), fds.len()), (&b"head"[..], 3), "nothing of what comes after");
    for fd in &fds {
        assert!(rustix::io::fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC));
        assert!(rustix::fs::fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK));
    }
    assert_eq!(memfd::check(&fds[0]).unwrap(), 4096);
    let mut seen = [0; 6];
    file::read_at(&fds[0], 7, &mut seen).unwrap();
    assert_eq!(&seen, b"shared");
    assert!(!poll::is_readable(bell.watched()));
    crate::sys::doorbell::ring(&fds[2]).unwrap();
    assert!(poll::is_readable(bell.watched()));
    assert_eq!(here(&b, 64).0, b"after");
    assert!(matches!(receive_parcel(&b, 64), Parcel::NotYet));
    drop(a);
    assert!(matches!(receive_parcel(&b, 64), Parcel::Broken));
}

#[test]
fn a_large_parcel_comes_in_pieces() {
    let (a, b) = pair();
    let memory = memfd::create(4096).unwrap();
    let sent: Vec<u8> = (0..65_536 + 64).map(|i| (i % 251) as u8).collect();
    send_parcel(&a, &sent, &[&memory]).unwrap();
    send_parcel(&a, b"after", &[]).unwrap();
    let (mut bytes, fds) = here(&b, sent.len());
    assert_eq!(fds.len(), 1);
    assert!(bytes.len() < sent.len(), "the kernel cut it");
    assert_eq!(receive_more(&b, &mut bytes, sent.len()), More::All);
    assert!(bytes == sent);
    assert_eq!(receive_more(&b, &mut bytes, sent.len()), More::All, "nothing was missing");
    assert_eq!(here(&b, 64).0, b"after");
}

#[test]
fn the_rest_may_be_late_or_never_come() {
    let (a, b) = pair();
    send_parcel(&a, b"12345", &[]).unwrap();
    let (mut bytes, _) = here(&b, 3);
    assert_eq!(bytes, b"123");
    assert_eq!(receive_more(&b, &mut bytes, 8), More::NotYet);
    assert_eq!(bytes, b"12345");
    // Descriptors that are added here come to nothing.
    let memory = memfd::create(1).unwrap();
    send_parcel(&a, b"67", &[&memory]).unwrap();
    assert_eq!(receive_more(&b, &mut bytes, 8), More::NotYet);
    drop(a);
    assert_eq!(receive_more(&b, &mut bytes, 8), More::Broken);
    assert_eq!(bytes, b"1234567");
}

#[test]
fn what_cannot_be_sent_whole_is_an_error() {
    let (a, b) = pair();
    let memory = memfd::create(1).unwrap();
    let five = [&memory; 5];
    assert!(send_parcel(&a, b"x", &five).is_err());
    assert!(send_parcel(&a, b"", &[&memory]).is_err(), "descriptors travel with bytes");
    assert!(send_parcel(&a, &vec![0; 1 << 20], &[]).is_err());
    let _ = here(&b, 64);
    drop(b);
    assert!(send_parcel(&a, b"x", &[]).is_err(), "and no signal");
}

/// More descriptors than a parcel has: a peer of another make.
#[test]
fn too_many_descriptors_break_the_connection() {
    let (a, b) = pair();
    let memory = memfd::create(1).unwrap();
    for count in 5..40 {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(40))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let many = vec![memory.as_fd(); count];
        assert!(control.push(SendAncillaryMessage::ScmRights(&many)));
        rustix::net::sendmsg(&a, &[IoSlice::new(b"!")], &mut control, SEND_FLAGS).unwrap();
        let got = receive_parcel(&b, 64);
        assert!(matches!(got, Parcel::Broken), "{count}: {got:?}");
    }
}

#[test]
fn an_answer_is_the_first_descriptor() {
    let (a, b) = pair();
    assert!(matches!(receive(&b), Answer::NotYet));
    let bell = Doorbell::new().unwrap();
    send(&a, bell.for_waker()).unwrap();
    let Answer::Fd(fd) = receive(&b) else { panic!("no answer") };
    crate::sys::doorbell::ring(&fd).unwrap();
    assert!(poll::is_readable(bell.watched()));
    send_parcel(&a, b"!", &[]).unwrap();
    assert!(matches!(receive(&b), Answer::Broken), "without a descriptor");
}
