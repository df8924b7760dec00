//! Clients that send garbage, lie, flood, never read or never speak harm only themselves: the server lives,
//! its memory for them stays under what it announces, its descriptors come back, and an honest client
//! beside them gets every answer.

#![allow(unsafe_code, reason = "the memory of a connection by hand")]

mod common;
mod rpc_by_hand;
mod rpc_enemies;
mod stage;

use common::{Peer, path_of, say};
use ringspan::rpc::{CallError, Client};
use rpc_by_hand::{CALL, Hand, RAW, frame, front_door, receive, tag_of};
use rpc_enemies::{SORTS, answers, ask, descriptors, limits, play, resident};
use rustix::process::Signal;
use stage::{Test, doors, role, scaled, until};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Does nothing unless it is a child. A crash or a panic is its bad end.
#[test]
fn child_entry() {
    let Some(role) = role() else { return };
    match role.role.as_str() {
        "stranger" => is_strange(&role.name),
        "stopped" => stops(&role.name),
        _ => play(&role, path_of(&role.name)),
    }
    std::process::exit(0);
}

struct House {
    server: Peer,
    good: Peer,
}

impl House {
    fn new(test: &Test) -> House {
        // What is freed goes back to the system, so that what is resident is in use.
        let mut server = Peer::spawn_with("server", &[&test.name, ""], |command| {
            command.env("MALLOC_MMAP_THRESHOLD_", "65536").env("MALLOC_TRIM_THRESHOLD_", "65536");
        });
        server.expect("ready");
        let mut good = test.spawn("good", "8");
        good.expect("ready");
        House { server, good }
    }

    /// The honest client has had so many answers more.
    fn goes_on(&mut self, more: u64) {
        let before = answers(&mut self.good);
        until(|| answers(&mut self.good) >= before + more);
    }

    /// Only the honest client is there, and what the others had is given back.
    fn is_alone(&mut self, descriptors_before: usize) {
        let pid = self.server.pid();
        let server = &mut self.server;
        until(|| {
            let now = ask(server);
            let alone = now.clients == 1 && now.running == 0 && now.in_flight <= 8;
            alone && descriptors(pid) == descriptors_before
        });
    }
}

#[test]
fn garbage_and_lies_harm_only_their_sender() {
    let test = Test::lasting("hostile clients", Duration::from_secs(120));
    let mut house = House::new(&test);
    let pid = house.server.pid();
    house.goes_on(5000);
    let (before, files) = (resident(pid), descriptors(pid));
    let only = std::env::var("RINGSPAN_SORT").ok();
    for (sort, breach) in
        SORTS.iter().filter(|(sort, _)| only.as_deref().is_none_or(|only| only == *sort))
    {
        let violations = ask(&mut house.server).violations;
        let mut enemy = test.spawn("enemy", sort);
        enemy.expect("ready");
        let (mut most, end) = (0, Instant::now() + Duration::from_millis(scaled(250)));
        while Instant::now() < end {
            most = most.max(resident(pid).saturating_sub(before));
            std::thread::sleep(Duration::from_millis(1));
        }
        house.goes_on(100);
        // It may not have had its turn yet.
        until(|| *breach != Some(true) || ask(&mut house.server).violations > violations);
        most = most.max(resident(pid).saturating_sub(before));
        // A handler at work has its arguments and its result beside that.
        let at_work = if *sort == "large answers" { limits().max_message } else { 0 };
        let bound = limits().memory_per_client() + at_work;
        if std::env::var_os("RINGSPAN_SHOW").is_some() {
            eprintln!("{sort:>16}: {most:>8} bytes of {bound}, {:?}", ask(&mut house.server));
        }
        assert!(most <= bound, "{sort}: {most} bytes for one client, {bound} are announced");
        enemy.say("stop");
        let rounds: u64 = enemy.hear().parse().unwrap();
        enemy.finish();
        assert!(rounds > 0, "{sort}: it never came in");
        house.is_alone(files);
        if *breach == Some(false) {
            let seen = ask(&mut house.server).violations - violations;
            assert_eq!(seen, 0, "{sort}: violations in {rounds} rounds");
        }
    }
    assert!(!house.server.has_ended() && !house.good.has_ended());
    end(&test, house);
}

/// The server is told to leave, and the children's doors are swept.
fn end(test: &Test, house: House) {
    drop(house.good);
    ringspan::remove(&test.name).unwrap();
    house.server.finish();
    test.sweep_doors();
}

