//! One side of a connection with its descriptors: two rings, both doorbells, the socket that stays open as
//! the lifeline, and a pidfd of the other process.

use crate::ring::{Damage, Item, PairEnd, RawProducer, Record, ReserveError};
use crate::rpc::core::port::Port;
use crate::rpc::wire::{HEAD_LEN, Head, Violation};
use crate::sys::doorbell::{Bell, Doorbell};
use crate::sys::failpoint::failpoint;
use crate::sys::fd::Fd;
use crate::sys::poll::{self, Interest, PollSet};
use std::io;

/// Keys of a poll set: the high half says what, the low half whose.
pub(crate) const BELL: u64 = 1 << 32;
pub(crate) const LIFELINE: u64 = 2 << 32;
pub(crate) const PIDFD: u64 = 3 << 32;
pub(crate) const TIMER: u64 = 4 << 32;
pub(crate) const FRONT: u64 = 5 << 32;
pub(crate) const OWNER: u64 = 6 << 32;
/// What a key is about.
pub(crate) const WHAT: u64 = 0xffff_ffff << 32;

/// See the module.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) end: PairEnd,
    mine: Doorbell,
    theirs: Bell,
    lifeline: Fd,
    pidfd: Option<Fd>,
    /// Something was taken since the other side was told last.
    taken: bool,
    /// Waits for a wake; the park number stands.
    parked: bool,
}

impl Link {
    pub(crate) fn new(
        end: PairEnd,
        mine: Doorbell,
        theirs: Bell,
        lifeline: Fd,
        pidfd: Option<Fd>,
    ) -> Link {
        end.note_cpu();
        Link { end, mine, theirs, lifeline, pidfd, taken: false, parked: false }
    }

    /// Enters what is watched into a set; `whose` is the low half of the keys.
    pub(crate) fn watch(&self, set: &PollSet, whose: u64) -> io::Result<()> {
        let bell = if self.mine.edge_triggered() { Interest::Edge } else { Interest::Level };
        set.add(self.mine.watched(), BELL | whose, bell)?;
        set.add(&self.lifeline, LIFELINE | whose, Interest::HangUp)?;
        match &self.pidfd {
            Some(pidfd) => set.add(pidfd, PIDFD | whose, Interest::Level),
            None => Ok(()),
        }
    }

    /// Takes everything out again, before it is closed.
    pub(crate) fn unwatch(&self, set: &PollSet) {
        set.remove(self.mine.watched());
        set.remove(&self.lifeline);
        if let Some(pidfd) = &self.pidfd {
            set.remove(pidfd);
        }
    }

    /// The socket that stays open.
    pub(crate) fn lifeline(&self) -> &Fd {
        &self.lifeline
    }

    /// The socket, when the rest is of no use.
    pub(crate) fn into_lifeline(self) -> Fd {
        self.lifeline
    }

    /// The bell fired.
    pub(crate) fn rung(&self) {
        self.mine.drain();
    }

    /// The other process is gone, by the pidfd; a hung-up lifeline alone does not say so.
    pub(crate) fn peer_died(&self) -> bool {
        self.pidfd.as_ref().is_some_and(poll::is_readable)
    }

    /// The next frame, copied out of the ring and released: `bytes` holds its body behind the head.
    #[inline]
    pub(crate) fn next(&mut self, bytes: &mut Vec<u8>) -> Result<Option<Head>, Violation> {
        let record = match self.end.rx.peek() {
            Ok(None) => return Ok(None),
            Ok(Some(Item::Data(record))) => record,
            Ok(Some(Item::End(_))) => return Err(Violation::Ring("an end of stream".to_owned())),
            Err(damage) => return Err(damaged(damage)),
        };
        bytes.clear();
        self.end.rx.append_to(&record, bytes);
        failpoint!("rpc.copied");
        self.end.rx.release(record.next());
        self.taken = true;
        failpoint!("rpc.taken");
        match bytes.first_chunk::<HEAD_LEN>() {
            Some(head) => Head::from_bytes(*head).map(Some),
            None => Err(Violation::Short(bytes.len())),
        }
    }

