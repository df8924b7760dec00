//! Two rings in one thread, by an event loop of your own: here a bare epoll; any loop that can wait
//! for a descriptor will do.
//!
//! ```text
//! cargo run --example foreign_loop -- /left /right
//! cargo run --example blocking -- send /left one two
//! cargo run --example blocking -- send /right three
//! ```
//!
//! The rule: before you sleep, `arm`. True means that the descriptor becomes readable when there is
//! something to do; after that, `disarm`, and look again. False means: look again now.

use ringspan::{Consumer, Ring, TryPopError};
use rustix::event::epoll;
use std::error::Error;
use std::os::fd::AsFd;

fn main() -> Result<(), Box<dyn Error>> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut rings = Vec::new();
    for (index, name) in std::env::args().skip(1).enumerate() {
        let ring = Ring::options().capacity(64 << 10).ephemeral(true).open_or_create(&name)?;
        let mut rx = ring.consumer()?;
        rx.fileno()?; // makes the descriptor that `as_fd` borrows
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&epoll, rx.as_fd(), data, epoll::EventFlags::IN)?;
        rings.push((name, Some(rx)));
    }
    loop {
        for (name, end) in &mut rings {
            if let Some(rx) = end
                && drain(name, rx)?
            {
                epoll::delete(&epoll, rx.as_fd())?; // out of the loop before the handle goes
                *end = None;
            }
        }
        if rings.iter().all(|(_, end)| end.is_none()) {
            return Ok(());
        }
        let mut fired = Vec::with_capacity(rings.len());
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut fired), None)?;
        for event in fired {
            if let Some(rx) = &mut rings[event.data.u64() as usize].1 {
                rx.disarm()?;
            }
        }
    }
}

/// Prints what is there; true at the end of the stream, false when it is armed for sleep.
fn drain(name: &str, rx: &mut Consumer) -> Result<bool, Box<dyn Error>> {
    loop {
        match rx.try_pop() {
            Ok(message) => {
                println!("{name}: {}", String::from_utf8_lossy(&message));
                continue;
            }
            Err(TryPopError::Closed) => return Ok(true),
            Err(TryPopError::Empty) => {}
            Err(other) => return Err(other.into()),
        }
        if rx.arm()? {
            return Ok(false);
        }
    }
}
