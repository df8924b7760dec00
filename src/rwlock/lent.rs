//! The policy of staying awake, which one waiter of a handle has at a time.

use crate::layout::Slot;
use crate::notify::awake::Awake;
use crate::sync::Mutex;

/// Lends the policy of staying awake to one waiter; the others park at once.
pub(super) struct Lent<'a> {
    place: &'a Mutex<Option<Awake>>,
    awake: Option<Awake>,
}

impl<'a> Lent<'a> {
    pub(super) fn from(place: &'a Mutex<Option<Awake>>) -> Lent<'a> {
        let mut lent = Lent::none(place);
        lent.borrow();
        lent
    }

    /// Not lent yet.
    pub(super) fn none(place: &'a Mutex<Option<Awake>>) -> Lent<'a> {
        Lent { place, awake: None }
    }

    pub(super) fn borrow(&mut self) {
        // Taken by somebody just now (or, in a forked child, for ever): then it is not for us.
        if self.awake.is_none()
            && let Ok(mut place) = self.place.try_lock()
        {
            self.awake = place.take();
        }
    }

    /// One more look instead of a park?
    pub(super) fn stay(&mut self, owner: &Slot) -> bool {
        let Some(awake) = &mut self.awake else { return false };
        let stays = awake.stay(owner);
        if !stays {
            awake.parks();
        }
        stays
    }

    /// What we waited for came.
    pub(super) fn came(&mut self) {
        if let Some(awake) = &mut self.awake {
            awake.came();
        }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(mut awake) = self.awake.take() {
            awake.gave_up();
            // Failing that it is lost, and nobody stays awake from now on: in a forked child.
            if let Ok(mut place) = self.place.try_lock() {
                *place = Some(awake);
            }
        }
    }
}
