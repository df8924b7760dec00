//! The list of cells, and what runs one.

use std::cell::Cell as StdCell;
use std::fmt::Write as _;
use std::time::Duration;

use crate::bare::{copied, eventfd, line, ring};
use crate::child::{CPU, NAME, watchdog};
use crate::link::{Link, Place, Res};
use crate::measure::{self, Outcome};
use crate::{latest, memory, os};

/// Where the two processes run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pin {
    /// Each on a processor of its own.
    Apart,
    /// Both on one.
    Same,
    /// There is only one process.
    One,
    /// There is only one process, and its threads may run anywhere.
    Any,
}

impl Pin {
    fn name(self) -> &'static str {
        match self {
            Self::Apart => "apart",
            Self::Same => "same",
            Self::One => "one",
            Self::Any => "any",
        }
    }
}

/// Which side of the cell this process is.
pub enum Side<'a> {
    /// Holds the clock; measures for so many seconds.
    Parent(f64),
    /// Does what the parent asks.
    Child(&'a Place),
}

/// What does the work of a cell, on either side.
pub type Run = Box<dyn Fn(&Cell, &Place, &Side<'_>) -> Res<Outcome>>;

/// One measurement that `run.py` can ask for.
pub struct Cell {
    /// What is measured: `stream`, `rtt`, `memory`, `large`, `idle`; `lock-...` and `handover...`;
    /// `value-...` and `changed`; `rpc-...`.
    pub kind: &'static str,
    /// Bytes of a message.
    pub size: usize,
    /// Where the processes run.
    pub pin: Pin,
    /// Who is measured.
    pub subject: &'static str,
    /// `bare`, `peer` or `ringspan`.
    pub class: &'static str,
    /// `tokio`, `parks`, `spins` or `-`: how the subject waits.
    pub waits: &'static str,
    /// Bytes one direction of the connection holds.
    pub capacity: usize,
    /// Does the work.
    pub run: Run,
}

impl Cell {
    /// The name `run.py` uses.
    pub fn id(&self) -> String {
        format!("{}/{}/{}/{}", self.kind, self.size, self.pin.name(), self.subject)
    }
}

/// Who is measured, before sizes and pinnings multiply it.
#[derive(Clone, Copy)]
pub struct Subject {
    /// See [`Cell::subject`].
    pub name: &'static str,
    /// See [`Cell::class`].
    pub class: &'static str,
    /// See [`Cell::waits`].
    pub waits: &'static str,
}

/// The bytes a connection holds for messages of `size`: 1 MiB as ringspan's default, 8 MiB
/// where messages are large.
pub fn capacity(size: usize) -> usize {
    if size >= 64 << 10 { memory::FOOTPRINT } else { 1 << 20 }
}

/// Streams of the given sizes, both sides on processors of their own.
pub fn streams<L: Link + 'static>(cells: &mut Vec<Cell>, who: Subject, sizes: &[usize]) {
    for &size in sizes {
        let run = |_: &Cell, place: &Place, side: &Side<'_>| match side {
            Side::Parent(seconds) => measure::stream::<L>(place, *seconds),
            Side::Child(place) => measure::serve::<L>(place).map(|()| Outcome::default()),
        };
        cells.push(cell("stream", size, Pin::Apart, who, Box::new(run)));
    }
}

/// Round trips of 64 bytes. `block` trips share a reading of the clock: 1 where they sleep.
pub fn trips<L: Link + 'static>(cells: &mut Vec<Cell>, who: Subject, pins: &[Pin], block: u64) {
    trips_as::<L>("rtt", cells, who, pins, block);
}

/// The same for a table of their own.
pub fn trips_as<L: Link + 'static>(
    kind: &'static str,
    cells: &mut Vec<Cell>,
    who: Subject,
    pins: &[Pin],
    block: u64,
) {
    for &pin in pins {
        let run = move |_: &Cell, place: &Place, side: &Side<'_>| match side {
            Side::Parent(seconds) => measure::round_trip::<L>(place, *seconds, block),
            Side::Child(place) => measure::serve::<L>(place).map(|()| Outcome::default()),
        };
        cells.push(cell(kind, 64, pin, who, Box::new(run)));
    }
}

/// A cell with the usual capacity.
pub fn cell(kind: &'static str, size: usize, pin: Pin, who: Subject, run: Run) -> Cell {
    let Subject { name, class, waits } = who;
    Cell { kind, size, pin, subject: name, class, waits, capacity: capacity(size), run }
}