    /// The head of the next frame, which stays in the ring.
    pub(crate) fn peek(&mut self) -> Result<Option<(Head, Record)>, Violation> {
        let record = match self.end.rx.peek() {
            Ok(Some(Item::Data(record))) => record,
            // `next` tells what is wrong.
            Ok(_) | Err(_) => return Ok(None),
        };
        let mut head = [0; HEAD_LEN];
        if self.end.rx.copy_to(&record, &mut head) < HEAD_LEN {
            return Ok(None);
        }
        Head::from_bytes(head).map(|head| Some((head, record)))
    }

    /// The body of a frame where it lies, and the way out.
    pub(crate) fn in_place(&mut self, record: &Record) -> (&[u8], &mut RawProducer) {
        let PairEnd { tx, rx, .. } = &mut self.end;
        (rx.slice(record).get(HEAD_LEN..).unwrap_or_default(), tx)
    }

    /// Nobody looks at a frame any more that was used in place.
    pub(crate) fn release(&mut self, record: &Record) {
        self.end.rx.release(record.next());
        self.taken = true;
    }

    /// Publishes what was put, and rings the other side if it sleeps and this concerns it.
    #[inline]
    pub(crate) fn publish(&mut self) {
        let put = self.end.tx.has_staged();
        if put {
            failpoint!("rpc.staged");
            self.end.tx.publish();
            failpoint!("rpc.published");
        } else if !self.taken {
            return;
        }
        self.taken = false;
        if let Some(number) = self.end.sleeper(!put) {
            // An error: the other side has closed its end, which the lifeline tells.
            let _ = self.theirs.ring();
            failpoint!("rpc.rung");
            self.end.rung(number);
        }
    }

    /// Steps 1 and 2 of the sleeper. Look afterwards, and sleep only if there is nothing.
    pub(crate) fn park(&mut self, room: bool) {
        self.end.note_cpu();
        self.end.park(room);
        self.parked = true;
        failpoint!("rpc.parked");
    }

    /// Awake again.
    pub(crate) fn unpark(&mut self) {
        if std::mem::take(&mut self.parked) {
            self.end.unpark();
        }
    }

    /// A number stands, or stood until somebody rang for it.
    #[inline]
    pub(crate) fn is_parked(&self) -> bool {
        self.parked
    }

    /// How many frames may lie in the ring.
    pub(crate) fn most_frames(&self) -> usize {
        usize::try_from(self.end.rx.geometry().capacity()).unwrap_or(usize::MAX) / (8 + HEAD_LEN)
    }

    /// Nothing lies in the ring. Damage counts as something: the next look tells it.
    pub(crate) fn is_quiet(&mut self) -> bool {
        matches!(self.end.rx.peek(), Ok(None))
    }
}

fn damaged(damage: Damage) -> Violation {
    Violation::Ring(damage.to_string())
}

impl Port for Link {
    #[inline]
    fn put(&mut self, head: Head, body: &[u8]) -> Result<bool, Violation> {
        let len = HEAD_LEN + body.len();
        let reservation = match self.end.tx.reserve(len) {
            Ok(reservation) => reservation,
            Err(ReserveError::Full { .. }) => return Ok(false),
            Err(ReserveError::TooLarge { limit }) => return Err(Violation::TooLong(limit)),
            Err(ReserveError::Damage(damage)) => return Err(damaged(damage)),
        };
        let (front, back) = self.end.tx.slice_mut(&reservation).split_at_mut(HEAD_LEN);
        front.copy_from_slice(&head.to_bytes());
        back.copy_from_slice(body);
        self.end.tx.stage(reservation, len, 0, 0);
        Ok(true)
    }

    fn max_body(&self) -> usize {
        crate::rpc::limits::max_body(self.end.tx.geometry())
    }

    fn position(&self) -> u64 {
        self.end.tx.staged_end()
    }
}
