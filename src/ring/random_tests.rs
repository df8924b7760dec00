//! Random programs: framing against a queue, an end that always fits, garbage in every word.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::raw_consumer::{Item, RawConsumer};
use super::raw_frame::{EndReason, Geometry, data_word, end_word, filler_word};
use super::raw_producer::{RawProducer, ReserveError};
#[cfg(feature = "python")]
use super::raw_quota::{Glance, glance};
use super::raw_tests::{Heap, Seen, drain, take};
use crate::sync::Ordering;

#[derive(Debug, Clone)]
enum Act {
    /// Reserve, write and stage the first part.
    Stage {
        reserved: u64,
        used: u64,
        tag: u8,
    },
    /// Reserve and forget.
    Reserve(u64),
    Publish,
    Rollback,
    /// The producer ends its stream and another one comes.
    Close,
    /// The producer gives the role up, and another one comes.
    Detach,
    /// The producer is gone without a word, and another one comes.
    ProducerDies,
    /// The same, and the consumer tells it before the next one can.
    DeathIsTold,
    /// The consumer is gone without a word, and another one comes.
    ConsumerDies,
    /// Takes up to so many and releases them at once.
    Take(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        8 => (any::<u64>(), any::<u64>(), any::<u8>())
            .prop_map(|(reserved, used, tag)| Act::Stage { reserved, used, tag }),
        1 => any::<u64>().prop_map(Act::Reserve),
        5 => Just(Act::Publish),
        1 => Just(Act::Rollback),
        1 => Just(Act::Close),
        1 => Just(Act::Detach),
        1 => Just(Act::ProducerDies),
        1 => Just(Act::DeathIsTold),
        1 => Just(Act::ConsumerDies),
        6 => (0..6_usize).prop_map(Act::Take),
    ];
    prop::collection::vec(act, 1..200)
}

/// The ring, and what it should hold.
struct Bench {
    heap: Heap,
    tx: RawProducer,
    rx: RawConsumer,
    tag: u64,
    /// Something of the present tag is published.
    wrote: bool,
    staged: Vec<Seen>,
    published: VecDeque<Seen>,
    count: u8,
}

impl Bench {
    fn new(geometry: (u64, u64), quota: Option<u64>, at: u64) -> Self {
        let mut heap = Heap::new(geometry.0, Some(geometry.1)).at(at);
        heap.geometry = heap.geometry.with_quota(quota);
        let (tx, rx) = (heap.producer(1), heap.consumer());
        let (staged, published) = (Vec::new(), VecDeque::new());
        Bench { heap, tx, rx, tag: 1, wrote: false, staged, published, count: 0 }
    }

