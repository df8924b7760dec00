//! The protocol of shared functions spoken by hand, by whoever wants to break it: the socket, the memory
//! and the doorbells of one connection, either side. `docs/format.md` and `src/rpc/mod.rs` say what is where.

#![allow(dead_code, reason = "each test file uses a part")]

use memmap2::MmapRaw;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Where the tag of the server stands in its segment.
pub(crate) const TAG: u64 = 384;
/// Where things stand in the memory of a connection.
pub(crate) const SEATS: [usize; 2] = [128, 256];
pub(crate) const REQUESTS: usize = 384;
pub(crate) const RESPONSES: usize = 640;
pub(crate) const HEAD: usize = 128;
pub(crate) const PAYLOAD: usize = 4096;
const WAITING: usize = 8;

pub(crate) const CALL: u8 = 1;
pub(crate) const RESULT: u8 = 2;
pub(crate) const ITEM: u8 = 4;
pub(crate) const END: u8 = 5;
pub(crate) const CANCEL: u8 = 6;
pub(crate) const CREDIT: u8 = 7;
pub(crate) const CHUNK: u8 = 8;
pub(crate) const GOODBYE: u8 = 9;
pub(crate) const RAW: u8 = 1;
pub(crate) const DEADLINE: u8 = 2;
pub(crate) const MILLIS: u8 = 4;
pub(crate) const STREAM: u8 = 8;
pub(crate) const CHUNKED: u8 = 16;

/// The tag in the segment of a name.
pub(crate) fn tag_of(segment: &Path) -> u64 {
    let mut tag = [0; 8];
    File::open(segment).unwrap().read_exact_at(&mut tag, TAG).unwrap();
    u64::from_le_bytes(tag)
}

/// The front door of a tag.
pub(crate) fn front_door(doors: &Path, tag: u64) -> PathBuf {
    doors.join(format!("{tag:016x}.call"))
}

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, method: u16, aux: u32, id: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, flags];
    bytes.extend_from_slice(&method.to_le_bytes());
    bytes.extend_from_slice(&aux.to_le_bytes());
    bytes.extend_from_slice(&id.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// Bytes and descriptors from a socket; waits for them. `None`: it ended.
pub(crate) fn receive(socket: &UnixStream) -> Option<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; 1 << 17];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(&mut bytes)];
    let got =
        rustix::net::recvmsg(socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(list) = part {
            fds.extend(list);
        }
    }
    bytes.truncate(got.bytes);
    (got.bytes > 0).then_some((bytes, fds))
}

/// Sends bytes with descriptors.
pub(crate) fn send(socket: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> bool {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds)));
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).is_ok()
}

/// One side of a connection.
#[derive(Debug)]
pub(crate) struct Hand {
    pub(crate) socket: UnixStream,
    pub(crate) file: File,
    memory: MmapRaw,
    /// Wakes the other side.
    pub(crate) bell: OwnedFd,
    /// Wakes this side.
    pub(crate) watched: OwnedFd,
    /// Offsets of what this side writes, and reads.
    out: (usize, usize),
    into: (usize, usize),
    /// The other side's seat.
    seat: usize,
    pub(crate) capacity: usize,
    pub(crate) tail: u64,
    head: u64,
}

impl Hand {
    /// Calls at a front door, as a client. `None`: turned away.
    pub(crate) fn connect(door: &Path) -> Option<Hand> {
        let socket = UnixStream::connect(door).ok()?;
        let (hello, fds) = receive(&socket)?;
        let [memory, bell, watched] = <[OwnedFd; 3]>::try_from(fds).ok()?;
        let capacity = u64::from_le_bytes(hello[24..32].try_into().unwrap()) as usize;
        Some(Hand::new(socket, memory, bell, watched, capacity, true))
    }

