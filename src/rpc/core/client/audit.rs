//! The books of the client's half, counted again after every step of a test.

use super::ClientCore;

impl ClientCore {
    /// Counts everything again.
    pub(in crate::rpc::core) fn audit(&self) {
        let calls = || self.places.iter().filter_map(|place| place.call.as_ref());
        let charged = || calls().filter_map(|call| call.charged);
        assert_eq!(self.in_flight as usize, charged().count());
        assert_eq!(self.bytes, charged().sum::<u64>());
        assert_eq!(self.orphans as usize, calls().filter(|call| call.orphan).count());
        assert!(self.in_flight <= self.grant.max_pending);
        assert!(self.bytes <= self.grant.max_inflight_bytes);
        assert_eq!(self.places.len(), self.free.len() + calls().count());
        self.outbox.audit();
        self.partial.audit();
        let open = |id: u64| {
            let place = &self.places[(id & 0xffff_ffff) as usize];
            let call = place.call.as_ref().filter(|_| u64::from(place.generation) == id >> 32);
            call.is_some_and(|call| !call.closed)
        };
        assert!(self.partial.ids().all(open), "parts of a message that never comes");
        assert!(self.queue.iter().all(|(id, _)| open(*id)));
    }

    #[cfg(test)]
    pub(in crate::rpc::core) fn deadlines(&self) -> usize {
        self.timers.len()
    }

    /// Bytes of answers and of parts of them.
    pub(in crate::rpc::core) fn held(&self) -> usize {
        let calls = self.places.iter().filter_map(|place| place.call.as_ref());
        let items = calls.filter_map(|call| call.items.as_ref()).flat_map(|items| &items.ready);
        let parts = self.partial.ids().map(|id| self.partial.len(id));
        items.map(|item| item.body.len()).chain(parts).sum()
    }

    pub(in crate::rpc::core) fn assert_empty(&self) {
        assert_eq!((self.in_flight(), self.in_flight, self.orphans, self.bytes), (0, 0, 0, 0));
        assert!(self.outbox.is_empty() && self.partial.ids().count() == 0);
        assert_eq!(self.places.len(), self.free.len());
    }
}