    /// What messages count as against a quota.
    fn counted<'a>(seen: impl IntoIterator<Item = &'a Seen>) -> u64 {
        seen.into_iter()
            .map(
                |seen| if let Seen::Message(bytes, ..) = seen { bytes.len() + 4 } else { 0 } as u64,
            )
            .sum()
    }

    /// Both ends and an onlooker agree on it.
    fn check_counts(&mut self) {
        let published = Bench::counted(&self.published);
        assert_eq!(self.rx.used(), Ok(published));
        #[cfg(feature = "python")]
        assert!(matches!(glance(&self.heap.memory()), Glance::Still(sum) if sum == published));
        if let Some(quota) = self.heap.geometry.quota() {
            let both = published + Bench::counted(&self.staged);
            assert!(both <= quota);
            // Staged or not: it counts them when it next needs to know.
            assert!((published..=both).contains(&self.tx.used().unwrap()));
        }
    }

    /// The next producer, which ends the stream of the one before.
    fn succeed(&mut self) {
        self.staged.clear();
        let owed = std::mem::take(&mut self.wrote);
        if owed {
            self.published.push_back(Seen::End(self.tag, EndReason::Died));
        }
        self.tag += 1;
        self.tx = self.heap.producer(self.tag);
        assert_eq!(self.tx.begin(), Ok(owed), "an end always fits");
    }

    fn publish(&mut self) {
        self.wrote |= !self.staged.is_empty();
        self.published.extend(self.staged.drain(..));
    }

    fn stage(&mut self, reserved: usize, used: usize, tag: u8) {
        let needs = self.tx.needs(reserved);
        let free = self.tx.free().unwrap();
        let counts =
            Bench::counted(self.published.iter().chain(&self.staged)) + reserved as u64 + 4;
        let quota = self.heap.geometry.quota().unwrap_or(u64::MAX);
        let room = match self.tx.reserve(reserved) {
            Ok(room) => room,
            Err(ReserveError::TooLarge { limit }) => {
                assert!(limit == quota.saturating_sub(4) && reserved as u64 + 4 > quota);
                return;
            }
            Err(error) => {
                assert_eq!(error, ReserveError::Full { needs, free });
                assert!(needs > free || counts > quota);
                return;
            }
        };
        assert!(needs <= free && counts <= quota);
        self.count = self.count.wrapping_add(1);
        let bytes = vec![self.count; used];
        if tag.is_multiple_of(2) {
            assert_eq!(self.tx.write(&room, &bytes), used);
        } else {
            self.tx.slice_mut(&room)[..used].copy_from_slice(&bytes);
        }
        self.tx.stage(room, used, tag, tag);
        self.staged.push(Seen::Message(bytes, tag, tag & !3));
    }

    fn act(&mut self, act: Act) {
        let limit = self.heap.geometry.max_message() + 1;
        match act {
            Act::Stage { reserved, used, tag } => {
                let reserved = reserved % limit;
                self.stage(reserved as usize, (used % (reserved + 1)) as usize, tag);
            }
            Act::Reserve(len) => drop(self.tx.reserve((len % limit) as usize)),
            Act::Publish => {
                self.tx.publish();
                self.publish();
            }
            Act::Rollback => {
                self.tx.rollback();
                self.staged.clear();
            }
            Act::Close => {
                self.publish();
                let written = self.tx.close(EndReason::Closed).expect("an end always fits");
                assert_eq!(self.tx.close(EndReason::Closed), Ok(false));
                if written {
                    self.published.push_back(Seen::End(self.tag, EndReason::Closed));
                } else {
                    assert!(!self.wrote);
                    assert!(matches!(self.published.back(), Some(Seen::End(..))));
                }
                self.wrote = false;
                self.succeed();
            }
            Act::Detach => {
                self.publish();
                self.tx.detach();
                self.wrote = false;
                self.succeed();
            }
            Act::ProducerDies => self.succeed(),
            Act::DeathIsTold => {
                let cut = self.wrote && self.published.is_empty();
                assert_eq!(self.rx.cut_short(self.tag), Ok(cut));
                if cut {
                    self.rx.note_end(self.tag);
                    assert_eq!(self.rx.cut_short(self.tag), Ok(false));
                }
                self.succeed();
                if cut {
                    self.published.clear();
                }
            }
            Act::ConsumerDies => self.rx = self.heap.consumer(),
            Act::Take(most) => self.take(most),
        }
    }

    fn take(&mut self, most: usize) {
        let mut cursor = self.rx.head();
        for _ in 0..most {
            match self.rx.peek_at(cursor).unwrap() {
                Some(Item::Data(record)) => {
                    let bytes = self.rx.slice(&record).to_vec();
                    let seen = Seen::Message(bytes, record.tag(), record.flags());
                    assert_eq!(Some(seen), self.published.pop_front());
                    cursor = record.next();
                }
                Some(Item::End(end)) if cursor == self.rx.head() => {
                    if self.rx.take_end(&end) {
                        let seen = Seen::End(end.tag(), end.reason());
                        assert_eq!(Some(seen), self.published.pop_front());
                    }
                    cursor = self.rx.head();
                }
                Some(Item::End(_)) => break,
                None => {
                    assert!(self.published.is_empty());
                    break;
                }
            }
        }
        self.rx.release(cursor);
    }
}

/// Geometries with small and with the largest messages.
fn geometry() -> impl Strategy<Value = (u64, u64)> {
    (6..10_u32, any::<u64>()).prop_map(|(log, message)| {
        let limit = Geometry::limit(1 << log);
        (1 << log, if message % 2 == 0 { limit } else { 1 + message % limit })
    })
}

/// None, or one that is small for what a ring of [`geometry`] holds.
fn quota() -> impl Strategy<Value = Option<u64>> {
    prop::option::of(0..600_u64)
}

/// Words that nearly make sense, and words that do not.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (0..300_u32, any::<u8>(), any::<u8>()).prop_map(|(len, tag, f)| data_word(len, tag, f)),
        (1..40_u64).prop_map(|eighth| filler_word(eighth * 8)),
        Just(end_word()),
        0..4_u64,
        (0..40_u64).prop_map(|eighth| eighth * 8),
        (1..40_u64).prop_map(|eighth| 0_u64.wrapping_sub(eighth * 8)),
    ]
}

