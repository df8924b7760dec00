//! What to create, and where each part of it lies.

use crate::error::{Fault, FaultKind};
use crate::layout::{HEADER_LEN, Kind, MAX_META, PAGE, PARAMS};
use crate::region::Subject;

/// Bytes of one slot.
pub(crate) const SLOT_LEN: u64 = 128;
/// Bytes of the door path area.
pub(crate) const DOOR_PATH_LEN: u64 = 128;

/// The wish of a creator.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) kind: Kind,
    /// Bytes of the kind area.
    pub(crate) kind_len: usize,
    /// Bytes of the meta area.
    pub(crate) meta_len: u64,
    /// Bytes of the payload.
    pub(crate) payload_len: u64,
    /// Words that belong to the kind.
    pub(crate) params: [u64; PARAMS],
    pub(crate) flags: u32,
    /// Permission bits of the file.
    pub(crate) mode: u32,
}

/// Offsets that follow from a kind and its sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) slots: u64,
    pub(crate) kind_off: u64,
    pub(crate) kind_len: u64,
    pub(crate) door_path_off: u64,
    /// 0 where there is no meta.
    pub(crate) meta_off: u64,
    pub(crate) payload_off: u64,
    pub(crate) total: u64,
}

impl Plan {
    /// Lays the parts out; `None` when the sum leaves the range of a file.
    pub(crate) fn new(kind: Kind, kind_len: u64, meta_len: u64, payload_len: u64) -> Option<Plan> {
        let slots = kind.slots() as u64;
        let kind_off = HEADER_LEN as u64 + slots * SLOT_LEN;
        let kind_len = kind_len.checked_next_multiple_of(128)?;
        let door_path_off = kind_off.checked_add(kind_len)?;
        let behind = door_path_off.checked_add(DOOR_PATH_LEN)?;
        let meta_off = if meta_len == 0 { 0 } else { behind };
        let payload_off = behind.checked_add(meta_len)?.checked_next_multiple_of(PAGE as u64)?;
        let total = payload_off.checked_add(payload_len)?;
        (total <= i64::MAX as u64 && usize::try_from(total).is_ok()).then_some(Plan {
            slots,
            kind_off,
            kind_len,
            door_path_off,
            meta_off,
            payload_off,
            total,
        })
    }
}

/// The owner reads and writes, and nobody executes.
pub(crate) fn check_mode(subject: impl std::fmt::Display, mode: u32) -> Result<(), Fault> {
    if mode & !0o666 == 0 && mode & 0o600 == 0o600 {
        return Ok(());
    }
    let cause = format!(
        "mode {mode:o}: the owner must be able to read and write, and nobody to execute (0600, 0640, \
         0660, ...)"
    );
    Err(Fault::new(FaultKind::InvalidOption, subject, cause))
}

impl Spec {
    /// The layout of this wish.
    pub(crate) fn plan(&self, subject: &Subject) -> Result<Plan, Fault> {
        check_mode(subject, self.mode)?;
        if self.meta_len > MAX_META {
            let cause = format!("a meta of {} bytes; it can have {MAX_META}", self.meta_len);
            return Err(Fault::new(FaultKind::InvalidOption, subject, cause));
        }
        let plan = Plan::new(self.kind, self.kind_len as u64, self.meta_len, self.payload_len);
        plan.ok_or_else(|| {
            let cause = format!("{} bytes are more than a file can hold", self.payload_len);
            Fault::new(FaultKind::InvalidOption, subject, cause)
        })
    }
}