    pub(crate) fn new(
        socket: UnixStream,
        memory: OwnedFd,
        bell: OwnedFd,
        watched: OwnedFd,
        capacity: usize,
        client: bool,
    ) -> Hand {
        let file = File::from(memory);
        let memory = MmapRaw::map_raw(&file).unwrap();
        assert!(memory.len() >= PAYLOAD + 2 * capacity);
        let (requests, responses) = ((REQUESTS, PAYLOAD), (RESPONSES, PAYLOAD + capacity));
        let (out, into) = if client { (requests, responses) } else { (responses, requests) };
        let seat = SEATS[usize::from(!client)];
        Hand { socket, file, memory, bell, watched, out, into, seat, capacity, tail: 0, head: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.memory.len()
    }

    pub(crate) fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at + 8 <= self.memory.len());
        // SAFETY: in bounds.
        let word = unsafe { self.memory.as_mut_ptr().add(at) };
        // SAFETY: aligned, in bounds, mapped as long as `self`; others write it as an atomic too.
        unsafe { AtomicU64::from_ptr(word.cast()) }
    }

    /// Writes into the memory, whatever is there.
    pub(crate) fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.memory.len());
        // SAFETY: in bounds.
        let place = unsafe { self.memory.as_mut_ptr().add(at) };
        // SAFETY: in bounds; raw bytes of a shared mapping.
        unsafe { place.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    /// Free bytes, as far as the other side says.
    pub(crate) fn free(&self) -> usize {
        let head = self.word(self.out.0 + HEAD).load(Ordering::Acquire);
        self.capacity.saturating_sub(self.tail.wrapping_sub(head) as usize)
    }

    /// A record that says it has `len` bytes of payload, at the tail; not published.
    pub(crate) fn stage(&mut self, len: usize, bytes: &[u8]) {
        let total = |len: usize| 8 + len.div_ceil(8) * 8;
        let at = self.tail as usize % self.capacity;
        let room = self.capacity - at;
        let mut start = at;
        if total(bytes.len()) > room {
            let filler = (room as u64 - 8) | 2 << 40;
            self.word(self.out.1 + at).store(filler, Ordering::Relaxed);
            self.tail += room as u64;
            start = 0;
        }
        self.word(self.out.1 + start).store(len as u64, Ordering::Relaxed);
        self.write(self.out.1 + start + 8, bytes);
        self.tail += total(bytes.len()) as u64;
    }

    /// Publishes, and rings if the other side sleeps.
    pub(crate) fn publish(&mut self) {
        self.word(self.out.0).store(self.tail, Ordering::SeqCst);
        let waiting = self.word(self.seat + WAITING).load(Ordering::SeqCst);
        if waiting != 0 {
            self.ring();
            let seat = self.word(self.seat + WAITING);
            let _ = seat.compare_exchange(waiting, 0, Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    pub(crate) fn ring(&self) {
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    /// Sends a frame if there is room.
    pub(crate) fn put(&mut self, frame: &[u8]) -> bool {
        if self.free() < 2 * frame.len() + 64 {
            return false;
        }
        self.stage(frame.len(), frame);
        self.publish();
        true
    }

    /// The same, waiting for room. False: the other side hung up.
    pub(crate) fn must_put(&mut self, frame: &[u8]) -> bool {
        while !self.put(frame) {
            if self.has_hung_up() {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }

    /// The next frame from the other side, if there is one.
    pub(crate) fn take(&mut self) -> Option<Vec<u8>> {
        loop {
            let tail = self.word(self.into.0).load(Ordering::Acquire);
            if tail == self.head {
                return None;
            }
            let at = self.head as usize % self.capacity;
            let word = self.word(self.into.1 + at).load(Ordering::Relaxed);
            let len = (word & 0xffff_ffff) as usize;
            self.head += 8 + len.next_multiple_of(8) as u64;
            let mut bytes = vec![0; len];
            if word >> 40 & 3 == 0 {
                // SAFETY: the other side is ours: a record lies within its ring.
                let from = unsafe { self.memory.as_ptr().add(self.into.1 + at + 8) };
                // SAFETY: as above, and `bytes` is that long.
                unsafe { from.copy_to_nonoverlapping(bytes.as_mut_ptr(), len) };
            }
            self.word(self.into.0 + HEAD).store(self.head, Ordering::SeqCst);
            let waiting = self.word(self.seat + WAITING).load(Ordering::SeqCst);
            if waiting & 1 == 1 {
                self.ring();
                let seat = self.word(self.seat + WAITING);
                let _ = seat.compare_exchange(waiting, 0, Ordering::SeqCst, Ordering::SeqCst);
            }
            if word >> 40 & 3 == 0 {
                return Some(bytes);
            }
        }
    }

    /// The next frame. `None`: the other side hung up.
    pub(crate) fn must_take(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            if self.has_hung_up() {
                return self.take();
            }
            std::thread::yield_now();
        }
    }

    /// The socket ended.
    pub(crate) fn has_hung_up(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let flags = PollFlags::RDHUP | PollFlags::HUP;
        let mut fds = [PollFd::from_borrowed_fd(self.socket.as_fd(), flags)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&now)).is_ok_and(|n| n > 0) && fds[0].revents().intersects(flags)
    }

    /// Waits until the other side hangs up.
    pub(crate) fn until_hung_up(&self) {
        while !self.has_hung_up() {
            std::thread::yield_now();
        }
    }
}