/// Uses both ends as far as they go; nothing here may panic or go on for ever.
fn use_both(heap: &mut Heap, producer: Option<RawProducer>, consumer: Option<RawConsumer>) {
    let capacity = heap.geometry.capacity();
    if let Some(mut rx) = consumer {
        let mut cursor = rx.head();
        let mut steps = 0;
        while let Ok(Some(item)) = rx.peek_at(cursor) {
            steps += 1;
            assert!(steps <= capacity / 8, "more records than the ring can hold");
            match item {
                Item::Data(record) => {
                    assert!(rx.slice(&record).len() == record.len());
                    let mut copy = Vec::new();
                    rx.append_to(&record, &mut copy);
                    assert_eq!(copy.len(), record.len());
                    assert!(copy.len() as u64 <= heap.geometry.max_message());
                    cursor = record.next();
                    if record.tag() % 2 == 0 {
                        rx.release(cursor);
                    }
                }
                Item::End(end) => {
                    rx.take_end(&end);
                    cursor = rx.head();
                }
            }
        }
        let _ = (rx.len(), rx.used(), rx.cut_short(1));
    }
    if let Some(mut tx) = producer {
        let _ = (tx.begin(), tx.len(), tx.free());
        for len in 0..capacity {
            if let Ok(room) = tx.reserve(len as usize) {
                assert_eq!(tx.slice_mut(&room).len(), len as usize);
                tx.commit(room, len as usize / 2, 0, 0);
            }
        }
        let _ = (tx.used(), tx.close(EndReason::Closed));
    }
    #[cfg(feature = "python")]
    let _ = glance(&heap.memory());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_programs_match_a_queue(
        geometry in geometry(),
        quota in quota(),
        counts in any::<bool>(),
        at in any::<u64>(),
        acts in acts(),
    ) {
        let mut bench = Bench::new(geometry, quota, at & !7);
        for act in acts {
            bench.act(act);
            if counts {
                bench.check_counts();
            }
        }
        // Whatever state that is: the end fits, and the rest comes out whole.
        bench.act(Act::Close);
        prop_assert_eq!(drain(&mut bench.rx), Vec::from(bench.published));
        prop_assert_eq!(take(&mut bench.rx), None);
        prop_assert_eq!(bench.heap.free(), bench.heap.geometry.capacity());
    }

    #[test]
    fn garbage_before_attaching_is_only_damage(
        geometry in geometry(),
        quota in quota(),
        payload in prop::collection::vec(word(), 64),
        words in [word(), word(), word(), word(), word()],
    ) {
        let mut heap = Heap::new(geometry.0, Some(geometry.1));
        heap.geometry = heap.geometry.with_quota(quota);
        heap.payload.iter_mut().zip(payload.iter().cycle()).for_each(|(to, w)| *to = w.to_le());
        scribble(&heap, words, 5);
        let (tx, rx) = (RawProducer::new(heap.memory(), 1), RawConsumer::new(heap.memory()));
        use_both(&mut heap, tx.ok(), rx.ok());
    }

    #[test]
    fn garbage_behind_the_ends_is_only_damage(
        geometry in geometry(),
        quota in quota(),
        at in any::<u64>(),
        acts in acts(),
        payload in prop::collection::vec(word(), 64),
        words in [word(), word(), word(), word(), word()],
        how_many in 0..6_usize,
    ) {
        let mut bench = Bench::new(geometry, quota, at & !7);
        for act in acts {
            bench.act(act);
        }
        let Bench { mut heap, tx, rx, .. } = bench;
        heap.payload.iter_mut().zip(payload.iter().cycle()).for_each(|(to, w)| *to = w.to_le());
        scribble(&heap, words, how_many);
        use_both(&mut heap, Some(tx), Some(rx));
    }
}

fn scribble(heap: &Heap, words: [u64; 5], how_many: usize) {
    let (tx, rx) = (&heap.indices.producer, &heap.indices.consumer);
    let places = [&tx.tail, &rx.head, &tx.writer, &tx.ending, &rx.ended];
    for (place, word) in places.into_iter().zip(words).take(how_many) {
        place.store(word, Ordering::Relaxed);
    }
}
