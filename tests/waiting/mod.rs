//! A process that waits for a change of a segment, and how to see that it does.

use crate::common::{Peer, say};
use ringspan::Segment;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Says each version that comes.
pub(crate) fn wait(name: &str, on_tokio: bool) {
    let seg = Segment::open(name).unwrap();
    let runtime = runtime();
    let mut seen = seg.version().unwrap();
    say("ready");
    loop {
        let changed = match on_tokio {
            true => runtime.block_on(seg.changed(seen)),
            false => seg.blocking_changed(seen, None),
        };
        match changed {
            Ok(version) => seen = version,
            Err(err) => return say(format!("{:?}", err.fault().kind())),
        }
        say(seen);
    }
}

/// Parked, as far as can be seen: somebody is attached with that pid.
fn attached(name: &str, pid: u32) -> bool {
    let list = ringspan::segments().unwrap();
    let info = list.iter().find(|info| info.name == name);
    info.is_some_and(|info| info.attached.iter().any(|a| a.pid == pid && a.alive == Some(true)))
}

pub(crate) fn until_attached(name: &str, peer: &Peer) {
    while !attached(name, peer.pid()) {
        std::thread::yield_now();
    }
}