/// Killed in the midst of whatever it does.
#[test]
fn a_killed_enemy_leaves_nothing() {
    let test = Test::new("killed enemies");
    let mut house = House::new(&test);
    house.goes_on(100);
    let files = descriptors(house.server.pid());
    for sort in ["too many calls", "large answers", "streams", "credits", "noise", "idle"] {
        let mut enemies: Vec<Peer> = (0..3).map(|_| test.spawn("enemy", sort)).collect();
        enemies.iter_mut().for_each(|enemy| enemy.expect("ready"));
        house.goes_on(200);
        enemies.iter_mut().for_each(Peer::kill9);
        house.is_alone(files);
    }
    end(&test, house);
}

/// O_NONBLOCK is of the open file, and an eventfd is one open file of two processes: a client that took the
/// flag off its own and filled it would make the server's write wait. The server writes to a socket.
#[test]
fn a_bell_that_waits_holds_nobody_up() {
    let test = Test::new("waiting bells");
    let mut house = House::new(&test);
    let mut enemy = test.spawn("enemy", "waiting bells");
    enemy.expect("ready");
    std::thread::sleep(Duration::from_millis(200));
    house.goes_on(1000);
    enemy.kill9();
    end(&test, house);
}

/// Sends until nothing more goes in, then stops itself.
fn stops(name: &str) {
    let mut hand = Hand::connect(&front_door(&doors(), tag_of(&path_of(name)))).unwrap();
    let mut n = 0;
    while n < 60 {
        assert!(hand.must_put(&frame(CALL, RAW, 0, 0, n, &[1; 4000])));
        n += 1;
    }
    say(n);
    // To this very thread: sent to the process, another one takes it, and this one runs on a while.
    // SAFETY: a signal that no handler can catch.
    unsafe { libc::raise(libc::SIGSTOP) };
    while n > 0 {
        let answer = hand.must_take().expect("it waited for us");
        assert_eq!(answer.len(), 16 + 4000);
        n -= 1;
    }
    say("all");
}

#[test]
fn one_that_is_stopped_is_waited_for_and_nobody_else_waits() {
    let test = Test::new("a stopped client");
    let mut house = House::new(&test);
    let mut stopped = test.spawn("stopped", "");
    stopped.expect("60");
    until(|| stage::state(stopped.pid()) == Some('T'));
    house.goes_on(5000);
    assert_eq!(ask(&mut house.server).clients, 2, "a stop is no death");
    stopped.signal(Signal::CONT);
    stopped.expect("all");
    stopped.finish();
    end(&test, house);
}

/// As another user, who may pass the directory and open the socket.
fn is_strange(name: &str) {
    let door = front_door(&doors(), tag_of(&path_of(name)));
    rustix::thread::set_thread_uid(rustix::fs::Uid::from_raw(65_534)).unwrap();
    let socket = UnixStream::connect(&door).unwrap();
    // Not a word, though it waits for one, and says what would break the server's protocol.
    let _ = rustix::net::send(&socket, b"let me in", rustix::net::SendFlags::NOSIGNAL);
    assert!(receive(&socket).is_none(), "a stranger was spoken to");
    let err = Client::blocking_connect(name, Duration::from_secs(5)).unwrap_err();
    assert!(matches!(&err, CallError::Connect(_)), "{err:?}");
    assert!(err.to_string().contains(name), "{err}");
    say("refused");
}

/// The directory of the doors lets others pass.
struct Ajar;

impl Ajar {
    fn new() -> Ajar {
        std::fs::set_permissions(doors(), Permissions::from_mode(0o711)).unwrap();
        Ajar
    }
}

impl Drop for Ajar {
    fn drop(&mut self) {
        std::fs::set_permissions(doors(), Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn another_user_is_turned_away_without_a_word() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become a stranger");
        return;
    }
    let test = Test::new("strangers");
    let mut house = House::new(&test);
    let ajar = Ajar::new();
    let door = front_door(&doors(), tag_of(&path_of(&test.name)));
    std::fs::set_permissions(&door, Permissions::from_mode(0o777)).unwrap();
    let mut stranger = test.spawn("stranger", "");
    stranger.expect("refused");
    stranger.finish();
    until(|| ask(&mut house.server).clients == 1);
    let said = ask(&mut house.server);
    assert_eq!((said.refused, said.violations), (1, 0));
    drop(ajar);
    end(&test, house);
}
