//! The value: `blocking_set_bytes` and `get_bytes_into`.

use ringspan::Value;

use crate::latest::Latest;
use crate::link::{Place, Res};

/// Room for the size of the cell from the start.
pub struct Blocking(Value<()>);

impl Latest for Blocking {
    fn open(place: &Place, _parent: bool) -> Res<Self> {
        let options = Value::options().capacity(place.size as u64).ephemeral(true);
        Ok(Self(options.open_or_create(&format!("/{}-value", place.name))?))
    }

    #[inline]
    fn set(&mut self, bytes: &[u8]) -> Res<()> {
        self.0.blocking_set_bytes(bytes, None)?;
        Ok(())
    }

    #[inline]
    fn get(&mut self, bytes: &mut Vec<u8>) -> Res<()> {
        if self.0.get_bytes_into(bytes)? { Ok(()) } else { Err("it was never set".into()) }
    }
}
