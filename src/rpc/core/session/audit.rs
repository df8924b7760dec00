//! The books of the server's half, counted again after every step of a test.

use super::Session;

impl Session {
    /// Counts everything again.
    pub(in crate::rpc::core) fn audit(&self) {
        assert_eq!(self.calls as usize, self.running.len() + self.pending.len());
        assert_eq!(self.unread as usize, self.outbox.ends());
        assert!(self.calls + self.unread <= self.grant.max_pending);
        let pending = self.pending.iter().map(|pending| pending.call.charge);
        let running = self.running.values().map(|running| running.charge);
        assert_eq!(self.bytes, pending.chain(running).sum::<u64>());
        assert!(self.bytes + self.partial_bytes <= self.grant.max_inflight_bytes);
        assert_eq!(
            self.partial_bytes,
            self.partial.ids().map(|id| self.partial.len(id) as u64).sum::<u64>()
        );
        self.outbox.audit();
        self.partial.audit();
    }

    /// Messages that wait for room.
    pub(in crate::rpc::core) fn waiting(&self) -> usize {
        self.outbox.count()
    }

    #[cfg(test)]
    pub(in crate::rpc::core) fn assert_empty(&self) {
        assert_eq!((self.calls, self.unread, self.bytes, self.partial_bytes), (0, 0, 0, 0));
        assert!(self.outbox.is_empty() && self.running.is_empty() && self.pending.is_empty());
        assert_eq!(self.partial.count(), 0);
    }
}