/// 64 B, 1 KiB, 64 KiB, 1 MiB.
pub const SIZES: [usize; 4] = [64, 1 << 10, 64 << 10, 1 << 20];
/// On two processors, and on one.
pub const BOTH: [Pin; 2] = [Pin::Apart, Pin::Same];

fn bare(cells: &mut Vec<Cell>) {
    let bare = |name, waits| Subject { name, class: "bare", waits };
    streams::<ring::Ring<1>>(cells, bare("bare-spin-ring", "spins"), &SIZES);
    streams::<ring::Ring<16>>(cells, bare("bare-spin-ring-16", "spins"), &SIZES[..2]);
    trips::<line::Line>(cells, bare("bare-spin-line", "spins"), &BOTH[..1], 64);
    trips::<ring::Ring<1>>(cells, bare("bare-spin-ring", "spins"), &BOTH[..1], 64);
    trips::<eventfd::Blocking>(cells, bare("bare-eventfd", "parks"), &BOTH, 1);
    trips::<eventfd::Async>(cells, bare("bare-eventfd-tokio", "tokio"), &BOTH, 1);
    // Once more beside the calls, which are held against it.
    trips_as::<eventfd::Async>("rpc-add", cells, bare("bare-eventfd-tokio", "tokio"), &BOTH, 1);
    latest::latest::<copied::Copied>(cells, bare("bare-memcpy", "-"));
    for (name, work) in [
        ("bare-memcpy", memory::copy as fn(usize, f64) -> Res<Outcome>),
        ("bare-fill-sum", memory::fill_and_sum),
    ] {
        let run = move |cell: &Cell, _: &Place, side: &Side<'_>| match side {
            Side::Parent(seconds) => work(cell.size, *seconds),
            Side::Child(_) => Err("this cell has one process".into()),
        };
        cells.push(cell("memory", 1 << 20, Pin::One, bare(name, "-"), Box::new(run)));
    }
}

fn all() -> Vec<Cell> {
    let mut cells = Vec::new();
    bare(&mut cells);
    #[cfg(feature = "ringspan")]
    crate::ours::cells(&mut cells);
    #[cfg(feature = "peers")]
    crate::peers::cells(&mut cells);
    cells
}

/// Every cell as a JSON array. The words contain nothing that would need escaping.
pub fn list() -> String {
    let lines: Vec<String> = all()
        .iter()
        .map(|c| {
            format!(
                r#"{{"id":"{}","kind":"{}","size":{},"pin":"{}","subject":"{}","class":"{}","waits":"{}"}}"#,
                c.id(), c.kind, c.size, c.pin.name(), c.subject, c.class, c.waits
            )
        })
        .collect();
    format!("[{}]", lines.join(",\n "))
}

fn find(id: &str) -> Res<Cell> {
    all().into_iter().find(|c| c.id() == id).ok_or_else(|| format!("no such cell: {id}").into())
}

fn place(cell: &Cell, name: String, extra: Vec<String>) -> Place {
    Place {
        name,
        cell: cell.id(),
        size: cell.size,
        capacity: cell.capacity,
        extra,
        child_cpu: None,
        child: StdCell::new(None),
    }
}

/// Measures one cell and prints one line of JSON.
pub fn run(id: &str, seconds: f64) -> Res<()> {
    let cell = find(id)?;
    watchdog(Duration::from_secs_f64(20.0 + 20.0 * seconds));
    let name = format!("ringspan-compare-{}", std::process::id());
    let mut place = place(&cell, name, Vec::new());
    let cpus = os::cpus()?;
    let wanted = usize::from(cell.pin == Pin::Apart);
    place.child_cpu = Some(*cpus.get(wanted).ok_or("this cell needs two processors")?);
    if cell.pin != Pin::Any {
        os::pin(*cpus.first().ok_or("no processor is allowed")?)?;
    }
    let found = (cell.run)(&cell, &place, &Side::Parent(seconds))?;
    let mut line = format!(r#"{{"id":"{id}","value":{:e},"more":{{"#, found.value);
    for (n, (name, value)) in found.more.iter().enumerate() {
        let comma = if n == 0 { "" } else { "," };
        write!(line, r#"{comma}"{name}":{value:e}"#)?;
    }
    println!("{line}}}}}");
    Ok(())
}

/// The other process of a cell.
pub fn child(id: &str, extra: Vec<String>) -> Res<()> {
    let cell = find(id)?;
    os::pin(std::env::var(CPU)?.parse()?)?;
    let place = place(&cell, std::env::var(NAME)?, extra);
    (cell.run)(&cell, &place, &Side::Child(&place)).map(drop)
}
